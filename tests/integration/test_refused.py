"""What a program on a clock of its own is warned of, and where the line goes."""

import os
import re
import shlex
import sys
from pathlib import Path

import pytest
from harness import Programs, Way

CALLS = [
    "pthread_cond_timedwait",
    "pthread_mutex_timedlock",
    "sem_timedwait",
    "futex-realtime",
    "clock_nanosleep",
    "clock_nanosleep-tai",
    "timerfd_settime",
    "timer_settime",
    "mq_timedreceive",
    "mq_timedsend",
    "pthread_cond_timedwait-monotonic",
    "futex-monotonic",
    "clock_nanosleep-monotonic",
    "clock_nanosleep-relative",
    "timerfd_settime-monotonic",
    "timerfd_settime-relative",
    "timer_settime-monotonic",
    "timer_settime-relative",
]


@pytest.fixture
def deadlines(programs: Programs) -> Path:
    return programs.c("deadlines")


@pytest.mark.parametrize("offset", ["+1000d", None])
@pytest.mark.parametrize("call", CALLS)
def test_a_deadline_that_has_passed(way: Way, deadlines: Path, call: str, offset: str | None) -> None:
    """Three times in each of two threads: nothing waits, and nothing is said of what is translated."""
    done = way.run(deadlines, call, offset=offset)
    assert (done.returncode, done.stderr) == (0, "")


CLOSED = """
import ctypes, errno, time
libc = ctypes.CDLL(None, use_errno=True)
at = (ctypes.c_long * 2)(int(time.time()), 0)
assert libc.prctl(4, 0, 0, 0, 0) == 0  # PR_SET_DUMPABLE
for _ in range(2):
    assert libc.syscall(230, 0, 1, at, None) == 0  # clock_nanosleep: past, by the host's clock
    assert libc.syscall(201, None) > at[0] + 900 * 86400  # time
    assert libc.syscall(227, 0, at) == -1  # clock_settime
print("went on")
"""


def test_a_program_that_may_not_be_looked_into(vdso: str, unprivileged: list[str]) -> None:
    """Once it is told, by way of the shell that started it: its own standard error is closed to us too."""
    way = Way(vdso, prefix=unprivileged)
    line = shlex.join([sys.executable, "-c", CLOSED])
    done = way.run("sh", "-c", f"{line}; true", offset="-1000d", options=["--strict"])
    assert done.stdout == "went on\n", done.stderr
    assert re.fullmatch(r"vdso: \S+ \(pid \d+\) cannot be looked into \(.*\): .* host's clock\n", done.stderr)


# The one call that has no register left for the image's mark.
UNTRANSLATED = "futex-wait"
NAMED = r"vdso: deadlines \(pid \d+\) waits in futex_wait for an absolute time of the moved clock, .*\n"


def test_each_program_is_told_once(way: Way, deadlines: Path) -> None:
    """One line, however often and from whichever thread; and the call does what it does."""
    done = way.run(deadlines, UNTRANSLATED)
    assert done.returncode == 0
    assert re.fullmatch(NAMED, done.stderr)
    line = f"{deadlines} {UNTRANSLATED}"
    done = way.run("sh", "-c", f"{line}; {line}; exec {line}")
    assert done.returncode == 0
    assert len(re.findall(NAMED, done.stderr)) == len(done.stderr.splitlines()) == 3


def test_a_warning_goes_where_the_errors_go(way: Way, deadlines: Path, open_directory: Path) -> None:
    """Into the file, behind what is there already, and not into the output."""
    log = open_directory / "log"
    with open(log, "w", encoding="utf-8") as stream:
        os.chmod(log, 0o666)
        script = f"echo one >&2; {deadlines} {UNTRANSLATED}; echo two >&2"
        done = way.run("sh", "-c", script, stderr=stream)
    assert (done.returncode, done.stdout) == (0, "")
    lines = log.read_text(encoding="utf-8").splitlines()
    assert [lines[0], lines[2]] == ["one", "two"]
    assert "waits in futex_wait" in lines[1]


def test_nobody_to_warn(way: Way, deadlines: Path) -> None:
    done = way.run("sh", "-c", f"exec 2>&-; {deadlines} {UNTRANSLATED}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
