"""Tells a signal that was sent to us alone from one that others have got as well: our process group (of a
shell's `kill -- -PGID`, or timeout(1)), or our control group (systemd).

A signal does not say that. A child that has nothing else to do gets the latter too, and as it has them
blocked it is to be seen that it did.
"""

import contextlib
import os
import signal
from collections.abc import Collection, Iterator

from vdso.swap.process import status


class Witness:
    """What witness() gives."""

    def __init__(self, pid: int, ask_fd: int, answer_fd: int) -> None:
        self._pid = pid
        self._ask_fd = ask_fd
        self._answer_fd = answer_fd

    def seen(self) -> set[int]:
        """Which have come since the last time."""
        try:
            pending = int(status(self._pid)["ShdPnd"], 16)
            if pending:
                os.write(self._ask_fd, b"?")
                os.read(self._answer_fd, 1)
        except (OSError, KeyError):  # somebody has killed it
            return set()
        return {number for number in range(1, signal.NSIG) if pending >> number - 1 & 1}


@contextlib.contextmanager
def witness(numbers: Collection[int]) -> Iterator[Witness]:
    """Of these, which are blocked in us. It ends when we do, however that is."""
    asked, ask = os.pipe2(os.O_CLOEXEC)
    answered, answer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            os.close(ask)
            _watch(numbers, asked, answer)
        finally:
            os._exit(0)
    os.close(asked)
    os.close(answer)
    try:
        yield Witness(pid, ask, answered)
    finally:
        os.close(ask)
        os.close(answered)
        with contextlib.suppress(ChildProcessError):  # SIGCHLD is ignored
            os.waitpid(pid, 0)


def _watch(numbers: Collection[int], asked_fd: int, answer_fd: int) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    while os.read(asked_fd, 1):
        while signal.sigtimedwait(numbers, 0) is not None:
            pass
        os.write(answer_fd, b".")
