"""Timed waits of C++, Python and Java under an offset, a freeze and a rate.

Those by a steady clock take the host's time, however the date is moved, stands still or runs; those by the
system clock end when the session's has got there.
"""

import os
import re
import select
import sys
import time

import pytest
from harness import TIMEOUT_S, Programs, Start, Way, finish, follower_of, read_until, until, want

US = 10**6
LENGTH_US = 100_000
TICK_US = 12_000  # of a clock in hundredths of a second, and a timer's slack
LATE_US = 15 * US  # on a busy machine

MOVED = {
    "behind": (["--offset", "-1000d"], 1.0),
    "fast": (["--rate", "20"], 20.0),
    "frozen": (["--freeze"], 0.0),
}


def check(text: str, rate: float, *, scaled: bool = False) -> set[str]:
    """What each line says; `scaled`: the steady clock too. The names."""
    names = set()
    for line in text.splitlines():
        name, good, reached, took_us = line.split()
        names.add(name)
        assert (good, reached) == ("1", "1"), line
        by_rate = scaled or name.startswith("system")
        # What waits in the kernel for a length of time does so by the host's, and ends late by a fast clock.
        least = LENGTH_US / rate if by_rate else LENGTH_US
        assert least - TICK_US <= int(took_us) < least + LATE_US, line
    return names


def words(rate: float) -> list[str]:
    """By the system clock too, where it goes on."""
    return ["100"] if rate else ["100", "steady"]


@pytest.mark.parametrize("how", MOVED)
def test_cpp(privileged: Way, programs: Programs, how: str) -> None:
    options, rate = MOVED[how]
    done = privileged.run(programs.cpp("wait_until"), *words(rate), offset=None, options=options)
    assert done.returncode == 0, done.stderr
    assert len(check(done.stdout, rate)) == (10 if rate else 5)


@pytest.mark.parametrize("how", MOVED)
def test_python(privileged: Way, programs: Programs, how: str) -> None:
    options, rate = MOVED[how]
    program = programs.script("waiting.py")
    done = privileged.run(sys.executable, program, "0.1", offset=None, options=options)
    assert done.returncode == 0, done.stderr
    assert {"steady-queue-get", "steady-event", "steady-asyncio-wait-for"} <= check(done.stdout, rate)


@pytest.mark.parametrize("how", MOVED)
def test_java(privileged: Way, programs: Programs, how: str) -> None:
    want("java", "default-jdk-headless")
    options, rate = MOVED[how]
    done = privileged.run(*programs.java("Waiting"), *words(rate), offset=None, options=options)
    assert done.returncode == 0, done.stderr
    assert len(check(done.stdout, rate)) == (8 if rate else 6)


def test_where_the_steady_clock_is_scaled_too(privileged: Way, programs: Programs) -> None:
    """Until a time of MONOTONIC is translated; what waits in the kernel for so long takes the host's time."""
    options = ["--rate", "20", "--clocks", "all"]
    done = privileged.run(programs.cpp("wait_until"), "100", offset=None, options=options)
    assert done.returncode == 0, done.stderr
    assert len(check(done.stdout, 20, scaled=True)) == 10
    done = privileged.run(sys.executable, programs.script("waiting.py"), "0.1", offset=None, options=options)
    assert done.returncode == 0, done.stderr
    assert "steady-queue-get" in check(done.stdout, 20, scaled=True)


def test_a_frozen_system_clock_that_gets_there(privileged: Way, start: Start, programs: Programs) -> None:
    """Each of four waits is for a minute of it, and ends by a shift. sleep_until, which comes behind them, is
    a relative sleep in GNU's library."""
    name = f"frozen-{os.getpid()}"
    command = [programs.cpp("wait_until"), "60000", "system"]
    process = start(privileged.words(*command, offset=None, options=["--session", name, "--freeze"]))
    assert process.stdout is not None
    until(lambda: follower_of(name) is not None)
    for _ in range(4):
        ready, _, _ = select.select([process.stdout], [], [], 0.1)
        assert not ready
        deadline = time.monotonic() + TIMEOUT_S
        while not ready:  # again, where it had not begun to wait
            assert time.monotonic() < deadline
            assert finish([privileged.vdso, "time", name, "--shift", "+61s"]).returncode == 0
            ready, _, _ = select.select([process.stdout], [], [], 1)
        assert re.match(r"system-\w+ 1 1 ", read_until(process.stdout.fileno(), r"\n"))
