"""Sessions' pages made and adjusted in this process, and read by the image beside the kernel's vDSO."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from vdso import _core
from vdso.clocks.holders import check_name
from vdso.clocks.session import (
    RESET,
    Adjustment,
    Found,
    adjust,
    create,
    find,
    open_page,
    state,
)
from vdso.clocks.transform import NS_PER_S, RATE_ONE
from vdso.errors import BadWhen, SessionNotThere, SessionRefused, UsageError
from vdso.swap.run import IMAGE

DAY_NS = 86400 * NS_PER_S


@contextmanager
def image_on(page: _core.ClockPage) -> Iterator[_core.LocalImage]:
    fd = os.open(IMAGE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield _core.LocalImage(fd, page.reader_fd)
    finally:
        os.close(fd)


def found(page: _core.ClockPage, name: str = "unit") -> Found:
    path = f"/proc/self/fd/{page.fd}"
    return Found(name, os.stat(path).st_ino, os.getpid(), os.geteuid(), path, ())


def test_from_the_outset() -> None:
    page = create("unit", Adjustment(at_ns=5 * NS_PER_S, rate=0), everything=True)
    with image_on(page) as image:
        assert image.clock_ns(time.CLOCK_REALTIME) == 5 * NS_PER_S
        mono = image.clock_ns(time.CLOCK_MONOTONIC)
        assert 0 < mono <= time.monotonic_ns()
        assert image.clock_ns(time.CLOCK_MONOTONIC) == mono
    shown = state(found(page), page)
    assert (shown.realtime_ns, shown.frozen, shown.clocks, shown.clock) == (
        5 * NS_PER_S,
        True,
        "all",
        "kernel",
    )
    assert shown.offset_ns == shown.realtime_ns - shown.host_realtime_ns


def test_another_opens_it_and_adjusts_it() -> None:
    page = create("unit")
    other = open_page(found(page))
    with image_on(page) as image:
        for adjustment, ahead_ns in (
            (Adjustment(offset_ns=DAY_NS), DAY_NS),
            (Adjustment(shift_ns=-3 * DAY_NS), -2 * DAY_NS),
            (RESET, 0),
        ):
            adjust(other, adjustment)
            apart = image.clock_ns(time.CLOCK_REALTIME) - time.time_ns()
            assert abs(apart - ahead_ns) < NS_PER_S
        adjust(other, Adjustment(rate=0))
        adjust(other, Adjustment(thaw=True))
        assert state(found(page), page).rate == 1


def test_a_rate_of_one_settles_into_an_offset() -> None:
    page = create("unit", Adjustment(rate=7 * RATE_ONE))
    adjust(page, Adjustment(rate=RATE_ONE))
    before = page.state()
    time.sleep(0.01)
    after = page.state()
    drift = (after[2] - after[0]) * NS_PER_S + after[3] - after[1]
    drift -= (before[2] - before[0]) * NS_PER_S + before[3] - before[1]
    assert drift == 0, "at the host's pace, to the nanosecond"


def test_what_cannot_be() -> None:
    page = create("unit")
    with pytest.raises(BadWhen):
        adjust(page, Adjustment(at_ns=10**26))
    with pytest.raises(BadWhen):
        adjust(page, Adjustment(shift_ns=10**40))
    with pytest.raises(BadWhen):
        create("unit", Adjustment(offset_ns=-(10**26)))
    with pytest.raises(SessionNotThere):
        open_page(Found("unit", 1, 1, 0, "/proc/self/fd/4095", ()))
    with pytest.raises(SessionNotThere):
        find("no-such-session")
    with pytest.raises(UsageError):
        create("a/b")


def test_a_keeper_s_clock_is_refused() -> None:
    from vdso.swap.run import start_keeper

    page = _core.ClockPage.create("vdso-clock:unit")
    life = start_keeper(page, 0, 0)
    try:
        with pytest.raises(SessionRefused):
            adjust(page, Adjustment(rate=0))
    finally:
        os.close(life)


@pytest.mark.parametrize("name", ["a", "a.b-c_d", "x1", "A" * 64, ".x"])
def test_names(name: str) -> None:
    assert check_name(name) == name
