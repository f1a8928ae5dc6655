"""What people write for times, held against datetime and against arithmetic on integers."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vdso.clocks.transform import (
    FIRST_SECOND,
    LAST_SECOND,
    RATE_ONE,
    parse_duration,
    parse_rate,
    parse_when,
)
from vdso.errors import BadDuration, BadRate, BadWhen

NS = 10**9
UNIT_NS = {
    "w": 604800 * NS,
    "d": 86400 * NS,
    "h": 3600 * NS,
    "m": 60 * NS,
    "s": NS,
    "ms": 10**6,
    "us": 10**3,
    "ns": 1,
}


@pytest.fixture
def berlin() -> Iterator[None]:
    """A zone with summer time, by its rule, so that no zone files are needed."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "CET-1CEST,M3.5.0,M10.5.0/3"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


def exact_ns(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000


@given(st.datetimes(timezones=st.just(UTC)))
@example(datetime(1, 1, 1, tzinfo=UTC))
@example(datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC))
@example(datetime(2000, 2, 29, tzinfo=UTC))
@example(datetime(1900, 3, 1, tzinfo=UTC))
def test_utc_is_what_datetime_says(moment: datetime) -> None:
    text = moment.isoformat()
    assert parse_when(text) == exact_ns(moment)
    assert parse_when(text.replace("+00:00", "Z")) == exact_ns(moment)
    assert parse_when(text.replace("T", " ")) == exact_ns(moment)


@given(st.datetimes(), st.integers(-23 * 60 - 59, 23 * 60 + 59))
def test_an_offset_is_what_datetime_says(moment: datetime, minutes: int) -> None:
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    # Before the year 1 there, datetime itself gives up.
    shifted = exact_ns(moment.replace(tzinfo=UTC)) - minutes * 60 * NS
    assert parse_when(aware.isoformat()) == shifted


@given(st.integers(FIRST_SECOND, LAST_SECOND), st.integers(0, NS - 1))
def test_seconds_since_1970_keep_each_nanosecond(second: int, nanosecond: int) -> None:
    sign = -1 if second < 0 else 1
    assert parse_when(f"@{second}") == second * NS
    if FIRST_SECOND < second < LAST_SECOND:
        assert parse_when(f"@{second}.{nanosecond:09}") == second * NS + sign * nanosecond


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("@0", 0),
        ("@1893456000", 1893456000 * NS),
        ("@1893456000.25", 1893456000 * NS + 250_000_000),
        ("@-0.000000001", -1),
        ("@1.5000000000000", 1_500_000_000),
        ("2030-01-01T00:00:00Z", 1893456000 * NS),
        ("2030-01-01t00:00:00z", 1893456000 * NS),
        ("2030-01-01T00:00Z", 1893456000 * NS),
        ("2030-01-01 01:00 +01", 1893456000 * NS),
        ("2030-01-01T01:00:00+0100", 1893456000 * NS),
        ("2030-01-01T00:00:00.123456789Z", 1893456000 * NS + 123_456_789),
        ("2030-01-01T00:00:00,5Z", 1893456000 * NS + 500_000_000),
        ("1969-12-31T23:59:59.999999999Z", -1),
        (" 2030-01-01T00:00:00Z\n", 1893456000 * NS),
    ],
)
def test_forms(text: str, expected: int) -> None:
    assert parse_when(text) == expected


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2030-01-01", "2029-12-31T23:00:00Z"),
        ("2030-07-01", "2030-06-30T22:00:00Z"),
        ("2030-07-01T12:00", "2030-07-01T10:00:00Z"),
        ("1950-01-01 00:00:00.25", "1949-12-31T23:00:00.25Z"),
    ],
)
def test_neither_zone_nor_offset_is_local(text: str, same: str) -> None:
    assert parse_when(text) == parse_when(same)


@pytest.mark.usefixtures("berlin")
def test_the_hour_left_out_in_spring() -> None:
    with pytest.raises(BadWhen, match="no such time in the local zone"):
        parse_when("2030-03-31T02:30:00")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("tomorrow", "not a time"),
        ("2030", "not a time"),
        ("2030-1-1", "not a time"),
        ("2030-13-01", "no month 13"),
        ("2030-02-30", "no day 30"),
        ("1900-02-29", "no day 29"),
        ("0000-01-01", "no year 0"),
        ("2030-01-01T", "not a time of day"),
        ("2030-01-01T24:00Z", "no such time of day"),
        ("2030-01-01T23:59:60Z", "leap second"),
        ("2030-01-01T1:00Z", "not a time of day"),
        ("2030-01-01T01:00.5Z", "not a time of day"),
        ("2030-01-01T01:00:00.Z", "not a time of day"),
        ("2030-01-01T01:00:00.x5Z", "not a time of day"),
        ("2030-01-01T01:00:00+1", "not an offset"),
        ("2030-01-01T01:00:00+24:00", "not an offset"),
        ("2030-01-01T01:00:00.0000000001Z", "finer than a nanosecond"),
        ("2030-01-01X01:00", "not a time"),
        ("٢٠٣٠-01-01", "not a time"),
        ("@", "not seconds"),
        ("@1e9", "not seconds"),
        ("@1.2.3", "not a number"),
        ("@1.", "not a number"),
        ("@" + "9" * 5000, "100 digits"),
        (f"@{LAST_SECOND + 1}", "no clock goes so far"),
        (f"@{FIRST_SECOND - 1}", "no clock goes so far"),
    ],
)
def test_refused_times(text: str, message: str) -> None:
    with pytest.raises(BadWhen, match=message) as caught:
        parse_when(text)
    assert caught.value.hint
    assert caught.value.exit_code == 2


@given(st.text())
@example("2030-01-01T" + "0" * 5000)
@example("2030-01-01T00:00:00." + "0" * 5000)
@example("@²")
def test_any_text_is_a_time_or_refused(text: str) -> None:
    with suppress(BadWhen):
        assert isinstance(parse_when(text), int)
    with suppress(BadDuration):
        assert isinstance(parse_duration(text), int)


@given(
    st.sampled_from(["", "+", "-"]),
    st.dictionaries(st.sampled_from(sorted(UNIT_NS)), st.integers(0, 10**6), min_size=1),
)
def test_a_duration_is_the_sum_of_its_parts(sign: str, parts: dict[str, int]) -> None:
    text = sign + "".join(f"{count}{unit}" for unit, count in parts.items())
    total = sum(count * UNIT_NS[unit] for unit, count in parts.items())
    assert parse_duration(text) == (-total if sign == "-" else total)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("+1000d", 1000 * 86400 * NS),
        ("-2h30m", -9000 * NS),
        ("+90s", 90 * NS),
        ("1.5h", 5400 * NS),
        ("- 2h 30m", -9000 * NS),
        ("0.1us", 100),
        (".5s", 500_000_000),
        ("1us1ns", 1001),
        ("0s", 0),
    ],
)
def test_durations(text: str, expected: int) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("-", "empty"),
        ("90", "90 of what"),
        ("1h30", "30 of what"),
        ("h", "not a duration"),
        ("1x", "no such unit: x"),
        ("1H", "no such unit: H"),
        ("1y", "no fixed length"),
        ("1M", "no fixed length"),
        ("1h1h", "stands twice"),
        ("1us1µs", "stands twice"),
        ("1.5ns", "finer than a nanosecond"),
        ("1..5s", "not a number"),
        (".s", "not a number"),
        ("1h-30m", "not a duration"),
        ("1e3s", "no such unit: e"),
        ("99999999999999999999w", "no clock goes so far"),
    ],
)
def test_refused_durations(text: str, message: str) -> None:
    with pytest.raises(BadDuration, match=message) as caught:
        parse_duration(text)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("1", RATE_ONE),
        ("0", 0),
        ("0.5", RATE_ONE // 2),
        (" 1e6 ", 10**6 * RATE_ONE),
        ("-0", 0),
        ("2.4e-10", 1),
    ],
)
def test_rates(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text", ["", "x", "nan", "inf", "-inf", "-1", "-1e-9", "1000001", "1e-11", "1_0", "10x", "\u0661"]
)
def test_no_rates(text: str) -> None:
    with pytest.raises(BadRate) as caught:
        parse_rate(text)
    assert caught.value.hint
