"""What counts come to mean: rows, groups, why calls enter the kernel; with costs that are given."""

import pytest

from vdso.measure import routes, stat
from vdso.measure.calls import CALLS, Call
from vdso.measure.cost import Costs
from vdso.measure.counting import Counted, Counts, Kind
from vdso.measure.routes import Route, Routes
from vdso.measure.stat import Meaning, ending

MONOTONIC = CALLS[1]
REALTIME = CALLS[0]
CPU = CALLS[2]
BY_ID, DEVICE, UNKNOWN = CALLS[12], CALLS[13], CALLS[15]
TIME = Call("time")


def routes_of(route: str) -> Routes:
    """Where each clock goes that a vDSO may answer."""
    return Routes(
        "a C library",
        (
            Route("clock_gettime", "REALTIME", route, None),
            Route("clock_gettime", "MONOTONIC", route, None),
            Route("clock_gettime", "PROCESS_CPUTIME_ID", "vdso-syscall", "clock_gettime"),
            Route("time", None, "vdso", None),
        ),
    )


@pytest.fixture(autouse=True)
def _given(monkeypatch: pytest.MonkeyPatch) -> None:
    def ns(_self: Costs, _function: str, _clock_id: int = 0, *, raw: bool = False) -> float:
        return 200.0 if raw else 20.0

    monkeypatch.setattr(Costs, "ns", ns)
    monkeypatch.setattr(routes, "observe", lambda: routes_of("vdso"))


def thread(pid: int, tid: int, calls: dict[Call, int], kind: Kind = Kind.VDSO, name: str = "") -> Counted:
    return Counted(pid, tid, f"program{pid}", name, kind, calls)


def counted(*threads: Counted, seconds: float = 2.0, raw: dict[Call, int] | None = None) -> Counts:
    return Counts(seconds, 1, threads, full=False, raw=raw or {})


def test_rows_are_sums_in_the_order_of_what_they_cost() -> None:
    counts = counted(
        thread(1, 1, {MONOTONIC: 10, TIME: 5}),
        thread(1, 2, {MONOTONIC: 30}),
        thread(1, 2, {REALTIME: 7}, Kind.RAW),
    )
    found = stat.stat(counts, Meaning(), pid=1)
    assert [(row.function, row.clock, row.route, row.calls) for row in found.rows] == [
        ("clock_gettime", "REALTIME", "syscall", 7),
        ("clock_gettime", "MONOTONIC", "vdso", 40),
        ("time", "", "vdso", 5),
    ]
    row = found.rows[1]
    assert (row.calls_per_s, row.ns, row.cores) == (20.0, 20.0, pytest.approx(20 * 20e-9))
    assert (found.calls, found.threads, found.processes) == (52, 2, 1)
    assert found.cores == pytest.approx(sum(row.cores or 0 for row in found.rows))


def test_why_calls_enter_the_kernel() -> None:
    counts = counted(
        thread(1, 1, dict.fromkeys([MONOTONIC, CPU, BY_ID, DEVICE, UNKNOWN, CALLS[8], CALLS[10]], 1))
    )
    rows = {row.clock: row for row in stat.stat(counts, Meaning(), pid=1).rows}
    assert {clock for clock, row in rows.items() if row.route == "vdso"} == {"MONOTONIC"}
    assert rows["PROCESS_CPUTIME_ID"].why == rows[BY_ID.clock].why == "CPU time is in no vDSO"
    assert rows[DEVICE.clock].why == "a device's clock is in no vDSO"
    assert rows["REALTIME_ALARM"].why == "an alarm clock is in no vDSO"
    assert rows[UNKNOWN.clock].why == rows["10"].why == "there is no such clock"
    # No such call can be made here to be measured.
    assert rows[DEVICE.clock].ns is rows[DEVICE.clock].cores is None


def test_a_clocksource_without_a_vdso_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "observe", lambda: routes_of("vdso-syscall"))
    meaning = Meaning()
    assert not meaning.raw_calls_show
    rows = {
        row.clock: row
        for row in stat.stat(counted(thread(1, 1, {MONOTONIC: 1, TIME: 1})), meaning, pid=1).rows
    }
    assert rows["MONOTONIC"].route == "vdso-syscall"
    assert "has no vDSO mode" in rows["MONOTONIC"].why
    assert rows[""].route == "vdso"


def test_what_could_not_be_observed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from vdso.errors import SeccompRefused

    def refuse() -> Routes:
        raise SeccompRefused("the filter is refused")

    monkeypatch.setattr(routes, "observe", refuse)
    found = stat.stat(counted(thread(1, 1, {MONOTONIC: 1})), Meaning(), pid=1)
    assert [unknown.why for unknown in found.unknown] == ["the filter is refused"]
    full = Counts(1.0, 1, (), full=True, raw={})
    assert "told apart" in stat.stat(full, Meaning(), pid=1).unknown[-1].why


def test_groups() -> None:
    counts = counted(
        thread(1, 1, {MONOTONIC: 1}),
        thread(1, 2, {MONOTONIC: 5}, name="worker"),
        thread(1, 2, {MONOTONIC: 5}, name="worker"),  # another cell of the same thread's
        thread(9, 9, {MONOTONIC: 100}),
        raw={REALTIME: 3},
    )
    threads = stat.stat(counts, Meaning(), pid=1, by="thread").groups
    assert [(one.pid, one.tid, one.name, one.calls) for one in threads] == [
        (9, 9, "program9", 100),
        (1, 2, "worker", 10),
        (1, 1, "program1", 1),
    ]
    processes = stat.stat(counts, Meaning(), pid=1, by="process").groups
    assert [(one.pid, one.tid, one.calls) for one in processes] == [(9, None, 100), (1, None, 11)]
    assert stat.stat(counts, Meaning(), pid=1).groups == ()


def test_nothing_was_called() -> None:
    found = stat.stat(counted(seconds=0.0), Meaning(), pid=1)
    assert (found.calls, found.calls_per_s, found.cores, found.rows) == (0, 0.0, 0.0, ())


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (counted(thread(1, 1, {MONOTONIC: 1}), thread(1, 2, {MONOTONIC: 1})), "2 threads of 1 process"),
        (
            counted(thread(1, 1, {MONOTONIC: 1}), thread(2, 0, {MONOTONIC: 9})),
            "at least 2 threads of 2 processes",
        ),
        (counted(thread(1, 1, {MONOTONIC: 1}), raw={MONOTONIC: 9}), "at least 1 thread of 1 process"),
        (counted(raw={MONOTONIC: 9}), ""),
    ],
)
def test_how_many_called(counts: Counts, said: str) -> None:
    found = stat.stat(counts, Meaning(), pid=1)
    assert stat.how_many_called(found) == said
    assert found.threads_at_least == said.startswith("at least")


@pytest.mark.parametrize(
    ("status", "said"),
    [(None, ""), (0, "exit status 0"), (3 << 8, "exit status 3"), (9, "SIGKILL"), (11 | 128, "SIGSEGV")],
)
def test_endings(status: int | None, said: str) -> None:
    assert ending(status) == said


def test_since() -> None:
    before = counted(thread(1, 1, {MONOTONIC: 10}), thread(1, 1, {TIME: 1}), seconds=1.0, raw={REALTIME: 2})
    after = counted(
        thread(1, 1, {MONOTONIC: 4}),  # what was counted before has gone to another cell
        thread(1, 1, {TIME: 3, MONOTONIC: 10}),
        thread(1, 2, {REALTIME: 1}),
        seconds=3.0,
        raw={REALTIME: 5},
    )
    passed = after.since(before)
    assert passed.seconds == 2.0
    assert passed.totals() == {
        (MONOTONIC, Kind.VDSO): 4,
        (TIME, Kind.VDSO): 2,
        (REALTIME, Kind.VDSO): 1,
        (REALTIME, Kind.RAW): 3,
    }
