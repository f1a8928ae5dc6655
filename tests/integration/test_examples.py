"""The examples do what they say: flags in a real gunicorn under load, numpy arrays a thousand times a second.

The prices that C reads are with the live libraries' tests.
"""

import contextlib
import http.client
import importlib.util
import json
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import TIMEOUT_S, Start, finish, lacking

import vdso

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FLIPS = 12
CLIENTS = 6


@pytest.fixture
def runtime() -> Iterator[dict[str, str]]:
    """An environment in which the usual place for pages is this test's own, in memory."""
    place = Path(tempfile.mkdtemp(prefix="vdso-test-", dir="/dev/shm"))
    yield {**os.environ, "XDG_RUNTIME_DIR": str(place)}
    shutil.rmtree(place)


class Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self.host)


def ask(path: str) -> dict[str, Any]:
    connection = Connection(path)
    try:
        connection.request("GET", "/", headers={"Host": "flags"})
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200, text
        found: dict[str, Any] = json.loads(text)
        return found
    finally:
        connection.close()


class Load:
    """Clients that ask all the time, each answer together with when it was asked for."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.answers: list[tuple[float, dict[str, Any]]] = []
        self.failed: list[BaseException] = []
        self.ended = threading.Event()
        self.threads = [threading.Thread(target=self.run) for _ in range(CLIENTS)]

    def run(self) -> None:
        while not self.ended.is_set():
            asked = time.monotonic()
            try:
                self.answers.append((asked, ask(self.path)))
            except BaseException as error:
                self.failed.append(error)
                return

    def wait_for_workers(self, count: int, version: int) -> set[int]:
        """Until so many workers have answered with that version or a later one."""
        end = time.monotonic() + TIMEOUT_S
        while True:
            found = {answer["worker"] for _, answer in list(self.answers) if answer["version"] >= version}
            if len(found) >= count or time.monotonic() > end or self.failed:
                return found
            self.ended.wait(0.01)

    def __enter__(self) -> "Load":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        for thread in self.threads:
            thread.join(TIMEOUT_S)


def flip(env: dict[str, str], **changes: object) -> int:
    words = [f"{flag}={json.dumps(value)}" for flag, value in changes.items()]
    done = finish([sys.executable, EXAMPLES / "flags" / "flip.py", *words], env=env)
    assert (done.returncode, done.stderr) == (0, "")
    return int(done.stdout.split()[1])


@pytest.mark.parametrize("preload", [False, True], ids=["each-opens", "preload"])
def test_flags_across_gunicorn_workers(preload: bool, runtime: dict[str, str], start: Start) -> None:
    if importlib.util.find_spec("gunicorn") is None:
        lacking("gunicorn is not installed (pip install gunicorn)")
    path = f"{runtime['XDG_RUNTIME_DIR']}/flags.sock"
    words = [sys.executable, "-m", "gunicorn", "--bind", f"unix:{path}", "--config", "gunicorn.conf.py"]
    words += ["--preload", "app"] if preload else ["app"]
    server = start(words, env=runtime, cwd=EXAMPLES / "flags", stdout=None, stderr=None)
    end = time.monotonic() + TIMEOUT_S
    while True:
        with contextlib.suppress(OSError):
            first = ask(path)
            break
        assert time.monotonic() < end
        assert server.poll() is None
        time.sleep(0.02)
    assert (first["new_checkout"], first["rollout_percent"], first["version"]) == (False, 0, 1)

    flipped: list[tuple[float, int]] = []  # (when the command had ended, version)
    with Load(path) as load:
        assert len(load.wait_for_workers(4, 1)) == 4
        for turn in range(1, FLIPS + 1):
            version = flip(runtime, rollout_percent=turn, discount=turn / 100, banner=f"rollout {turn}")
            flipped.append((time.monotonic(), version))
        assert len(load.wait_for_workers(4, version)) == 4, "every worker sees the last flip"
    assert not load.failed, load.failed
    assert [version for _, version in flipped] == list(range(2, FLIPS + 2))
    for asked, answer in load.answers:
        newest = max((version for when, version in flipped if when < asked), default=1)
        assert answer["version"] >= newest, "asked for after a flip, answered from before it"
        turn = answer["version"] - 1
        together = (turn, turn / 100, f"rollout {turn}" if turn else "")
        assert (answer["rollout_percent"], answer["discount"], answer["banner"]) == together


def test_numpy_arrays(runtime: dict[str, str], start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    numpy = pytest.importorskip("numpy")
    monkeypatch.syspath_prepend(str(EXAMPLES / "arrays"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime["XDG_RUNTIME_DIR"])
    import scope

    publisher = start([sys.executable, EXAMPLES / "arrays" / "publish.py", str(TIMEOUT_S)], env=runtime)
    assert publisher.stdout is not None
    assert "publishing" in publisher.stdout.readline()
    with vdso.open(scope.NAME, expect=scope.Frame) as reader:
        for frame, _ in zip(reader.watch(timeout=TIMEOUT_S), range(300), strict=False):
            assert frame.samples.dtype == "f4"
            assert numpy.array_equal(frame.samples, scope.samples_of(frame.number)), frame.number
            assert frame.number == frame.version
    done = finish([sys.executable, EXAMPLES / "arrays" / "read.py", "1"], env=runtime)
    assert (done.returncode, done.stderr) == (0, "")
    assert "seen" in done.stdout
    publisher.kill()
    publisher.wait(TIMEOUT_S)
    done = finish([sys.executable, EXAMPLES / "arrays" / "read.py"], env=runtime)
    assert done.stdout.endswith("nobody publishes\n")


def test_the_demo(runtime: dict[str, str]) -> None:
    """Each of its parts says something, and nothing was impossible."""
    done = finish([sys.executable, str(EXAMPLES / "demo")], env=runtime | {"TZ": "UTC0"})
    assert (done.returncode, done.stderr) == (0, "")
    said = {part.splitlines()[0]: part for part in done.stdout.split("\n\n")}
    lines = {line[:38].strip(): line[38:].strip() for line in done.stdout.splitlines()}
    assert "not possible here" not in done.stdout
    assert lines["vdso time PID --at 2038... --freeze"].endswith("Jan 19 03:14:07 2038")
    assert lines["datetime.now()"].startswith("2030-01-01 12:00:0")
    assert lines["SQLite's datetime('now'), in C"].startswith("2030-01-01 12:00:0")
    assert lines["read there"] == "bid 99.5, venue XPAR"
    counted = next(part for heading, part in said.items() if heading.startswith("The clock calls"))
    assert " 1,000 " in counted
