"""Children whose status is wanted, also where SIGCHLD is ignored: the kernel keeps none then (wait(2)).

Knows nothing of what they run.
"""

import contextlib
import os
import signal
from collections.abc import Iterator

from vdso.errors import CallRefused


class Statuses:
    """Between keep() and let_go() children leave a status; each calls inherit() before its exec.

    None of them does anything where SIGCHLD is not ignored, nor outside of the main thread, where Python
    changes no disposition.
    """

    def __init__(self) -> None:
        self._ignored = False

    def keep(self) -> None:
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            with contextlib.suppress(ValueError):
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                self._ignored = True

    def inherit(self) -> None:
        """In the child: the disposition that it would have had."""
        if self._ignored:
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    def let_go(self) -> None:
        if self._ignored:
            with contextlib.suppress(ValueError):
                signal.signal(signal.SIGCHLD, signal.SIG_IGN)
                self._ignored = False


def pidfd(pid: int) -> int:
    """By which it is waited for. Raises CallRefused, ProcessLookupError."""
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        CallRefused.check("pidfd_open", error)
        raise


def need_pidfd() -> None:
    """Raises CallRefused: before a child begins that could not be waited for."""
    os.close(pidfd(os.getpid()))


@contextlib.contextmanager
def statuses_kept() -> Iterator[Statuses]:
    """For as long as it is entered."""
    statuses = Statuses()
    statuses.keep()
    try:
        yield statuses
    finally:
        statuses.let_go()
