"""vdso.travel(): everything in the process that reads a clock, threads and waits; and what it refuses."""

import asyncio
import contextlib
import ctypes
import datetime as dt
import functools
import os
import queue
import random
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import unittest
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from apart import apart
from harness import TIMEOUT_S, finish, lacking, want
from home import NEW_YEAR, SECOND, T_2030, at_home, libc

import vdso
from vdso.clocks.destination import FIRST_NS
from vdso.errors import JourneyEnded, SwapError, UsageError, VdsoError
from vdso.swap import attach as attaching
from vdso.swap import travel as travelling


class Timeval(ctypes.Structure):
    _fields_ = (("sec", ctypes.c_long), ("usec", ctypes.c_long))


def gettimeofday() -> float:
    now = Timeval()
    assert libc.gettimeofday(ctypes.byref(now), None) == 0
    return now.sec + now.usec / 1e6


# ---- what moves, and what does not ----


@apart
def test_every_reader_in_the_process_moves() -> None:
    database = sqlite3.connect(":memory:")
    monotonic, boottime = time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME)
    with vdso.travel("2030-01-01T12:00:00Z"):
        begin = T_2030 + 43200
        for read in (time.time, gettimeofday, lambda: libc.time(None), lambda: time.time_ns() / 1e9):
            assert 0 <= read() - begin < 5
        assert 0 <= dt.datetime.now(dt.UTC).timestamp() - begin < 5
        assert dt.date.today() == dt.date(2030, 1, 1)
        assert time.gmtime()[:4] == (2030, 1, 1, 12)
        assert time.strftime("%Y") == "2030"
        assert database.execute("select strftime('%Y', 'now'), date(current_timestamp)").fetchone() == (
            "2030",
            "2030-01-01",
        )
        gap = time.clock_gettime(time.CLOCK_TAI) - time.clock_gettime(time.CLOCK_REALTIME)
        assert abs(gap - round(gap)) < 0.01
        assert 0 <= time.monotonic() - monotonic < 5
        assert 0 <= time.clock_gettime(time.CLOCK_BOOTTIME) - boottime < 5
        assert not at_home()
    assert at_home()
    database.close()


@apart
def test_numpy_and_a_rust_extension_move() -> None:
    try:
        import numpy
        import uuid_utils
    except ImportError as error:
        lacking(f"{error.name} is not installed")
    with vdso.freeze("2030-01-01"):
        assert str(numpy.datetime64("now")) == "2030-01-01T00:00:00"
        assert uuid_utils.uuid7().timestamp == T_2030 * 1000


@apart
def test_no_clock_is_before_the_destination() -> None:
    """The coarse clocks, by which time() goes, lag behind by up to a tick."""
    for rate in (1, 0, 60, 1e6):
        for _ in range(50):
            with vdso.travel(T_2030, rate=rate):
                assert libc.time(None) >= T_2030
                assert time.clock_gettime_ns(5) >= T_2030 * SECOND  # REALTIME_COARSE


@apart
def test_before_1970_and_to_the_nanosecond() -> None:
    for ns in (-1, -(10**18) + 1, 0, 1, T_2030 * SECOND + 123456789, (1 << 63) - 1, FIRST_NS):
        with vdso.freeze(
            f"@{ns // SECOND}.{ns % SECOND:09}" if ns >= 0 else f"@-{-ns // SECOND}.{-ns % SECOND:09}"
        ):
            assert time.time_ns() == ns


# ---- the clock, while it lasts ----


@apart
def test_a_frozen_clock_is_moved_by_hand() -> None:
    with vdso.travel(NEW_YEAR, rate=0) as clock:
        assert time.time_ns() == T_2030 * SECOND == time.time_ns()
        clock.shift("1h")
        clock.shift(dt.timedelta(minutes=1))
        clock.shift(0.5)
        clock.tick()
        assert time.time_ns() == (T_2030 + 3661) * SECOND + 500_000_000
        clock.at("2031-01-01")
        assert dt.datetime.now(dt.UTC) == dt.datetime(2031, 1, 1, tzinfo=dt.UTC)
        clock.at(dt.timedelta(days=-1))
        assert dt.date.today() == dt.date(2030, 12, 31)
        clock.move_to("2032-01-01", tick=True)
        assert (clock.rate, time.gmtime().tm_year) == (1.0, 2032)
        clock.freeze()
        assert time.time_ns() == time.time_ns()
        clock.rate = 3600
        before, began = time.time(), time.monotonic()
        while time.time() < before + 36:
            assert time.monotonic() < began + TIMEOUT_S
    with pytest.raises(JourneyEnded):
        clock.shift(1)
    with pytest.raises(JourneyEnded):
        clock.rate = 2


@apart
def test_a_change_of_rate_never_jumps_nor_goes_back() -> None:
    over, back = threading.Event(), []

    def read() -> None:
        last = time.time_ns()
        while not over.is_set():
            for _ in range(200):
                now = time.time_ns()
                if now < last:
                    back.append(last - now)
                last = now

    with vdso.travel(T_2030) as clock:
        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        for _ in range(10):
            for rate in (1000, 1, 0, 10):
                clock.rate = rate
                assert clock.rate == rate
        over.set()
        for reader in readers:
            reader.join()
    assert not back


@apart
def test_journeys_nest_and_the_outer_one_goes_on() -> None:
    with vdso.travel(T_2030) as outer:
        with vdso.freeze(0):
            assert time.time() == 0
            with pytest.raises(ZeroDivisionError), vdso.travel("1999-01-01"):
                assert time.gmtime().tm_year // 0
            assert time.time() == 0
            outer.shift(86400)  # not seen yet
            assert time.time() == 0
            outer.rate = 0
        assert T_2030 + 86400 <= time.time() < T_2030 + 86400 + 5
        assert time.time_ns() == time.time_ns()
    assert at_home()


@apart
def test_journeys_that_end_in_another_order() -> None:
    first, second = vdso.freeze(1), vdso.freeze(2)
    first.start()
    second.start()
    first.stop()
    assert time.time() == 2
    first.stop()  # nothing is started any more
    second.stop()
    assert at_home()
    assert travelling.journeys() == []


@apart
def test_one_journey_made_twice() -> None:
    journey = vdso.freeze(7)
    with journey as one, journey as two:
        two.shift(1)
        assert time.time() == 8
        assert one is not two
    assert at_home()


@apart
def test_a_zone_is_the_process_zone_until_the_end() -> None:
    os.environ["TZ"] = "UTC"
    time.tzset()
    tokyo, york = ZoneInfo("Asia/Tokyo"), ZoneInfo("America/New_York")
    with vdso.travel(dt.datetime(2030, 1, 1, 12, tzinfo=tokyo)) as clock:
        assert (time.tzname[0], dt.datetime.now().hour, os.environ["TZ"]) == ("JST", 12, "Asia/Tokyo")
        with vdso.travel(dt.datetime(2030, 1, 1, 12, tzinfo=york)):
            assert (time.tzname[0], dt.datetime.now().hour) == ("EST", 12)
        with vdso.travel("2030-01-01T12:00:00Z"):
            assert (time.tzname[0], dt.datetime.now().hour) == ("JST", 21)
        clock.move_to(dt.datetime(2030, 1, 1, 12, tzinfo=york))
        assert time.tzname[0] == "EST"
    assert (time.tzname[0], os.environ["TZ"]) == ("UTC", "UTC")


@apart
def test_what_gives_a_destination_is_asked_each_time() -> None:
    given = iter([1, dt.datetime(1970, 1, 1, 0, 0, 2), "1970-01-01T00:00:03Z"])
    for journey in (vdso.freeze(given), vdso.freeze(lambda: next(given)), vdso.freeze(given)):
        with journey:
            assert time.time() in (1, 2, 3)
    with vdso.freeze(0), vdso.travel("+90d", tick=False), vdso.freeze():
        assert time.time() == 90 * 86400


# ---- decorators ----


@apart
def test_functions_coroutines_and_generators() -> None:
    @vdso.freeze("2030-01-01")
    def plain(number: int) -> tuple[int, float]:
        """Says when."""
        return number, time.time()

    @vdso.freeze("2030-01-01")
    async def coroutine() -> float:
        await asyncio.sleep(0.001)
        return time.time()

    @vdso.freeze("2030-01-01")
    def generator() -> Iterator[float]:
        yield time.time()
        yield time.time()

    @vdso.freeze("2030-01-01")
    async def agenerator() -> AsyncIterator[float]:
        yield time.time()

    async def collect() -> list[float]:
        return [value async for value in agenerator()]

    assert plain(3) == (3, T_2030)
    assert (plain.__name__, plain.__doc__) == ("plain", "Says when.")
    assert asyncio.run(coroutine()) == T_2030
    assert list(generator()) == [T_2030, T_2030]
    assert asyncio.run(collect()) == [T_2030]
    assert at_home()


@apart
def test_an_asynchronous_generator_is_driven_as_it_would_be_by_itself() -> None:
    said: list[object] = []

    @vdso.freeze("2030-01-01")
    async def generator() -> AsyncGenerator[float, str]:
        try:
            while True:
                try:
                    said.append((yield time.time()))
                except ValueError as error:
                    said.append(str(error))
        finally:
            await asyncio.sleep(0)
            said.append(time.time())

    async def drive() -> None:
        driven = generator()
        assert await driven.asend(None) == T_2030  # type: ignore[arg-type]
        assert await driven.asend("sent") == T_2030
        assert await driven.athrow(ValueError("thrown")) == T_2030
        await driven.aclose()
        assert said == ["sent", "thrown", T_2030]
        assert at_home()
        driven = generator()
        await driven.asend(None)  # type: ignore[arg-type]
        with pytest.raises(KeyError):
            await driven.athrow(KeyError())
        assert said[3:] == [T_2030]
        assert at_home()

    asyncio.run(drive())


@apart
def test_decorated_above_and_below_other_decorators() -> None:
    class Called:
        async def __call__(self) -> float:
            return time.time()

    class Plain:
        @vdso.freeze("2030-01-01")
        @staticmethod
        def static() -> float:
            return time.time()

        @vdso.freeze("2030-01-01")
        @classmethod
        def of_class(cls) -> tuple[type, float]:
            return cls, time.time()

    assert Plain.static() == Plain().static() == T_2030
    assert Plain.of_class() == Plain().of_class() == (Plain, T_2030)
    assert asyncio.run(vdso.freeze("2030-01-01")(Called())()) == T_2030
    with pytest.raises(UsageError, match="a pytest fixture") as error:
        vdso.freeze("2030-01-01")(pytest.fixture(lambda: None))
    assert "above" in error.value.hint
    assert at_home()


@apart
def test_classes() -> None:
    @vdso.freeze("2030-01-01")
    class Plain:
        def method(self) -> float:
            return time.time()

        @staticmethod
        def static() -> float:
            return time.time()

        @classmethod
        def of_class(cls) -> float:
            return time.time()

    @vdso.freeze("2030-01-01")
    class Case(unittest.TestCase):
        began = 0.0

        @classmethod
        def setUpClass(cls) -> None:
            cls.began = time.time()

        def test_time(self) -> None:
            assert (time.time(), self.began) == (T_2030, T_2030)

    @vdso.freeze("2030-01-01")
    class Failing(unittest.TestCase):
        @classmethod
        def setUpClass(cls) -> None:
            raise OSError

        def test_nothing(self) -> None:
            pass

    plain = Plain()
    assert [plain.method(), plain.static(), plain.of_class()] == [T_2030] * 3
    for case, good in ((Case, True), (Failing, False)):
        result = unittest.TestResult()
        unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
        assert (result.wasSuccessful(), at_home()) == (good, True)


# ---- waits: they count by MONOTONIC ----

CLOCKS: list[dict[str, Any]] = [
    {"destination": "2030-01-01"},
    {"destination": "2001-01-01"},
    {"destination": "2030-01-01", "rate": 0},
    {"destination": "2030-01-01", "rate": 1000},
]


@pytest.mark.parametrize("how", CLOCKS, ids=["ahead", "behind", "frozen", "fast"])
@apart
def test_waits_take_their_real_time(how: dict[str, Any]) -> None:
    lock = threading.Lock()
    lock.acquire()

    def wait_queue() -> None:
        with pytest.raises(queue.Empty):
            queue.Queue[int]().get(timeout=0.05)

    def wait_socket() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.settimeout(0.05)
            with pytest.raises(TimeoutError):
                ours.recv(1)

    async def wait_asyncio() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0.05)
        await asyncio.sleep(0.05)

    waits: list[Callable[[], object]] = [
        lambda: threading.Event().wait(0.05),
        lambda: lock.acquire(timeout=0.05),
        functools.partial(time.sleep, 0.05),
        wait_queue,
        wait_socket,
        lambda: asyncio.run(wait_asyncio()),
    ]
    with vdso.travel(**how):
        for wait in waits:
            began = time.monotonic()
            wait()
            assert time.monotonic() - began < TIMEOUT_S
        sleeper = subprocess.Popen(["sleep", "1000"])
        with pytest.raises(subprocess.TimeoutExpired):
            sleeper.wait(timeout=0.05)
        sleeper.kill()
        sleeper.wait()


@apart
def test_threads_see_it_at_their_next_read() -> None:
    ask: queue.Queue[bool] = queue.Queue()
    told: queue.Queue[float] = queue.Queue()

    def tell() -> None:
        while ask.get():
            told.put(time.time())

    teller = threading.Thread(target=tell)
    teller.start()
    for wanted in (5.0, 6.0):
        with vdso.freeze(wanted):
            ask.put(True)
            assert told.get() == wanted
    ask.put(False)
    teller.join()


@apart
def test_threads_that_travel_at_the_same_time_leave_it_at_home() -> None:
    def wander(number: int) -> None:
        for step in range(300):
            with vdso.freeze(number * 1000 + step):
                time.time()

    wanderers = [threading.Thread(target=wander, args=(number,)) for number in range(4)]
    for wanderer in wanderers:
        wanderer.start()
    for wanderer in wanderers:
        wanderer.join()
    assert at_home()
    assert travelling.journeys() == []


# ---- what cannot be meant, and what cannot be done ----


@pytest.mark.parametrize(
    ("destination", "more", "message"),
    [
        ("yesterday", {}, "not a time"),
        ("", {}, "an empty time"),
        ("2030-02-30", {}, "no day 30"),
        ("2030-01-01 25:00", {}, "no such time of day"),
        ("+1fortnight", {}, "no such unit"),
        (None, {}, "not a time: None"),
        (True, {}, "not a time: True"),
        (b"2030", {}, "not a time"),
        (float("nan"), {}, "not a number of seconds"),
        (float("inf"), {}, "not a number of seconds"),
        (1e12, {}, "does not go so far"),
        ("1677-09-21", {}, "does not go so far"),
        (dt.datetime.max, {}, "does not go so far"),
        ("2262-04-12", {}, "does not go so far"),
        (0, {"rate": -1}, "no clock runs backwards"),
        (0, {"rate": float("nan")}, "not a rate"),
        (0, {"rate": 1e7}, "no clock runs so fast"),
        (0, {"rate": True}, "not a rate"),
        (0, {"rate": 1, "tick": True}, "either rate or tick"),
    ],
)
def test_what_cannot_be_meant(destination: Any, more: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        vdso.travel(destination, **more)
    assert error.value.hint


@apart
def test_mistakes_on_the_way_change_nothing() -> None:
    with vdso.freeze(5) as clock:
        for mistake in (
            lambda: clock.shift("1 fortnight"),
            lambda: clock.shift(1e300),
            lambda: clock.at("nowhere"),
            lambda: clock.at(dt.timedelta(days=10**8)),
            lambda: setattr(clock, "rate", -1),
        ):
            with pytest.raises(VdsoError):
                mistake()
            assert time.time() == 5


def test_where_ptrace_is_refused(programs: Any) -> None:
    refusing = [sys.executable, programs.script("refusing.py"), "ptrace"]
    done = finish([*refusing, sys.executable, "-c", "import vdso; vdso.travel(0).start()"])
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("vdso.errors.")
    program = "import vdso\ntry: vdso.travel(0).start()\nexcept vdso.errors.SwapError as e: print(e.hint)"
    assert "docker" in finish([*refusing, sys.executable, "-c", program]).stdout


@apart
def test_without_a_descriptor_to_spare() -> None:
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, free))
    with pytest.raises(SwapError, match="cannot be given a clock") as error:
        vdso.travel(0).start()
    assert error.value.hint
    assert at_home()


@pytest.mark.parametrize("reaped", [False, True])
@apart
def test_where_nobody_waits_for_children(reaped: bool) -> None:
    """SIGCHLD is ignored, or whoever handles it takes every child's status."""

    def reap(*_: object) -> None:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0] != 0:
                pass

    signal.signal(signal.SIGCHLD, reap if reaped else signal.SIG_IGN)
    with vdso.freeze(7, children=True):
        assert time.time() == 7
        assert finish(["date", "+%s"]).stdout == "7\n"
    assert at_home()


@apart
def test_without_standard_streams() -> None:
    """As a daemon is: the numbers go to whatever is opened next."""
    for stream in range(3):
        os.close(stream)
    with vdso.freeze(7):
        assert time.time() == 7
    with vdso.freeze(8, children=True):
        assert subprocess.check_output(["date", "+%s"]) == b"8\n"
    assert at_home()
    for stream in range(3):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(stream)


@apart
def test_a_signal_handler_travels() -> None:
    def handle(*_: object) -> None:
        with vdso.freeze(7):
            seen.append(time.time())

    seen: list[float] = []
    with vdso.freeze(0):  # an import that is interrupted is not this test's
        pass
    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    for _ in range(3000):
        with vdso.freeze(5) as clock:
            assert time.time() == 5
            clock.shift(1)
            assert time.time() == 6
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert set(seen) == {7}
    assert at_home()


@apart
def test_a_signal_handler_raises() -> None:
    """A deadline by SIGALRM, or Ctrl-C: whatever it comes upon, nobody stays away."""

    class Late(Exception):
        pass

    def handle(*_: object) -> None:
        raise Late

    os.environ["TZ"] = "UTC"
    journeys = (vdso.freeze(5), vdso.travel(dt.datetime(2030, 1, 1, tzinfo=ZoneInfo("Asia/Tokyo"))))
    for journey in journeys:
        with journey:  # an import that is interrupted is not this test's
            pass
    signal.signal(signal.SIGALRM, handle)
    late = 0
    for turn in range(4000):
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(5e-6, 60e-6))
            with journeys[turn % 2]:
                pass
            signal.setitimer(signal.ITIMER_REAL, 0)
        except Late:
            late += 1
        with contextlib.suppress(Late):
            signal.setitimer(signal.ITIMER_REAL, 0)
        assert at_home()
        assert travelling.journeys() == []
        assert os.environ["TZ"] == "UTC"
    assert late


@apart
def test_a_signal_handler_raises_while_the_first_begins() -> None:
    """Where Yama's scope is 1 it may come before what attaches has been told to begin."""

    class Late(Exception):
        pass

    def name_the_tracer(pid: int) -> None:
        if pid:
            raise Late

    signal.alarm(TIMEOUT_S)  # it ends, or nothing ends it
    whole, attaching._let_trace = attaching._let_trace, name_the_tracer
    with pytest.raises(Late):
        vdso.travel(T_2030).start()
    attaching._let_trace = whole
    signal.alarm(0)
    assert at_home()
    with vdso.freeze(5):
        assert time.time() == 5
    assert at_home()


def test_under_a_tracer(tmp_path: Path) -> None:
    strace = [want("strace", "strace"), "-f", "-o", str(tmp_path / "trace")]
    done = finish([*strace, sys.executable, "-c", "import vdso; vdso.travel(0).start()"])
    assert "is being traced" in done.stderr


# ---- what it costs who does not use it ----


def test_importing_vdso_imports_nothing_else() -> None:
    program = "import sys; before = set(sys.modules); import vdso; print(*sorted(set(sys.modules) - before))"
    assert finish(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:] = {sys.path!r}; {program}"]
    ).stdout.split() == ["vdso"]
