"""How a command is observed while it is looked at."""

import signal
import threading

from vdso.measure.doctor import observation

PATIENCE_S = 30.0


class Running:
    """A command that ends when it is looked at; `seen`: its end has been."""

    def __init__(self) -> None:
        self.pid = 1
        self.status: int | None = None
        self.over, self.seen = threading.Event(), threading.Event()

    def start(self) -> None:
        pass

    def wait(self, timeout_s: float) -> bool:
        if self.over.wait(timeout_s):
            self.seen.set()
        return self.seen.is_set()

    def signal(self, number: signal.Signals) -> None:
        pass


def test_an_end_is_seen_while_it_is_looked_at() -> None:
    """Or the time that it ran would be longer, and how often it reads the clock less."""
    running, looked = Running(), []

    def look(pid: int, programs: observation.Programs | None) -> None:
        running.over.set()
        looked.append((pid, programs, running.seen.wait(PATIENCE_S)))

    observation.run(running, look, (0.0, PATIENCE_S, PATIENCE_S))
    # And once more when it has ended: what it has started may go on.
    assert looked == [(1, None, True)] * 2
