"""What the integration tests drive with: command lines, small programs, readings of clocks, a terminal.

Nothing here waits by sleeping: a test waits for a line, the end of a stream or a process, each with a limit.
"""

import contextlib
import fcntl
import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

SOURCES = Path(__file__).parent / "programs"
TIMEOUT_S = 30
OFFSET = "+1000d"
OFFSET_S = 1000 * 86400

# What programs print, a line each ("wall 1700000000.25"): the clock of this process that it is held against,
# and whether an offset moves it.
CLOCKS = {
    "wall": (time.CLOCK_REALTIME, True),
    "coarse": (time.CLOCK_REALTIME, True),
    "tai": (time.CLOCK_TAI, True),
    "monotonic": (time.CLOCK_MONOTONIC, False),
    "boottime": (time.CLOCK_BOOTTIME, False),
}
# Whole seconds, and coarse clocks, lag behind.
LAG_S = 1.5


def want(command: str, package: str) -> str:
    """The program's path. Where .ci/run has installed what the tests drive, nothing may be missing."""
    path = shutil.which(command)
    if path is None:
        lacking(f"{command} is not installed (Debian: {package})")
    assert path is not None
    return path


def lacking(what: str) -> None:
    if os.environ.get("VDSO_SKIP_NOTHING"):
        pytest.fail(what)
    pytest.skip(what)


@dataclass
class Reading:
    """What a program printed, between two readings of this process's clocks."""

    lines: list[tuple[str, float]]
    before: dict[str, float]
    after: dict[str, float]

    def off(self, name: str, value: float) -> float:
        """By how much it is beside this process's clock; 0 within what the bracket allows."""
        low, high = self.before[name] - LAG_S, self.after[name] + LAG_S
        return 0 if low <= value <= high else value - self.before[name]

    def shifts(self) -> list[tuple[str, float]]:
        """For each line its clock and its distance from the host's, to the hour."""
        return [(name, round(self.off(name, value) / 3600) * 3600.0) for name, value in self.lines]

    def assert_moved(self, by_s: float = OFFSET_S) -> None:
        assert self.lines
        wrong = [(name, shift) for name, shift in self.shifts() if shift != (by_s if CLOCKS[name][1] else 0)]
        assert not wrong, f"{len(wrong)} of {len(self.lines)} readings are wrong: {wrong[:5]}"

    def assert_host(self) -> None:
        self.assert_moved(0)


def host_clocks() -> dict[str, float]:
    return {name: time.clock_gettime(clock) for name, (clock, _) in CLOCKS.items()}


def parse_reading(text: str, before: dict[str, float], after: dict[str, float]) -> Reading:
    lines = [line.split() for line in text.splitlines()]
    return Reading([(words[0], float(words[1])) for words in lines if words], before, after)


Words = Sequence[str | Path]


@dataclass
class Way:
    """How `vdso run` is run: by which words in front, and whether it then becomes the command."""

    vdso: str
    prefix: list[str] = field(default_factory=list)
    becomes: bool = True

    def words(
        self, *command: str | Path, offset: str | None = OFFSET, clock: str | None = None, options: Words = ()
    ) -> list[str]:
        """The whole command line."""
        words = [*self.prefix, self.vdso, "run"]
        if offset is not None:
            words += ["--offset", offset]
        if clock is not None:
            words += ["--clock", clock]
        return [*words, *map(str, options), "--", *map(str, command)]

    def line(self, *command: str, **more: Any) -> str:
        """The same as one line for a shell; without a command, to put one behind it."""
        words = self.words(*command, **more) if command else self.words("", **more)[:-1]
        return shlex.join(words)

    def run(
        self,
        *command: str | Path,
        offset: str | None = OFFSET,
        clock: str | None = None,
        options: Words = (),
        **more: Any,
    ) -> subprocess.CompletedProcess[str]:
        return finish(self.words(*command, offset=offset, clock=clock, options=options), **more)

    def read(self, *command: str | Path, **more: Any) -> Reading:
        """Runs a program that prints clocks, and says nothing on its standard error stream."""
        before = host_clocks()
        done = self.run(*command, **more)
        after = host_clocks()
        assert (done.returncode, done.stderr) == (0, "")
        return parse_reading(done.stdout, before, after)


def finish(words: Words, **more: Any) -> subprocess.CompletedProcess[str]:
    """Runs to the end, in a session of its own that is killed when it takes too long."""
    more = {"stdin": subprocess.DEVNULL, "text": True, "start_new_session": True} | more
    given = more.pop("input", None)
    if given is not None:
        more["stdin"] = subprocess.PIPE
    limit = more.pop("timeout", TIMEOUT_S)
    for stream in ("stdout", "stderr"):
        more.setdefault(stream, subprocess.PIPE)
    with subprocess.Popen([str(word) for word in words], **more) as process:
        try:
            out, err = process.communicate(given, limit)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def ignore_children() -> None:
    """For a process that is to begin with SIGCHLD ignored: a child of its leaves no status then."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)


def without_time() -> list[str]:
    """The words that run a command without the capability to set any clock, which else root's would have."""
    if os.geteuid() != 0:
        return []
    return [want("setpriv", "util-linux"), "--bounding-set=-sys_time", "--inh-caps=-all"]


def only_ancestors_trace() -> bool:
    try:
        return int(Path("/proc/sys/kernel/yama/ptrace_scope").read_text(encoding="ascii")) > 0
    except OSError:
        return False


def holders(name: str) -> dict[int, str]:
    """{pid: what it is called} of the follower and the guard that hold a session's page."""
    found = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with contextlib.suppress(OSError):
            comm = Path(f"/proc/{pid}/comm").read_text(encoding="ascii", errors="replace").strip()
            if comm in ("vdso-follower", "vdso-guard") and any(
                os.readlink(f"/proc/{pid}/fd/{fd}").startswith(f"/memfd:vdso-clock:{name} ")
                for fd in os.listdir(f"/proc/{pid}/fd")
            ):
                found[pid] = comm
    return found


def follower_of(name: str) -> int | None:
    return next((pid for pid, comm in holders(name).items() if comm == "vdso-follower"), None)


def guard_of(name: str) -> int | None:
    return next((pid for pid, comm in holders(name).items() if comm == "vdso-guard"), None)


HELPERS = ["vdso-follower", "vdso-guard"]


def couple(name: str) -> tuple[int, int]:
    """The follower and its guard, of a program that has started."""

    def found() -> dict[str, int] | None:
        pids = holders(name)
        return {pids[pid]: pid for pid in pids} if sorted(pids.values()) == HELPERS else None

    by_name = until(found, "no follower with a guard")
    return by_name["vdso-follower"], by_name["vdso-guard"]


def kill_guard(name: str) -> int:
    """Waits until the session's follower has taken the guard's place, and another one its own: which one."""
    follower, guard = couple(name)
    os.kill(guard, signal.SIGKILL)
    until(lambda: guard_of(name) == follower, "no new guard")
    return couple(name)[0]


def until(condition: Callable[[], object], what: str = "", limit_s: float = TIMEOUT_S) -> Any:
    """Waits for what /proc shows and no descriptor tells: the condition's answer, once that is one."""
    deadline = time.monotonic() + limit_s
    while not (answer := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.002)
    return answer


def state(pid: int) -> str:
    """Of its first thread, as ps(1) has it: R, S, Z, ..."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]


Start = Callable[..., "subprocess.Popen[str]"]


def kill_follower_at(start: Start, name: str, where: str) -> None:
    """Once it has come there: to so many of those system calls, from now on ("futex:2"). Those that it begins
    with are over when its program has started."""
    calls, _, count = where.partition(":")
    inject = f"inject={calls}:signal=SIGKILL:when={count}"
    follower, _ = couple(name)
    tracer = start([want("strace", "strace"), "-o", os.devnull, "-e", inject, "-p", str(follower)])
    assert tracer.stderr is not None
    read_until(tracer.stderr.fileno(), "attached")


def read_until(fd: int, pattern: str, limit_s: float = TIMEOUT_S) -> str:
    """Reads until the text matches, no further, and returns it. Without a pattern: to the stream's end."""
    text = ""
    deadline = time.monotonic() + limit_s
    while not pattern or not re.search(pattern, text):
        ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"nothing like {pattern!r} within {limit_s} s in: {text!r}"
        try:
            data = os.read(fd, 1 if pattern else 65536)
        except OSError:  # a terminal whose last process has gone
            data = b""
        if not data:
            assert not pattern, f"ended without {pattern!r}: {text!r}"
            break
        text += data.decode(errors="replace")
    return text


# ---- a terminal ----


class Terminal:
    """An interactive shell on a terminal of its own."""

    PROMPT = "prompt-of-the-test> "

    def __init__(self, start: Start) -> None:
        self.fd, inner = pty.openpty()
        settings = termios.tcgetattr(inner)
        settings[3] &= ~termios.ECHO
        termios.tcsetattr(inner, termios.TCSANOW, settings)
        # Without a line editor, which would set the terminal anew at each prompt.
        self.shell = start(
            ["bash", "--norc", "--noprofile", "--noediting", "-i"],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env={**os.environ, "PS1": self.PROMPT, "HISTFILE": ""},
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(inner)
        self.expect(self.PROMPT)

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def expect(self, pattern: str) -> str:
        return read_until(self.fd, pattern)

    def command(self, line: str) -> str:
        """Types a line and returns what comes up to the next prompt."""
        self.type(line + "\n")
        return self.expect(self.PROMPT).removesuffix(self.PROMPT)


# ---- programs ----


@dataclass
class Programs:
    """Compiles what stands in programs/, once each, where every user can read it."""

    directory: Path

    def _build(self, name: str, words: list[str], **more: Any) -> Path:
        path = self.directory / name
        if not path.exists():
            done = finish([*words, "-o", str(path)], timeout=180, **more)
            assert done.returncode == 0, done.stderr
        return path

    def compiled(self, name: str, source: str, *words: str) -> Path:
        """A source file compiled by these words: a compiler and its options."""
        return self._build(name, [*words, str(SOURCES / source)])

    def c(self, name: str) -> Path:
        return self._build(name, ["gcc", "-O1", "-pthread", str(SOURCES / f"{name}.c"), "-lrt"])

    def cpp(self, name: str) -> Path:
        words = [want("g++", "g++"), "-std=c++17", "-O1", "-pthread", str(SOURCES / f"{name}.cpp")]
        return self._build(name, words)

    def static(self, name: str) -> Path:
        return self._build(
            f"{name}-static", ["gcc", "-O1", "-static", "-pthread", str(SOURCES / f"{name}.c")]
        )

    def musl(self, name: str, *, static: bool = False) -> Path:
        words = [want("musl-gcc", "musl-tools"), "-O1", *(["-static"] if static else [])]
        return self._build(f"{name}-musl{'-static' if static else ''}", [*words, str(SOURCES / f"{name}.c")])

    def i386(self, name: str) -> Path:
        words = ["gcc", "-m32", "-O1", "-nostdlib", "-static", "-fno-pie", "-no-pie", "-ffreestanding"]
        words += ["-fno-stack-protector", str(SOURCES / f"{name}.c")]
        return self._build(f"{name}-i386", words)

    def go(self, name: str, *options: str) -> Path:
        env = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GO111MODULE": "off"}
        path = self.directory / "-".join([name, "go", *(option.strip("-") for option in options)])
        if not path.exists():
            source = str(SOURCES / f"{name}.go")
            done = finish(
                [want("go", "golang-go"), "build", *options, "-o", str(path), source], timeout=180, env=env
            )
            assert done.returncode == 0, done.stderr
        return path

    def gate(self, name: str) -> dict[str, str]:
        """The environment by which that program says "ready" and waits for a line before it begins."""
        words = ["gcc", "-O1", "-shared", "-fPIC", str(SOURCES / "gate.c")]
        return {**os.environ, "LD_PRELOAD": str(self._build("gate.so", words)), "GATE": name}

    def script(self, name: str) -> Path:
        path = self.directory / name
        shutil.copyfile(SOURCES / name, path)
        path.chmod(0o644)
        return path

    def java(self, name: str) -> list[str]:
        if not (self.directory / f"{name}.class").exists():
            words = [want("javac", "default-jdk-headless"), "-d", self.directory, SOURCES / f"{name}.java"]
            done = finish(words, timeout=180)
            assert done.returncode == 0, done.stderr
        return ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", str(self.directory), name]
