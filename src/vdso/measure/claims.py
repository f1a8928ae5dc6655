"""The description that this project started from, sentence by sentence, held against this machine.

Each sentence is what is commonly said of the vDSO. A verdict comes from what was measured or seen now; where
that could not be had, the sentence cannot be checked here, and why is said.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from vdso.errors import VdsoError
from vdso.kernel import maps, tick, vvar
from vdso.kernel.clocks import CPU_CLOCKS, call_name, clock_name
from vdso.kernel.datapage import Vvar
from vdso.kernel.image import Image
from vdso.kernel.tick import Rate
from vdso.kernel.vsyscall import ADDRESS as VSYSCALL_ADDRESS
from vdso.kernel.vsyscall import Vsyscall
from vdso.kernel.vsyscall import of as vsyscall_of
from vdso.measure import look, placement, routes, warning
from vdso.measure.placement import Placement
from vdso.measure.result import BenchResult
from vdso.measure.rounds import bench
from vdso.measure.routes import Routes

T = TypeVar("T")

# By what the verdict goes: figures of the bench; what the kernel's own image is and does.
TIMED = ("transition", "vdso-cost", "ratio", "vsyscall-slow", "under-25", "core-saved")
OF_THE_IMAGE = ("page-size", "functions", "arm64", "clocks")

HOLDS = "holds"
FAILS = "does not hold here"
UNCHECKED = "cannot be checked here"

CPU_NAMES = tuple(map(clock_name, CPU_CLOCKS))
FOUR = ("clock_gettime", "gettimeofday", "time", "getcpu")
CLOCK_MONOTONIC_COARSE = 6  # whose resolution is the tick
WATCH_S = 0.3
# Updates a second against ticks a second: an update that falls between two looks is still counted.
TICKS_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence. `says`: the sentence; `holds_if`: how it was understood; `measured`: what was found,
    empty where nothing was.

    `verdict` is HOLDS, FAILS or UNCHECKED; `why`: what there is to know besides, or why there is no figure.
    """

    id: str
    says: str
    holds_if: str
    verdict: str
    measured: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the sentences are held against; None where it could not be had, and then `lacking` says why."""

    bench: BenchResult | None = None
    image: Image | None = None
    data_bytes: int = 0
    vsyscall: Vsyscall | None = None
    routes: Routes | None = None
    aslr: Placement | None = None
    page: Vvar | None = None
    rate: Rate | None = None
    tick_ns: int | None = None
    lacking: dict[str, str] = field(default_factory=dict)

    def why(self, *names: str) -> str:
        """Why the first of these that is lacking could not be had."""
        return next((self.lacking[name] for name in names if name in self.lacking), "")

    @property
    def not_the_kernels(self) -> str:
        """Why nothing is seen here of the kernel's own image, "" where it is that one."""
        image = self.bench.conditions.image if self.bench else "kernel"
        if image in ("kernel", "none", ""):
            return ""
        whose = "one of ours" if image == "vdso run" else image
        return f"the vDSO of this process is {whose}, not the kernel's"

    @property
    def not_timed(self) -> str:
        """Why a time that was taken says nothing, "" where it does."""
        reason = warning.worthless(self.bench) if self.bench else None
        return reason.text if reason else ""

    def median_ns(self, call: str, route: str, clock: str = "") -> float | None:
        row = self.bench.row(call, route, clock) if self.bench else None
        return row.median_ns if row else None


def gather(progress: Callable[[int, int], None] | None = None) -> Evidence:
    """Measures and looks, some 2 s. `progress`: as vdso.measure.bench has it."""
    lacking: dict[str, str] = {}

    def attempt(name: str, take: Callable[[], T]) -> T | None:
        try:
            return take()
        except VdsoError as error:
            lacking[name] = error.message
            return None

    mappings = attempt("image", maps.read)
    image = attempt("image", Image.from_process)
    page = attempt("page", vvar.read)
    own = maps.find(mappings, image.address or 0) if mappings and image else None
    return Evidence(
        bench=bench(quick=True, progress=progress),
        image=image,
        data_bytes=sum(mapping.size for mapping in look.before(mappings or [], own)) if own else 0,
        vsyscall=vsyscall_of(maps.area_of(mappings).vsyscall) if mappings else None,
        routes=attempt("routes", routes.observe),
        aslr=attempt("aslr", placement.measure),
        page=page,
        rate=attempt("page", lambda: watch(page)) if page else None,
        tick_ns=round(time.clock_getres(CLOCK_MONOTONIC_COARSE) * 1e9),
        lacking=lacking,
    )


def watch(page: Vvar, seconds: float = WATCH_S) -> Rate:
    """The updates of the kernel's page in that time. Raises VvarUnproven."""
    watching = tick.Watch(page)
    end = time.monotonic() + seconds
    for _ in watching.ticks():
        if time.monotonic() >= end:
            break
    return watching.rate()


def check(found: Evidence) -> tuple[Claim, ...]:
    """Every sentence, in the order in which the description had them."""
    return tuple(unless(judge(found), found) for judge in JUDGES)


def unless(claim: Claim, found: Evidence) -> Claim:
    """The claim, unless what it was judged by is not what it speaks of: a time that a tracer made, an image
    that is ours.
    """
    why = (found.not_timed if claim.id in TIMED else "") or (
        found.not_the_kernels if claim.id in OF_THE_IMAGE else ""
    )
    return unchecked(claim.id, claim.says, claim.holds_if, why) if why else claim


def unchecked(name: str, says: str, holds_if: str, why: str) -> Claim:
    return Claim(name, says, holds_if, UNCHECKED, "", why)


def judged(name: str, says: str, holds_if: str, holds: bool, measured: str, why: str = "") -> Claim:
    return Claim(name, says, holds_if, HOLDS if holds else FAILS, measured, why)


# ---- what things cost ----


def transition(found: Evidence) -> Claim:
    about = (
        "transition",
        "a system call costs 100 to 150 ns",
        "getppid by raw system call takes 100 to 150 ns",
    )
    ns = found.median_ns("getppid", "syscall")
    if ns is None:
        return unchecked(*about, found.why("bench") or "getppid could not be timed")
    clock = found.median_ns("clock_gettime", "syscall", "MONOTONIC")
    why = f"one that reads the clock takes {clock:.0f} ns" if clock else ""
    return judged(*about, 100 <= ns <= 150, f"{ns:.1f} ns", why)


def vdso_cost(found: Evidence) -> Claim:
    about = ("vdso-cost", "a vDSO clock read costs about 15 ns", "clock_gettime(MONOTONIC) takes 10 to 20 ns")
    ns = found.median_ns("clock_gettime", "vdso", "MONOTONIC")
    if ns is None:
        return unchecked(*about, missing(found, "clock_gettime", "vdso", "MONOTONIC"))
    floor = found.median_ns("rdtscp", "cpu")
    why = f"a bare rdtscp, without which no read is ordered, takes {floor:.1f} ns" if floor else ""
    return judged(*about, 10 <= ns <= 20, f"{ns:.1f} ns", why)


def ratio(found: Evidence) -> Claim:
    about = ("ratio", "the vDSO is 8 times as fast as the system call", "for MONOTONIC the ratio is 6 to 10")
    vdso = found.median_ns("clock_gettime", "vdso", "MONOTONIC")
    syscall = found.median_ns("clock_gettime", "syscall", "MONOTONIC")
    if not vdso or not syscall:
        return unchecked(*about, missing(found, "clock_gettime", "vdso", "MONOTONIC"))
    times = syscall / vdso
    return judged(*about, 6 <= times <= 10, f"{times:.1f} times: {vdso:.1f} ns against {syscall:.0f} ns")


def core_saved(found: Evidence) -> Claim:
    about = (
        "core-saved",
        "at 10 million reads a second the vDSO saves a core",
        "10 million MONOTONIC reads cost at least 1 s less than as many system calls",
    )
    saving = found.bench.saving if found.bench else None
    if saving is None:
        return unchecked(*about, missing(found, "clock_gettime", "vdso", "MONOTONIC"))
    measured = (
        f"{saving.saved_cores:.2f} cores: {saving.vdso_cores:.2f} busy instead of {saving.syscall_cores:.2f}"
    )
    return judged(*about, saving.saved_cores >= 1, measured)


def under_25(found: Evidence) -> Claim:
    about = (
        "under-25",
        "a clock read under 25 ns is the vDSO",
        "every vDSO read takes under 25 ns, and every system call more",
    )
    rows = [
        row
        for row in (found.bench.rows if found.bench else ())
        if row.median_ns is not None and row.call in ("clock_gettime", "gettimeofday", "time")
    ]
    # A clock that no vDSO serves is a system call by whatever name it is asked for.
    served = [row for row in rows if row.route == "vdso" and row.clock not in CPU_NAMES]
    syscalls = [row for row in rows if row.route == "syscall"]
    if not served or not syscalls:
        return unchecked(*about, missing(found, "clock_gettime", "vdso", "MONOTONIC"))
    slowest = max(served, key=lambda row: row.median_ns or 0)
    quickest = min(served, key=lambda row: row.median_ns or 0)
    least = min(syscalls, key=lambda row: row.median_ns or 0)
    holds = (slowest.median_ns or 0) < 25 <= (least.median_ns or 0)
    measured = (
        f"vDSO {quickest.median_ns:.1f} ns ({quickest.name}) to {slowest.median_ns:.1f} ns ({slowest.name})"
    )
    return judged(
        *about, holds, measured, f"the quickest system call, {least.name}, takes {least.median_ns:.0f} ns"
    )


def missing(found: Evidence, call: str, route: str, clock: str = "") -> str:
    """Why that row of the bench has no figure."""
    row = found.bench.row(call, route, clock) if found.bench else None
    return (row.missing if row else "") or found.why("image") or "it could not be timed"


def getpid(found: Evidence) -> Claim:
    about = (
        "getpid",
        "getpid shows the true cost of a system call",
        "the C library's getpid enters the kernel each time",
    )
    route = (
        next((call for call in found.routes.calls if call.call == "getpid"), None) if found.routes else None
    )
    if route is None or route.route in ("user", "unknown") or found.routes is None:
        return unchecked(*about, found.why("routes") or "its way could not be seen")
    seen = "enters the kernel" if route.syscall else "answers from memory"
    why = "glibc 2.3 to 2.24 remembered the answer; a raw getppid never lies"
    return judged(*about, route.syscall is not None, f"{found.routes.library}: {seen}", why)


# ---- what it is and serves ----


def page_size(found: Evidence) -> Claim:
    about = ("page-size", "the vDSO is one page of 4 KiB", "the image's mapping is 4096 bytes")
    if found.image is None:
        return unchecked(*about, found.why("image"))
    measured = f"{found.image.size_bytes} bytes"
    why = f"{found.data_bytes} bytes of data stand before it" if found.data_bytes else ""
    return judged(*about, found.image.size_bytes == 4096, measured, why)


def served_functions(found: Evidence) -> frozenset[str]:
    names = (function.name for function in found.image.functions) if found.image else ()
    return frozenset(filter(None, map(call_name, names)))


def functions(found: Evidence) -> Claim:
    about = (
        "functions",
        "on x86-64 it has clock_gettime, gettimeofday, time and getcpu",
        "the image exports these four",
    )
    if found.image is None:
        return unchecked(*about, found.why("image"))
    if found.image.machine != "x86-64":
        return unchecked(*about, f"this is {found.image.machine}")
    served = served_functions(found)
    lacks = [name for name in FOUR if name not in served]
    besides = sorted(served.difference(FOUR))
    measured = f"lacks {', '.join(lacks)}" if lacks else "all four"
    return judged(*about, not lacks, measured, f"and {', '.join(besides)}" if besides else "")


def arm64(found: Evidence) -> Claim:
    about = ("arm64", "on arm64 it has clock_getres too", "an arm64 image exports it")
    if found.image is None:
        return unchecked(*about, found.why("image"))
    if found.image.machine != "arm64":
        besides = "; this one has it as well" if "clock_getres" in served_functions(found) else ""
        return unchecked(*about, f"this is {found.image.machine}{besides}")
    return judged(*about, "clock_getres" in served_functions(found), "looked for in the image")


def clocks(found: Evidence) -> Claim:
    about = (
        "clocks",
        "it serves REALTIME and MONOTONIC",
        "both are seen to be read without entering the kernel",
    )
    calls = [call for call in found.routes.calls if call.call == "clock_gettime"] if found.routes else []
    if not calls:
        return unchecked(*about, found.why("routes"))
    served = [str(call.clock) for call in calls if call.route == "vdso"]
    rest = [str(call.clock) for call in calls if call.syscall]
    holds = {"REALTIME", "MONOTONIC"} <= set(served)
    why = f"true system calls: {', '.join(rest)}" if rest else ""
    return judged(*about, holds, ", ".join(served) or "none", why)


# ---- how it is kept ----


def synchronised(found: Evidence) -> Claim:
    about = (
        "wait-free",
        "reading needs no synchronisation and is wait-free",
        "the page has no sequence counter that readers must go by",
    )
    if found.page is None:
        return unchecked(*about, found.why("page"))
    clock = found.page.clocks[0]
    measured = f"a sequence counter, at {clock.sequence}"
    why = "who reads while it is odd waits, and who reads while it changes reads again"
    return judged(*about, False, measured, why)


def every_tick(found: Evidence) -> Claim:
    about = (
        "every-tick",
        "its data is updated on every timer tick",
        "there are as many updates as ticks, within a tenth",
    )
    if found.rate is None or not found.rate.updates_per_s or not found.tick_ns:
        return unchecked(*about, found.why("page") or "no update came while it was watched")
    ticks_per_s = 1e9 / found.tick_ns
    measured = f"{found.rate.updates_per_s:.0f} updates a second, for {ticks_per_s:.0f} ticks"
    why = f"watched for {found.rate.seconds:.1f} s; an idle machine stops its tick, and then there are fewer"
    return judged(*about, found.rate.updates_per_s >= TICKS_SHARE * ticks_per_s, measured, why)


# ---- where it is ----


def aslr(found: Evidence) -> Claim:
    about = ("aslr", "its address is randomised", "no two of 200 executions share it")
    placed = found.aslr
    if placed is None or placed.without_vdso == placed.execs:
        return unchecked(*about, found.why("aslr") or "no execution had a vDSO")
    count = f"{placed.distinct} address{'' if placed.distinct == 1 else 'es'}"
    measured = f"{count} in {placed.execs} executions, {placed.entropy_bits} bits"
    off = placed.randomize_va_space == 0 or placed.randomization_off
    return judged(*about, placed.shared == 0, measured, "randomisation is off here" if off else "")


def vsyscall_address(found: Evidence) -> Claim:
    about = (
        "vsyscall-address",
        "the old vsyscall page is at 0xffffffffff600000 in every process",
        "it is mapped there in this one",
    )
    if found.vsyscall is None:
        return unchecked(*about, found.why("image"))
    if found.vsyscall.address is None:
        return judged(*about, False, "no such page", "vsyscall=none, or a kernel that has given it up")
    holds = found.vsyscall.address == VSYSCALL_ADDRESS
    return judged(*about, holds, f"{found.vsyscall.address:#x}, mode {found.vsyscall.mode}")


def vsyscall_slow(found: Evidence) -> Claim:
    about = (
        "vsyscall-slow",
        "a call into it is a trap, slower than the system call that it replaced",
        "time() there takes longer than the system call",
    )
    old = found.median_ns("time", "vsyscall")
    syscall = found.median_ns("time", "syscall")
    if old is None or syscall is None:
        return unchecked(*about, missing(found, "time", "vsyscall"))
    return judged(*about, old > syscall, f"{old:.0f} ns, the system call {syscall:.0f} ns")


JUDGES: tuple[Callable[[Evidence], Claim], ...] = (
    transition,
    vdso_cost,
    ratio,
    page_size,
    functions,
    arm64,
    synchronised,
    every_tick,
    getpid,
    aslr,
    vsyscall_address,
    vsyscall_slow,
    under_25,
    clocks,
    core_saved,
)
