"""Processes that are attached with --follow: a shell to look through, and their followers."""

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from harness import SOURCES, TIMEOUT_S, Start, read_until, until, without_time

PATIENCE = ["--timeout", "20"]  # a shared machine may keep a thread from stopping

Said = Callable[..., "subprocess.CompletedProcess[str]"]
Gated = Callable[..., "subprocess.Popen[str]"]


def line_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return read_until(process.stdout.fileno(), r"\n")


def tell(process: "subprocess.Popen[str]", line: str = "") -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def rest(process: "subprocess.Popen[str]") -> str:
    """What it prints up to its end; on its standard error stream, at most the line on relative sleeps."""
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert [line for line in err.splitlines() if "sleeps for a length of time" not in line] == []
    return out


class Shell:
    """A shell that takes a line at a time."""

    def __init__(self, start: Start, prefix: list[str] | None = None) -> None:
        """Without CAP_SYS_TIME, unless a prefix is given."""
        words = without_time() if prefix is None else prefix
        self.process = start([*words, "bash", "--norc", "--noprofile"])
        self.pid = self.process.pid
        self.ask("echo ready")  # it is the shell by now, and not what execs it

    def ask(self, line: str) -> str:
        tell(self.process, line)
        return line_of(self.process).strip()

    def apart(self, line: str = "date +%s") -> int:
        """What it prints in seconds, less the host's time, to the hour."""
        return round((int(self.ask(line)) - time.clock_gettime(time.CLOCK_REALTIME)) / 3600) * 3600

    def itself(self) -> int:
        """The same of its own clock."""
        return self.apart("printf '%(%s)T\\n' -1")


def followers(pid: int) -> set[int]:
    """The followers that were started for that process, their guards among them."""
    found = set()
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
            if b"--attached" in words and words[words.index(b"--attached") + 1] == b"%d" % pid:
                found.add(int(entry))
    return found


def settled(pid: int) -> set[int]:
    """The same, once those that turned out not to be needed have ended."""
    until(lambda: len(followers(pid)) <= 2, "followers are left that nobody needs")
    return followers(pid)


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def status(pid: int, key: str) -> str:
    text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    found = re.search(rf"^{key}:\s*(.*)$", text, re.MULTILINE)
    assert found is not None
    return found[1]


def refusing(what: str) -> list[str]:
    """The words that run a command where the kernel refuses something."""
    return [sys.executable, str(SOURCES / "refusing.py"), what]


def assert_refused(done: "subprocess.CompletedProcess[str]", code: int, pattern: str) -> None:
    """One line and a hint, or one without."""
    assert re.match(rf"vdso: {pattern}\n", done.stderr), done.stderr
    assert (done.returncode, done.stdout) == (code, "")
    assert len(done.stderr.splitlines()) <= 2
