"""What the doctor found: plain records, in the form of the JSON that schema.json describes.

Knows nothing of how anything is looked at; `to_json()` is the one way from them to JSON.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vdso.kernel.clocks import CPU_CLOCKS, clock_name
from vdso.measure.calls import CPU_TIME_BY_ID, DEVICE
from vdso.measure.calls import UNKNOWN as UNKNOWN_CLOCK
from vdso.measure.placement import Placement
from vdso.measure.result import Caution, Machine

if TYPE_CHECKING:
    from vdso.measure.stat import Row, Stat

KIND = "vdso doctor"
FORMAT = 1

# Verdicts.
FAST, SLOW, UNKNOWN = "fast", "slow", "unknown"

# Of the calls that are counted, those that tell the time; and the clocks that no vDSO answers.
READS = ("clock_gettime", "gettimeofday", "time")
CPU_TIME = (*map(clock_name, CPU_CLOCKS), CPU_TIME_BY_ID)
OWN = "syscall"  # the route of a system call that the program makes itself
NEVER_SERVED = (*CPU_TIME, DEVICE, UNKNOWN_CLOCK, "REALTIME_ALARM", "BOOTTIME_ALARM")

# Severities: every read pays; it costs or hinders, or may; to be known.
CRITICAL, WARNING, NOTE = "critical", "warning", "note"
SEVERITIES = (CRITICAL, WARNING, NOTE)


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the catalogue that applies here. `remedy` is the one command or setting that mends it."""

    id: str
    severity: str
    title: str
    cause: str
    remedy: str
    source: str


@dataclass(frozen=True, slots=True)
class Unseen:
    """What could not be looked at, why, and which checks it would have taken."""

    what: str
    why: str
    checks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Clock:
    """What a read of one clock costs, ns, by three routes; None where there is no such route, or no figure.

    `route`: the C library's way as observed, a key of vdso.measure.routes.ROUTES, None where it was not.
    `resolution_ns`: clock_getres(2)'s. `step_ns`: the smallest step between two reads; for a clock finer than
    that, what a read takes. `missing`: for each of "vdso", "libc" and "syscall" without a figure, why.
    """

    clock: str
    vdso_ns: float | None
    libc_ns: float | None
    syscall_ns: float | None
    route: str | None
    resolution_ns: int | None
    step_ns: int | None
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """How many times as long a system call takes as what programs call."""
        return self.syscall_ns / self.libc_ns if self.syscall_ns and self.libc_ns else None


@dataclass(frozen=True, slots=True)
class Counter:
    """The CPUs' counter, by the instruction itself. `read_ns`: rdtsc; `ordered_ns`: rdtscp; None: no figure.

    `pairs` of CPUs were compared, with `handovers` reads that followed one of the other CPU's; `warps` of
    them were behind it, by up to `widest` counts. `compared`: every pair met often enough to tell.
    `pairwise`: each CPU with each; else, where there are too many for the time, each with the first.
    """

    read_ns: float | None = None
    ordered_ns: float | None = None
    pairs: int = 0
    handovers: int = 0
    warps: int = 0
    widest: int = 0
    compared: bool = False
    pairwise: bool = True


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured in this process, on one CPU."""

    rounds: int
    cpu: int | None
    clocks: tuple[Clock, ...]
    getppid_ns: float | None
    counter: Counter
    cautions: tuple[Caution, ...]

    def clock(self, name: str) -> Clock | None:
        return next((clock for clock in self.clocks if clock.clock == name), None)


@dataclass(frozen=True, slots=True)
class Host:
    """What the machine is; "" or empty what is not known or not there.

    `hypervisor`: its name, by CPUID or sysfs; `product`: by DMI; `clocksources`: those available, the best
    by the kernel's rating first; `paravirtual`: that of them which is the hypervisor's; `flags`: those of the
    CPU's that its counter is judged by; `mode`: the clock mode in the kernel's data page, proven; `mode_by`:
    the method.
    """

    machine: Machine
    hypervisor: str
    product: str
    clocksources: tuple[str, ...]
    paravirtual: str
    flags: tuple[str, ...]
    mode: str
    mode_by: str


@dataclass(frozen=True, slots=True)
class Subject:
    """The process that was looked at. What is not known is None or "".

    `kind`: "self", "process" or "command"; `libc`: such as "glibc 2.36", "musl, static", "Go 1.22.1, static";
    `image`: whose vDSO: "kernel", "vdso run", "vdso attach", "vdso stat" (which has started it), "vdso stat
    -p", "none", or a file's name;
    `vsyscall`: that page's mode, as vdso.kernel.vsyscall has it; `preloaded`: libraries named by LD_PRELOAD
    and ld.so.preload; `ended`: how the command did, such as "exit status 0".
    """

    kind: str
    pid: int | None
    name: str
    program: str
    bits: int | None
    libc: str
    image: str
    vsyscall: str
    seccomp_filters: int | None
    tracer: str
    preloaded: tuple[str, ...]
    time_namespace: bool | None
    aslr_off: bool | None
    ended: str


@dataclass(frozen=True, slots=True)
class Observation:
    """How a process or command used the clock. `whole`: the reads that stay out of the kernel were counted
    too; `slowed`: counting its own system calls took its time, so that their number is not its own.
    """

    stat: "Stat"
    whole: bool
    slowed: bool

    @property
    def served(self) -> "tuple[Row, ...]":
        """Its reads of clocks that a vDSO serves, whichever way they went."""
        return tuple(row for row in self.stat.rows if row.function in READS and row.clock not in NEVER_SERVED)

    @property
    def reads(self) -> int:
        """How many those are, as far as they were counted."""
        return sum(row.calls for row in self.served)

    @property
    def entered(self) -> int:
        """How many of them were system calls of the program's own."""
        return sum(row.calls for row in self.served if row.route == OWN)

    @property
    def per_second(self) -> float:
        return self.reads / self.stat.seconds if self.stat.seconds > 0 else 0.0

    @property
    def read_ns(self) -> float | None:
        """What one of them cost on this host, on average; None where a kind of them could not be timed."""
        if not self.reads or any(row.ns is None for row in self.served):
            return None
        return sum(row.calls * (row.ns or 0.0) for row in self.served) / self.reads


@dataclass(frozen=True, slots=True)
class Cost:
    """What a read costs and what that comes to. `could_be_ns`: what it would without what was found, None
    where nothing was or that is not known. `measured`: whether the rate is the program's own, counted, and
    not an example. `cores`: what could be saved, or, where nothing was found, what the vDSO saves.
    """

    read_ns: float
    syscall_ns: float | None
    could_be_ns: float | None
    reads_per_second: float
    measured: bool
    cores: float | None
    sentence: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything. `verdict`: FAST, SLOW or UNKNOWN, and `reason` in one line. `checks`: the ids of those that
    looked, whatever they found; the others are named by `unseen`."""

    kind: str
    format: int
    version: str
    taken_at: str
    duration_s: float
    quick: bool
    verdict: str
    reason: str
    cost: Cost | None
    host: Host
    subject: Subject
    figures: Figures | None
    aslr: Placement | None
    observation: Observation | None
    findings: tuple[Finding, ...]
    unseen: tuple[Unseen, ...]
    checks: tuple[str, ...]

    @property
    def exit_status(self) -> int:
        return {FAST: 0, SLOW: 1}.get(self.verdict, 2)

    def to_json(self) -> dict[str, Any]:
        """Ready for json.dumps, by schema.json."""
        return dataclasses.asdict(self)
