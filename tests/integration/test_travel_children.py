"""vdso.travel(): children by fork, of Python's and of C's, and what they exec."""

import contextlib
import ctypes
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from apart import apart, in_child, succeeded
from harness import finish
from home import T_2030, at_home

import vdso
from vdso.swap import attach as attaching


@apart
def test_a_forked_child_has_a_clock_of_its_own() -> None:
    read, write = os.pipe()

    def wander() -> None:
        assert time.time() == 100  # as it was at the fork
        with vdso.freeze(5):
            assert time.time() == 5
            assert succeeded(in_child(wander_on))
            assert time.time() == 5
            os.read(read, 1)  # the parent has gone elsewhere
            assert time.time() == 5
        assert time.time() == 100
        clock.shift(11)
        assert time.time() == 111

    with vdso.freeze(100) as clock:
        children = [in_child(wander) for _ in range(3)]
        clock.shift(50)
        with vdso.freeze(9):
            os.write(write, b"...")
            assert [succeeded(child) for child in children] == [True] * 3
            assert time.time() == 9
        assert time.time() == 150
    assert at_home()
    assert succeeded(in_child(wander_from_home))


def wander_on() -> None:
    with vdso.freeze(6):
        assert time.time() == 6


def wander_from_home() -> None:
    assert at_home()
    with vdso.freeze(3):
        assert time.time() == 3
    assert at_home()


@apart
def test_a_child_that_c_has_forked_travels_too() -> None:
    fork = ctypes.PyDLL(None).fork  # none of Python's at-fork handlers runs

    def forks(body: Callable[[], object]) -> bool:
        pid: int = fork()
        if pid == 0:
            status = 1
            try:
                body()
                status = 0
            finally:
                os._exit(status)
        return succeeded(pid)

    def travels() -> None:
        with vdso.freeze(9):
            assert time.time() == 9
        assert time.time() == 5

    def goes_on() -> None:
        clock.shift(6)
        assert time.time() == 11

    with vdso.freeze(5) as clock:
        assert forks(travels)
        assert forks(goes_on)
        assert time.time() == 5
    assert at_home()


@apart
def test_a_child_that_c_has_forked_takes_its_own_along() -> None:
    fork = ctypes.PyDLL(None).fork
    with vdso.travel("2030-06-01", children=True):
        pid: int = fork()
        if pid == 0:
            years = []
            with contextlib.suppress(BaseException):
                years.append(year_of_another())
                with vdso.travel("2040-06-01", children=True):
                    years.append(year_of_another())
                years.append(year_of_another())
            os._exit(0 if years == [2030, 2040, 2030] else 1)
        assert succeeded(pid)
        assert year_of_another() == 2030


@apart
def test_what_is_execd_travels_too_after_a_detachment() -> None:
    with vdso.travel("2030-06-01", children=True):
        attaching.detach(os.getpid())
        with vdso.travel("2040-06-01", children=True):
            assert year_of_another() == 2040
        assert year_of_another() == 2030


@apart
def test_what_is_execd_is_on_the_hosts_clock() -> None:
    words = [sys.executable, "-c", "import time; print(time.time())"]
    with vdso.travel("2030-01-01"):
        assert float(finish(words).stdout) < T_2030


def year_of_another() -> int:
    """A program's, started by a program of ours."""
    return int(finish(["sh", "-c", "date -u +%Y; :"]).stdout)


def waiting() -> "subprocess.Popen[str]":
    """A program that tells the year when it is told to."""
    return subprocess.Popen(
        ["sh", "-c", "read word; date -u +%Y"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@apart
def test_what_is_execd_travels_too_if_told() -> None:
    this = year_of_another()
    before = waiting()
    journey = vdso.travel("2030-06-01", children=True)
    clock = journey.start()
    assert year_of_another() == 2030
    inside, until_after = waiting(), waiting()
    clock.at("2040-06-01")
    assert year_of_another() == 2040
    assert inside.communicate("go\n")[0] == "2040\n"
    assert succeeded(in_child(on_its_own))
    clock.freeze()
    with vdso.travel("2050-06-01"):
        assert year_of_another() == 2050
    years: list[int] = []
    thread = threading.Thread(target=lambda: years.append(year_of_another()))
    thread.start()
    thread.join()
    assert years == [2040]
    journey.stop()
    assert year_of_another() == this
    assert until_after.communicate("go\n")[0] == f"{this}\n"
    assert before.communicate("go\n")[0] == f"{this}\n"


def on_its_own() -> None:
    assert year_of_another() == 2040
    with vdso.travel("2060-06-01"):
        assert year_of_another() == 2040  # it has not been told to take them along
    with vdso.travel("2070-06-01", children=True):
        assert year_of_another() == 2070
    assert year_of_another() == 2040


@apart
def test_children_where_there_can_be_no_filter(programs: Any) -> None:
    program = """
import time, vdso
try:
    vdso.travel("2030-01-01", children=True).start()
except vdso.errors.ChildrenNotFollowed as error:
    assert "seccomp" in error.hint
assert time.gmtime().tm_year < 2030
with vdso.travel("2030-01-01"):
    assert time.gmtime().tm_year == 2030
assert time.gmtime().tm_year < 2030
"""
    done = finish([sys.executable, programs.script("refusing.py"), "seccomp", sys.executable, "-c", program])
    assert (done.returncode, done.stderr) == (0, "")


def test_children_of_a_session(vdso: str) -> None:
    program = "import vdso; vdso.travel(0, children=True).start()"
    done = finish([vdso, "run", "--offset", "+1d", "--", sys.executable, "-c", program])
    assert "is on a session, and so is what it execs" in done.stderr
