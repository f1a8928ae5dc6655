"""`vdso stat`: counts the clock calls of a program, which no tracer sees.

Prints; vdso.measure.counting counts, and vdso.measure.stat says what it means.
"""

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vdso.commands.attach import pid
from vdso.commands.output import console, nobody_reads, plain, printable, table_or_lines, write_file
from vdso.commands.parser import Parser
from vdso.commands.witness import Witness, witness
from vdso.errors import UsageError
from vdso.kernel.process import need_proc
from vdso.measure.counting import Counting, Counts, OfCommand, OfProcess
from vdso.measure.stat import (
    RAW,
    THROUGH,
    Caller,
    Group,
    Meaning,
    Row,
    Stat,
    Unknown,
    ending,
    how_many_called,
    stat,
)
from vdso.swap.count import Left

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

    from vdso.measure.sampling import Sampled
    from vdso.measure.sites import Frame

HELP = """\
usage: vdso stat [-d SECONDS] [--by thread|process] [--sites] [--live] [--json] [-o FILE] [--] COMMAND...
       vdso stat -p PID [-d SECONDS] [--by thread|process] [--sites] [--live] [--json] [-o FILE]

Counts the clock calls of COMMAND and of what it starts, or of a running process and of what it forks: by
function and clock, how often, what each costs on this host, and the share of a core that they take together;
and which of them became system calls, and why. A call of the vDSO never enters the kernel, so that strace,
perf and uprobes do not see it: here the vDSO itself counts.

  -p PID             count in a process that is running already, and leave it
  -d SECONDS         for how long; COMMAND is ended then (SIGTERM). Without it until the end, or Ctrl-C; of a
                     process at the latest until it executes another program, and so has what it forked
  --by thread        list each thread
  --by process       list each process
  --sites            sample who calls too, and say where in which function of which object that is
  --live             show the last second on the terminal while it counts; best where COMMAND's own output
                     goes elsewhere. -p does so where standard output is a terminal
  --json             the same, for programs: docs/stat.md has the fields
  -o FILE            into a file, or with - to standard output, instead of the standard error stream (of a
                     process: standard output)

example:
  vdso stat -- python3 -c 'import time; [time.time() for _ in range(1000000)]'
  vdso stat --live -- ./server >log 2>&1
  vdso stat -p $(pidof my-server) -d 10 --by thread

It ends with COMMAND. What that has started and still runs is counted until then, and named.

exit status:
  COMMAND's own, 128+N if signal N ended it; -p: 0; 2 usage; 113 to 127 vdso's own; 141 nobody reads
"""

SECONDS_MAX = 1e6
BY = ("thread", "process")
LOOK_S, REFRESH_S = 0.1, 1.0
SETTLE_S = 0.1  # in which a signal for many has come to all of them
ENDING = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)
SI_KERNEL = 0x80  # asm-generic/siginfo.h: a terminal's, and no process's
NAMED = 10  # of what still runs
CALLERS_SHOWN, LEAST = 10, 0.001  # of the calls: what is less is named together
RAW_CALLS = "system calls that the program makes itself"


def main(words: list[str]) -> int:
    """Counts, prints, and returns the exit status."""
    parser = Parser("stat", HELP)
    parser.add_argument("-p", dest="pid")
    parser.add_argument("-d", dest="seconds")
    parser.add_argument("--by", choices=BY)
    parser.add_argument("--sites", action="store_true")
    parser.add_argument("--live", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("-o", dest="file", metavar="FILE")
    parser.add_argument("command", nargs="...")
    options = parser.read(words)
    if options is None:
        return 0
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if bool(command) == (options.pid is not None):
        what = "a command, or -p PID: not both" if command else "no command to run, and no -p PID"
        raise UsageError(what, "vdso stat --help shows how")
    limit_s = None if options.seconds is None else seconds(options.seconds)
    need_proc()
    ask = Ask(limit_s, options.sites, options.by or "all", options.live, options.json, options.file)
    return of_command(command, ask) if command else of_process(pid(options.pid), ask)


@dataclass(frozen=True, slots=True)
class Ask:
    """What the command line asks for."""

    limit_s: float | None
    sites: bool
    by: str
    live: bool
    json: bool
    file: str | None


def of_command(command: list[str], ask: Ask) -> int:
    """Runs it, and returns its exit status."""
    meaning = Meaning()

    def found(counts: Counts) -> Stat:
        return stat(counts, meaning, command=command, pid=counting.pid, by=ask.by)

    with interrupted() as (came, mask), witness(ENDING) as there, terminal(ask) as out:
        counting = OfCommand(command, sites=ask.sites, raw_calls=meaning.raw_calls_show, mask=mask)
        counting.start()
        with living(counting, out, found) as refresh:
            run_until(counting, ask, came, there, refresh)
        counts = counting.stop()
        lacking = []
        if not counts.programs:
            lacking.append(Unknown("what it called", "it could not be counted"))
        elif not counting.followed:
            lacking.append(Unknown(f"{RAW_CALLS}, and what it starts", "no seccomp filter can be had here"))
        elif not meaning.raw_calls_show:
            lacking.append(Unknown(RAW_CALLS, "the vDSO makes such here as well"))
        result = stat(
            counts,
            meaning,
            command=command,
            pid=counting.pid,
            ended=ending(counting.status),
            by=ask.by,
            sampled=counting.sampled(counts),
            left=counting.left,
            unknown=lacking,
        )
        try:
            put(result, ask, stderr=True)
        finally:
            if counting.left and not (ask.json and ask.file is None) and sys.stderr is not None:
                sys.stderr.writelines(f"vdso: {line}\n" for line in remaining(counting.left))
    status = counting.status or 0
    return 128 + (status & 0x7F) if status & 0x7F else status >> 8


def run_until(
    counting: OfCommand, ask: Ask, came: "Came", there: Witness, refresh: Callable[[], None]
) -> None:
    """Until the command has ended, by itself or by what ends us."""
    end_s = None if ask.limit_s is None else time.monotonic() + ask.limit_s
    looked_s = 0.0
    while not counting.wait(LOOK_S):
        refresh()
        if ask.by == "thread" and time.monotonic() - looked_s > REFRESH_S:
            counting.read()  # and remember what threads are called, which may end
            looked_s = time.monotonic()
        if first := came():
            for number in for_us_alone(first, counting, came, there):
                counting.signal(number)
        if end_s is not None and time.monotonic() >= end_s:
            counting.signal(signal.SIGTERM)
            end_s = None


def for_us_alone(
    first: "list[tuple[signal.Signals, bool]]", counting: OfCommand, came: "Came", there: Witness
) -> list[signal.Signals]:
    """Those that the command has not got as well: a server takes a second SIGTERM for "at once"."""
    try:
        together = os.getpgid(counting.pid) == os.getpgrp()
    except ProcessLookupError:
        return []
    if counting.wait(SETTLE_S):
        return []
    both = first + came()
    elsewhere: set[int] = {number for number, by_terminal in both if by_terminal}
    if together:
        elsewhere |= there.seen()
    return [number for number in dict.fromkeys(number for number, _ in both) if number not in elsewhere]


def of_process(number: int, ask: Ask) -> int:
    """Counts until its end, or ours, and leaves it, whatever comes."""
    meaning = Meaning()
    counting = OfProcess(number, sites=ask.sites, passed_on=not meaning.raw_calls_show)

    def found(counts: Counts, sampled: "Sampled | None" = None) -> Stat:
        lacking = [
            Unknown("getcpu, clock_getres and getrandom", "of a running process they are not counted"),
            Unknown(
                "calls after an exec", "a running process is counted until then, and so is what it forks"
            ),
        ]
        if counting.why_not_raw:
            lacking.append(Unknown(RAW_CALLS, f"no tracepoints: {counting.why_not_raw}"))
        lacking += [Unknown("who goes on counting", error.message) for error in counting.left]
        return stat(
            counts,
            meaning,
            pid=number,
            ended="it has ended"
            if counting.gone
            else "it has executed another program, or was detached"
            if counting.executed
            else "",
            by=ask.by,
            sampled=sampled,
            unknown=lacking,
        )

    with interrupted() as (came, _), terminal(ask) as out:
        if out is None and not ask.json and ask.file is None and sys.stdout.isatty():
            out = console()
        counting.start()
        try:
            with living(counting, out, found) as refresh:
                watch(counting, ask, came, refresh)
        finally:
            counts = counting.stop()
        put(found(counts, counting.sampled(counts)), ask, stderr=False)
    return 0


def watch(counting: OfProcess, ask: Ask, came: "Came", refresh: Callable[[], None]) -> None:
    """Until the process ends, the time is over, somebody ends us or nobody reads."""
    end_s = None if ask.limit_s is None else time.monotonic() + ask.limit_s

    def over() -> bool:
        left_s = LOOK_S if end_s is None else min(LOOK_S, end_s - time.monotonic())
        reads = ask.file is not None and ask.file != "-"
        return left_s <= 0 or counting.wait(left_s) or bool(came()) or (not reads and nobody_reads())

    while not over():
        refresh()


@contextlib.contextmanager
def terminal(ask: Ask) -> "Iterator[Console | None]":
    """Ours, whatever the command's output is, with --live. Raises UsageError without one."""
    if not ask.live:
        yield None
        return
    from rich.console import Console

    try:
        fd = os.open("/dev/tty", os.O_WRONLY | os.O_CLOEXEC)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise UsageError(
            f"--live: no terminal: /dev/tty: {why}", "without it there is a table at the end"
        ) from None
    with open(fd, "w", encoding="utf-8", errors="replace") as stream:
        yield Console(file=stream, highlight=False, emoji=False)


@contextlib.contextmanager
def living(
    counting: Counting, out: "Console | None", found: Callable[[Counts], Stat]
) -> Iterator[Callable[[], None]]:
    """Shows the last second there, each time that it is asked to and another one is over; nothing stays."""
    if out is None:
        yield lambda: None
        return
    from rich.console import Group as Lines
    from rich.live import Live

    with Live(
        console=out, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
    ) as screen:
        before, shown_s = counting.read(), 0.0

        def refresh() -> None:
            nonlocal before, shown_s
            if time.monotonic() - shown_s < REFRESH_S:
                return
            now, shown_s = counting.read(), time.monotonic()
            lines = page(found(now.since(before)), screen.console.width, live=True)
            screen.update(Lines(*lines), refresh=True)
            screen.console.show_cursor(True)  # whatever ends or stops us
            before = now

        refresh()
        yield refresh


def seconds(text: str) -> float:
    """A number of seconds. Raises UsageError."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= SECONDS_MAX:
        raise UsageError(f"no such time: {text}", "seconds, such as 10 or 0.5")
    return value


Came = Callable[[], list[tuple[signal.Signals, bool]]]


@contextlib.contextmanager
def interrupted() -> Iterator[tuple[Came, set[int]]]:
    """What asks for those that have come since the last time, each with whether the terminal has sent it, and
    the signals that were blocked before. We end when the command does, or after what has to be put back."""
    numbers = {number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    def came() -> list[tuple[signal.Signals, bool]]:
        found = []
        while numbers and (info := signal.sigtimedwait(numbers, 0)) is not None:
            found.append((signal.Signals(info.si_signo), info.si_code == SI_KERNEL))
        return found

    try:
        yield came, {int(number) for number in before}
    finally:
        came()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# ---- what people read ----


def put(found: Stat, ask: Ask, *, stderr: bool) -> None:
    """Prints it: where a command has the standard output, on the other stream."""
    stream = sys.stderr if stderr else sys.stdout
    if ask.json:
        text = json.dumps(plain(found), indent=2, allow_nan=False) + "\n"
        if ask.file is not None:
            write_file(ask.file, text)
        elif stream is not None:
            stream.write(text)
            stream.flush()
    elif ask.file is not None:
        import io

        from rich.console import Console

        out = Console(file=io.StringIO(), width=10_000, highlight=False, emoji=False)
        with out.capture() as captured:
            out.print(*page(found, out.width), sep="\n")
        write_file(ask.file, captured.get())
    elif stream is not None:
        out = console(stderr=stderr)
        out.print(*page(found, out.width), sep="\n")


def page(found: Stat, width: int, *, live: bool = False) -> "list[RenderableType]":
    """All of it, a line or a table each; `live`: it is of the last moment, and there will be more."""
    from rich.text import Text

    what = printable(" ".join(found.command)) or f"process {found.pid}"
    how = f"the last {found.seconds:.1f} s; Ctrl-C ends" if live else f"{found.seconds:.3f} s"
    shown: list[RenderableType | str] = [f"{what}: {how}{', ' + found.ended if found.ended else ''}"]
    if found.command and not live:
        shown.insert(0, "")  # what the command has said stands in front of it
    if found.rows:
        shown.append(table(found.rows, width))
        together = f"together {found.calls_per_s:,.0f} calls a second, {found.cores:.3f} cores"
        by = how_many_called(found)
        shown.append(f"{together}, by {by}" if by else together)
        shown += reasons(found.rows)
    elif found.programs:
        shown.append("no clock call")
    for group in found.groups:
        shown += ["", who(group), table(group.rows, width)]
    if found.callers is not None:
        shown += ["", *caller_lines(found.callers)]
    shown += [f"not known: {unknown.what}: {unknown.why}" for unknown in found.unknown]
    return [Text(one) if isinstance(one, str) else one for one in shown]


def remaining(left: Sequence[Left]) -> list[str]:
    """What the command has started and has not ended, and what to do about it."""

    def names(some_of: Sequence[Left]) -> str:
        shown = [f"{printable(one.name) or '?'} (pid {one.pid})" for one in some_of[:NAMED]]
        return ", ".join(shown) + (f" and {len(some_of) - NAMED:,} more" if len(some_of) > NAMED else "")

    quiet = [one for one in left if not one.why]
    lines = []
    if quiet:
        run = "runs" if len(quiet) == 1 else "run"
        lines.append(
            f"{some(len(quiet), 'process')} still {run}, on the counting image: {names(quiet)}; counted "
            "until now, and no more. The image and its filter, which makes a system call for the time 4 to "
            "20 us longer, stay until they end: start them anew to be rid of both"
        )
    lines += [
        f"{names([one])} still runs, and goes on counting: {one.why}; as root: vdso detach {one.pid}"
        for one in left
        if one.why
    ]
    return lines


def who(group: Group) -> str:
    name = printable(group.name) or "?"
    if group.tid is None:
        return f"{name} (pid {group.pid})"
    if group.tid == 0:
        return f"{name} (pid {group.pid}, threads that could not be told apart)"
    return f"{name} (pid {group.pid}, thread {group.tid})"


def some(number: int, noun: str) -> str:
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{number:,} {noun if number == 1 else plural}"


def named(function: str, clock: str) -> str:
    # Without what all such clocks end in, which would cost a narrow terminal a column.
    return f"{function} {clock.removesuffix('_ID')}".rstrip()


def table(rows: Sequence[Row], width: int) -> "Table | Text":
    """A line a row, or more of them on a narrow terminal."""
    lines = [
        (
            named(row.function, row.clock),
            f"{row.calls:,}",
            f"{row.calls_per_s:,.0f}",
            "" if row.ns is None else f"{row.ns:.1f}",
            "" if row.cores is None else f"{row.cores:.3f}",
            {THROUGH: "system call", RAW: "own system call"}.get(row.route, "vDSO"),
        )
        for row in rows
    ]
    return table_or_lines(("", "calls", "a second", "ns", "cores", "by"), lines, width, right=(1, 2, 3, 4))


def reasons(rows: Sequence[Row]) -> list[str]:
    """Why calls enter the kernel, each reason once."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.why:
            found.setdefault(row.why, []).append(named(row.function, row.clock))
    return [f"system calls: {', '.join(names)}: {why}" for why, names in found.items()]


def caller_lines(callers: Sequence[Caller]) -> list[str]:
    total = sum(one.calls for one in callers)
    lines = [f"who called, by {some(sum(one.samples for one in callers), 'sample')}"]
    shown = [one for one in callers[:CALLERS_SHOWN] if one.calls >= LEAST * total]
    for one in shown:
        where = frame(one.caller) if one.caller else f"not found: {printable(one.unknown)}"
        lines.append(f"{100 * one.calls / max(total, 1):5.1f} %  {where}")
        call = named(one.function, one.clock) + (", a system call of its own," if one.raw else "")
        lines.append(f"         {call}{frames(' through', one.via[::-1])}".rstrip(","))
        if one.beyond:
            lines.append(f"        {frames(' called by', one.beyond)}")
    if len(callers) > len(shown):
        rest = total - sum(one.calls for one in shown)
        others = some(len(callers) - len(shown), "other place")
        lines.append(f"{100 * rest / max(total, 1):5.1f} %  {others}: --json has them")
    return lines


def frames(title: str, found: "Sequence[Frame]") -> str:
    return f"{title} {', '.join(map(frame, found))}" if found else ""


def frame(one: "Frame") -> str:
    """The function, and the last part of its object's name."""
    name = printable(os.path.basename(one.object) or one.object)
    if one.function is None:
        return name if one.object.startswith("generated") else f"{name}+{one.address:#x}"
    return f"{printable(one.function)} ({name})"
