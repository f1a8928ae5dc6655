"""The bench itself, short: what it measures, and how it leaves the process."""

import os
import statistics
import threading
from random import Random

import pytest

from vdso import _core
from vdso.measure import bench, rounds
from vdso.measure.cost import Costs
from vdso.measure.doctor import measuring
from vdso.measure.result import LOST, BenchResult

# Before any run could have changed it.
ALLOWED = os.sched_getaffinity(0)


@pytest.fixture(scope="module")
def result() -> BenchResult:
    return bench(rounds=12)


def test_every_call_by_every_route_is_there_or_said_to_be_missing(result: BenchResult) -> None:
    keys = {row.key for row in result.rows}
    for clock in rounds.CLOCKS:
        assert {("clock_gettime", clock, route) for route in rounds.ROUTES} <= keys
    for call in ("gettimeofday", "time", "getcpu", "getrandom"):
        assert {(call, "", route) for route in rounds.ROUTES} <= keys
    assert ("getppid", "", "syscall") in keys
    assert {(name, "", "cpu") for name in ("rdtsc", "rdtscp", "lfence; rdtsc")} <= keys
    for row in result.rows:
        if row.missing:
            assert (row.rounds, row.median_ns, row.rounds_ns) == (0, None, ())
        else:
            assert len(row.rounds_ns) == row.rounds == result.rounds
            assert row.batch >= 1
            assert row.p5_ns <= row.median_ns <= row.p95_ns  # type: ignore[operator]


def test_vsyscall_has_three_functions_where_it_may_be_executed(result: BenchResult) -> None:
    found = {row.call for row in result.rows if row.route == "vsyscall" and not row.missing}
    assert found == ({"gettimeofday", "time", "getcpu"} if _core.has_vsyscall() else set())


def test_medians_are_those_of_the_rounds(result: BenchResult) -> None:
    for row in result.rows:
        if row.rounds:
            assert row.median_ns == pytest.approx(statistics.median(row.rounds_ns), abs=2e-3)


def test_true_system_calls_are_dearer_than_nothing(result: BenchResult) -> None:
    def median(call: str, route: str, clock: str = "") -> float:
        row = result.row(call, route, clock)
        assert row is not None
        assert row.median_ns is not None
        return row.median_ns

    assert median("getppid", "syscall") > 5 * median("empty function", "cpu")
    assert median("clock_gettime", "syscall", "MONOTONIC") > 0
    # What the vDSO does not serve costs what the system call costs.
    cpu_time = median("clock_gettime", "syscall", "THREAD_CPUTIME_ID")
    assert 0.5 < median("clock_gettime", "libc", "THREAD_CPUTIME_ID") / cpu_time < 2


def test_the_thread_may_go_where_it_might_before() -> None:
    seen = []
    bench(rounds=10, progress=lambda done, of: seen.append((done, of, os.sched_getaffinity(0))))
    assert [(done, of) for done, of, _ in seen] == [(n, 10) for n in range(1, 11)]
    assert all(len(cpus) == 1 and cpus <= ALLOWED for _, _, cpus in seen)
    assert os.sched_getaffinity(0) == ALLOWED


def test_also_after_an_interrupt() -> None:
    def interrupt(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench(rounds=10, progress=interrupt)
    assert os.sched_getaffinity(0) == ALLOWED


def test_other_threads_stay_where_they_are() -> None:
    go, end = threading.Event(), threading.Event()
    seen: list[set[int]] = []

    def other() -> None:
        go.wait(30)
        seen.append(os.sched_getaffinity(0))
        end.set()

    def meet(*_: int) -> None:
        go.set()
        end.wait(30)

    thread = threading.Thread(target=other)
    thread.start()
    bench(rounds=10, progress=meet)
    thread.join(30)
    assert seen == [ALLOWED]


def test_pinning_refused_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    result = bench(rounds=10)
    assert result.cpu is None
    assert "unpinned" in [found.id for found in result.warnings]


def test_the_limit_ends_it_but_not_before_ten_rounds() -> None:
    assert bench(rounds=500, limit_s=0).rounds == 10
    with pytest.raises(ValueError, match="at least 10"):
        bench(rounds=9)


def test_a_route_that_fails_has_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    real = rounds.plan()
    bad = [
        # EINVAL by the function itself, and a call that has no such route.
        rounds.Probe("clock_gettime", "NONE", "syscall", _core.ROUTE_SYSCALL, clock_id=1234),
        rounds.Probe("getppid", "", "libc", _core.ROUTE_LIBC, _core.CALL_GETPPID),
    ]
    monkeypatch.setattr(rounds, "plan", lambda: [*real[:2], *bad])
    rows = bench(rounds=10).rows
    assert [row.missing for row in rows] == [
        "",
        "",
        "refused: it answers with an error",
        "none on this machine",
    ]


def test_without_a_vdso_its_column_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "vdso_functions", lambda: ({}, "this process has no vDSO"))
    result = bench(rounds=10)
    assert {row.missing for row in result.rows if row.route == "vdso"} == {"this process has no vDSO"}
    assert result.saving is None


@pytest.mark.parametrize(("call", "size"), [("getrandom", 16)])
def test_getrandom_through_the_vdso_needs_its_state(call: str, size: int) -> None:
    functions, _ = rounds.vdso_functions()
    if call not in functions:
        pytest.skip("the kernel's vDSO has no getrandom")
    assert size == _core.ROUTE_RANDOM_BYTES
    count = 200
    by_vdso = min(
        _core.route_ns(_core.ROUTE_FUNCTION, count, functions[call], 0, _core.CALL_GETRANDOM)
        for _ in range(9)
    )
    by_kernel = min(_core.route_ns(_core.ROUTE_SYSCALL, count, 0, 0, _core.CALL_GETRANDOM) for _ in range(9))
    # Without a state it would make the system call each time.
    assert by_vdso < 0.8 * by_kernel


def test_timer_and_loop_are_taken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine where every call takes 30 ns, a turn of the loop 0.5 ns and the timer 700 ns."""

    def route_ns(route: int, count: int, *_: int) -> int:
        return round(700 + count * (0.5 + (0 if route == _core.ROUTE_LOOP else 30)))

    monkeypatch.setattr(_core, "route_ns", route_ns)
    result = bench(rounds=10)
    assert (result.timer_ns, result.loop_ns) == (700, pytest.approx(0.5, abs=1e-3))
    assert {row.median_ns for row in result.rows if not row.missing} == {30.0}
    # 60 us of calls.
    assert all(1800 < row.batch < 2100 for row in result.rows if not row.missing)
    assert result.saving is not None
    assert result.saving.saved_cores == 0


def test_a_dear_timers_noise_is_not_taken_for_the_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a tracer on a busy machine the timer takes more than thousands of calls, and each time another
    while: calls of 20 ns are 20 ns all the same, none of them less than nothing."""
    random = Random(4)

    def route_ns(route: int, count: int, *_: int) -> int:
        timer = random.uniform(100_000, 1_500_000)
        return round(timer + count * (0.5 + (0 if route == _core.ROUTE_LOOP else 20)))

    monkeypatch.setattr(_core, "route_ns", route_ns)
    result = bench(rounds=100)
    for row in result.rows:
        if not row.missing:
            assert row.median_ns == pytest.approx(20, abs=15), row.name
            assert min(row.rounds_ns) >= 0


def test_what_noise_hides_has_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a batch takes less than the timer alone."""

    def route_ns(route: int, *_: int) -> int:
        return 900_000 if route == _core.ROUTE_LOOP else 500_000

    monkeypatch.setattr(_core, "route_ns", route_ns)
    result = bench(rounds=10)
    row = result.row("clock_gettime", "libc", "MONOTONIC")
    assert row is not None
    assert (row.missing, row.median_ns, row.rounds) == (LOST, None, 0)
    assert result.saving is None
    assert Costs().ns("clock_gettime", 1) is None
    found = measuring.figures(result, None, None)
    assert {clock.libc_ns for clock in found.clocks} == {None}
    assert {clock.missing["libc"] for clock in found.clocks} == {LOST}
    assert found.counter.read_ns is None


def test_a_slow_timer_makes_longer_batches() -> None:
    assert rounds.target_ns(200) == rounds.BATCH_NS
    assert rounds.target_ns(20_000) == 400_000
    assert rounds.target_ns(10_000_000) == rounds.BATCH_NS_MAX


def test_batches_suit_their_routes(result: BenchResult) -> None:
    quick, slow = result.row("rdtsc", "cpu"), result.row("clock_gettime", "syscall", "PROCESS_CPUTIME_ID")
    assert quick is not None
    assert slow is not None
    assert quick.batch > 3 * slow.batch
