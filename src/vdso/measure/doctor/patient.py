"""The command that is diagnosed: held at its exec to be looked at, and run.

What is held is killed before its first instruction; what runs is started anew, so that whatever counts its
calls has it to itself. What it prints goes to standard error: standard output is the diagnosis alone.
"""

import contextlib
import errno
import os
import select
import signal
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Protocol

from vdso import _core
from vdso.errors import CommandNotExecutable, CommandNotFound
from vdso.swap.child import Statuses, need_pidfd, pidfd, statuses_kept
from vdso.swap.run import find_program, restore_locale

# What would end the doctor ends its command; Ctrl-C reaches both, and the diagnosis is still wanted.
PASSED_ON = (signal.SIGTERM, signal.SIGHUP)


class Running(Protocol):
    """A command that runs: vdso.measure.counting's, or a Plain one."""

    pid: int
    status: int | None  # as waitpid has it, once it has ended

    def start(self) -> None: ...
    def wait(self, timeout_s: float) -> bool: ...
    def signal(self, number: signal.Signals) -> None: ...


class Plain:
    """A command of which nothing is counted."""

    def __init__(self, command: list[str]) -> None:
        self.pid = 0
        self.status: int | None = None
        self._command = command
        self._statuses = Statuses()
        self._pidfd = -1

    def start(self) -> None:
        """Raises CommandNotFound, CommandNotExecutable, CallRefused."""
        need_pidfd()
        self._statuses.keep()
        self.pid = begin(self._command, self._statuses.inherit).pid
        self._pidfd = pidfd(self.pid)

    def wait(self, timeout_s: float) -> bool:
        """Waits so long for its end, and says whether it has come."""
        if self.status is None:
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            if poll.poll(timeout_s * 1000):
                self.status = os.waitpid(self.pid, 0)[1]
                self._statuses.let_go()
                os.close(self._pidfd)
        return self.status is not None

    def signal(self, number: signal.Signals) -> None:
        if self.status is None:
            signal.pidfd_send_signal(self._pidfd, number)


@contextlib.contextmanager
def held(command: list[str]) -> Iterator[tuple[int, str]]:
    """The command's process before its first instruction, which it never comes to: its id, or 0 and why it is
    not held. Raises CommandNotFound, CommandNotExecutable.
    """
    if gains_privilege(find_program(command[0])):
        yield 0, "it runs with another user's privilege, and would not while it is held"
        return
    with statuses_kept() as statuses:

        def prepare() -> None:
            statuses.inherit()
            _core.held_ask()

        try:
            child = begin(command, prepare)
        except subprocess.SubprocessError:
            yield 0, "nobody may trace it, or somebody does already"
            return
        try:
            yield (child.pid, "") if _core.held_wait(child.pid) else (0, "it was killed")
        except OSError as error:
            yield 0, (error.strerror or str(error)).lower()
        finally:
            child.kill()
            child.wait()


def begin(command: list[str], prepare: Callable[[], None]) -> "subprocess.Popen[bytes]":
    """Starts it, by the shell where it is a script that does not say by what, as execvp(3) does. Raises
    CommandNotFound, CommandNotExecutable; SubprocessError where `prepare`, in the child, raises."""
    restore_locale()
    try:
        try:
            return subprocess.Popen(command, preexec_fn=prepare)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            shell = ["/bin/sh", find_program(command[0]), *command[1:]]
            return subprocess.Popen(shell, preexec_fn=prepare)
    except (FileNotFoundError, NotADirectoryError):
        raise CommandNotFound(command[0]) from None
    except OSError as error:
        raise CommandNotExecutable(command[0], (error.strerror or "cannot be executed").lower()) from None


def gains_privilege(path: str) -> bool:
    """Whether executing the file gives privilege that a tracer without any would take away: execve(2)."""
    if os.geteuid() == 0:
        return False
    try:
        if os.stat(path).st_mode & (stat.S_ISUID | stat.S_ISGID):
            return True
        return bool(os.getxattr(path, "security.capability"))
    except OSError:
        return False


@contextlib.contextmanager
def printing_elsewhere() -> Iterator[None]:
    """What is started meanwhile has our standard error as its standard output. Neither may be closed: see
    vdso.swap.run.keep_low_descriptors()."""
    kept, inherited = os.dup(1), os.get_inheritable(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1, inheritable=inherited)
        os.close(kept)


class Signals:
    """While it is entered: what would end us is passed on to the command that runs, and an interrupt is left
    to it."""

    def __init__(self) -> None:
        self._running: Running | None = None
        self._missed: list[int] = []
        self._handlers: dict[int, Any] = {}

    def to(self, running: Running) -> None:
        """From now on to this one, also what has come before."""
        self._running = running
        while self._missed:
            running.signal(signal.Signals(self._missed.pop(0)))

    def __enter__(self) -> "Signals":
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in (*PASSED_ON, signal.SIGINT):
            # What was ignored before us, as under nohup, is the command's to ignore as well.
            if signal.getsignal(number) != signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, self._came)
        return self

    def _came(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGINT:  # the terminal sends it to the command too
            return
        if self._running is None:
            self._missed.append(number)
        else:
            self._running.signal(signal.Signals(number))

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
