"""What `vdso time` writes can be given back to it."""

import pytest

from vdso.clocks.transform import FIRST_SECOND, LAST_SECOND, NS_PER_S, parse_duration, parse_when
from vdso.commands.time import written_duration, written_time


@pytest.mark.parametrize(
    ("second", "text"),
    [
        (0, "1970-01-01T00:00:00.000000007Z"),
        (-62135596800, "0001-01-01T00:00:00.000000007Z"),
        (-30610224000, "1000-01-01T00:00:00.000000007Z"),
        (253402300799, "9999-12-31T23:59:59.000000007Z"),
    ],
)
def test_times(second: int, text: str) -> None:
    assert written_time(second * NS_PER_S + 7) == text
    assert parse_when(text) == second * NS_PER_S + 7


@pytest.mark.parametrize("second", [FIRST_SECOND, LAST_SECOND, 300000000000])
def test_times_beyond_the_calendar(second: int) -> None:
    assert written_time(second * NS_PER_S).endswith("Z")


@pytest.mark.parametrize("ns", [0, 1, -1, 86400 * NS_PER_S, -(10**18) - 1, 3661 * NS_PER_S + 500])
def test_durations(ns: int) -> None:
    assert parse_duration(written_duration(ns)) == ns
