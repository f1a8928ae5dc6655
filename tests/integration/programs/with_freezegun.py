"""Tests as they are written with freezegun; test_peers.py runs them with it, and with vdso instead.

With TZ=UTC: freezegun's local time is UTC wherever it runs.
"""

import asyncio
import calendar
import datetime
import time
import unittest
from datetime import date as date_by_name
from datetime import datetime as datetime_by_name

import pytest
from freezegun import freeze_time

NOON = datetime.datetime(2030, 1, 1, 12)
EPOCH = 1893499200.0


def year():
    return datetime.datetime.now().year


THIS_YEAR = year()


@pytest.fixture(autouse=True)
def at_home_again(request):
    yield
    assert request.cls is not None or year() == THIS_YEAR


# ---- what can be frozen at ----


@pytest.mark.parametrize(
    "when",
    [
        "2030-01-01 12:00:00",
        "2030-01-01T12:00",
        "2030-01-01T12:00:00Z",
        "2030-01-01T14:00:00+02:00",
        NOON,
        datetime.datetime(2030, 1, 1, 14, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
        lambda: NOON,
    ],
)
def test_when(when):
    with freeze_time(when):
        assert datetime.datetime.now() == NOON
        assert time.time() == EPOCH


def test_a_date():
    for when in ("2030-01-01", datetime.date(2030, 1, 1)):
        with freeze_time(when):
            assert datetime.date.today() == datetime.date(2030, 1, 1)
            assert datetime.datetime.now() == datetime.datetime(2030, 1, 1)


def test_a_timedelta_is_from_now():
    with freeze_time("2030-01-01"), freeze_time(datetime.timedelta(days=1)):
        assert datetime.date.today() == datetime.date(2030, 1, 2)


def test_a_generator_gives_the_next():
    moments = (NOON + datetime.timedelta(days=day) for day in range(2))
    with freeze_time(moments):
        assert datetime.datetime.now() == NOON
    with freeze_time(moments):
        assert datetime.datetime.now() == NOON + datetime.timedelta(days=1)


def test_where_it_is():
    before = time.time()
    with freeze_time():
        first = time.time()
        time.sleep(0.002)
        assert before <= first == time.time()


# ---- every way to ask ----


@freeze_time(NOON)
def test_every_function():
    assert datetime.datetime.now() == datetime_by_name.now() == datetime.datetime.today() == NOON
    assert datetime.datetime.now(datetime.UTC).replace(tzinfo=None) == NOON
    assert datetime.date.today() == date_by_name.today() == NOON.date()
    assert time.time() == EPOCH
    assert time.time_ns() == int(EPOCH) * 10**9
    assert time.gmtime()[:6] == time.localtime()[:6] == (2030, 1, 1, 12, 0, 0)
    assert time.strftime("%Y-%m-%d") == "2030-01-01"
    assert calendar.timegm(time.gmtime()) == EPOCH
    assert isinstance(datetime.datetime.now(), datetime_by_name)
    assert datetime.datetime.now() - datetime.timedelta(days=1) == datetime.datetime(2029, 12, 31, 12)


@freeze_time("2030-01-01 12:00:00.123456")
def test_microseconds():
    assert datetime.datetime.now().microsecond == 123456


# ---- moving it ----


def test_tick():
    with freeze_time(NOON) as frozen:
        frozen.tick()
        assert datetime.datetime.now() == NOON + datetime.timedelta(seconds=1)
        frozen.tick(delta=datetime.timedelta(seconds=10))
        assert time.time() == EPOCH + 11
        frozen.tick(0.5)
        assert time.time() == EPOCH + 11.5
        frozen.tick(delta=-1)
        assert time.time() == EPOCH + 10.5


def test_move_to():
    with freeze_time(NOON) as frozen:
        frozen.move_to("2031-02-03")
        assert datetime.datetime.now() == datetime.datetime(2031, 2, 3)
        frozen.move_to(NOON)
        frozen.tick()
        assert time.time() == EPOCH + 1


def test_ticking_on():
    with freeze_time(NOON, tick=True):
        first = time.time()
        time.sleep(0.002)
        assert EPOCH <= first < time.time() < EPOCH + 5


def test_start_and_stop():
    freezer = freeze_time(NOON)
    frozen = freezer.start()
    assert year() == 2030
    frozen.tick()
    freezer.stop()
    assert year() == THIS_YEAR


# ---- nesting, and what is raised ----


def test_nesting():
    with freeze_time("2030-01-01"):
        with freeze_time("1999-12-31"):
            assert year() == 1999
        assert year() == 2030


def test_what_is_raised_inside():
    with pytest.raises(ZeroDivisionError), freeze_time(NOON):
        assert year() // 0


# ---- decorators ----


@freeze_time(NOON)
def test_with_a_fixture(tmp_path):
    assert year() == 2030
    assert tmp_path.exists()


@freeze_time(NOON)
async def coroutine():
    return year()


def test_a_coroutine():
    assert asyncio.run(coroutine()) == 2030


@freeze_time(NOON)
class TestPlain:
    def test_it(self):
        assert year() == 2030

    def test_what_it_calls(self):
        assert self.helper() == 2030

    def helper(self):
        return year()


@freeze_time(NOON)
class TestCase(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.began = year()

    def setUp(self):
        self.set_up = year()

    def test_it(self):
        assert (self.began, self.set_up, year()) == (2030, 2030, 2030)


class TestOneMethod(unittest.TestCase):
    @freeze_time(NOON)
    def test_frozen(self):
        assert year() == 2030

    def test_not(self):
        assert year() == THIS_YEAR
