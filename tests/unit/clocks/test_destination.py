"""What people give for a time, as ns."""

import datetime as dt
from collections.abc import Callable
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdso.clocks.destination import (
    FIRST_NS,
    LAST_NS,
    duration_ns,
    is_relative,
    rate_fixed,
    when_ns,
    zone_of,
)
from vdso.errors import BadDuration, BadRate, BadWhen

S = 10**9
T_2030 = 1893456000 * S


def now_ns() -> int:
    return 5 * S


@pytest.mark.parametrize(
    ("when", "ns"),
    [
        ("2030-01-01", T_2030),
        (" 2030-01-01 ", T_2030),
        ("2030-01-01 00:00", T_2030),
        ("2030-01-01T00:00:00.000000001", T_2030 + 1),
        ("2030-01-01T02:00+02:00", T_2030),
        ("2029-12-31T22:00:00-0200", T_2030),
        ("@1893456000.5", T_2030 + S // 2),
        ("20300101T000000.5Z", T_2030 + S // 2),
        ("20300101", T_2030),
        ("2030-W01-2T02:00+02:00", T_2030),
        ("2030-01-01T12", T_2030 + 43200 * S),
        ("+1h", 3605 * S),
        ("-5s", 0),
        (dt.datetime(2030, 1, 1), T_2030),
        (dt.datetime(2030, 1, 1, 0, 0, 0, 1), T_2030 + 1000),
        (dt.datetime(2030, 1, 1, 9, tzinfo=ZoneInfo("Asia/Tokyo")), T_2030),
        (dt.date(2030, 1, 1), T_2030),
        (dt.timedelta(days=1, microseconds=1), 86405 * S + 1000),
        (1893456000, T_2030),
        (1893456000.25, T_2030 + S // 4),
        (-0.5, -S // 2),
        (lambda: "2030-01-01", T_2030),
        (lambda: lambda: 1, S),
        (iter([3]), 3 * S),
        (dt.datetime(1969, 12, 31, 23, 59, 59), -S),
    ],
)
def test_when(when: Any, ns: int) -> None:
    assert when_ns(when, now_ns) == ns


def test_the_zone_of_this_machine_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        # Each text once: what it means is remembered.
        assert when_ns("2031-01-01", now_ns) == when_ns(dt.datetime(2031, 1, 1), now_ns)
        assert when_ns("2031-01-01 00:00:00.0", now_ns) == when_ns(dt.date(2031, 1, 1), now_ns)
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.floats(min_value=-9e9, max_value=9e9))
def test_a_float_comes_back_as_it_was(seconds: float) -> None:
    ns = when_ns(seconds, now_ns)
    assert abs(ns - seconds * S) <= 1 + abs(seconds * S) * 2**-52
    if abs(seconds) > 2**23:  # where a float is coarser than a ns
        assert ns / S == seconds


@given(st.integers(FIRST_NS, LAST_NS))
def test_text_is_exact(ns: int) -> None:
    sign = "-" if ns < 0 else ""
    assert when_ns(f"@{sign}{abs(ns) // S}.{abs(ns) % S:09}", now_ns) == ns


@given(st.datetimes(dt.datetime(1678, 1, 1), dt.datetime(2262, 1, 1)))
def test_a_datetime_is_exact(when: dt.datetime) -> None:
    ns = when_ns(when, now_ns)
    assert dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=ns // 1000) == when
    assert when_ns(when.isoformat(), now_ns) == ns


@pytest.mark.parametrize("when", ["+1h", dt.timedelta(1), iter([1]), lambda: 1])
def test_relative(when: Any) -> None:
    assert is_relative(when)


@pytest.mark.parametrize(
    "when", ["2030-01-01", dt.date(2030, 1, 1), dt.datetime(2030, 1, 1), 1, 1.0, None, b""]
)
def test_not_relative(when: Any) -> None:
    assert not is_relative(when)


def test_errors_show_what_was_given() -> None:
    for text in ("2030-13-01", "2030-01-01 12:00:xx", "20301301", "20300101T000000.1234567Z"):
        with pytest.raises(BadWhen) as error:
            when_ns(text, now_ns)
        assert error.value.message.endswith(f": {text}")


def test_durations() -> None:
    assert [duration_ns(by) for by in ("1h", "-90s", 1, 0.5, dt.timedelta(seconds=1))] == [
        3600 * S,
        -90 * S,
        S,
        S // 2,
        S,
    ]
    for mistake in ("1", "", None, True, float("nan"), b"1h"):
        with pytest.raises(BadDuration):
            duration_ns(mistake)  # type: ignore[arg-type]


def test_rates() -> None:
    assert [rate_fixed(rate) for rate in (0, 1, 1.0, 2, Fraction(1, 2), 1e6)] == [
        0,
        1 << 32,
        1 << 32,
        2 << 32,
        1 << 31,
        1_000_000 << 32,
    ]
    for mistake in (-1, float("nan"), float("inf"), 1e7, 1e-11, True, None):
        with pytest.raises(BadRate):
            rate_fixed(mistake)  # type: ignore[arg-type]


def test_zones() -> None:
    zones: list[tuple[Any, Callable[[], str | None] | str | None]] = [
        (dt.datetime(2030, 1, 1, tzinfo=ZoneInfo("Asia/Tokyo")), "Asia/Tokyo"),
        (dt.datetime(2030, 1, 1, tzinfo=dt.UTC), None),
        (dt.datetime(2030, 1, 1), None),
        ("2030-01-01", None),
    ]
    for when, zone in zones:
        assert zone_of(when) == zone
