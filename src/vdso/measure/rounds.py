"""The bench itself: every call by every route, in rounds, each round one batch of each in turn.

Prints nothing and writes nothing. What a batch is, c/core/routes.h says; what the figures mean,
docs/bench.md.
"""

import contextlib
import dataclasses
import errno
import os
import statistics
import time
from collections.abc import Callable, Iterator

from vdso import __version__, _core
from vdso.errors import SourceError
from vdso.kernel import process
from vdso.kernel.clocks import CPU_CLOCKS, call_name, clock_name
from vdso.kernel.image import Image
from vdso.measure import machine, warning
from vdso.measure.result import FORMAT, KIND, LOST, BenchResult, Row, quantile, saving

# In the order of the rows.
CLOCKS = {clock_name(number): number for number in (0, 1, 4, 7, 11, 5, 6, *CPU_CLOCKS)}
CALLS = {
    "clock_gettime": _core.CALL_CLOCK_GETTIME,
    "clock_getres": _core.CALL_CLOCK_GETRES,
    "gettimeofday": _core.CALL_GETTIMEOFDAY,
    "time": _core.CALL_TIME,
    "getcpu": _core.CALL_GETCPU,
    "getrandom": _core.CALL_GETRANDOM,
    "getppid": _core.CALL_GETPPID,
}
ROUTES = {
    "vdso": _core.ROUTE_FUNCTION,
    "libc": _core.ROUTE_LIBC,
    "syscall": _core.ROUTE_SYSCALL,
    "vsyscall": _core.ROUTE_VSYSCALL,
}
# What is beside the calls: the CPU's own instructions, and a function that does nothing.
BARE = {
    "rdtsc": _core.ROUTE_RDTSC,
    "rdtscp": _core.ROUTE_RDTSCP,
    "lfence; rdtsc": _core.ROUTE_LFENCE_RDTSC,
    "empty function": _core.ROUTE_EMPTY,
}
IN_VSYSCALL = ("gettimeofday", "time", "getcpu")

# Long against the timer's cost of 0.3 us, short against a scheduler's slice of some ms.
BATCH_NS = 60_000
BATCH_NS_MAX = 4_000_000
BATCH_MAX = 1 << 20
# Of as many the shortest says how long a batch is: one that was interrupted would make it too small for good.
TRIES = 5

ROUNDS, QUICK_ROUNDS = 800, 200
LIMIT_S, QUICK_LIMIT_S = 3.6, 0.8
# Fewer say nothing, whatever the time: what a debugger makes slow is to be seen too.
ROUNDS_MIN = 10


@dataclasses.dataclass(frozen=True, slots=True)
class Probe:
    """One row to be: how c/core/routes.h names it, or why it cannot be."""

    call: str
    clock: str
    route: str
    core_route: int
    core_call: int = _core.CALL_CLOCK_GETTIME
    clock_id: int = 0
    function: int = 0
    missing: str = ""

    def batch_ns(self, count: int) -> int:
        """ns that `count` calls take together, with the timer's cost. Raises OSError."""
        return _core.route_ns(self.core_route, count, self.function, self.clock_id, self.core_call)


LOOP = Probe("loop", "", "cpu", _core.ROUTE_LOOP)


def bench(
    *,
    quick: bool = False,
    rounds: int | None = None,
    limit_s: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    wanted: Callable[[Probe], bool] | None = None,
    root: str = "/",
) -> BenchResult:
    """Measures every call of the vDSO by its four routes, some 3 s, or 1 s if `quick`.

    The calling thread is pinned to one of the CPUs that it may use, and has its affinity back afterwards,
    also after an exception. rounds: how many at most; limit_s: when to stop, once there are ten; progress:
    called with (rounds done, rounds) after each; wanted: which rows are measured, None for all. root: where
    proc and sys are looked for, by the warnings.

    Times are ns a call, by CLOCK_MONOTONIC_RAW through the true system call. A row's spread is that of its
    batches' means, not of single calls.
    """
    rounds = (QUICK_ROUNDS if quick else ROUNDS) if rounds is None else rounds
    limit_s = (QUICK_LIMIT_S if quick else LIMIT_S) if limit_s is None else limit_s
    if rounds < ROUNDS_MIN:
        raise ValueError(f"at least {ROUNDS_MIN} rounds")
    taken_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    start = time.perf_counter()
    with pinned(root) as cpu:
        before = machine.conditions(cpu, root)
        ticks = machine.ticks(cpu, root)
        timer_ns = statistics.median(LOOP.batch_ns(0) for _ in range(101))
        rows_to_be = [probe for probe in plan() if wanted is None or wanted(probe)]
        probes, batches = calibrate(rows_to_be, timer_ns)
        loop_batch = batch_size(LOOP, timer_ns)
        taken: list[list[int]] = [[] for _ in probes]
        loops: list[int] = []
        timers: list[int] = []
        order = [index for index, probe in enumerate(probes) if not probe.missing]
        done = 0
        while done < rounds and (done < ROUNDS_MIN or time.perf_counter() - start < limit_s):
            timers.append(LOOP.batch_ns(0))
            loops.append(LOOP.batch_ns(loop_batch))
            for index in order:
                taken[index].append(probes[index].batch_ns(batches[index]))
            # There and back again: a drift within a round falls on all routes alike.
            order.reverse()
            done += 1
            if progress is not None:
                progress(done, rounds)
        stolen = machine.stolen_percent(ticks, machine.ticks(cpu, root))
    timer_ns = float(statistics.median(timers))
    loop_ns = max(0.0, (statistics.median(loops) - timer_ns) / loop_batch)
    rows = tuple(
        row_of(probe, batch, [(ns - timer_ns) / batch - loop_ns for ns in values])
        for probe, batch, values in zip(probes, batches, taken, strict=True)
    )
    result = BenchResult(
        kind=KIND,
        format=FORMAT,
        version=__version__,
        taken_at=taken_at,
        duration_s=round(time.perf_counter() - start, 3),
        quick=quick,
        rounds=done,
        cpu=cpu,
        timer_ns=round(timer_ns, 1),
        loop_ns=round(loop_ns, 3),
        stolen_percent=stolen,
        machine=machine.machine(root),
        conditions=before,
        rows=rows,
        saving=saving(rows),
        warnings=(),
    )
    return warning.with_warnings(result, rounds_asked=rounds)


@contextlib.contextmanager
def pinned(root: str = "/") -> Iterator[int | None]:
    """The calling thread on one CPU, which it says; None where that is refused."""
    try:
        allowed = os.sched_getaffinity(0)
        cpu = machine.choose_cpu(allowed, root)
        os.sched_setaffinity(0, {cpu})
    except OSError:
        yield None
        return
    try:
        yield cpu
    finally:
        # A CPU may have been taken away meanwhile (cpuset, hotplug): then the kernel has chosen already.
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, allowed)


def plan() -> list[Probe]:
    """Every row, in the order in which tables show them."""
    functions, why = vdso_functions()
    vsyscall = _core.has_vsyscall()
    probes = []
    for call, core_call in CALLS.items():
        if call == "getppid":
            continue
        # A clock's resolution is the same for all: one row.
        clocks = {"clock_gettime": CLOCKS, "clock_getres": {"MONOTONIC": 1}}.get(call, {"": 0})
        for clock, clock_id in clocks.items():
            for route, core_route in ROUTES.items():
                missing = ""
                if route == "vdso" and call not in functions:
                    missing = why or f"the vDSO has no {call}"
                elif route == "vsyscall" and call not in IN_VSYSCALL:
                    missing = "vsyscall has gettimeofday, time and getcpu alone"
                elif route == "vsyscall" and not vsyscall:
                    missing = "no vsyscall page that may be executed"
                    missing = missing if process.proc_mounted() else process.NOT_MOUNTED
                function = functions.get(call, 0) if route == "vdso" else 0
                probes.append(Probe(call, clock, route, core_route, core_call, clock_id, function, missing))
    probes.append(Probe("getppid", "", "syscall", _core.ROUTE_SYSCALL, _core.CALL_GETPPID))
    probes += [Probe(name, "", "cpu", route) for name, route in BARE.items()]
    return probes


def vdso_functions() -> tuple[dict[str, int], str]:
    """Addresses of the functions of this process's vDSO by their names without prefix; and why there are
    none.
    """
    try:
        image = Image.from_process()
    except SourceError as error:
        return {}, error.message
    if image.address is None:
        return {}, "no vDSO in this process"
    functions = {}
    for function in image.functions:
        call = call_name(function.name)
        if call is not None:
            functions[call] = image.address + function.value - image.load_address
    return functions, ""


def target_ns(timer_ns: float) -> int:
    """How long a batch is to be: where a tracer makes the timer dear, longer."""
    return int(max(BATCH_NS, min(BATCH_NS_MAX, 20 * timer_ns)))


def calibrate(probes: list[Probe], timer_ns: float) -> tuple[list[Probe], list[int]]:
    """The probes, those that fail marked as missing, and how many calls make a batch of each."""
    found, batches = [], []
    for probe in probes:
        batch = 0
        if not probe.missing:
            try:
                batch = batch_size(probe, timer_ns)
            except OSError as error:
                probe = dataclasses.replace(probe, missing=failure(error))
        found.append(probe)
        batches.append(batch)
    return found, batches


def failure(error: OSError) -> str:
    if error.errno == errno.ENOSYS:
        return "none on this machine"
    if error.errno == errno.EINVAL:
        return "refused: it answers with an error"
    return (error.strerror or str(error)).lower()


def batch_size(probe: Probe, timer_ns: float) -> int:
    """How many calls take about target_ns(), without what the timer costs: a tracer makes that dearer than
    thousands of calls. Raises OSError.
    """
    target = target_ns(timer_ns)
    count = 8
    while True:
        ns = min(probe.batch_ns(count) for _ in range(TRIES)) - timer_ns
        if ns >= target / 4 or count >= BATCH_MAX:
            return max(1, min(BATCH_MAX, int(count * target / max(ns, 1))))
        count *= 4


def row_of(probe: Probe, batch: int, values: list[float]) -> Row:
    """`values`: ns a call of each round; below 0 where the timer took longer than usual beside it."""
    values = [max(0.0, value) for value in values]
    if not values or round(quantile(values, 0.5), 3) == 0:
        missing = probe.missing or LOST
        return Row(probe.call, probe.clock, probe.route, missing, 0, 0, None, None, None, ())
    return Row(
        probe.call,
        probe.clock,
        probe.route,
        "",
        batch,
        len(values),
        median_ns=round(quantile(values, 0.5), 3),
        p5_ns=round(quantile(values, 0.05), 3),
        p95_ns=round(quantile(values, 0.95), 3),
        rounds_ns=tuple(round(value, 3) for value in values),
    )
