"""Tests at another time: `pytest examples/test_travel.py`. See docs/pytest.md."""

import sqlite3
import subprocess
import time
from datetime import UTC, date, datetime
from typing import Any

import pytest

import vdso


def is_expired(token: dict[str, float]) -> bool:
    return time.time() >= token["expires"]


def test_a_token_expires_after_an_hour(travel: Any) -> None:
    clock = travel("2030-01-01T12:00:00Z", rate=0)
    token = {"expires": time.time() + 3600}
    clock.shift("59m")
    assert not is_expired(token)
    clock.shift("1m")
    assert is_expired(token)


@pytest.mark.travel("2028-02-29")
def test_on_a_leap_day() -> None:
    assert date.today() == date(2028, 2, 29)


@vdso.freeze("2030-01-01")
def test_a_database_is_there_too() -> None:
    database = sqlite3.connect(":memory:")
    assert database.execute("select datetime('now')").fetchone() == ("2030-01-01 00:00:00",)
    database.close()


def test_what_it_starts_is_there_too() -> None:
    with vdso.travel(datetime(2030, 1, 1, tzinfo=UTC), children=True):
        assert subprocess.check_output(["date", "-u", "+%Y"], text=True) == "2030\n"


def test_a_day_in_half_a_second() -> None:
    with vdso.travel("2030-01-01", rate=172800):
        began = time.monotonic()
        while date.today() == date(2030, 1, 1):
            pass
        assert time.monotonic() - began > 0.4
