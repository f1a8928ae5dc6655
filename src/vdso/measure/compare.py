"""Two runs side by side: for each row faster, slower or inconclusive.

A run's rounds are not independent: a CPU changes its speed for seconds, a neighbour comes and goes. So each
run is cut into ten blocks in time, and the ten medians stand for it (the method of batch means). The interval
of the difference of their mean logarithms is Student's, with 9 degrees of freedom, at 99.9 %: some fifty rows
are judged at a time, and one in twenty such comparisons, at worst, holds a false verdict. Two runs also
differ as wholes, in ways that neither shows within itself (where code and data came to lie, what the clock
frequency was): so the whole interval has to lie beyond a least change, MARGIN, to be a verdict, and beyond
what the bare counter has changed by, which is nobody's call.
"""

import itertools
import math
import statistics
from dataclasses import dataclass

from vdso.measure.result import BenchResult, Row

BLOCKS = 10
# Student's t for a two-sided 99.9 % with BLOCKS - 1 degrees of freedom. The least that Welch's formula gives
# for two runs of BLOCKS blocks, and so never too narrow.
T_999 = 4.781
MARGIN = 0.05
# The kernel answers it from an exception, whose cost is another in each process: 14 runs on an idle machine
# lay up to 11 % apart, each of them steady.
MARGIN_VSYSCALL = 0.15
# A time of 1 ns is three cycles: there a twentieth is nothing.
MARGIN_NS = 0.4

# Sharing a core slows some calls by more than it slows a counter: with a busy sibling 14 runs of one machine
# lay up to a factor of 2 apart, the counter up to 1.27.
CPU_SHARE = 1.5

COUNTERS = ("rdtsc", "rdtscp", "lfence; rdtsc")

FASTER, SLOWER, INCONCLUSIVE = "faster", "slower", "inconclusive"


@dataclass(frozen=True, slots=True)
class Change:
    """One row of both runs. `ratio`: now over before, of the medians; `low` and `high`: its interval.

    `verdict`: "faster", "slower", "inconclusive", or why there is none ("only before", "only now").
    """

    call: str
    clock: str
    route: str
    before_ns: float | None
    now_ns: float | None
    ratio: float | None
    low: float | None
    high: float | None
    verdict: str

    @property
    def name(self) -> str:
        return f"{self.call} {self.clock}" if self.clock else self.call


@dataclass(frozen=True, slots=True)
class Comparison:
    """`differences`: what of the two machines is not the same, and so may be what the verdicts show."""

    before_taken_at: str
    now_taken_at: str
    differences: tuple[str, ...]
    rows: tuple[Change, ...]

    def count(self, verdict: str) -> int:
        return sum(row.verdict == verdict for row in self.rows)


def compare(before: BenchResult, now: BenchResult) -> Comparison:
    """The verdict on each row that either run has."""
    earlier = {row.key: row for row in before.rows}
    later = {row.key: row for row in now.rows}
    keys = [*later, *(key for key in earlier if key not in later)]
    cpu = cpu_change(before, now)
    judged = [judge(earlier.get(key), later.get(key), cpu) for key in keys]
    changes = tuple(change for change in judged if change is not None)
    different = differences(before, now)
    if any(
        row.route == "cpu" and row.call in COUNTERS and row.verdict in (FASTER, SLOWER) for row in changes
    ):
        line = f"the CPU itself: its bare counter changed by {math.expm1(cpu):.0%}, and so much is no verdict"
        different = (*different, line)
    return Comparison(before.taken_at, now.taken_at, different, changes)


def cpu_change(before: BenchResult, now: BenchResult) -> float:
    """By how much, as a logarithm, the instructions that are no call at all have changed: the most of them.

    Of one CPU they only change where its frequency does, or who shares its core. 0 for two different CPUs.
    """
    if (before.machine.host, before.machine.cpu_model) != (now.machine.host, now.machine.cpu_model):
        return 0.0
    found = 0.0
    for call in COUNTERS:
        one, other = (run.row(call, "cpu") for run in (before, now))
        between = interval(one.rounds_ns, other.rounds_ns) if one and other else None
        # An interval that "no change" lies in is noise.
        if between is not None and (between[0] > 0 or between[1] < 0):
            found = max(found, abs(between[0] + between[1]) / 2)
    return found


def judge(before: Row | None, now: Row | None, cpu: float = 0.0) -> Change | None:
    """The verdict on one row, beside a cpu_change() of so much; None where neither run could measure it."""
    row = now or before
    assert row is not None
    then_ns = before.median_ns if before else None
    now_ns = now.median_ns if now else None
    if then_ns is None and now_ns is None:
        return None
    if before is None or now is None or then_ns is None or now_ns is None:
        verdict = "only before" if now_ns is None else "only now"
        return Change(*row.key, then_ns, now_ns, None, None, None, verdict)
    least = math.log1p(margin(min(then_ns, now_ns), row.route))
    if row.route != "cpu":
        least += CPU_SHARE * cpu
    found = interval(before.rounds_ns, now.rounds_ns)
    if found is None:  # some of it is not above 0, or there are too few rounds
        return Change(*row.key, then_ns, now_ns, None, None, None, INCONCLUSIVE)
    low, high = found
    verdict = FASTER if high < -least else SLOWER if low > least else INCONCLUSIVE
    ratio, low, high = (round(math.exp(value), 4) for value in ((low + high) / 2, low, high))
    return Change(*row.key, then_ns, now_ns, ratio, low, high, verdict)


def margin(ns: float, route: str) -> float:
    """The least change that counts, as a share."""
    least = MARGIN_VSYSCALL if route == "vsyscall" else MARGIN
    return max(least, MARGIN_NS / ns) if ns > 0 else math.inf


def interval(before: tuple[float, ...], now: tuple[float, ...]) -> tuple[float, float] | None:
    """Of the logarithm of now over before, at 99.9 %. None: too few rounds, or times that are none."""
    blocks = [block_logs(before), block_logs(now)]
    if not all(blocks):
        return None
    middle = statistics.fmean(blocks[1]) - statistics.fmean(blocks[0])
    half = T_999 * math.sqrt(sum(statistics.variance(logs) / BLOCKS for logs in blocks))
    return middle - half, middle + half


def block_logs(values: tuple[float, ...]) -> list[float]:
    """Logarithms of the medians of BLOCKS consecutive parts, [] where that cannot be."""
    if len(values) < BLOCKS:
        return []
    edges = [len(values) * index // BLOCKS for index in range(BLOCKS + 1)]
    medians = [statistics.median(values[a:b]) for a, b in itertools.pairwise(edges)]
    return [math.log(median) for median in medians] if min(medians) > 0 else []


def differences(before: BenchResult, now: BenchResult) -> tuple[str, ...]:
    """What is not the same about the two machines and ways of measuring, a line each."""
    a, b = before.machine, now.machine
    facts = [
        ("another machine", a.host, b.host),
        ("another architecture", a.architecture, b.architecture),
        ("another CPU", a.cpu_model, b.cpu_model),
        ("another hypervisor", a.hypervisor or "none", b.hypervisor or "none"),
        ("another kernel", a.kernel, b.kernel),
        ("another clocksource", a.clocksource, b.clocksource),
        ("another C library", a.libc, b.libc),
        ("another vDSO", before.conditions.image, now.conditions.image),
        ("another governor", before.conditions.governor or "none", now.conditions.governor or "none"),
        ("another vdso", before.version, now.version),
    ]
    return tuple(f"{what}: {then}, now {here}" for what, then, here in facts if then != here)
