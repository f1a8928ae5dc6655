"""What every integration test has at hand: the command, its ways of running, users, programs, processes."""

import contextlib
import os
import pwd
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.register_assert_rewrite("harness", "following")

from following import PATIENCE, Gated, Said, Shell, line_of  # noqa: E402
from harness import (  # noqa: E402
    OFFSET,
    TIMEOUT_S,
    Programs,
    Start,
    Terminal,
    Way,
    Words,
    finish,
    lacking,
    only_ancestors_trace,
    want,
    without_time,
)

# Yama need not be in this kernel: `vdso run` goes by its file.
YAMA = """\
mount -t tmpfs none /proc/sys/kernel &&
mkdir /proc/sys/kernel/yama &&
echo 1 >/proc/sys/kernel/yama/ptrace_scope &&
exec "$@"
"""


@pytest.fixture(scope="session", autouse=True)
def host_clock_stays() -> Iterator[None]:
    """Whatever the tests do to clocks: the host's is where it was."""

    def ahead_of_boottime() -> float:
        return time.clock_gettime(time.CLOCK_REALTIME) - time.clock_gettime(time.CLOCK_BOOTTIME)

    before = ahead_of_boottime()
    yield
    assert abs(ahead_of_boottime() - before) < 5, "the host's clock was set"


@pytest.fixture(scope="session")
def vdso() -> str:
    """The installed command."""
    path = str(Path(sys.executable).parent / "vdso")
    assert os.access(path, os.X_OK), "make build"
    return path


@pytest.fixture(scope="session")
def unprivileged(vdso: str) -> list[str]:
    """The words that run a command without privilege: as nobody where we are root, else as ourselves."""
    if os.geteuid() != 0:
        return []
    nobody = pwd.getpwnam("nobody")
    words = [want("setpriv", "util-linux"), f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}"]
    words += ["--clear-groups", "--bounding-set=-all"]
    # By way of a shell: setpriv's own exec still finds its way by root's privilege.
    if finish([*words, "sh", "-c", f"exec '{vdso}' --version"]).returncode == 0:
        return words
    # The tree lies in somebody's closed directory: reading it is the one privilege that is left.
    return [*words[:-1], "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]


@pytest.fixture(scope="session")
def as_root() -> None:
    """Marks a test that only root can run."""
    if os.geteuid() != 0:
        lacking("only root may do this")


@pytest.fixture(scope="session")
def privileged(vdso: str) -> Way:
    """`vdso run` as the user who runs the tests. Becomes the command."""
    return Way(vdso, becomes=os.geteuid() == 0 or not only_ancestors_trace())


@pytest.fixture(scope="session")
def under_yama(vdso: str, unprivileged: list[str]) -> Way:
    """`vdso run` where Yama's scope is 1: it waits for the command, whose parent the follower is."""
    if os.geteuid() == 0:
        prefix = ["unshare", "-m", "sh", "-c", YAMA, "sh", *unprivileged]
    elif only_ancestors_trace():
        prefix = []
    else:
        prefix = ["unshare", "-rm", "sh", "-c", YAMA, "sh", "setpriv", "--bounding-set=-all"]
    return Way(vdso, prefix, becomes=False)


@pytest.fixture(params=["becomes", "yama"])
def way(request: pytest.FixtureRequest) -> Way:
    """Both ways in which `vdso run` runs a command."""
    found: Way = request.getfixturevalue({"becomes": "privileged", "yama": "under_yama"}[request.param])
    if request.param == "becomes" and not found.becomes:
        lacking("Yama lets only a parent trace here")
    return found


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a process whose streams are pipes. What is left of it at the end of the test is killed."""
    started: list[subprocess.Popen[str]] = []

    def begin(words: Words, **more: Any) -> "subprocess.Popen[str]":
        pipe = subprocess.PIPE
        more = {"stdin": pipe, "stdout": pipe, "stderr": pipe, "text": True, "start_new_session": True} | more
        process = subprocess.Popen([str(word) for word in words], **more)
        started.append(process)
        return process

    yield begin
    for process in started:
        # Also when the process has gone: its session may still hold one.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait(TIMEOUT_S)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


@pytest.fixture
def terminal(start: Start) -> Iterator[Terminal]:
    terminal = Terminal(start)
    yield terminal
    os.close(terminal.fd)


@pytest.fixture(scope="session")
def open_directory() -> Iterator[Path]:
    """A directory that every user can look into; pytest's own are closed."""
    with tempfile.TemporaryDirectory(prefix="vdso-test-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture(scope="session")
def programs(open_directory: Path) -> Programs:
    return Programs(open_directory)


@pytest.fixture
def shared(open_directory: Path) -> Iterator[Path]:
    """A directory of pages that every user can look into."""
    where = open_directory / "pages"
    where.mkdir(mode=0o755)
    yield where
    for path in where.iterdir():
        path.unlink()
    where.rmdir()


# ---- attached processes ----


@pytest.fixture
def say(vdso: str) -> Said:
    """Runs a command of vdso's."""
    return lambda *words: finish([vdso, *words])


@pytest.fixture
def name() -> str:
    """For a session of the test's own."""
    return f"test-{os.getpid()}-{time.monotonic_ns()}"


@pytest.fixture
def follow(say: Said) -> Said:
    """Attaches a process that is to be followed, and says nothing on the standard error stream."""

    def run(process: "subprocess.Popen[str]", *options: str) -> "subprocess.CompletedProcess[str]":
        given = options or ("--offset", OFFSET)
        done = say("attach", str(process.pid), "--follow", *given, *PATIENCE)
        assert (done.returncode, done.stderr) == (0, "")
        assert re.fullmatch(r"attached \S+ \(pid \d+\).*, and follows it; it stood still .*\n", done.stdout)
        return done

    return run


@pytest.fixture
def detach(say: Said) -> Said:
    def run(process: "subprocess.Popen[str]") -> "subprocess.CompletedProcess[str]":
        done = say("detach", str(process.pid), *PATIENCE)
        assert (done.returncode, done.stderr) == (0, "")
        return done

    return run


@pytest.fixture
def shell(start: Start) -> Shell:
    """One that cannot set the host's clock."""
    return Shell(start)


@pytest.fixture
def gated(programs: Programs, start: Start) -> Gated:
    """Starts a program that waits for a line before its beginning: it is attached first."""

    def run(program: str, *words: str, prefix: list[str] | None = None) -> "subprocess.Popen[str]":
        front = without_time() if prefix is None else prefix
        process = start([*front, programs.c(program), *words], env=programs.gate(program))
        assert line_of(process) == "ready\n"
        return process

    return run
