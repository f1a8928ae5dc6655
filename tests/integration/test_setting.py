"""Setting the clock inside a session sets the session's, and never the host's.

Whatever might reach the kernel is tried without CAP_SYS_TIME first: what it lets through then comes back with
EPERM. With the capability nothing is run that has not just been seen to be answered without it.
"""

import errno
import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import SOURCES, TIMEOUT_S, Programs, Start, Way, finish, holders, read_until, until, want

from vdso import _core
from vdso.clocks.session import find, open_page, sessions

THEN, THEN_S = "2001-09-09T01:46:40Z", 10**9
WITHOUT_TIME = ["setpriv", "--bounding-set=-sys_time", "--inh-caps=-all"]


def host() -> float:
    return time.clock_gettime(time.CLOCK_REALTIME) - time.clock_gettime(time.CLOCK_BOOTTIME)


@pytest.fixture(autouse=True)
def _host_stays() -> Iterator[None]:
    """Held against two clocks that nobody can set."""

    def beyond(clock: int) -> float:
        return time.clock_gettime(time.CLOCK_REALTIME) - time.clock_gettime(clock)

    before = [beyond(clock) for clock in (time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME)]
    yield
    after = [beyond(clock) for clock in (time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME)]
    assert all(abs(b - a) < 1 for a, b in zip(before, after, strict=True)), "the host's clock was set"


@pytest.fixture
def sets(programs: Programs) -> Path:
    return programs.c("set_clock")


def without_time(way: Way) -> Way:
    """The same without the capability to set any clock, for it and for what it starts."""
    if os.geteuid() != 0 or not way.becomes:  # under Yama it runs unprivileged, and may drop nothing more
        return way
    want("setpriv", "util-linux")
    return Way(way.vdso, [*way.prefix, *WITHOUT_TIME], way.becomes)


# name: what the clock says afterwards; None: what it said before
SETS = {
    "clock_settime": 1000000000,
    "settimeofday": 1100000000,
    "settimeofday,x32": 1150000000,
    "adjtimex": 1150001000,
    "clock_adjtime": 1149999000,
    "stime,i386": 1200000000,
    "settimeofday,i386": 1300000000,
    "clock_settime,i386": 1400000000,
    "clock_settime64,i386": 1500000000,
    "adjtimex,i386": 1500001000,
    "clock_adjtime,i386": 1500002000,
    "clock_adjtime64,i386": 1500003000,
}
REFUSED = {
    "nsec": errno.EINVAL,
    "negative": errno.EINVAL,
    "usec": errno.EINVAL,
    "monotonic": errno.EINVAL,
    "pointer": errno.EFAULT,
    "read-only": errno.EFAULT,
}


def answers(text: str) -> dict[str, tuple[int, int]]:
    lines = (line.split() for line in text.splitlines())
    return {name: (int(error), int(seconds)) for name, error, seconds in lines}


def assert_set(text: str) -> None:
    said = answers(text)
    for name, seconds in SETS.items():
        assert said[name][0] == 0, name
        assert abs(said[name][1] - seconds) < 20, name
    for name, error in REFUSED.items():
        assert said[name][0] == error, name
    for name in (*REFUSED, "zone", "tune", "read", "freq", "tick"):
        assert abs(said[name][1] - 1500003000) < 20, name
    assert (said["zone"][0], said["tune"][0], said["read"][0]) == (0, 0, 0)
    assert (said["freq"][0], said["tick"][0]) == (100, 10000)


def test_every_way_without_the_capability(way: Way, sets: Path) -> None:
    """What came back from the kernel would be EPERM."""
    for options in ([], ["--no-follow"]):
        for offset in (None, "+1000d"):
            done = without_time(way).run(sets, offset=offset, options=options)
            assert (done.returncode, done.stderr) == (0, "")
            assert_set(done.stdout)


def test_outside_a_session_the_kernel_refuses(sets: Path) -> None:
    """So that the test above says something."""
    done = finish([*(WITHOUT_TIME if os.geteuid() == 0 else []), sets])
    said = answers(done.stdout)
    assert {said[name][0] for name in SETS} <= {errno.EPERM, errno.ENOSYS}  # a kernel without x32
    assert said["clock_settime"][0] == errno.EPERM


@pytest.mark.usefixtures("as_root")
def test_every_way_with_the_capability(privileged: Way, sets: Path) -> None:
    assert_set(without_time(privileged).run(sets).stdout)
    done = privileged.run(sets, "keep")
    assert done.returncode == 0
    assert_set(done.stdout)


@pytest.mark.usefixtures("as_root")
def test_date_as_root(privileged: Way) -> None:
    """Also what the command execs, and what that starts in turn, shares the clock that was set."""
    script = f"date -u -s {THEN} >/dev/null && date +%s; (date +%s); exec date +%s"
    for way in (without_time(privileged), privileged):
        before = host()
        done = way.run("sh", "-c", script)
        assert (done.returncode, done.stderr) == (0, "")
        assert all(abs(int(line) - THEN_S) < 20 for line in done.stdout.split())
        assert len(done.stdout.split()) == 3
        assert abs(host() - before) < 1


def test_a_rate_and_a_freeze_stay(privileged: Way) -> None:
    way = without_time(privileged)
    done = way.run("sh", "-c", f"date -u -s {THEN} >/dev/null; date +%s%N; date +%s%N", options=["--freeze"])
    assert done.stdout.split() == [str(THEN_S * 10**9)] * 2
    done = way.run(
        sys.executable,
        "-c",
        "import time; a = time.monotonic(); time.clock_settime(0, 1e9); b = time.monotonic(); "
        "time.sleep(.05); c = time.monotonic(); now = time.time() - 1e9; "
        "print(now / (c - b), now / (time.monotonic() - a))",
        options=["--rate", "1000"],
    )
    # It was set between a and b, and read after c: however late each was, the rate lies between the two.
    at_most, at_least = map(float, done.stdout.split())
    assert at_most > 990
    assert at_least < 1010


def test_a_frequency_is_a_rate(privileged: Way) -> None:
    script = """
import ctypes, json, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
t = (ctypes.c_int64 * 26)()
t[0], t[11] = 0x4000, 11000  # ADJ_TICK: by a tenth more
print(libc.adjtimex(t), flush=True)
"""
    way = without_time(privileged)
    line = f"{sys.executable} -c '{script}'; {way.vdso} time --json"
    done = way.run("sh", "-c", line, options=["--rate", "10"])
    assert (done.returncode, done.stderr) == (0, "")
    answer, _, state = done.stdout.partition("\n")
    assert answer == "5", "not synchronised, as nobody has said otherwise"
    assert abs(json.loads(state)["rate"] - 11) < 1e-6


@pytest.mark.parametrize("keep", [[], ["keep"]])
def test_a_tsc_clock_is_its_keeper_s(privileged: Way, sets: Path, keep: list[str]) -> None:
    way = without_time(privileged)
    done = way.run(sets, *keep, clock="tsc")
    assert done.returncode == 0
    assert {answers(done.stdout)[name][0] for name in SETS} == {errno.EPERM}


def test_a_filter_below_that_refuses(privileged: Way) -> None:
    """Whoever has forbidden it to the command line has forbidden it to the command."""
    way = Way(privileged.vdso, [sys.executable, str(SOURCES / "refusing.py"), "setting"], privileged.becomes)
    before = host()
    done = without_time(way).run("sh", "-c", f"date -u -s {THEN}; date +%s")
    assert "Operation not permitted" in done.stderr
    assert abs(int(done.stdout.split()[-1]) - time.time() - 1000 * 86400) < 20
    assert abs(host() - before) < 1


def test_the_real_time_clock_is_not_set(way: Way, programs: Programs) -> None:
    """Asked of a file that has none, so that the kernel would say ENOTTY."""
    rtc = programs.c("rtc")

    def said(text: str, of: str) -> set[int]:
        lines = (line.split() for line in text.splitlines())
        return {int(error) for name, error in lines if name.split(",")[0] == of}

    plain = finish([rtc])
    assert said(plain.stdout, "set") <= {errno.ENOTTY, errno.ENOSYS}  # a kernel without x32
    for options in ([], ["--no-follow"], ["--strict", "--clocks", "all", "--rate", "2"], ["--clock", "tsc"]):
        done = way.run(rtc, options=options)
        assert (done.returncode, said(done.stdout, "set")) == (0, {errno.EPERM}), options
        assert said(done.stdout, "other") == said(plain.stdout, "other") == {errno.ENOTTY}


LEFT = """
import json, subprocess, sys, time
more = {"env": {"LC_ALL": "C", "PATH": sys.argv[3]}, "capture_output": True, "text": True}
before = time.time()
date = subprocess.run(["date", "-u", "-s", sys.argv[1]], **more)
asked = '{"modes": 0}\\n{"modes": 16, "status": 64}\\n'
tuned = subprocess.run(["python3", sys.argv[2]], **more, input=asked)
passed = time.time() - before
print(json.dumps([date.returncode, date.stderr, passed, *map(json.loads, tuned.stdout.splitlines())]))
"""


def test_a_program_that_was_left_sets_no_clock(way: Way, programs: Programs) -> None:
    """It reads the host's, which is not to be set, and not the session's."""
    words = ["python3", "-c", LEFT, THEN, programs.script("adjtimex.py"), os.environ["PATH"]]
    done = without_time(way).run(*words, options=["--no-follow"])
    assert (done.returncode, done.stderr) == (0, "")
    status, said, passed, reading, setting = json.loads(done.stdout)
    assert status == 1
    assert "Operation not permitted" in said
    assert 0 <= passed < 20, "the session's was not set"
    assert reading["ret"] >= 0
    assert abs(reading["sec"] - time.time()) < 20
    assert (setting["ret"], setting["errno"]) == (-1, errno.EPERM)


def test_joined_programs_see_it(privileged: Way, start: Start) -> None:
    name = f"set-{os.getpid()}"
    reader = start(
        privileged.words(
            "sh", "-c", "while read line; do date +%s; done", offset=None, options=["--session", name]
        )
    )
    assert reader.stdin is not None
    assert reader.stdout is not None
    reader.stdin.write("\n")
    reader.stdin.flush()
    assert abs(int(read_until(reader.stdout.fileno(), r"\n")) - time.time()) < 20
    done = without_time(privileged).run("date", "-u", "-s", THEN, offset=None, options=["--session", name])
    assert done.returncode == 0, done.stderr
    reader.stdin.write("\n")
    reader.stdin.flush()
    assert abs(int(read_until(reader.stdout.fileno(), r"\n")) - THEN_S) < 20


# ---- followers killed in the middle of it ----

# Sets the clock once it is told to, and says what came of it.
ONE_SET = f"""
import os, time
os.read(0, 1)
try:
    time.clock_settime(time.CLOCK_REALTIME, {THEN_S})
    print("set", int(time.time()), flush=True)
except OSError as error:
    print("refused", error.errno, flush=True)
"""


class Held:
    """A program whose call the follower has received and cannot answer: we write the session's page."""

    def __init__(self, way: Way, start: Start) -> None:
        self.name = f"held-{os.getpid()}-{time.monotonic_ns()}"
        words = without_time(way).words(
            sys.executable, "-u", "-c", ONE_SET, offset=None, options=["--session", self.name]
        )
        self.process = start(words)
        until(lambda: any(one.name == self.name and one.programs for one in sessions()))
        self.followers = {name: pid for pid, name in holders(self.name).items()}
        # Both are kept: the lock goes with whichever descriptor of the file is closed first.
        self.clock = open_page(find(self.name))
        self.page = _core.Page.from_fd(self.clock.fd)
        self.writer = _core.PageWriter(self.page)
        assert self.process.stdin is not None
        self.process.stdin.write("x")
        self.process.stdin.flush()
        # Its system call is clock_settime, and it sleeps in it.
        until(lambda: Path(f"/proc/{self.process.pid}/syscall").read_text().startswith("227 "))

    def answer(self) -> list[str]:
        assert self.process.stdout is not None
        return read_until(self.process.stdout.fileno(), r"\n").split()


def kill(pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    ready, _, _ = select.select([pidfd], [], [], TIMEOUT_S)
    os.close(pidfd)
    assert ready


def test_a_killed_follower_s_successor_answers(privileged: Way, start: Start) -> None:
    held = Held(privileged, start)
    kill(held.followers["vdso-follower"])
    until(lambda: len(holders(held.name)) == 2)
    held.writer.close()
    what, seconds = held.answer()
    assert what == "set"
    assert abs(int(seconds) - THEN_S) < 20


def test_with_nobody_left_it_is_refused(privileged: Way, start: Start) -> None:
    held = Held(privileged, start)
    kill(held.followers["vdso-guard"])
    kill(held.followers["vdso-follower"])
    assert held.answer() == ["refused", str(errno.ENOSYS)]
    held.writer.close()
    assert held.process.wait(TIMEOUT_S) == 0


def test_another_writer_is_waited_for(privileged: Way, start: Start) -> None:
    held = Held(privileged, start)
    held.writer.close()
    assert held.answer()[0] == "set"
