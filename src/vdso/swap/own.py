"""This process on a clock page of its own: placed at the first use, and the child's own after a fork.

Knows where the page is and not what it is to say.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from vdso import _core
from vdso.errors import ChildrenNotFollowed, HelperMissing, NotAttachable, SwapError
from vdso.swap.attach import attach
from vdso.swap.process import yama_scope
from vdso.swap.run import FOLLOWER, IMAGE


def place() -> _core.TravelPage:
    """A page of this process, in its place, which says what the host says.

    Stops the process's threads for a moment, unless it is on a clock page already: that one is then kept
    aside, until give_back(). Raises as swap.attach.attach(), and NotAttachable.
    """
    with streams_taken():
        try:
            page = _core.TravelPage()
            region = _core.travel_region()
        except OSError as error:
            raise _no_clock(error) from None
        if region != 0:
            return _borrow(page, region)
        attach(os.getpid(), page.reader_fd)
        page.arrive()
        return page


@contextmanager
def streams_taken() -> Iterator[None]:
    """Meanwhile those standard streams are open that are closed, as a daemon's may be: nothing that is opened
    must get their numbers, at which a helper has streams of its own. Raises SwapError."""
    taken: list[int] = []
    try:
        try:
            while (fd := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)) <= 2:
                taken.append(fd)
            os.close(fd)
        except OSError as error:
            raise _no_clock(error) from None
        yield
    finally:
        for fd in taken:
            os.close(fd)


def succeed(before: _core.TravelPage) -> _core.TravelPage:
    """Another page in the place of one, which says the same: in a forked child its own. Raises OSError."""
    page = _core.TravelPage()
    page.succeed(before)
    return page


def check_followable(page: _core.TravelPage) -> None:
    """Raises ChildrenNotFollowed where it is known beforehand."""
    if page.borrowed:
        raise ChildrenNotFollowed(
            "this process is on a session, and so is what it execs", "vdso time adjusts the session"
        )
    if yama_scope() == 1 and os.geteuid() != 0:
        raise ChildrenNotFollowed("Yama lets only ancestors trace (kernel.yama.ptrace_scope is 1)")


def follow(clock_fd: int) -> None:
    """From now on what this process execs, and its children, are on that clock page, which it is on itself.

    A follower has hold of each exec of the calling thread, and of the threads and processes that it starts:
    for good, since a filter cannot be taken away. Raises ChildrenNotFollowed, HelperMissing.
    """
    above = _core.adopt(clock_fd, False, False)
    error = _launch(clock_fd) if above is None else above
    if error == errno.ENOEXEC:
        raise ChildrenNotFollowed(
            "what this process execs cannot be followed: it was started by `vdso run --no-follow`",
            "leave --no-follow out there",
        )
    if error:
        raise ChildrenNotFollowed(
            f"what this process execs cannot be followed: {os.strerror(error)}",
            "in a container: docker run --security-opt seccomp=unconfined --cap-add SYS_PTRACE",
        )


def _launch(clock_fd: int) -> int:
    """Starts a follower beside this process: 0 or an errno."""
    try:
        image_fd = os.open(IMAGE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HelperMissing(f"{IMAGE}: {error.strerror}") from None
    try:
        flags = _core.FILTER_EXEC | _core.FILTER_DEADLINES
        return _core.launch(FOLLOWER, image_fd, clock_fd, flags, -1, -1, False, False, None)[0]
    finally:
        os.close(image_fd)


def _no_clock(error: OSError) -> SwapError:
    return SwapError(
        f"this process cannot be given a clock: {error.strerror}",
        "it takes /proc, and a few free descriptors",
    )


def _borrow(page: _core.TravelPage, region: int) -> _core.TravelPage:
    try:
        page.borrow(region)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            raise NotAttachable(
                "this process is on a session that moves more than the date, and travelling would undo that",
                "run it on a session with --clocks wall and --clock kernel, which are the defaults",
            ) from None
        raise SwapError(f"the session's clock page could not be kept aside: {error.strerror}") from None
    return page
