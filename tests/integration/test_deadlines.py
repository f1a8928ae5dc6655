"""Deadlines on the session's clock: a wait ends when that clock gets there, however it is moved meanwhile."""

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import TIMEOUT_S, Programs, Start, Way, finish, follower_of, holders, read_until

NS = 10**9
EINTR, EAGAIN, ETIMEDOUT = 4, 11, 110

# call: what comes of it when the time has come
WAITS = {
    "cond": ETIMEDOUT,
    "mutex": ETIMEDOUT,
    "pi-mutex": ETIMEDOUT,
    "sem": ETIMEDOUT,
    "futex": ETIMEDOUT,
    "futex-bits": ETIMEDOUT,
    "waitv": ETIMEDOUT,
    "nanosleep": 0,
    "nanosleep-tai": 0,
    "timerfd": 0,
    "timer": 0,
    "queue": ETIMEDOUT,
}
OWN = {
    "cond-monotonic": ETIMEDOUT,
    "nanosleep-monotonic": 0,
    "nanosleep-boottime": 0,
    "timerfd-monotonic": 0,
    "timerfd-boottime": 0,
    "timer-monotonic": 0,
    "sem": ETIMEDOUT,
    "nanosleep": 0,
}
LAG_NS = 20_000_000  # of a coarse timer on a busy machine, beyond what a test waits for


@pytest.fixture
def until(programs: Programs) -> Path:
    return programs.c("until")


def said(done: "subprocess.CompletedProcess[str]") -> list[str]:
    """Its errors, but for the line on relative sleeps, which some of these programs make besides."""
    return [line for line in done.stderr.splitlines() if "whatever the rate of the clock" not in line]


def outcome(text: str) -> tuple[int, int, int]:
    """(errno, the host's ns that it took, ns past the deadline)."""
    error, took, past = text.split()[-3:]
    return int(error), int(took), int(past)


@pytest.mark.parametrize("call", WAITS)
@pytest.mark.parametrize(
    ("options", "rate"),
    [
        (["--offset", "+1000d"], 1),
        (["--offset", "-1000d"], 1),
        (["--rate", "20"], 20),
        (["--rate", "0.5"], 0.5),
    ],
    ids=["ahead", "behind", "fast", "slow"],
)
def test_it_ends_when_the_clock_gets_there(
    privileged: Way, until: Path, call: str, options: list[str], rate: float
) -> None:
    seconds = 0.1
    done = privileged.run(until, call, str(seconds * min(rate, 2)), offset=None, options=options)
    assert (done.returncode, said(done)) == (0, [])
    error, took, past = outcome(done.stdout)
    assert error == WAITS[call]
    assert past >= 0, "not before"
    assert took >= seconds * min(rate, 2) / rate * NS - LAG_NS
    assert took < TIMEOUT_S * NS / 2, "and not much later: in real time as plain"


@pytest.mark.parametrize("call", OWN)
def test_with_all_clocks(privileged: Way, until: Path, call: str) -> None:
    options = ["--clocks", "all", "--rate", "600"]
    done = privileged.run(until, call, "60", offset=None, options=options)
    assert (done.returncode, done.stderr) == (0, "")
    error, took, past = outcome(done.stdout)
    assert error == OWN[call]
    assert past >= 0
    assert took < 10 * NS, "60 s of the clock, a tenth of one of the host's"


@pytest.mark.parametrize(
    "options", [["--offset", "+1000d"], ["--rate", "2"], ["--rate", "1e5"], ["--freeze"]]
)
def test_what_a_timer_has_missed(privileged: Way, programs: Programs, options: list[str]) -> None:
    """As many intervals as the clock is past its beginning; not those of all the years since 1970."""
    done = privileged.run(programs.c("missed"), offset=None, options=options)
    assert (done.returncode, said(done)) == (0, [])
    counts = dict(line.split() for line in done.stdout.splitlines())
    most = 30 if options[-1] != "1e5" else 10**7  # a clock that is seconds further on by then
    assert 10 <= int(counts["timerfd"]) <= most
    assert 10 <= int(counts["timer"]) <= most


def test_a_timer_that_goes_on_when_its_clock_is_changed(
    privileged: Way, start: Start, programs: Programs
) -> None:
    """Its next time is the clock's next time for it: neither the past again, nor the years since 1970."""
    again = Waiting(privileged, start, programs.c("missed"), "again", "--rate", "1", says=r"again \d+\n")

    def counts(lines: int) -> list[int]:
        text = read_until(again.out, r"(again \d+\n)" + f"{{{lines}}}")
        return [int(word) for word in text.split() if word != "again"]

    few = 50  # by a machine that was busy meanwhile; since it began it has been some
    hour = 36_000
    for words in (["--rate", "20"], ["--rate", "0.5"], ["--rate", "1"]):
        again.adjust(*words)
        assert max(counts(5)) < few, words
    again.adjust("--freeze")
    while not again.still_waits():
        assert max(counts(1)) < few
    again.adjust("--thaw")
    assert max(counts(5)) < few
    again.adjust("--shift", "+1h")
    assert [count for count in counts(5) if count >= few] == [pytest.approx(hour, abs=few)]
    again.adjust("--shift", "-1h")
    while not again.still_waits():
        assert max(counts(1)) < few
    again.adjust("--shift", "+1h")
    assert max(counts(5)) < few


def test_under_yama(under_yama: Way, until: Path) -> None:
    for call in ("cond", "nanosleep", "timerfd", "queue"):
        done = under_yama.run(until, call, "0.1", offset="-1000d")
        assert (done.returncode, done.stderr) == (0, "")
        assert outcome(done.stdout)[0] == WAITS[call]
        assert outcome(done.stdout)[2] >= 0


@pytest.mark.parametrize("call", ["woken", "cancel", "interrupted", "futex-differs"])
def test_what_else_ends_a_wait(privileged: Way, until: Path, call: str) -> None:
    """A post, a cancellation, a signal (both unwind), a word that is another already."""
    wanted = {"interrupted": EINTR, "futex-differs": EAGAIN}.get(call, 0)
    for options in (["--offset", "+1000d"], ["--rate", "0.001"], ["--freeze"]):
        done = privileged.run(until, call, "30", offset=None, options=options)
        assert (done.returncode, said(done)) == (0, [])
        assert outcome(done.stdout)[0] == wanted
        assert outcome(done.stdout)[1] < 20 * NS


class Waiting:
    """A program in a wait for some seconds of a frozen session's clock."""

    def __init__(
        self, way: Way, start: Start, until: Path, call: str, *options: str, says: str = "waiting\n"
    ) -> None:
        self.name = f"wait-{os.getpid()}-{time.monotonic_ns()}"
        self.way = way
        words = ["--session", self.name, *(options or ["--freeze"])]
        self.process = start(way.words(until, call, "5", offset=None, options=words))
        assert self.process.stdout is not None
        self.out = self.process.stdout.fileno()
        read_until(self.out, says)

    def adjust(self, *words: str) -> None:
        done = finish([self.way.vdso, "time", self.name, *words])
        assert (done.returncode, done.stderr) == (0, "")

    def still_waits(self) -> bool:
        ready, _, _ = select.select([self.out], [], [], 0.15)
        return not ready

    def outcome(self) -> tuple[int, int, int]:
        return outcome(read_until(self.out, r"\n"))


ADJUSTED = list(WAITS)


@pytest.mark.parametrize("call", ADJUSTED)
def test_a_freeze_makes_it_wait_and_a_set_wakes_it(
    privileged: Way, start: Start, until: Path, call: str
) -> None:
    waiting = Waiting(privileged, start, until, call)
    assert waiting.still_waits()
    waiting.adjust("--shift", "+4s")
    assert waiting.still_waits(), "a second is left"
    waiting.adjust("--shift", "+2s")
    error, _, past = waiting.outcome()
    assert (error, past) == (WAITS[call], NS), "a second past it, to the nanosecond"


@pytest.mark.parametrize("call", ADJUSTED)
def test_a_thaw_and_a_rate(privileged: Way, start: Start, until: Path, call: str) -> None:
    waiting = Waiting(privileged, start, until, call)
    assert waiting.still_waits()
    waiting.adjust("--rate", "0.01")
    assert waiting.still_waits(), "that takes minutes"
    waiting.adjust("--rate", "100")
    error, took, past = waiting.outcome()
    assert error == WAITS[call]
    assert past >= 0
    assert took < 20 * NS


@pytest.mark.parametrize("call", ["cond", "nanosleep", "queue"])
def test_a_clock_that_nobody_had_moved(privileged: Way, start: Start, until: Path, call: str) -> None:
    process = start(privileged.words(until, call, "3600", offset=None))
    waiting = Waiting.__new__(Waiting)
    waiting.way, waiting.name, waiting.process = privileged, str(process.pid), process
    assert process.stdout is not None
    waiting.out = process.stdout.fileno()
    read_until(waiting.out, "waiting\n")
    assert waiting.still_waits()
    waiting.adjust("--shift", "+2h")
    error, _, past = waiting.outcome()
    assert (error, past > 0) == (WAITS[call], True)


def test_a_freeze_stops_a_wait_that_runs(privileged: Way, start: Start, until: Path) -> None:
    waiting = Waiting(privileged, start, until, "sem", "--rate", "1")
    waiting.adjust("--freeze")
    waiting.adjust("--shift", "+2s")
    assert waiting.still_waits()
    waiting.adjust("--thaw")
    assert waiting.outcome()[0] == ETIMEDOUT


def test_a_clock_that_is_set_inside_wakes_it(privileged: Way, start: Start, until: Path) -> None:
    waiting = Waiting(privileged, start, until, "cond", "--at", "2001-01-01", "--freeze")
    done = privileged.run(
        sys.executable,
        "-c",
        "import time; time.clock_settime(0, 1e9)",
        offset=None,
        options=["--session", waiting.name],
    )
    assert done.returncode == 0, done.stderr
    assert waiting.outcome()[0] == ETIMEDOUT


# ---- many, and followers that are killed ----

THREADS = """
import os, sys, threading, time, ctypes
libc = ctypes.CDLL(None, use_errno=True)
class Timespec(ctypes.Structure):
    _fields_ = [("sec", ctypes.c_long), ("nsec", ctypes.c_long)]
def wait(index, wrong):
    semaphore = (ctypes.c_long * 8)()
    libc.sem_init(semaphore, 0, 0)
    for _ in range(int(sys.argv[1])):
        at = time.time_ns() + 3_000_000
        spec = Timespec(at // 10**9, at % 10**9)
        ret = libc.sem_timedwait(semaphore, ctypes.byref(spec))
        if ret != -1 or ctypes.get_errno() != 110 or time.time_ns() < at:
            wrong.append((index, ret, ctypes.get_errno(), time.time_ns() - at))
wrong = []
threads = [threading.Thread(target=wait, args=(i, wrong)) for i in range(8)]
print("begun", flush=True)
for t in threads: t.start()
if len(sys.argv) > 2:
    os.execvp(sys.argv[2], sys.argv[2:])
for t in threads: t.join()
print(wrong, flush=True)
"""


def test_eight_threads_at_once(privileged: Way) -> None:
    done = privileged.run(sys.executable, "-c", THREADS, "20", offset="-1000d")
    assert (done.returncode, done.stdout, done.stderr) == (0, "begun\n[]\n", "")


def test_an_exec_beside_waits(privileged: Way) -> None:
    """A thread in its exec has locks that holding a sibling would wait for."""
    for _ in range(10):
        done = privileged.run(sys.executable, "-c", THREADS, "1000", "date", "+%Y")
        assert done.returncode == 0, done.stderr
        assert int(done.stdout.split()[-1]) > time.gmtime().tm_year


def test_followers_killed_over_waits(privileged: Way, start: Start) -> None:
    name = f"killed-{os.getpid()}"
    process = start(
        privileged.words(sys.executable, "-c", THREADS, "100", offset="-1000d", options=["--session", name])
    )
    assert process.stdout is not None
    read_until(process.stdout.fileno(), "begun\n")
    killed = 0
    for _ in range(5):
        victim = follower_of(name)
        if victim is None or len(holders(name)) < 2:
            continue
        os.kill(victim, signal.SIGKILL)
        killed += 1
        deadline = time.monotonic() + TIMEOUT_S
        while follower_of(name) in (victim, None) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert (out, err) == ("[]\n", "")
    assert killed
