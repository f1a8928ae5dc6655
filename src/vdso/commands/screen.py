"""A terminal that is taken over for a while, and given back as it was however that ends.

The alternate screen, without a cursor; keys one by one, without echo, where the input is a terminal. Knows
nothing of what is shown.
"""

import contextlib
import os
import select
import signal
import sys
import termios
import tty
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from vdso.commands.output import console

if TYPE_CHECKING:
    from rich.console import RenderableType

# Ctrl-C is a way to leave it like any other.
LEAVING = (signal.SIGINT, signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH)
# Those that do nothing to who does not ask for them, that stop, that cannot be caught, or that an instruction
# raises, to which a handler would return for ever: signal(7). All others end us, and it first.
OTHERS = {
    *(signal.SIGCHLD, signal.SIGURG, signal.SIGTTIN, signal.SIGTTOU, signal.SIGKILL, signal.SIGSTOP),
    *(signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGSYS),
}
ENDING = signal.valid_signals() - OTHERS - set(LEAVING)
NOTED = (*LEAVING, *ENDING)
QUIT_KEYS = b"qQ\x03"


class Screen:
    """`with Screen() as screen`: show() draws, wait() waits for a while, a key, a signal or the end."""

    def __init__(self) -> None:
        from rich.live import Live

        self._live = Live(console=console(), screen=True, auto_refresh=False)
        self._keys = -1
        self._before: list[Any] | None = None
        self._handlers: dict[int, Any] = {}
        self._came: list[int] = []
        self._ended_by = 0

    def __enter__(self) -> "Screen":
        # A signal writes a byte there, which ends a select().
        self._woken, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            self._old_wake = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
            for number in NOTED:
                # What was ignored before us, as under nohup, stays so.
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._handlers[number] = signal.signal(number, self._note)
            self._take()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        try:
            self._give_back()
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._old_wake)
            os.close(self._woken)
            os.close(self._wake)
        if exc_type is None and self._ended_by:
            signal.signal(self._ended_by, signal.SIG_DFL)
            os.kill(os.getpid(), self._ended_by)

    @property
    def width(self) -> int:
        return self._live.console.width

    @property
    def height(self) -> int:
        return self._live.console.height

    def show(self, what: "RenderableType") -> None:
        self._live.update(what, refresh=True)

    def wait(self, seconds: float) -> bool:
        """Until the time is over, or there is something to be drawn anew; False: it is to end."""
        watched = [self._woken] + ([self._keys] if self._keys >= 0 else [])
        ready, _, _ = select.select(watched, [], [], max(0.0, seconds))
        if self._woken in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._woken, 4096)
        if self._keys in ready and not self._read_key():
            return False
        came, self._came = self._came, []
        for number in came:
            if number == signal.SIGINT:
                return False
            if number in ENDING:
                self._ended_by = number
                return False
            if number == signal.SIGTSTP:
                self._stand_still()
        return True

    def _read_key(self) -> bool:
        """False: one that ends it, or there will be no more."""
        try:
            keys = os.read(self._keys, 64)
        except BlockingIOError:
            return True
        except OSError:  # the terminal has gone
            return False
        return bool(keys) and not any(key in QUIT_KEYS for key in keys)

    def _note(self, number: int, _: FrameType | None) -> None:
        self._came.append(number)

    def _take(self) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or no file
            if os.isatty(sys.stdin.fileno()):
                self._keys = sys.stdin.fileno()
        if self._keys >= 0:
            self._before = termios.tcgetattr(self._keys)
            tty.setcbreak(self._keys, termios.TCSANOW)
        self._live.start(refresh=False)

    def _give_back(self) -> None:
        # Each on its own: a terminal that has gone keeps neither of them from being tried.
        try:
            self._live.stop()
        except OSError:
            if not self._ended_by:
                raise
        finally:
            if self._before is not None:
                with contextlib.suppress(termios.error):
                    termios.tcsetattr(self._keys, termios.TCSANOW, self._before)

    def _stand_still(self) -> None:
        """As Ctrl-Z asks: gives the terminal back, stops, and takes it again once it goes on."""
        self._give_back()
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, handler)
        self._take()
