"""What a bench found: plain records, which `--json` prints, `--save` keeps and everything else draws from.

Knows nothing of how a figure is taken.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

KIND = "vdso bench"
FORMAT = 1

# Why a row has no figure whose batches took no longer than starting and ending one does.
LOST = "lost in the timer's noise"

READS_PER_SECOND = 10_000_000


@dataclass(frozen=True, slots=True)
class Machine:
    """What a comparison must not mix up. Unknown is ""; sources: uname(2), /proc/cpuinfo, sysfs, CPUID,
    confstr(3).
    """

    host: str
    architecture: str
    cpu_model: str
    cpus: int  # online
    kernel: str
    clocksource: str
    hypervisor: str  # CPUID's hypervisor leaf, such as KVMKVMKVM
    libc: str


@dataclass(frozen=True, slots=True)
class Conditions:
    """What may have disturbed a run. Sources: /proc/self/status, /proc/loadavg, /proc/stat, cpufreq in
    sysfs.
    """

    load_1min: float  # runnable tasks, before the run
    tracer_pid: int  # 0: none
    tracer: str  # its name, "" where there is none or it cannot be seen
    seccomp_filters: int
    governor: str  # of the CPU that was measured on, "" where there is no cpufreq
    image: str  # whose vDSO this process has: "kernel", "vdso run", or "none"
    preloaded: str  # LD_PRELOAD


@dataclass(frozen=True, slots=True)
class Row:
    """One call by one route. Times in ns a call, the loop's and the timer's own taken off; none is below 0.

    `route`: "vdso" (the vDSO's function), "libc", "syscall", "vsyscall", or "cpu" for what is no call. Where
    there is no such route, or noise has hidden what it takes (LOST), `missing` says so, and there are no
    figures.
    """

    call: str
    clock: str  # "" where the call takes none
    route: str
    missing: str
    batch: int  # calls that one value is the mean of
    rounds: int
    median_ns: float | None
    p5_ns: float | None
    p95_ns: float | None
    rounds_ns: tuple[float, ...]  # every round's value, in the order taken

    @property
    def name(self) -> str:
        return f"{self.call} {self.clock}" if self.clock else self.call

    @property
    def key(self) -> tuple[str, str, str]:
        return self.call, self.clock, self.route


@dataclass(frozen=True, slots=True)
class Saving:
    """What the vDSO saves: cores busy with so many reads of a clock a second, by the vDSO and by system
    calls.
    """

    call: str
    clock: str
    reads_per_second: int
    vdso_cores: float
    syscall_cores: float
    saved_cores: float


@dataclass(frozen=True, slots=True)
class Caution:
    """Something about the machine or the run that makes the figures worth less, and what to do about it."""

    id: str
    text: str
    advice: str


@dataclass(frozen=True, slots=True)
class BenchResult:
    """One run. `timer_ns`: what starting and ending a batch costs; `loop_ns`: a turn of the empty loop."""

    kind: str
    format: int
    version: str  # of vdso
    taken_at: str  # UTC, ISO 8601
    duration_s: float
    quick: bool
    rounds: int
    cpu: int | None  # the CPU it was pinned to
    timer_ns: float
    loop_ns: float
    stolen_percent: float  # of that CPU's time, while it measured
    machine: Machine
    conditions: Conditions
    rows: tuple[Row, ...]
    saving: Saving | None
    warnings: tuple[Caution, ...]

    def row(self, call: str, route: str, clock: str = "") -> Row | None:
        """The row of that call by that route."""
        return next((row for row in self.rows if row.key == (call, clock, route)), None)


def quantile(values: Sequence[float], share: float) -> float:
    """By linear interpolation between the two nearest ranks; share: 0 to 1. ValueError for no values."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def saving(rows: Sequence[Row], reads_per_second: int = READS_PER_SECOND) -> Saving | None:
    """From the medians of MONOTONIC; None where one of the two routes is missing."""
    found = {row.route: row for row in rows if (row.call, row.clock) == ("clock_gettime", "MONOTONIC")}
    vdso, syscall = (found[route].median_ns if route in found else None for route in ("vdso", "syscall"))
    if vdso is None or syscall is None:
        return None
    by_vdso, by_syscall = (ns * reads_per_second / 1e9 for ns in (vdso, syscall))
    return Saving(
        "clock_gettime",
        "MONOTONIC",
        reads_per_second,
        round(by_vdso, 3),
        round(by_syscall, 3),
        round(by_syscall - by_vdso, 3),
    )
