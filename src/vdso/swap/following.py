"""A follower (c/core/follower_main.c) for a process that is attached: started first, and heard.

And what the process keeps of it. Knows nothing of how that comes to send it the filter's listener.
"""

import contextlib
import select
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

from vdso import _core
from vdso.errors import HelperMissing, ProcessBusy, SwapError
from vdso.swap.process import status, threads_of
from vdso.swap.run import FOLLOWER

MESSAGE = struct.Struct("ci")  # struct vdso_follower_message of c/core/follower.h
READY_S = 5.0  # it takes some milliseconds


class FollowerEnded(Exception):
    """It has ended, without a word."""


@dataclass(frozen=True, slots=True)
class Following:
    """How a process is to be followed."""

    filter: int  # _core.FILTER_*: what is notified
    counter: bool  # the session's clock is a keeper's


class Follower:
    """One that waits for the listener, or has it.

    `way`: where the listener goes; when all copies of that are closed and none has come, it ends. `talk`: a
    socket by whose hang-up it has ended. What goes by the way is not lost with it: the other end is held here
    too, and the listener left there for the next one.
    """

    def __init__(self, pid: int, image_fd: int, page_fd: int, following: Following) -> None:
        import socket

        self._pid = pid
        self._given = [image_fd, page_fd]
        self._following = following
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._talk: socket.socket | None = None

    @property
    def way(self) -> int:
        return self._ours.fileno()

    @property
    def talk(self) -> int:
        assert self._talk is not None
        return self._talk.fileno()

    def start(self) -> None:
        """Returns when it waits for the listener. Raises HelperMissing, ProcessBusy, SwapError."""
        hint = "nothing has been changed: try again"
        try:
            self._launch()
            if not self._hears(b"W"):
                raise ProcessBusy(
                    f"the follower of process {self._pid} did not begin within {READY_S:.0f} s", hint
                )
        except FollowerEnded:
            raise SwapError(f"the follower of process {self._pid} ended as it began", hint) from None

    def is_ready(self) -> bool:
        """When it has been sent the listener: whether it answers. False: not yet.

        If it has ended, another one takes up what was sent. Raises FollowerEnded if that one has, too.
        """
        try:
            return self._hears(b"R")
        except FollowerEnded:
            try:
                self._launch()
            except HelperMissing:
                raise FollowerEnded from None
            return self._hears(b"W") and self._hears(b"R")

    def close(self) -> None:
        for one in (self._ours, self._theirs, self._talk):
            if one is not None:
                one.close()

    def _launch(self) -> None:
        import socket

        if self._talk is not None:
            self._talk.close()
        self._talk, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        image_fd, page_fd = self._given
        words = ["vdso-follower", "--control", str(theirs.fileno()), "--way", str(self._theirs.fileno())]
        words += ["--image", str(image_fd), "--clock", str(page_fd), "--filter", str(self._following.filter)]
        words += ["--attached", str(self._pid)]
        words += ["--counter"] if self._following.counter else []
        with theirs:
            try:
                _core.launch_apart(FOLLOWER, words, [theirs.fileno(), self._theirs.fileno(), *self._given])
            except OSError as error:
                raise HelperMissing(f"{FOLLOWER}: {error.strerror}") from None

    def _hears(self, what: bytes) -> bool:
        """Whether it says that in time. Raises FollowerEnded."""
        assert self._talk is not None
        deadline_s = time.monotonic() + READY_S
        while select.select([self._talk], [], [], max(0.0, deadline_s - time.monotonic()))[0]:
            said = self._talk.recv(MESSAGE.size)
            if len(said) != MESSAGE.size:
                raise FollowerEnded
            if MESSAGE.unpack(said)[0] == what:
                return True
        return False


@contextlib.contextmanager
def started(pid: int, image_fd: int, page_fd: int, following: Following) -> Iterator[Follower]:
    """A follower that waits; after this it goes on by itself if it has been sent the listener.

    Raises HelperMissing, ProcessBusy, SwapError.
    """
    follower = Follower(pid, image_fd, page_fd, following)
    try:
        follower.start()
        yield follower
    finally:
        follower.close()


@dataclass(frozen=True, slots=True)
class Restraints:
    """What stays with a process once it has it, by its threads."""

    filters: int  # of seccomp, on the one that has most; before Linux 5.9 only whether it has any
    no_new_privs: int  # how many have it


def restraints(pid: int) -> Restraints:
    """Of one that has gone: none."""
    said = []
    try:
        for tid in threads_of(pid):
            said.append(status(tid))
    except OSError:
        pass
    return Restraints(
        max((int(one.get("Seccomp_filters", one.get("Seccomp", "0"))) for one in said), default=0),
        sum(one.get("NoNewPrivs") == "1" for one in said),
    )
