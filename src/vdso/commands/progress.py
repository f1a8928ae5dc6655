"""How far a measurement is, on a terminal alone."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from vdso.commands.output import console


@contextmanager
def bar() -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar's callback, None off a terminal. The bar has gone afterwards, however it ends."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, Progress, TextColumn

    # No thread of its own, which would run beside the measurement: drawn between rounds.
    progress = Progress(
        TextColumn("measuring"),
        BarColumn(),
        TextColumn("{task.fields[rounds]}"),
        console=console(stderr=True),
        transient=True,
        auto_refresh=False,
    )
    with unwinding(), progress:
        task = progress.add_task("", total=None, rounds="")
        drawn = 0.0

        def step(done: int, rounds: int) -> None:
            nonlocal drawn
            if time.perf_counter() - drawn > 0.1:
                progress.update(task, completed=done, total=rounds, rounds=f"{done}/{rounds}", refresh=True)
                drawn = time.perf_counter()

        yield step


class Ended(BaseException):
    """A signal that is to end this process, once what is open has been closed."""


@contextmanager
def unwinding() -> Iterator[None]:
    """What would end us ends the block first, as an exception does, and then us: the cursor comes back."""
    came: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        came.append(number)
        raise Ended

    numbers = [
        number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) == signal.SIG_DFL
    ]
    for number in numbers:
        signal.signal(number, note)
    try:
        yield
    except Ended:
        pass
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
    if came:
        os.kill(os.getpid(), came[0])
