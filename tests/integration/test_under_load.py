"""A static Go server under load, attached to and detached while it serves: every request is answered."""

import http.client
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from harness import OFFSET, OFFSET_S, TIMEOUT_S, Programs, Start, finish, read_until

CLIENTS = 4
SOME = 200  # answers, before anything is done, and between


class Answer(NamedTuple):
    asked: float  # by MONOTONIC
    answered: float
    off_s: float  # what it says, beside this process's REALTIME when it was asked


class Load:
    """Clients that ask as fast as they are answered, half of them by a new connection each time."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.answers: list[Answer] = []
        self.failed: list[str] = []
        self.over = False
        self.more = threading.Condition()
        self.clients = [threading.Thread(target=self.ask, args=(i % 2 == 0,)) for i in range(CLIENTS)]
        for client in self.clients:
            client.start()

    def ask(self, keeps: bool) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        while not self.over:
            asked, host = time.monotonic(), time.time()
            try:
                connection.request("GET", "/")
                answer = connection.getresponse()
                text = answer.read().decode()
                assert (answer.status, text[:5]) == (200, "wall ")
                if not keeps:
                    connection.close()
            except Exception as error:
                self.failed.append(repr(error))
                self.over = True
            else:
                self.answers.append(Answer(asked, time.monotonic(), float(text[5:]) - host))
            with self.more:
                self.more.notify()
        connection.close()

    def serve_some(self) -> None:
        """Returns once that many more have been answered."""
        wanted = len(self.answers) + SOME
        with self.more:
            assert self.more.wait_for(lambda: len(self.answers) >= wanted or self.over, TIMEOUT_S)

    def end(self) -> None:
        self.over = True
        for client in self.clients:
            client.join(TIMEOUT_S)


@pytest.fixture
def load() -> Iterator[Callable[[int], Load]]:
    begun: list[Load] = []

    def begin(port: int) -> Load:
        begun.append(Load(port))
        return begun[-1]

    yield begin
    for one in begun:
        one.end()


def test_a_server_under_load(
    programs: Programs, start: Start, vdso: str, load: Callable[[int], Load]
) -> None:
    """What is asked after a command has ended gets its time; what is asked meanwhile one of the two."""
    server = start([programs.go("ticking")])
    assert server.stdout is not None
    clients = load(int(read_until(server.stdout.fileno(), r"\n").split()[1]))
    session = f"load-{os.getpid()}"
    attach = ["attach", str(server.pid), "--session", session, "--offset", OFFSET, "--timeout", "20"]
    steps: list[tuple[list[str], float]] = []
    for _ in range(3):
        steps.append((attach, OFFSET_S))
        steps.append((["time", session, "--offset", "-1000d"], -OFFSET_S))
        steps.append((["detach", str(server.pid), "--timeout", "20"], 0))
    times: list[tuple[float, float, float]] = []
    for words, off_s in steps:
        clients.serve_some()
        began = time.monotonic()
        done = finish([vdso, *words])
        # Root may set the host's clock, which attaching says.
        said = re.sub(r"vdso: .*may set the host's clock.*\n", "", done.stderr)
        assert (done.returncode, said) == (0, "")
        times.append((began, time.monotonic(), off_s))
    clients.serve_some()
    clients.end()
    assert not clients.failed
    phases = [(0.0, 0.0, 0.0), *times]
    for answer in clients.answers:
        # In force are what was done when it was asked, and what was begun before it was answered.
        done_before = max(i for i, (_, ended, _) in enumerate(phases) if ended <= answer.asked)
        begun = max(i for i, (began, _, _) in enumerate(phases) if began <= answer.answered)
        allowed = [off_s for _, _, off_s in phases[done_before : begun + 1]]
        assert any(abs(answer.off_s - off_s) < 5 for off_s in allowed), (answer, allowed)
    assert len(clients.answers) > SOME * len(steps)
    assert server.poll() is None
