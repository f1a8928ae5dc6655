"""What a program on a clock of its own may not do, and what it is warned of."""

import os
import re
from pathlib import Path

import pytest
from harness import Programs, Way

# ---- absolute deadlines ----

NAMED = {
    "pthread_cond_timedwait": "futex",
    "pthread_mutex_timedlock": "futex",
    "sem_timedwait": "futex",
    "futex-realtime": "futex",
    "clock_nanosleep": "clock_nanosleep",
    "clock_nanosleep-tai": "clock_nanosleep",
    "timerfd_settime": "timerfd_settime",
    "timer_settime": "timer_settime",
    "mq_timedreceive": "mq_timedreceive",
    "mq_timedsend": "mq_timedsend",
}
UNNAMED = [
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


@pytest.mark.parametrize("call", NAMED)
def test_a_deadline_on_the_moved_clock(way: Way, deadlines: Path, call: str) -> None:
    """One line, however often and from whichever thread; and the call does what it does."""
    done = way.run(deadlines, call)
    assert done.returncode == 0
    line = (
        rf"vdso: deadlines \(pid \d+\) waits in {NAMED[call]} for an absolute time of the moved clock, .*\n"
    )
    assert re.fullmatch(line, done.stderr)


@pytest.mark.parametrize("call", NAMED)
def test_each_program_is_told(way: Way, deadlines: Path, call: str) -> None:
    done = way.run("sh", "-c", f"{deadlines} {call}; {deadlines} {call}; exec {deadlines} {call}")
    assert done.returncode == 0
    assert done.stderr.count(f"waits in {NAMED[call]} for") == len(done.stderr.splitlines()) == 3


@pytest.mark.parametrize("call", UNNAMED)
def test_a_deadline_on_a_clock_that_stays(way: Way, deadlines: Path, call: str) -> None:
    done = way.run(deadlines, call)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("call", [*NAMED, *UNNAMED])
def test_a_deadline_without_an_offset(privileged: Way, deadlines: Path, call: str) -> None:
    done = privileged.run(deadlines, call, offset=None)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_warning_goes_where_the_errors_go(way: Way, deadlines: Path, open_directory: Path) -> None:
    """Into the file, behind what is there already, and not into the output."""
    log = open_directory / "log"
    with open(log, "w", encoding="utf-8") as stream:
        os.chmod(log, 0o666)
        script = f"echo one >&2; {deadlines} sem_timedwait; echo two >&2"
        done = way.run("sh", "-c", script, stderr=stream)
    assert (done.returncode, done.stdout) == (0, "")
    lines = log.read_text(encoding="utf-8").splitlines()
    assert [lines[0], lines[2]] == ["one", "two"]
    assert "waits in futex" in lines[1]


def test_nobody_to_warn(way: Way, deadlines: Path) -> None:
    done = way.run("sh", "-c", f"exec 2>&-; {deadlines} sem_timedwait")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
