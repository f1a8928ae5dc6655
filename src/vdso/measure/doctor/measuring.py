"""What the doctor measures in this process, before anything that it diagnoses runs: each part, or why not.

By vdso.measure.bench, routes and placement, with fewer rounds; the clock is read in no other way, since a
process that may not read the counter would die of it.
"""

import dataclasses
import os
import time
from collections.abc import Callable
from typing import TypeVar

from vdso import _core
from vdso.errors import VdsoError, VvarUnproven
from vdso.kernel import vvar
from vdso.kernel.clocks import clock_name
from vdso.measure import placement, routes
from vdso.measure.doctor.result import Clock, Counter, Figures
from vdso.measure.doctor.view import Measured, Page
from vdso.measure.result import BenchResult
from vdso.measure.rounds import Probe, bench
from vdso.measure.routes import Routes

T = TypeVar("T")

# Those of the vDSO, in the order in which they are shown.
CLOCKS = (0, 1, 4, 7, 11, 5, 6)
WAYS = ("vdso", "libc", "syscall")
STEP_LIMIT_NS = 20_000_000  # a coarse clock's tick takes 10 ms at most
FORBIDDEN = "this process may not read the CPU's counter (PR_SET_TSC): reading the clock would end it"


class Effort:
    """How much is measured: all of it in some 1.5 s, or in 0.3."""

    def __init__(self, quick: bool) -> None:
        self.rounds = 20 if quick else 400
        self.limit_s = 0.12 if quick else 1.2
        self.execs = 20 if quick else 200
        # In which 63 CPUs meet each with each, or 10.
        self.compare_ns = 10_000_000 if quick else 400_000_000


def measure(quick: bool, take: Callable[[], BenchResult] | None = None) -> Measured:
    """Everything that can be measured here. take: a bench that is taken in the place of the doctor's own."""
    effort = Effort(quick)
    lacking: dict[str, str] = {}

    def attempt(name: str, way: Callable[[], T]) -> T | None:
        try:
            return way()
        except VdsoError as error:
            lacking[name] = error.message
        except OSError as error:
            lacking[name] = (error.strerror or str(error)).lower()
        return None

    hypervisor, memfd = _core.hypervisor(), refused_memfd()
    allowed = attempt("counter_allowed", _core.counter_allowed)
    aslr = attempt("aslr", lambda: placement.measure(effort.execs))
    if allowed is False:
        lacking.update(figures=FORBIDDEN, page=FORBIDDEN)
        return Measured(aslr=aslr, counter_allowed=False, hypervisor=hypervisor, memfd=memfd, lacking=lacking)
    observed = attempt("routes", routes.observe)
    counter = attempt("counter", lambda: compare(effort.compare_ns))
    page = attempt("page", lambda: read_page(quick))
    taken = attempt("figures", take or (lambda: own(effort)))
    return Measured(
        figures=figures(taken, observed, counter) if taken else None,
        page=page,
        aslr=aslr,
        counter_allowed=allowed,
        hypervisor=hypervisor,
        memfd=memfd,
        lacking=lacking,
    )


def refused_memfd() -> str:
    """Why a memfd as c/core/page.c makes it is refused, "" where it is not."""
    try:
        os.close(os.memfd_create("vdso-doctor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return ""


def own(effort: Effort) -> BenchResult:
    return bench(rounds=effort.rounds, limit_s=effort.limit_s, wanted=wanted)


def wanted(probe: Probe) -> bool:
    """The rows of vdso.measure.bench that figures are made of."""
    if probe.call == "clock_gettime":
        return probe.route in WAYS and probe.clock_id in CLOCKS
    return probe.call in ("getppid", "rdtsc", "rdtscp")


def by_name() -> dict[str, tuple[float | None, ...]]:
    """What a read costs in this process by each of WAYS, of the clocks that programs read most; little is
    measured, as in passing."""
    taken = bench(
        rounds=20,
        limit_s=0.05,
        wanted=lambda one: one.call == "clock_gettime" and one.route in WAYS and one.clock_id in (0, 1),
    )
    rows = {(row.clock, row.route): row.median_ns for row in taken.rows}
    return {
        clock: tuple(rows[clock, way] for way in WAYS)
        for clock in dict.fromkeys(row.clock for row in taken.rows)
    }


def compare(budget_ns: int) -> Counter:
    """The CPUs' counters beside each other. Raises OSError where there is none that is known."""
    pairs, handovers, warps, widest, compared, pairwise = _core.counter_compare(budget_ns)
    # One CPU alone is not another's equal.
    return Counter(
        pairs=pairs,
        handovers=handovers,
        warps=warps,
        widest=widest,
        compared=compared and pairs > 0,
        pairwise=pairwise,
    )


def read_page(quick: bool) -> Page:
    """Raises NoVvar, VvarUnproven."""
    try:
        # The kernel's own types take ten times as long to read; what is shown is proven either way.
        page = vvar.read("table" if quick else None)
    except VvarUnproven:
        if not quick:
            raise
        page = vvar.read()
    return Page(page.mode, page.method)


def figures(taken: BenchResult, observed: Routes | None, counter: Counter | None) -> Figures:
    def median(call: str, route: str, clock: str = "") -> float | None:
        row = taken.row(call, route, clock)
        return row.median_ns if row else None

    ways = (
        {route.clock: route.route for route in observed.calls if route.call == "clock_gettime"}
        if observed
        else {}
    )
    clocks = []
    for number in CLOCKS:
        name = clock_name(number)
        rows = {row.route: row for row in taken.rows if (row.call, row.clock) == ("clock_gettime", name)}
        clocks.append(
            Clock(
                clock=name,
                vdso_ns=median("clock_gettime", "vdso", name),
                libc_ns=median("clock_gettime", "libc", name),
                syscall_ns=median("clock_gettime", "syscall", name),
                route=ways.get(name),
                resolution_ns=resolution(number),
                step_ns=step(number),
                missing={way: rows[way].missing for way in WAYS if way in rows and rows[way].missing},
            )
        )
    return Figures(
        rounds=taken.rounds,
        cpu=taken.cpu,
        clocks=tuple(clocks),
        getppid_ns=median("getppid", "syscall"),
        counter=dataclasses.replace(
            counter or Counter(), read_ns=median("rdtsc", "cpu"), ordered_ns=median("rdtscp", "cpu")
        ),
        cautions=taken.warnings,
    )


def now_ns(clock: int = time.CLOCK_MONOTONIC) -> int:
    """By the system call, since reading the clock may be what a process cannot; where a filter refuses the
    call, by the C library."""
    try:
        return _core.kernel_clock_ns(clock)
    except OSError:
        return time.clock_gettime_ns(clock)


def resolution(clock: int) -> int | None:
    try:
        return round(time.clock_getres(clock) * 1e9)
    except OSError:
        return None


def step(clock: int) -> int | None:
    try:
        return _core.clock_step(clock, STEP_LIMIT_NS) or None
    except OSError:
        return None
