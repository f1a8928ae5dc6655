"""gunicorn, whose workers are forked from a master that travels, is attached, or runs on a session."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import TIMEOUT_S, Start, Way, Words, finish, lacking, read_until

AT, AT_S = "2030-01-01T00:00:00Z", 1893456000
SOON_S = 20

APPLICATION = """
import os
import time

def app(environ, start_response):
    start_response("200 OK", [])
    return [f"{os.getpid()} {time.time_ns()}".encode()]
"""
TRAVELLING = """
import time
import vdso

def on_starting(server):
    with vdso.travel(0):  # so that the first worker is forked with the page in its place
        pass

def nworkers_changed(server, new_value, old_value):
    if old_value is not None:
        vdso.travel("2030-01-01").start()
"""


class Server:
    """A gunicorn on a socket of its own, with that many workers."""

    def __init__(self, start: Start, directory: Path, workers: int, prefix: Words = ()) -> None:
        (directory / "application.py").write_text(APPLICATION)
        self.socket = str(directory / "socket")
        words = [sys.executable, "-m", "gunicorn", "-w", str(workers), "-b", f"unix:{self.socket}"]
        self.process = start([*prefix, *words, "application:app"], cwd=directory)
        assert self.process.stderr is not None
        self.stderr = self.process.stderr.fileno()
        self.workers: list[int] = []
        self.await_workers(workers)

    def await_workers(self, count: int) -> list[int]:
        """Returns those that have begun since."""
        begun = [int(self._await(r"Booting worker with pid: (\d+)\n")) for _ in range(count)]
        self.workers += begun
        return begun

    def _await(self, pattern: str) -> str:
        return read_until(self.stderr, pattern).rstrip().rpartition(" ")[2]

    def one_more(self) -> int:
        self.process.send_signal(signal.SIGTTIN)
        return self.await_workers(1)[0]

    def ask(self) -> tuple[int, int]:
        """The worker that answers, and its REALTIME in ns."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(TIMEOUT_S)
            client.connect(self.socket)
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = b"".join(iter(lambda: client.recv(65536), b""))
        pid, now = answer.rpartition(b"\r\n\r\n")[2].split()
        return int(pid), int(now)

    def ask_all(self) -> dict[int, int]:
        """{worker: its REALTIME in ns}, once each has answered."""
        said: dict[int, int] = {}
        deadline = time.monotonic() + TIMEOUT_S
        while said.keys() != set(self.workers):
            assert time.monotonic() < deadline, (said, self.workers)
            pid, now = self.ask()
            said[pid] = now
        return said


def on_the_host_s(now_ns: int) -> bool:
    return abs(now_ns / 1e9 - time.time()) < SOON_S


def after_2030(now_ns: int) -> bool:
    return 0 <= now_ns / 1e9 - AT_S < SOON_S


@pytest.fixture
def serve(start: Start, tmp_path: Path) -> Callable[..., Server]:
    try:
        import gunicorn  # noqa: F401
    except ImportError:
        lacking("gunicorn is not installed")
    return lambda *more, **named: Server(start, tmp_path, *more, **named)


@pytest.fixture
def say(vdso: str) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs a command of vdso's that has nothing to complain of."""

    def run(*words: object) -> "subprocess.CompletedProcess[str]":
        done = finish([vdso, *map(str, words)])
        # Root may set the host's clock, which attaching says.
        said = re.sub(r"vdso: .*(may set the host's clock|is not followed).*\n", "", done.stderr)
        assert (done.returncode, said) == (0, "")
        return done

    return run


def test_a_master_that_travels(serve: Callable[..., Server], tmp_path: Path) -> None:
    """A worker that was forked before keeps its time, one that is forked there is there."""
    (tmp_path / "gunicorn.conf.py").write_text(TRAVELLING)
    server = serve(1)
    [first] = server.workers
    assert on_the_host_s(server.ask()[1])
    second = server.one_more()
    said = server.ask_all()
    assert on_the_host_s(said[first])
    assert after_2030(said[second])


def test_a_master_that_is_attached(serve: Callable[..., Server], say: Callable[..., object]) -> None:
    """Workers that were there before are other processes, and attached as such; the others inherit it."""
    server = serve(2)
    before = list(server.workers)
    session = f"gunicorn-{os.getpid()}"
    say("attach", server.process.pid, "--session", session, "--at", AT, "--timeout", "20")
    assert all(on_the_host_s(now) for now in server.ask_all().values())
    after = server.one_more()
    said = server.ask_all()
    assert after_2030(said[after])
    assert all(on_the_host_s(said[worker]) for worker in before)
    for worker in before:
        say("attach", worker, "--session", session, "--timeout", "20")
    say("time", session, "--shift", "+1d", "--freeze")
    assert len(set(server.ask_all().values())) == 1, "one clock"
    # A worker that dies is replaced by one on the master's clock, and the master does not mistake the rest.
    os.kill(server.workers.pop(0), signal.SIGKILL)
    server.await_workers(1)
    assert len(set(server.ask_all().values())) == 1
    say("time", session, "--thaw")
    for process in (server.process.pid, *server.workers):
        say("detach", process, "--timeout", "20")
    server.one_more()
    assert all(on_the_host_s(now) for now in server.ask_all().values())
    assert server.process.poll() is None


def test_a_master_on_a_session(
    serve: Callable[..., Server], say: Callable[..., object], privileged: Way
) -> None:
    """All workers see one clock, and a change of it with the same read."""
    session = f"gunicorn-run-{os.getpid()}"
    options = ["--session", session, "--at", AT]
    prefix = privileged.words("", offset=None, options=options)[:-1]
    server = serve(2, prefix=prefix)
    assert all(after_2030(now) for now in server.ask_all().values())
    server.one_more()
    for day in range(1, 4):
        say("time", session, "--at", f"2031-01-0{day}T00:00:00Z", "--freeze")
        assert set(server.ask_all().values()) == {(AT_S + (364 + day) * 86400) * 10**9}
    say("time", session, "--rate", "1000")
    last = 0
    for _ in range(100):
        _, now = server.ask()
        assert now > last, "whichever worker answers, and whatever it saw before"
        last = now
    say("time", session, "--reset")
    assert all(on_the_host_s(now) for now in server.ask_all().values())
