"""Tests as they are written with time-machine; test_peers.py runs them with it, and with vdso instead."""

import asyncio
import contextlib
import datetime as dt
import functools
import os
import threading
import time
import unittest
import uuid
from datetime import date, datetime, timedelta, timezone
from time import time as time_by_name
from zoneinfo import ZoneInfo

import pytest
import time_machine

EPOCH_2030 = 1893456000.0
NEW_YEAR = datetime(2030, 1, 1, tzinfo=dt.UTC)


def year() -> int:
    return datetime.now(dt.UTC).year


THIS_YEAR = year()


@pytest.fixture(autouse=True)
def at_home_again(request):
    yield
    assert request.cls is not None or year() == THIS_YEAR


# ---- destinations ----


@pytest.mark.parametrize(
    "destination",
    [
        NEW_YEAR,
        datetime(2030, 1, 1),
        datetime(2030, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))),
        datetime(2030, 1, 1, 9, tzinfo=ZoneInfo("Asia/Tokyo")),
        date(2030, 1, 1),
        EPOCH_2030,
        int(EPOCH_2030),
        "2030-01-01T00:00:00Z",
        "2030-01-01T02:00:00+02:00",
        "2030-01-01 00:00:00+00:00",
        lambda: NEW_YEAR,
        lambda: EPOCH_2030,
    ],
)
def test_destinations(destination):
    with time_machine.travel(destination, tick=False):
        assert time.time() == EPOCH_2030
        assert time.time_ns() == int(EPOCH_2030) * 10**9
        assert datetime.now(dt.UTC) == NEW_YEAR


def test_a_timedelta_is_from_now():
    with time_machine.travel(timedelta(days=400)):
        assert year() in (THIS_YEAR + 1, THIS_YEAR + 2)
    with time_machine.travel(0, tick=False), time_machine.travel(timedelta(seconds=90), tick=False):
        assert time.time() == 90


def test_a_generator_gives_the_next():
    destinations = (NEW_YEAR + timedelta(days=day) for day in range(2))
    with time_machine.travel(destinations, tick=False):
        assert date.today() == date(2030, 1, 1)
    with time_machine.travel(destinations, tick=False):
        assert date.today() == date(2030, 1, 2)


def test_fractions_and_before_1970():
    with time_machine.travel(0.25, tick=False):
        assert time.time() == 0.25
    with time_machine.travel(datetime(1969, 12, 31, 23, 59, 59, 500000), tick=False):
        assert time.time() == -0.5
    with time_machine.travel(datetime(2030, 1, 1, 0, 0, 0, 123456), tick=False):
        assert datetime.now(dt.UTC).microsecond == 123456


@pytest.mark.parametrize("destination", [[], b"2030", {}])
def test_what_is_no_destination(destination):
    with pytest.raises((TypeError, ValueError)):
        time_machine.travel(destination).start()


def test_text_that_is_no_time():
    with pytest.raises(ValueError, match="not a time"):
        time_machine.travel("not a time").start()


# ---- every way to ask ----


@time_machine.travel(NEW_YEAR, tick=False)
def test_every_function():
    assert time.time() == time_by_name() == EPOCH_2030
    assert time.clock_gettime(time.CLOCK_REALTIME) == EPOCH_2030
    assert time.clock_gettime_ns(time.CLOCK_REALTIME) == int(EPOCH_2030) * 10**9
    assert time.gmtime()[:6] == (2030, 1, 1, 0, 0, 0)
    assert time.mktime(time.localtime()) == EPOCH_2030
    assert time.strftime("%Y") in ("2029", "2030")
    assert datetime.now() == datetime.fromtimestamp(EPOCH_2030)
    assert dt.datetime.today() == dt.datetime.fromtimestamp(EPOCH_2030)
    assert datetime.now(ZoneInfo("Asia/Tokyo")).hour == 9
    assert type(datetime.now()) is datetime
    assert uuid.uuid1().time // 10**7 == int(EPOCH_2030) + 12219292800


def test_monotonic_is_left_alone():
    before = time.monotonic(), time.perf_counter()
    with time_machine.travel(NEW_YEAR):
        assert 0 <= time.monotonic() - before[0] < 5
        assert 0 <= time.perf_counter() - before[1] < 5


# ---- ticking, shifting, moving ----


def test_it_ticks():
    with time_machine.travel(NEW_YEAR):
        first = time.time()
        time.sleep(0.002)
        assert EPOCH_2030 <= first < time.time() < EPOCH_2030 + 5


def test_shift_and_move_to():
    with time_machine.travel(0, tick=False) as traveller:
        traveller.shift(timedelta(seconds=100))
        assert time.time() == 100
        traveller.shift(-10)
        assert time.time() == 90
        traveller.shift(delta=0.5)
        assert time.time() == 90.5
        traveller.move_to(NEW_YEAR)
        assert time.time() == EPOCH_2030 == time.time()
        traveller.move_to(EPOCH_2030 + 60, tick=True)
        first = time.time()
        time.sleep(0.002)
        assert EPOCH_2030 + 60 <= first < time.time()
        traveller.move_to(destination=NEW_YEAR, tick=False)
        assert time.time() == EPOCH_2030 == time.time()


def test_start_and_stop():
    traveller = time_machine.travel(NEW_YEAR)
    moved = traveller.start()
    assert year() == 2030
    moved.shift(timedelta(days=366))
    assert year() == 2031
    traveller.stop()
    assert year() == THIS_YEAR


# ---- zones ----


def test_a_zone_becomes_the_process_s():
    before = time.tzname, os.environ.get("TZ")
    with time_machine.travel(datetime(2030, 1, 1, 9, tzinfo=ZoneInfo("Asia/Tokyo")), tick=False) as traveller:
        assert time.tzname[0] == "JST"
        assert datetime.now() == datetime(2030, 1, 1, 9)
        assert time.localtime().tm_hour == 9
        traveller.move_to(datetime(2030, 1, 1, 12, tzinfo=ZoneInfo("America/New_York")))
        assert time.tzname[0] == "EST"
    assert (time.tzname, os.environ.get("TZ")) == before


def test_nested_zones():
    with time_machine.travel(datetime(2030, 1, 1, tzinfo=ZoneInfo("Asia/Tokyo"))):
        with time_machine.travel(datetime(2030, 7, 1, tzinfo=ZoneInfo("Europe/London"))):
            assert time.localtime().tm_zone == "BST"
        assert time.localtime().tm_zone == "JST"


# ---- nesting, and what is raised ----


def test_nesting():
    with time_machine.travel(NEW_YEAR, tick=False):
        with time_machine.travel(0, tick=False) as inner:
            assert time.time() == 0
            inner.shift(1)
        assert time.time() == EPOCH_2030


def test_what_is_raised_inside():
    with pytest.raises(ZeroDivisionError), time_machine.travel(NEW_YEAR):
        assert year() // 0
    assert year() == THIS_YEAR


def test_what_is_raised_on_entering():
    def refuses():
        raise OSError("no destination today")

    with pytest.raises(OSError, match="today"), time_machine.travel(refuses):
        pass
    assert year() == THIS_YEAR
    with pytest.raises(StopIteration), time_machine.travel(moment for moment in ()):
        pass
    assert year() == THIS_YEAR


def test_exit_stack():
    with contextlib.ExitStack() as stack:
        for number in range(5):
            stack.enter_context(time_machine.travel(number, tick=False))
        assert time.time() == 4


# ---- decorators ----


@time_machine.travel(NEW_YEAR)
def test_with_a_fixture(tmp_path):
    assert year() == 2030
    assert tmp_path.exists()


@time_machine.travel(NEW_YEAR, tick=False)
def returns(first, *rest, **named):
    """What it says of itself."""
    return first, rest, named, time.time()


def test_a_decorated_function_is_what_it_was():
    assert returns(1, 2, three=3) == (1, (2,), {"three": 3}, EPOCH_2030)
    assert (returns.__name__, returns.__doc__) == ("returns", "What it says of itself.")
    assert returns(0)[3] == returns(0)[3]


class Methods:
    @time_machine.travel(NEW_YEAR)
    def method(self):
        return year()

    @staticmethod
    @time_machine.travel(NEW_YEAR)
    def static():
        return year()

    @classmethod
    @time_machine.travel(NEW_YEAR)
    def of_class(cls):
        return year()


def test_methods():
    assert (Methods().method(), Methods.static(), Methods.of_class()) == (2030, 2030, 2030)


@time_machine.travel(NEW_YEAR)
async def coroutine(seconds):
    await asyncio.sleep(seconds)
    return year()


def test_coroutines():
    assert asyncio.run(coroutine(0.001)) == 2030


@time_machine.travel(NEW_YEAR)
class TestCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.began = year()

    def setUp(self):
        self.set_up = year()

    def test_it(self):
        assert (self.began, self.set_up, year()) == (2030, 2030, 2030)

    @time_machine.travel(0)
    def test_nearer(self):
        assert year() == 1970

    @classmethod
    def tearDownClass(cls):
        assert year() == 2030


# ---- threads, and tasks of asyncio ----


def test_a_thread_that_was_there_before():
    go, done, seen = threading.Event(), threading.Event(), []

    def look():
        go.wait()
        seen.append(year())
        done.set()
        thread_ends.wait()
        seen.append(year())

    thread_ends = threading.Event()
    thread = threading.Thread(target=look)
    thread.start()
    with time_machine.travel(NEW_YEAR):
        go.set()
        done.wait()
    thread_ends.set()
    thread.join()
    assert seen == [2030, THIS_YEAR]


def test_tasks_and_timeouts():
    async def tell():
        await asyncio.sleep(0.001)
        return year()

    async def main():
        with time_machine.travel(NEW_YEAR):
            assert await asyncio.gather(tell(), tell()) == [2030, 2030]
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.sleep(60), 0.001)
        return await tell()

    assert asyncio.run(main()) == THIS_YEAR


def test_partial_and_lambda():
    travelled = time_machine.travel(NEW_YEAR)(functools.partial(year))
    assert travelled() == 2030
    assert time_machine.travel(NEW_YEAR)(lambda: year())() == 2030
