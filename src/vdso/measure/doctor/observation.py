"""How a command or a running process reads the clock, counted by the means of `vdso stat`.

A command is counted from its first instruction on, with all that it starts; a process for a moment, by jumps
in its vDSO that are taken out again, or, where it is to be left alone, by its system calls. What could not be
counted is said.
"""

import os
import resource
import select
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from vdso.errors import VdsoError
from vdso.measure.calls import Call
from vdso.measure.counting import Counts, OfCommand, OfProcess, Program
from vdso.measure.doctor.patient import Plain, Running, Signals, printing_elsewhere
from vdso.measure.doctor.result import OWN, Observation
from vdso.measure.entries import Entries
from vdso.measure.stat import Meaning, Unknown, ending, stat

RAW_CALLS = "system calls that the program makes itself"
SERVED_CALLS = "reads that the vDSO serves"
LOOK_S = 3600.0  # nothing has to be done before the command ends


@dataclass(frozen=True, slots=True)
class Observed:
    """`observation`: None where nothing could be counted, and `why` says why. `ended`: how a command did.

    `programs`: those that the command was and has started, as far as they were counted; `mapped`: as
    OfCommand.mapped() has it.
    """

    observation: Observation | None
    why: str
    ended: str
    programs: tuple[Program, ...] = ()
    mapped: Mapping[int, frozenset[str]] = field(default_factory=dict)


# Which programs a command that runs was and has started until now; None where it is not counted.
Programs = Callable[[], tuple[Program, ...]]
Meanwhile = Callable[[int, Programs | None], None]


def of_command(
    command: list[str],
    meanwhile: Meanwhile,
    pauses_s: Iterable[float],
    *,
    sites: bool = False,
) -> Observed:
    """Runs it to its end. `meanwhile` is called while it runs, after each of these pauses, and once it has
    ended, with its process id and its programs. `sites`: who calls is sampled too.

    Raises CommandNotFound, CommandNotExecutable.
    """
    meaning = Meaning()
    # By tracepoints a system call is counted in passing; by a filter it waits for us.
    entries, why_not_passing = entries_of(os.getpid(), from_exec=True)
    stopping = entries is None and meaning.raw_calls_show
    try:
        with Signals() as signals:
            counting = OfCommand(command, sites=sites, raw_calls=stopping, exits=True)
            try:
                start(counting, signals)
                run(counting, meanwhile, pauses_s)
                counts = counting.stop()
            except VdsoError as error:  # then it was not run
                plain = Plain(command)
                start(plain, signals)
                run(plain, meanwhile, pauses_s)
                return Observed(None, error.message, ending(plain.status))
        if entries is not None:
            counts = with_entered(counts, entries.read(), meaning)
    finally:
        if entries is not None:
            entries.close()
    ended = ending(counting.status)
    if not counts.programs:
        # Its follower has said why, on the standard error stream: it cannot be traced, or is of 32 bits.
        return Observed(None, "no program of its could be counted", ended)
    lacking = [] if stopping or entries is not None else [Unknown(RAW_CALLS, why_not_passing)]
    found = stat(
        counts,
        meaning,
        command=command,
        pid=counting.pid,
        ended=ended,
        sampled=counting.sampled(counts),
        unknown=lacking,
    )
    slowed = stopping and any(row.route == OWN for row in found.rows)
    seen = Observation(found, whole=True, slowed=slowed)
    return Observed(seen, "", ended, counting.programs(), counting.mapped())


def start(running: Running, signals: Signals) -> None:
    with printing_elsewhere():
        running.start()
    signals.to(running)


def run(running: Running, meanwhile: Meanwhile, pauses_s: Iterable[float]) -> None:
    """To its end, which is seen when it comes: `meanwhile` is called by a thread of its own."""
    ended = threading.Event()
    programs = running.programs if isinstance(running, OfCommand) else None

    def look() -> None:
        for pause_s in pauses_s:
            over = ended.wait(pause_s)
            meanwhile(running.pid, programs)  # what it has started may go on
            if over:
                return

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        try:
            while not running.wait(LOOK_S):
                pass
        finally:
            ended.set()
    looking.result()


def of_process(pid: int, window_s: float, *, touch: bool, sites: bool = False) -> Observed:
    """For that long, or until its end. `touch`: also the reads that its vDSO serves, for which jumps are put
    into it and taken out again."""
    meaning = Meaning()
    lacking = [Unknown(SERVED_CALLS, "they are counted by jumps in its vDSO, and --quick leaves it as it is")]
    if touch:
        counting = OfProcess(pid, sites=sites, passed_on=not meaning.raw_calls_show)
        try:
            counting.start()
        except VdsoError as error:
            lacking = [Unknown(SERVED_CALLS, error.message)]
        else:
            try:
                counting.wait(window_s)
            finally:
                counts = counting.stop()
            lacking = [Unknown("who goes on counting", error.message) for error in counting.left]
            if counting.why_not_raw:
                lacking.append(Unknown(RAW_CALLS, f"no tracepoints: {counting.why_not_raw}"))
            found = stat(counts, meaning, pid=pid, sampled=counting.sampled(counts), unknown=lacking)
            return Observed(Observation(found, whole=True, slowed=False), "", "")
    entries, why = entries_of(pid)
    if entries is None:
        return Observed(None, f"{lacking[0].why}; {why}", "")
    try:
        began_s = time.monotonic()
        watch(pid, window_s)
        counts = Counts(time.monotonic() - began_s, 0, (), False, {})
        counts = with_entered(counts, entries.read(), meaning)
    finally:
        entries.close()
    found = stat(counts, meaning, pid=pid, unknown=lacking)
    return Observed(Observation(found, whole=False, slowed=False), "", "")


def entries_of(pid: int, *, from_exec: bool = False) -> tuple[Entries | None, str]:
    """Counts the system calls of that process by tracepoints, and of what it starts from now on, as Entries
    does; or None, and why not."""
    # A command's own limits are ours as they were.
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        return Entries(pid, from_exec=from_exec), ""
    except OSError as error:
        return None, f"no tracepoints: {(error.strerror or str(error)).lower()}"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def with_entered(counts: Counts, entered: Mapping[Call, int], meaning: Meaning) -> Counts:
    """With the system calls that tracepoints have seen, but for those that the vDSO has made."""
    raw = dict(entered)
    if not meaning.raw_calls_show:
        for (call, _), number in counts.totals().items():
            if call in raw:
                raw[call] = max(0, raw[call] - number)
    raw = {call: number for call, number in raw.items() if number}
    return Counts(counts.seconds, counts.programs, counts.threads, counts.full, raw)


def watch(pid: int, seconds: float) -> None:
    """Waits for that long, or for its end."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.poll(seconds * 1000)
    finally:
        os.close(fd)
