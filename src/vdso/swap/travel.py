"""Travelling: this process at another time, from the next read of any clock on, and back.

A journey is a line over the host's clock, so that whatever it was inside of goes on meanwhile and is where
it would have been when it ends. The newest journey is the one in force, whoever began it: a process has one
clock. Stands here and not in vdso.clocks because the first journey places the page (swap/own.py).
"""

import os
import time
from threading import RLock
from typing import TypeVar

from vdso import _core
from vdso.clocks.destination import (
    Destination,
    Duration,
    duration_ns,
    in_range,
    is_relative,
    rate_fixed,
    when_ns,
    zone_of,
)
from vdso.clocks.transform import RATE_ONE
from vdso.errors import AlreadyAttached, JourneyEnded, PageError, SwapError, UsageError
from vdso.swap import own

Line = tuple[int, int, int]  # as _core.TravelPage has it
Target = TypeVar("Target")

_lock = RLock()  # a signal handler may travel too
_journeys: list["Clock"] = []  # the newest last
_page: _core.TravelPage | None = None
_zones = False  # some journey has a zone; then _host_zone is what TZ was
_host_zone: str | None = None
_forks = False  # the at-fork handlers are there


class Clock:
    """The clock of one journey, to be moved while it lasts. Raises JourneyEnded afterwards."""

    __slots__ = ("_line", "_zone")

    def __init__(self, line: Line, zone: str | None) -> None:
        self._line = line
        self._zone = zone

    def at(self, when: Destination) -> None:
        """Sets it; its rate stays. Raises BadWhen."""
        self.move_to(when)

    def move_to(self, destination: Destination, tick: bool | None = None) -> None:
        """Sets it, and with `tick` makes it tick on from there (rate 1) or stand still. Raises BadWhen."""
        with _lock:
            page = self._page()
            rate = self._line[2] if tick is None else RATE_ONE if tick else 0
            at_ns = when_ns(destination, lambda: _read(self._line, page.host_ns()))
            self._show(page, (page.host_ns(), at_ns, rate))
            zone = zone_of(destination)
            if zone is not None:
                self._zone = zone
                _set_zone()

    def shift(self, delta: Duration) -> None:
        """Moves it by seconds, a timedelta, or text such as "1h" or "-90s". Raises BadDuration, BadWhen."""
        by_ns = duration_ns(delta)
        with _lock:
            page = self._page()
            host = page.host_ns()
            self._show(page, (host, in_range(_read(self._line, host) + by_ns, delta), self._line[2]))

    def tick(self, delta: Duration = 1) -> None:
        """shift(), by one second unless told otherwise."""
        self.shift(delta)

    def freeze(self) -> None:
        """Stops it where it is."""
        self._bend(0)

    @property
    def rate(self) -> float:
        """How fast it goes: 1.0 is the host's pace, 0.0 stands still.

        Setting it never makes it jump; when that returns, some 2 to 12 ms later, the new rate is in force for
        everyone. Raises BadRate.
        """
        return self._line[2] / RATE_ONE

    @rate.setter
    def rate(self, rate: float) -> None:
        self._bend(rate_fixed(rate))

    def _bend(self, rate: int) -> None:
        with _lock:
            page = self._page()
            if rate == self._line[2]:
                return
            if _journeys[-1] is self:
                try:
                    self._line = page.bend(*self._line, rate)
                except OSError as error:
                    raise SwapError(f"the rate could not be changed: {error.strerror}", "try again") from None
            else:
                host = page.host_ns()
                self._line = (host, _read(self._line, host), rate)

    def _page(self) -> _core.TravelPage:
        if self not in _journeys:
            raise JourneyEnded("this journey is over")
        return _place() if _page is None or _page.forked else _page

    def _show(self, page: _core.TravelPage, line: Line) -> None:
        self._line = line  # before it is published, for the same reason as in start()
        if _journeys[-1] is self:
            page.publish(*line)


class Travel(_core.Journey):
    """A journey that can be made: a context manager, a decorator, or start() and stop(). Made by travel()."""

    __slots__ = ("_at_ns", "_children", "_destination", "_rate", "_started", "_zone")

    def __init__(self, destination: Destination, rate: int, children: bool) -> None:
        self._destination = destination
        self._rate = rate
        self._children = children
        # At once where it can be, so that a mistake is found where it was made.
        self._at_ns = None if is_relative(destination) else when_ns(destination, time.time_ns)
        self._zone = zone_of(destination)
        self._started: list[Clock] = []

    def start(self) -> Clock:
        """Goes there. Raises as vdso.travel()."""
        clock: Clock | None = None
        try:
            with _lock:
                page = _page
                if page is None or not page.stands():
                    page = _place()
                if self._children and not page.wake:
                    page = _follow(page)
                at_ns = self._at_ns
                if at_ns is None:
                    at_ns = when_ns(self._destination, time.time_ns)
                line = (page.host_ns(), at_ns, self._rate)
                clock = Clock(line, self._zone)
                # In this order: a signal handler that travels and comes back in between puts it in force.
                _journeys.append(clock)
                self._started.append(clock)
                page.publish(*line)
                if self._zone is not None:
                    _set_zone()
            return clock
        except BaseException:  # a signal handler's, too: nobody has the clock by which to end it
            if clock is not None:
                end(clock)
                if clock in self._started:
                    self._started.remove(clock)
            raise

    def stop(self) -> None:
        """Ends what was started last. Nothing, if nothing is."""
        started = self._started
        if started:
            clock = started[-1]
            end(clock)
            # A signal handler may have stopped it, too, and another thread have started one.
            if started and started[-1] is clock:
                started.pop()
            elif clock in started:
                started.remove(clock)

    def __enter__(self) -> Clock:
        return self.start()

    def __call__(self, target: Target) -> Target:
        """Decorates a function, coroutine function, generator function or class: see vdso.swap.decorate."""
        from vdso.swap.decorate import decorate

        decorated: Target = decorate(target, self.again)
        return decorated

    def again(self) -> "Travel":
        """The same journey, to be made beside this one."""
        return Travel(self._destination, self._rate, self._children)


def travel(
    destination: Destination, *, rate: float | None = None, tick: bool | None = None, children: bool = False
) -> Travel:
    """The whole process at another time: `with vdso.travel("2030-01-01T12:00:00Z") as clock: ...`

    destination: text ("2030-01-01T12:00:00Z", "2030-01-01", "@1893456000", or "+90d" from now), a datetime,
    a date, a timedelta from now, seconds since 1970, or what gives one of these when called. Without a zone
    it is UTC's; a datetime in a zoneinfo.ZoneInfo makes that zone the process's, too, until it returns.
    rate: 1 ticks on, 0 is frozen, up to 1e6; tick: False is rate 0. children: what it execs is on its clock,
    too, then and from then on. CLOCK_MONOTONIC and its like are not touched.

    Raises BadWhen, BadDuration, BadRate, UsageError; and when it begins PtraceRefused, SeccompRefused,
    NotAttachable, ProcessBusy, HelperMissing, UnsupportedMachine, ChildrenNotFollowed.
    """
    if tick is not None:
        if rate is not None:
            raise UsageError("either rate or tick", "tick=False is rate=0")
        rate = 1 if tick else 0
    return Travel(destination, RATE_ONE if rate is None else rate_fixed(rate), children)


def freeze(destination: Destination | None = None, *, tick: bool = False, children: bool = False) -> Travel:
    """travel() with rate=0, or with `tick` 1; without a destination the clock stops where it is."""
    return travel("+0s" if destination is None else destination, tick=tick, children=children)


def end(clock: Clock) -> None:
    """Ends that journey: what it was inside of, or else the host's clock, is in force from the next read."""
    try:
        with _lock:
            if clock not in _journeys:
                return
            newest = _journeys[-1] is clock
            _journeys.remove(clock)
            if newest:
                _settle()
            if clock._zone is not None:
                _set_zone()
    except BaseException:  # a signal handler's, at any point of that
        with _lock:
            if clock in _journeys:
                _journeys.remove(clock)
            _settle()
            _set_zone()
        raise


def journeys() -> list[Clock]:
    """Those that this process is on, the newest last."""
    with _lock:
        return list(_journeys)


def _settle() -> None:
    """Under the lock: what is the newest now is in force, or else the host's clock or the session's."""
    page = _page
    if page is None or page.replaced:  # whoever has attached the process elsewhere has the clock
        return
    if page.forked:
        page = _adopt(page)
    if _journeys:
        page.publish(*_journeys[-1]._line)
    elif page.borrowed:
        page.give_back()
    else:
        page.home()


def _read(line: Line, host_ns: int) -> int:
    in_ns, at_ns, rate = line
    return at_ns + ((host_ns - in_ns) * rate >> 32)


def _place() -> _core.TravelPage:
    """Under the lock. What this process is on goes on, should it have been detached in the middle of it,
    or attached elsewhere."""
    global _page, _forks
    page = _page
    if page is not None and page.replaced:
        page = None
    if page is not None and page.forked:
        page = None if page.away else _adopt(page)
    if page is not None and page.away:
        page.borrow_again()
    if page is None or not page.stands():
        try:
            page = own.place()
        except AlreadyAttached:
            page = _page  # by a signal handler that has come in between
            if page is None:
                raise
    if not _forks:
        os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_in_child)
        _forks = True
    if _journeys:
        page.publish(*_journeys[-1]._line)
    _page = page
    return page


def _follow(page: _core.TravelPage) -> _core.TravelPage:
    """By a page whose descriptor is still to be had, and can be given to the follower. That it wakes, and no
    other page does, says that what this process execs is on it too."""
    global _page
    own.check_followable(page)
    with own.streams_taken():
        another = _core.TravelPage()
        clock_fd = os.dup(another.reader_fd)
        try:
            another.succeed(page)
            _page = another
            own.follow(clock_fd)
        finally:
            os.close(clock_fd)
    another.wake = True
    return another


def _in_child() -> None:
    """The clock of a forked child is its own: nothing that it does moves the parent's or a sibling's.

    But for what it execs: that is on the parent's, until it travels with children of its own.
    """
    global _page
    try:
        if _page is not None and (_page.away or _page.replaced):
            _page = None
        if _page is not None:
            _adopt(_page)
    except (OSError, PageError):
        pass  # it stays on the parent's clock; travelling in it says that it may not write that
    finally:
        _lock.release()


def _adopt(before: _core.TravelPage) -> _core.TravelPage:
    """In a forked child, whose page is the parent's: one of its own, where it says the same."""
    global _page
    page = own.succeed(before)
    if _journeys:
        page.publish(*_journeys[-1]._line)
    _page = page
    return page


def _set_zone() -> None:
    """Under the lock: TZ as the newest journey that has a zone wants it, or as it was."""
    global _zones, _host_zone
    wanted = next((clock._zone for clock in reversed(_journeys) if clock._zone is not None), None)
    if wanted is not None and not _zones:
        _host_zone, _zones = os.environ.get("TZ"), True
    if not _zones:
        return
    tz = _host_zone if wanted is None else wanted
    if tz is None:
        os.environ.pop("TZ", None)
    else:
        os.environ["TZ"] = tz
    time.tzset()
    _zones = wanted is not None  # at the end: what is interrupted here is done once more
