"""vdso.travel() beside vdso run, attach and detach: what comes back is the session that is there by then."""

import calendar
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from apart import apart, in_child, succeeded
from harness import TIMEOUT_S, finish, without_time
from home import SECOND, at_home

import vdso
from vdso import _core
from vdso.swap import attach as attaching
from vdso.swap import travel as travelling

# ---- beside vdso run, vdso attach and vdso detach ----

THERE_AND_BACK = """
import os, time, vdso
def year(): return time.gmtime().tm_year
years = [year()]
for _ in range(2):
    with vdso.travel("2050-06-01"):
        years.append(year())
        if os.fork() == 0:
            with vdso.travel("2060-06-01"):
                os._exit(0 if year() == 2060 else 1)
        years.append(os.waitstatus_to_exitcode(os.wait()[1]))
    years.append(year())
    if os.fork() == 0:
        with vdso.travel("2060-06-01"):
            assert year() == 2060
        os._exit(0 if year() == years[0] else 1)
    years.append(os.waitstatus_to_exitcode(os.wait()[1]))
print(*years)
"""


@pytest.mark.parametrize("options", [["--at", "2040-06-01"], ["--at", "2040-06-01", "--rate", "2"]])
def test_inside_of_vdso_run_the_session_comes_back(vdso: str, options: list[str]) -> None:
    done = finish([vdso, "run", *options, "--", sys.executable, "-c", THERE_AND_BACK])
    assert done.stdout.split() == ["2040", *["2050", "0", "2040", "0"] * 2], done.stderr


SETTING = """
import time, vdso
def setting(second):
    time.clock_settime(time.CLOCK_REALTIME, second)
    return time.gmtime().tm_year
years = []
with vdso.travel("2050-06-01"):
    years.append(setting(1893456000))
years.append(time.gmtime().tm_year)
with vdso.travel("2050-06-01"):
    years.append(setting(1930000000))
years.append(setting(1990000000))
print(*years)
"""


@pytest.mark.parametrize("options", [["--at", "2040-06-01"], ["--rate", "2"]])
def test_what_sets_the_clock_meanwhile_sets_the_sessions(vdso: str, options: list[str]) -> None:
    done = finish([*without_time(), vdso, "run", *options, "--", sys.executable, "-c", SETTING])
    assert done.stdout.split() == ["2050", "2030", "2050", "2033"], done.stderr


def test_a_session_knows_who_travels_on_it(vdso: str) -> None:
    """Of several that one follower has the one that it is on is set, and found by the process's id."""
    outer, inner = (f"travel-{name}-{os.getpid()}" for name in ("outer", "inner"))
    program = f"""
import json, os, subprocess, time, vdso
def told(name): return json.loads(subprocess.check_output([{vdso!r}, "time", name, "--json"]))
with vdso.travel("2050-06-01"):
    time.clock_settime(time.CLOCK_REALTIME, 1893456000)
    there = told(str(os.getpid()))
    print(there["name"], there["realtime_ns"] // 10**9 // 60 * 60, os.getpid() in there["programs"])
print(time.gmtime().tm_year, told({outer!r})["offset_ns"] // 10**9)
"""
    words = [vdso, "run", "--session", outer, "--offset", "+10s", "--", "sh", "-c", '"$@"; :', "sh"]
    words += [vdso, "run", "--session", inner, "--at", "2040-01-01", "--", sys.executable, "-c", program]
    done = finish([*without_time(), *words])
    assert done.stdout == f"{inner} 1893456000 True\n2030 10\n", done.stderr


def test_on_a_session_that_moves_more_than_the_date(vdso: str) -> None:
    words = [vdso, "run", "--clocks", "all", "--rate", "2", "--", sys.executable, "-c", THERE_AND_BACK]
    done = finish(words)
    assert "moves more than the date" in done.stderr


@apart
def test_attached_from_outside() -> None:
    page = attaching.clock_page(1000 * 86400 * SECOND)
    attaching.attach(os.getpid(), page.reader_fd)
    there = time.time()
    assert not at_home()
    with vdso.freeze(5):
        assert time.time() == 5
    assert 0 <= time.time() - there < TIMEOUT_S
    page.set_offset(2000 * 86400, 0)
    assert abs(time.time() - there - 1000 * 86400) < TIMEOUT_S


@apart
def test_attached_and_detached_from_outside() -> None:
    page = attaching.clock_page(1000 * 86400 * SECOND)
    attaching.attach(os.getpid(), page.reader_fd)
    with vdso.freeze(5):
        assert time.time() == 5
    attaching.detach(os.getpid())
    assert at_home()
    with vdso.freeze(6):
        assert time.time() == 6
        attaching.detach(os.getpid())
        with vdso.freeze(7):
            assert time.time() == 7
        assert time.time() == 6
    assert at_home()


@apart
def test_detached_from_outside() -> None:
    with vdso.freeze(5) as clock:
        attaching.detach(os.getpid())
        assert at_home()
        with vdso.freeze(6):
            assert time.time() == 6
        assert time.time() == 5
        clock.shift(1)
        assert time.time() == 6
    assert at_home()


# ---- attached elsewhere: from outside, while it travels or after it has ----


def page_of(year: int) -> Any:
    """A clock page of that year, as a session's."""
    return attaching.clock_page(calendar.timegm((year, 6, 1, 0, 0, 0)) * SECOND - time.time_ns())


def attach_to(page: Any) -> None:
    attaching.attach(os.getpid(), page.reader_fd)


def year() -> int:
    return time.gmtime().tm_year


def reads(page: Any) -> bool:
    """Whether this process's clock is that page itself, and none that says the same."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    region = _core.travel_region()
    there = next(line for line in lines if int(line[0].split("-")[0], 16) == region)
    return int(there[4]) == os.fstat(page.reader_fd).st_ino


@apart
def test_attached_elsewhere_after_a_journey() -> None:
    """The next one stands for the page that is there by then, and puts that one back."""
    this, first, second = year(), page_of(2030), page_of(2040)
    attach_to(first)
    with vdso.travel("2070-06-01"):
        assert year() == 2070
    attaching.detach(os.getpid())
    attach_to(second)
    for _ in range(2):
        with vdso.travel("2070-06-01"), vdso.travel("2080-06-01"):
            assert year() == 2080
        assert (year(), reads(second)) == (2040, True)
    attaching.detach(os.getpid())
    assert year() == this


@apart
def attached_in_the_middle(first: Any, second: Any, there: int) -> None:
    attach_to(first)
    with vdso.travel("2070-06-01") as clock:
        with vdso.travel("2080-06-01"):
            attaching.detach(os.getpid())
            attach_to(second)
            assert (year(), reads(second)) == (there, True)
            assert succeeded(in_child(lambda: goes_from(second, there)))
        assert (year(), reads(second)) == (there, True)
        with vdso.travel("2090-06-01"):
            assert year() == 2090
        assert year() == 2070
        clock.at("2060-06-01")
        assert year() == 2060
    goes_from(second, there)
    with vdso.travel("2070-06-01"):
        attaching.detach(os.getpid())
        attach_to(second)
    goes_from(second, there)


def goes_from(page: Any, there: int) -> None:
    """Also a child that was forked then is on that page, travels, and is on it again."""
    for _ in range(2):
        assert (year(), reads(page)) == (there, True)
        journey = vdso.travel("2090-06-01")
        journey.start()
        assert year() == 2090
        for clock in reversed(travelling.journeys()):
            travelling.end(clock)
    assert (year(), reads(page)) == (there, True)


def test_attached_elsewhere_in_the_middle() -> None:
    """Whoever has done that has the clock, until the next journey begins."""
    attached_in_the_middle(page_of(2030), page_of(2040), 2040)


def test_attached_anew_to_the_same_in_the_middle() -> None:
    page = page_of(2030)
    attached_in_the_middle(page, page, 2030)


@apart
def test_attached_after_it_has_travelled_by_itself() -> None:
    this, page = year(), page_of(2040)
    with vdso.travel("2070-06-01"):
        pass
    attaching.detach(os.getpid())
    attach_to(page)
    assert succeeded(in_child(lambda: goes_from(page, 2040)))
    with vdso.travel("2080-06-01") as clock:
        assert year() == 2080
        clock.shift("3660d")
        assert year() == 2090
    goes_from(page, 2040)
    attaching.detach(os.getpid())
    assert year() == this
