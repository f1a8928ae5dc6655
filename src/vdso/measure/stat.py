"""What counted clock calls mean: how often, what each costs here, which of them enter the kernel, and why.

Counts are vdso.measure.counting's, costs vdso.measure.cost's. Prints nothing.
"""

import signal
from collections.abc import Iterable
from dataclasses import dataclass

from vdso import __version__
from vdso.errors import VdsoError
from vdso.kernel.clocks import CPU_CLOCKS, clock_name
from vdso.measure import routes
from vdso.measure.calls import CALLS, CPU_TIME_BY_ID, DEVICE, UNKNOWN, Call
from vdso.measure.cost import Costs
from vdso.measure.counting import Counted, Counts, Kind
from vdso.swap.count import Left

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vdso.measure.sampling import Sampled
    from vdso.measure.sites import Frame

KIND, FORMAT = "vdso-stat", 1

# Where a call goes.
VDSO, THROUGH, RAW = "vdso", "vdso-syscall", "syscall"

# Clocks that no vDSO answers for, whatever the machine: it makes the system call.
CPU_NAMES = tuple(map(clock_name, CPU_CLOCKS))
ALARMS = (8, 9)
NONE_SUCH = 10


@dataclass(frozen=True, slots=True)
class Row:
    """A function and clock. `route`: "vdso", answered there; "vdso-syscall", it made the system call;
    "syscall", the program made it by itself. `why` says why, of the two latter.

    `ns` is what one such call takes on this host, measured apart, and `cores` the share of one that the calls
    took; None where it could not be measured.
    """

    function: str
    clock: str
    route: str
    why: str
    calls: int
    calls_per_s: float
    ns: float | None
    cores: float | None


@dataclass(frozen=True, slots=True)
class Group:
    """Who called: a process, or one thread of it. `tid` is None for a whole process, and 0 for threads that
    could not be told apart."""

    pid: int
    tid: int | None
    name: str
    calls: int
    calls_per_s: float
    cores: float
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Caller:
    """A place that called, by the samples that were taken there: `calls` is its share of those counted.

    `caller` is the innermost frame outside of the C library and of the functions by which a language reads
    the clock, None where it was not found, and `unknown` says why; `via` what lies between, from the vDSO
    outwards; `beyond` the caller's own callers. `raw`: it makes the system call itself, past the vDSO.
    """

    function: str
    clock: str
    calls: int
    samples: int
    caller: "Frame | None"
    via: "tuple[Frame, ...]"
    beyond: "tuple[Frame, ...]"
    unknown: str
    raw: bool = False


@dataclass(frozen=True, slots=True)
class Unknown:
    """Something that could not be looked at."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Stat:
    """The calls of a program, and of what it started, in `seconds`.

    `ended`: how, such as "exit status 0" or "SIGKILL"; "" where it has not. `by`: "all", "process" or
    "thread": what `groups` are. `callers`: None where no samples were asked for. `left`: what the command has
    started and still runs, on the counting image.

    `processes` and `threads`: how many called; None where there were system calls alone, seen from outside.
    `threads_at_least`: there were more, who could not be told apart.
    """

    kind: str
    format: int
    version: str
    command: tuple[str, ...]
    pid: int
    ended: str
    seconds: float
    programs: int
    processes: int | None
    threads: int | None
    calls: int
    calls_per_s: float
    cores: float
    rows: tuple[Row, ...]
    by: str
    groups: tuple[Group, ...]
    callers: tuple[Caller, ...] | None
    unknown: tuple[Unknown, ...]
    left: tuple[Left, ...] = ()
    threads_at_least: bool = False


class Meaning:
    """What calls cost and why they enter the kernel, on this host: found out once, as they turn up."""

    def __init__(self) -> None:
        self._costs = Costs()
        self._through: frozenset[tuple[str, str]] = frozenset()
        self.unknown: list[Unknown] = []
        try:
            self._through = frozenset(
                (route.call, route.clock or "")
                for route in routes.observe().calls
                if route.route == "vdso-syscall" and route.clock not in CPU_NAMES
            )
        except VdsoError as error:
            self.unknown.append(
                Unknown("whether the vDSO makes system calls for clocks of its own", error.message)
            )

    @property
    def raw_calls_show(self) -> bool:
        """Whether a program's own system calls can be told from those that the kernel's vDSO makes."""
        return ("clock_gettime", "REALTIME") not in self._through

    def row(self, call: Call, kind: Kind, calls: int, seconds: float) -> Row:
        """That many calls, in that time."""
        route, why = self._route(call, kind)
        ns = None
        if call.clock not in (DEVICE, UNKNOWN):
            ns = self._costs.ns(call.function, _asked(call), raw=kind is Kind.RAW)
        per_s = calls / seconds if seconds > 0 else 0.0
        cores = None if ns is None else per_s * ns / 1e9
        return Row(call.function, call.clock, route, why, calls, round(per_s, 1), ns, cores)

    def _route(self, call: Call, kind: Kind) -> tuple[str, str]:
        if kind is Kind.RAW:
            return RAW, "the program makes it itself, past the vDSO"
        why = _never_answered(call)
        if not why and (call.function, call.clock) in self._through:
            why = f"the clocksource {_clocksource()} has no vDSO mode"
        return (THROUGH, why) if why else (VDSO, "")


def _asked(call: Call) -> int:
    """The clock for which its cost is measured."""
    if call.clock_id is not None:
        return call.clock_id
    return 1 if call.function == "clock_getres" else 0


def _never_answered(call: Call) -> str:
    """Why no vDSO answers such a call; "": one may."""
    if call.function != "clock_gettime":
        return ""
    if call.clock_id in CPU_CLOCKS or call.clock == CPU_TIME_BY_ID:
        return "CPU time is in no vDSO"
    if call.clock_id in ALARMS:
        return "an alarm clock is in no vDSO"
    if call.clock == DEVICE:
        return "a device's clock is in no vDSO"
    return "there is no such clock" if call.clock_id == NONE_SUCH or call.clock == UNKNOWN else ""


def _clocksource() -> str:
    try:
        with open(
            "/sys/devices/system/clocksource/clocksource0/current_clocksource", encoding="ascii"
        ) as stream:
            return stream.read().strip()
    except OSError:
        return "of this machine"


def stat(
    counts: Counts,
    meaning: Meaning,
    *,
    command: Iterable[str] = (),
    pid: int,
    ended: str = "",
    by: str = "all",
    sampled: "Sampled | None" = None,
    left: Iterable[Left] = (),
    unknown: Iterable[Unknown] = (),
) -> Stat:
    """Counts as they are shown. `ended`: how the program has, "" where it has not."""
    rows = _rows(counts, meaning)
    lacking = [*meaning.unknown, *unknown]
    if counts.full:
        lacking.append(Unknown("which thread called", "there were more of them than can be told apart"))
    if sampled is not None and sampled.unseen:
        lacking.append(
            Unknown(
                "who called, of some samples",
                "their programs had ended before it could be seen what they had mapped",
            )
        )
    if sampled is not None and counts.raw:
        lacking.append(
            Unknown(
                "who makes system calls past the vDSO", "they are counted, and no samples are taken of them"
            )
        )
    total = sum(row.calls for row in rows)
    known = bool(counts.threads) or not counts.raw
    return Stat(
        kind=KIND,
        format=FORMAT,
        version=__version__,
        command=tuple(command),
        pid=pid,
        ended=ended,
        seconds=round(counts.seconds, 3),
        programs=counts.programs,
        processes=len({one.pid for one in counts.threads}) if known else None,
        threads=len({(one.pid, one.tid) for one in counts.threads}) if known else None,
        calls=total,
        calls_per_s=_per_s(total, counts.seconds),
        cores=_cores(rows),
        rows=rows,
        by=by,
        groups=() if by == "all" else _groups(counts, meaning, by),
        callers=None if sampled is None else _callers(sampled),
        left=tuple(left),
        unknown=tuple(lacking),
        threads_at_least=known and (bool(counts.raw) or any(not one.tid for one in counts.threads)),
    )


def how_many_called(found: Stat) -> str:
    """ "" where it is not known."""
    if found.threads is None or found.processes is None:
        return ""
    threads = f"{'at least ' if found.threads_at_least else ''}{found.threads:,} thread"
    processes = f"{found.processes:,} process{'' if found.processes == 1 else 'es'}"
    return f"{threads}{'' if found.threads == 1 else 's'} of {processes}"


def ending(status: int | None) -> str:
    """How a program has ended, by its wait status."""
    if status is None:
        return ""
    number = status & 0x7F
    if not number:
        return f"exit status {status >> 8}"
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _groups(counts: Counts, meaning: Meaning, by: str) -> tuple[Group, ...]:
    """What costs most first."""
    found: dict[tuple[int, int | None, str], list[Counted]] = {}
    for one in counts.threads:
        if by == "process":
            key: tuple[int, int | None, str] = (one.pid, None, one.program)
        else:
            key = (one.pid, one.tid, one.name or one.program)
        found.setdefault(key, []).append(one)
    groups = []
    for (pid, tid, name), threads in found.items():
        part = Counts(counts.seconds, 0, tuple(threads), full=False, raw={})
        rows = _rows(part, meaning)
        calls = sum(row.calls for row in rows)
        groups.append(Group(pid, tid, name, calls, _per_s(calls, counts.seconds), _cores(rows), rows))
    groups.sort(key=lambda group: (-group.cores, -group.calls, group.pid, group.tid or 0))
    return tuple(groups)


def _rows(counts: Counts, meaning: Meaning) -> tuple[Row, ...]:
    """Summed up, in the order of what they cost."""
    rows = [
        meaning.row(call, kind, number, counts.seconds) for (call, kind), number in counts.totals().items()
    ]
    rows.sort(key=lambda row: (-(row.cores or 0), -row.calls, row.function, row.clock))
    return tuple(rows)


def _callers(sampled: "Sampled") -> tuple[Caller, ...]:
    found = [
        Caller(
            site.function,
            "" if site.clock is None else _named(site.clock),
            calls,
            site.samples,
            site.caller,
            site.via,
            site.beyond,
            site.unknown or "",
            site.raw,
        )
        for site, calls in sampled.sites
    ]
    return tuple(sorted(found, key=lambda one: -one.calls))


def _named(clock: int) -> str:
    return next((call.clock for call in CALLS.values() if call.clock_id == clock), str(clock))


def _per_s(calls: int, seconds: float) -> float:
    return round(calls / seconds, 1) if seconds > 0 else 0.0


def _cores(rows: Iterable[Row]) -> float:
    return sum(row.cores or 0.0 for row in rows)
