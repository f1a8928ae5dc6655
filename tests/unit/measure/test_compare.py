"""Verdicts: none between runs of one machine, one where something has changed."""

import dataclasses
from collections.abc import Callable

import pytest

from vdso.measure.compare import (
    FASTER,
    INCONCLUSIVE,
    SLOWER,
    Change,
    Comparison,
    block_logs,
    compare,
    interval,
)
from vdso.measure.result import BenchResult

RunOf = Callable[..., BenchResult]

READ = ("clock_gettime", "MONOTONIC", "vdso")
TRAP = ("time", "", "vsyscall")


def verdict(comparison: Comparison, key: tuple[str, str, str]) -> Change:
    return next(row for row in comparison.rows if (row.call, row.clock, row.route) == key)


@pytest.mark.parametrize("rounds", [200, 800])
def test_the_same_machine_again_is_inconclusive(run_of: RunOf, rounds: int) -> None:
    rows = wrong = 0
    for seed in range(60):
        comparison = compare(run_of(2 * seed, rounds), run_of(2 * seed + 1, rounds))
        rows += len(comparison.rows)
        wrong += len(comparison.rows) - comparison.count(INCONCLUSIVE)
    assert rows == 60 * 13
    assert wrong <= rows * 0.002


@pytest.mark.parametrize(("factor", "expected"), [(1.25, SLOWER), (0.8, FASTER), (1.02, INCONCLUSIVE)])
def test_a_change_is_found(run_of: RunOf, factor: float, expected: str) -> None:
    found = [
        verdict(compare(run_of(seed), run_of(seed + 100, factor={READ: factor})), READ).verdict
        for seed in range(30)
    ]
    assert found.count(expected) >= 29


def test_ratio_and_interval_are_of_now_over_before(run_of: RunOf) -> None:
    change = verdict(compare(run_of(1), run_of(2, factor={READ: 2.0})), READ)
    assert change.ratio is not None
    assert change.low is not None
    assert change.high is not None
    assert change.before_ns is not None
    assert change.low < change.ratio < change.high
    assert change.ratio == pytest.approx(2, rel=0.06)
    assert change.now_ns == pytest.approx(2 * change.before_ns, rel=0.06)


def test_a_tenth_more_of_the_vsyscall_page_says_nothing(run_of: RunOf) -> None:
    assert verdict(compare(run_of(1), run_of(2, factor={TRAP: 1.11})), TRAP).verdict == INCONCLUSIVE
    assert verdict(compare(run_of(1), run_of(2, factor={TRAP: 1.5})), TRAP).verdict == SLOWER


def test_tenths_of_a_nanosecond_say_nothing(run_of: RunOf) -> None:
    key = ("empty function", "", "cpu")
    assert verdict(compare(run_of(1), run_of(2, factor={key: 1.4})), key).verdict == INCONCLUSIVE
    assert verdict(compare(run_of(1), run_of(2, factor={key: 3.0})), key).verdict == SLOWER


def test_half_of_a_run_slowed_is_not_another_machine(run_of: RunOf) -> None:
    """A neighbour that came in the middle: rounds alone would make a narrow interval of it."""
    before = run_of(1)
    rows = tuple(
        dataclasses.replace(
            row, rounds_ns=tuple(ns * (1.6 if i < 120 else 1) for i, ns in enumerate(row.rounds_ns))
        )
        for row in run_of(2).rows
    )
    comparison = compare(before, dataclasses.replace(run_of(2), rows=rows))
    assert comparison.count(INCONCLUSIVE) == len(comparison.rows)


def test_rows_of_one_run_alone_say_so(run_of: RunOf) -> None:
    before, now = run_of(1), run_of(2)
    fewer = dataclasses.replace(now, rows=tuple(row for row in now.rows if row.key != READ))
    assert verdict(compare(before, fewer), READ).verdict == "only before"
    assert verdict(compare(fewer, before), READ).verdict == "only now"
    # Neither has it: there is no row at all.
    assert not [row for row in compare(before, now).rows if row.route == "vsyscall" and row.clock]


def test_too_few_rounds_and_times_that_are_none_have_no_interval() -> None:
    assert interval((1.0,) * 9, (1.0,) * 50) is None
    assert interval((1.0,) * 50, (0.0,) * 50) is None
    assert len(block_logs((1.0,) * 11)) == 10


@pytest.mark.parametrize(
    ("part", "name", "value", "said"),
    [
        ("machine", "host", "other", "another machine: host, now other"),
        ("machine", "cpu_model", "Z80", "another CPU: A CPU <of> some & sort, now Z80"),
        ("machine", "kernel", "7.0", "another kernel: 6.18.0, now 7.0"),
        ("machine", "clocksource", "hpet", "another clocksource: tsc, now hpet"),
        ("machine", "hypervisor", "", "another hypervisor: KVMKVMKVM, now none"),
        ("machine", "libc", "glibc 2.41", "another C library: glibc 2.36, now glibc 2.41"),
        ("conditions", "image", "vdso run", "another vDSO: kernel, now vdso run"),
        ("conditions", "governor", "powersave", "another governor: none, now powersave"),
    ],
)
def test_what_is_not_the_same_is_said(run_of: RunOf, part: str, name: str, value: str, said: str) -> None:
    now = run_of(2)
    changed = dataclasses.replace(getattr(now, part), **{name: value})
    assert compare(run_of(1), dataclasses.replace(now, **{part: changed})).differences == (said,)


def test_another_speed_of_the_cpu_is_no_verdict_on_the_calls(run_of: RunOf) -> None:
    """A busy sibling on the core, or another frequency: the counter is slower too."""
    every = {row.key: 1.3 for row in run_of(1).rows}
    comparison = compare(run_of(1), run_of(2, factor=every))
    assert [(row.call, row.verdict) for row in comparison.rows if row.verdict != INCONCLUSIVE] == [
        ("rdtsc", SLOWER)
    ]
    assert [line for line in comparison.differences if line.startswith("the CPU itself: its bare counter")]
    # What changed by much more has changed.
    more = verdict(compare(run_of(1), run_of(2, factor=every | {READ: 3.0})), READ)
    assert more.verdict == SLOWER
    # Two different CPUs are what is compared.
    other = run_of(2, factor=every)
    other = dataclasses.replace(other, machine=dataclasses.replace(other.machine, cpu_model="Z80"))
    assert verdict(compare(run_of(1), other), READ).verdict == SLOWER
