"""`vdso stat`: counts the clock calls of a program, which no tracer sees.

Prints; vdso.measure.counting counts, and vdso.measure.stat says what it means.
"""

import contextlib
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vdso.commands.attach import pid
from vdso.commands.output import columns, console, nobody_reads, plain, printable, write_file
from vdso.commands.parser import Parser
from vdso.errors import UsageError
from vdso.measure.counting import Counts, OfCommand, OfProcess
from vdso.measure.stat import RAW, THROUGH, Caller, Group, Meaning, Row, Stat, Unknown, ending, stat

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from vdso.measure.sampling import Sampled
    from vdso.measure.sites import Frame

HELP = """\
usage: vdso stat [-d SECONDS] [--by thread|process] [--sites] [--json] [-o FILE] [--] COMMAND [ARG...]
       vdso stat -p PID [-d SECONDS] [--by thread|process] [--sites] [--json] [-o FILE]

Counts the clock calls of COMMAND and of what it starts, or of a running process and of what it forks: by
function and clock, how often, what each costs on this host, and the share of a core that they take together;
and which of them became system calls, and why. A call of the vDSO never enters the kernel, so that strace,
perf and uprobes do not see it: here the vDSO itself counts.

  -p PID             count in a process that is running already, and leave it
  -d SECONDS         for how long; COMMAND is ended then (SIGTERM). Without it until the end, or Ctrl-C
  --by thread        list each thread
  --by process       list each process
  --sites            sample who calls too, and say where in which function of which object that is
  --json             the same, for programs: docs/stat.md has the fields
  -o FILE            into a file, instead of the standard error stream (-p: standard output)

example:
  vdso stat -- python3 -c 'import time; [time.time() for _ in range(1000000)]'
  vdso stat -p $(pidof my-server) -d 10 --by thread

exit status:
  COMMAND's own, 128+N if signal N ended it; -p: 0; 2 usage; 113 to 127 vdso's own
"""

SECONDS_MAX = 1e6
BY = ("thread", "process")
LOOK_S, REFRESH_S = 0.1, 1.0
CALLERS_SHOWN, LEAST = 10, 0.001  # of the calls: what is less is named together
RAW_CALLS = "system calls that the program makes itself"


def main(words: list[str]) -> int:
    """Counts, prints, and returns the exit status."""
    parser = Parser("stat", HELP)
    parser.add_argument("-p", dest="pid")
    parser.add_argument("-d", dest="seconds")
    parser.add_argument("--by", choices=BY)
    parser.add_argument("--sites", action="store_true")
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
    ask = Ask(limit_s, options.sites, options.by or "all", options.json, options.file)
    return of_command(command, ask) if command else of_process(pid(options.pid), ask)


@dataclass(frozen=True, slots=True)
class Ask:
    """What the command line asks for."""

    limit_s: float | None
    sites: bool
    by: str
    json: bool
    file: str | None


def of_command(command: list[str], ask: Ask) -> int:
    """Runs it, and returns its exit status."""
    meaning = Meaning()
    counting = OfCommand(command, sites=ask.sites, raw_calls=meaning.raw_calls_show)
    with interrupted() as interrupts:
        counting.start()
        run_until(counting, ask, interrupts)
        counts = counting.stop()
        lacking = []
        if not counts.programs:
            lacking.append(Unknown("what it called", "it could not be counted"))
        elif not counting.followed:
            lacking.append(Unknown(f"{RAW_CALLS}, and what it starts", "no seccomp filter can be had here"))
        elif not meaning.raw_calls_show:
            lacking.append(Unknown(RAW_CALLS, "the vDSO makes such here as well"))
        found = stat(
            counts,
            meaning,
            command=command,
            pid=counting.pid,
            ended=ending(counting.status),
            by=ask.by,
            sampled=counting.sampled(counts),
            unknown=lacking,
        )
        put(found, ask, stderr=True)
    status = counting.status or 0
    return 128 + (status & 0x7F) if status & 0x7F else status >> 8


def run_until(counting: OfCommand, ask: Ask, interrupts: list[int]) -> None:
    """Until the command has ended, by itself or by what ends us."""
    end_s = None if ask.limit_s is None else time.monotonic() + ask.limit_s
    looked_s = 0.0
    while not counting.wait(LOOK_S):
        if ask.by == "thread" and time.monotonic() - looked_s > REFRESH_S:
            counting.read()  # and remember what threads are called, which may end
            looked_s = time.monotonic()
        for number in interrupts:
            # A terminal sends SIGINT to the command as well.
            if number != signal.SIGINT:
                counting.signal(signal.Signals(number))
        interrupts.clear()
        if end_s is not None and time.monotonic() >= end_s:
            counting.signal(signal.SIGTERM)
            end_s = None


def of_process(number: int, ask: Ask) -> int:
    """Counts until its end, or ours, and leaves it, whatever comes."""
    meaning = Meaning()
    counting = OfProcess(number, sites=ask.sites, passed_on=not meaning.raw_calls_show)

    def found(counts: Counts, sampled: "Sampled | None" = None) -> Stat:
        lacking = [Unknown("getcpu, clock_getres and getrandom", "of a running process they are not counted")]
        if counting.why_not_raw:
            lacking.append(Unknown(RAW_CALLS, f"no tracepoints: {counting.why_not_raw}"))
        lacking += [Unknown("who goes on counting", error.message) for error in counting.left]
        return stat(
            counts,
            meaning,
            pid=number,
            ended="it has ended" if counting.gone else "",
            by=ask.by,
            sampled=sampled,
            unknown=lacking,
        )

    with interrupted() as interrupts:
        counting.start()
        try:
            watch(counting, ask, interrupts, found)
        finally:
            counts = counting.stop()
        put(found(counts, counting.sampled(counts)), ask, stderr=False)
    return 0


def watch(counting: OfProcess, ask: Ask, interrupts: list[int], found: Callable[[Counts], Stat]) -> None:
    """Until the process ends, the time is over, somebody ends us or nobody reads; shown on a terminal."""
    end_s = None if ask.limit_s is None else time.monotonic() + ask.limit_s

    def over() -> bool:
        left_s = LOOK_S if end_s is None else min(LOOK_S, end_s - time.monotonic())
        return (
            left_s <= 0 or counting.wait(left_s) or bool(interrupts) or (ask.file is None and nobody_reads())
        )

    if ask.json or ask.file is not None or not sys.stdout.isatty():
        while not over():
            pass
        return
    from rich.console import Group as Lines
    from rich.live import Live

    with Live(console=console(), auto_refresh=False, transient=True) as screen:
        before, shown_s = counting.read(), 0.0
        while not over():
            if time.monotonic() - shown_s >= REFRESH_S:
                now, shown_s = counting.read(), time.monotonic()
                lines = page(found(now.since(before)), screen.console.width, live=True)
                screen.update(Lines(*lines), refresh=True)
                before = now


def seconds(text: str) -> float:
    """A number of seconds. Raises UsageError."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= SECONDS_MAX:
        raise UsageError(f"no such time: {text}", "seconds, such as 10 or 0.5")
    return value


@contextlib.contextmanager
def interrupted() -> Iterator[list[int]]:
    """The signals that have come meanwhile: Ctrl-C is the command's too, and we end when it does."""
    came: list[int] = []

    def note(number: int, _frame: Any) -> None:
        came.append(number)

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    for number, handler in handlers.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, note)
    try:
        yield came
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


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
    if found.command:
        shown.insert(0, "")  # what the command has said stands in front of it
    if found.rows:
        shown.append(table(found.rows, width))
        shown.append(
            f"together {found.calls_per_s:,.0f} calls a second, {found.cores:.3f} cores, "
            f"by {some(found.threads, 'thread')} of {some(found.processes, 'process')}"
        )
        shown += reasons(found.rows)
    elif found.programs:
        shown.append("no clock call")
    for group in found.groups:
        shown += ["", who(group), table(group.rows, width)]
    if found.callers is not None:
        shown += ["", *caller_lines(found.callers)]
    shown += [f"not known: {unknown.what}: {unknown.why}" for unknown in found.unknown]
    return [Text(one) if isinstance(one, str) else one for one in shown]


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


# Of a row: its columns, and in which order a narrow terminal does without.
COLUMNS = ("", "calls", "a second", "ns", "cores", "by")
LEFT_OUT = ("by", "a second", "ns", "cores")


def table(rows: Sequence[Row], width: int) -> "Table":
    """A line a row, with as many columns as there is room for."""
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
    shown = list(range(len(COLUMNS)))
    widths = [max(len(words[at]) for words in [COLUMNS, *lines]) + 2 for at in shown]
    for name in LEFT_OUT:
        if sum(widths[at] for at in shown) - 2 > width:
            shown.remove(COLUMNS.index(name))
    result = columns(*(COLUMNS[at] for at in shown), right=tuple(range(1, len(shown) - (5 in shown))))
    if sum(widths[at] for at in shown) - 2 > width:
        result.columns[0].no_wrap, result.columns[0].overflow = False, "fold"
    for words in lines:
        result.add_row(*(words[at] for at in shown))
    return result


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
        lines.append(f"         {named(one.function, one.clock)}{frames(' through', one.via[::-1])}")
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
    import os

    name = printable(os.path.basename(one.object) or one.object)
    if one.function is None:
        return name if one.object.startswith("generated") else f"{name}+{one.address:#x}"
    return f"{printable(one.function)} ({name})"
