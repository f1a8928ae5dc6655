"""Timers for an absolute time of a clock that is set, frozen, let go or given a rate meanwhile."""

import errno
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import (
    SOURCES,
    TIMEOUT_S,
    Programs,
    Start,
    Way,
    finish,
    follower_of,
    kill_follower_at,
    kill_guard,
    lacking,
    read_until,
    until,
)

from vdso.clocks.session import Adjustment, adjust, find_open

KINDS = ["descriptor", "process"]
PPOLL = "271 "  # in /proc/PID/syscall


@pytest.fixture
def program(programs: Programs) -> Path:
    return programs.c("timers")


class Timer:
    """One timer of a program on a session of its own."""

    def __init__(
        self, way: Way, start: Start, *words: str | Path, options: tuple[str, ...] = ("--freeze",)
    ) -> None:
        self.name = f"timer-{os.getpid()}-{time.monotonic_ns()}"
        self.vdso = way.vdso
        command = way.words(*words, offset=None, options=["--session", self.name, *options])
        self.process: subprocess.Popen[str] = start(command)

    def ask(self, line: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return read_until(self.process.stdout.fileno(), r"\n").strip()

    def set(self, at_s: float, interval_s: float = 0) -> None:
        assert self.ask(f"set {at_s} {interval_s}") == "0"

    def adjust(self, *words: str) -> None:
        done = finish([self.vdso, "time", self.name, *words])
        assert (done.returncode, done.stderr) == (0, "")

    def count(self, at_least: int) -> int:
        """Waits until it has expired so often, and a moment for whether it does so more often."""
        deadline = time.monotonic() + TIMEOUT_S
        count = 0
        while count < at_least:
            assert time.monotonic() < deadline, f"{count} of {at_least}"
            count += int(self.ask("count"))
        time.sleep(0.05)
        return count + int(self.ask("count"))

    def left(self) -> tuple[float, float]:
        left, interval = map(float, self.ask("left").split())
        return left, interval


@pytest.mark.parametrize("kind", KINDS)
def test_a_periodic_timer_goes_with_the_clock(
    privileged: Way, start: Start, program: Path, kind: str
) -> None:
    timer = Timer(privileged, start, program, kind)
    timer.set(5, 10)
    assert timer.count(0) == 0
    timer.adjust("--shift", "+6s")
    assert timer.count(1) == 1
    timer.adjust("--shift", "+8s")
    assert timer.count(0) == 0, "a second is left"
    timer.adjust("--shift", "+2s")
    assert timer.count(1) == 1
    timer.adjust("--shift", "+30s")
    assert timer.count(3) == 3, "three intervals at once"
    timer.adjust("--shift", "-20s")
    timer.adjust("--shift", "+20s")
    assert timer.count(0) == 0, "what has been is not again"
    timer.adjust("--rate", "100")
    assert timer.count(5) >= 5, "one in a tenth of a second"
    assert timer.left()[1] == pytest.approx(0.1)
    timer.adjust("--freeze")
    timer.count(0)
    assert timer.count(0) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_not_read_is_kept(privileged: Way, start: Start, program: Path, kind: str) -> None:
    timer = Timer(privileged, start, program, kind)
    timer.set(5, 10)
    timer.adjust("--shift", "+26s")
    while timer.left()[0] < 3600:  # until it has expired
        pass
    timer.adjust("--shift", "+10s")
    timer.adjust("--shift", "+1ms")
    wanted = 4 if kind == "descriptor" else 1  # one signal is pending, whose overruns count until it is taken
    assert timer.count(wanted) >= wanted


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_its_program_has_set_otherwise_is_left_alone(
    privileged: Way, start: Start, program: Path, kind: str
) -> None:
    for otherwise, left in (("relative 3600", 3600), ("stop", 0)):
        timer = Timer(privileged, start, program, kind)
        timer.set(5, 10)
        assert timer.ask(otherwise) == "0"
        timer.adjust("--shift", "+1000s")
        timer.adjust("--thaw")
        assert timer.count(0) == 0
        assert timer.left()[0] == pytest.approx(left, abs=TIMEOUT_S)


def test_an_exec_takes_it_away(privileged: Way, start: Start, program: Path) -> None:
    timer = Timer(privileged, start, program, "process")
    timer.set(5)
    assert timer.process.stdin is not None
    timer.process.stdin.write("exec\n")
    assert timer.left() == (0, 0)
    timer.adjust("--shift", "+10s")
    assert timer.count(0) == 0
    timer.set(5)
    timer.adjust("--shift", "+10s")
    assert timer.count(1) == 1


def require_pidfds_of_threads() -> None:
    try:
        os.close(os.pidfd_open(os.getpid(), os.O_EXCL))  # PIDFD_THREAD
    except OSError:
        lacking("this kernel has no pidfds of threads (Linux 6.9)")


def test_a_thread_with_descriptors_of_its_own(privileged: Way, start: Start, program: Path) -> None:
    require_pidfds_of_threads()
    timer = Timer(privileged, start, program, "apart")
    timer.set(5, 10)
    timer.adjust("--shift", "+16s")
    assert timer.count(2) == 2


# So many timers, half of them the process's; each must expire once the clock is an hour on.
MANY = """
import ctypes, select, signal, sys, time
libc = ctypes.CDLL(None, use_errno=True)
count = int(sys.argv[1])
class Setting(ctypes.Structure):
    _fields_ = [(name, ctypes.c_long) for name in ("every", "every_ns", "at", "at_ns")]
class Event(ctypes.Structure):
    _fields_ = [("value", ctypes.c_void_p), ("signal", ctypes.c_int), ("how", ctypes.c_int),
                ("rest", ctypes.c_int * 12)]
number = signal.SIGRTMIN
signal.pthread_sigmask(signal.SIG_BLOCK, [number])
setting = Setting(0, 0, int(time.time()) + 3600, 0)
poll = select.poll()
for i in range(count):
    fd = libc.timerfd_create(0, 0)
    assert libc.timerfd_settime(fd, 1, ctypes.byref(setting), None) == 0
    poll.register(fd, select.POLLIN)
    timer, event = ctypes.c_void_p(), Event(None, number, 0)
    assert libc.timer_create(0, ctypes.byref(event), ctypes.byref(timer)) == 0
    assert libc.timer_settime(timer, 1, ctypes.byref(setting), None) == 0
print("ready", flush=True)
for i in range(count):
    assert signal.sigtimedwait([number], 20), i
while len(poll.poll(20000)) < count:
    time.sleep(0.001)
print("all", flush=True)
"""


def test_many_of_them(privileged: Way, start: Start) -> None:
    timer = Timer(privileged, start, sys.executable, "-c", MANY, "400")
    assert timer.process.stdout is not None
    read_until(timer.process.stdout.fileno(), "ready\n")
    timer.adjust("--shift", "+2h")
    read_until(timer.process.stdout.fileno(), "all\n")


@pytest.mark.parametrize("kind", KINDS)
def test_a_clock_that_nobody_had_moved(privileged: Way, start: Start, program: Path, kind: str) -> None:
    process = start(privileged.words(program, kind, offset=None))
    timer = Timer.__new__(Timer)
    timer.name, timer.vdso, timer.process = str(process.pid), privileged.vdso, process
    timer.set(3600)
    timer.adjust("--shift", "+2h")
    assert timer.count(1) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_clock_that_all_is_scaled_with(privileged: Way, start: Start, program: Path, kind: str) -> None:
    timer = Timer(privileged, start, program, kind, "1", options=("--clocks", "all"))
    timer.set(3600)
    timer.adjust("--rate", "100000")
    assert timer.count(1) == 1


# ---- threads that are borrowed to set them ----

# call: what it answers, and its errno; SIGINT or SIGTERM ends those that have one
LENT: dict[str, tuple[int, int, int | None]] = {
    "compute": (0, 0, None),
    "read": (0, 0, None),
    "poll": (1, 0, None),
    "select": (1, 0, None),
    "epoll": (1, 0, None),
    "vfork": (0, 0, None),
    "pause": (-1, 4, signal.SIGINT),
    "sigsuspend": (-1, 4, signal.SIGINT),
    "sigwait": (0, 0, signal.SIGTERM),
    "recv": (-1, 4, signal.SIGINT),
    "nanosleep": (0, 0, None),
    "poll-timed": (0, 0, None),
}
TIMED_MS = 1500
DAY_S = 86400


class Lent:
    """A program for each of these calls, with a timer a day ahead of their session's clock."""

    def __init__(self, way: Way, start: Start, programs: Programs, calls: list[str], shifts_s: int) -> None:
        self.name = f"lent-{os.getpid()}-{time.monotonic_ns()}"
        self.began = time.monotonic()
        self.left = DAY_S - shifts_s
        program = programs.c("lent")
        self.processes = {}
        for call in calls:
            first = ["--offset", "+1d"] if not self.processes else []
            words = way.words(
                program, call, str(self.left), offset=None, options=["--session", self.name, *first]
            )
            process = self.processes[call] = start(words)
            assert process.stdout is not None
            read_until(process.stdout.fileno(), "ready\n")

    def shift(self, seconds: int) -> None:
        _, page = find_open(self.name)
        adjust(page, Adjustment(shift_ns=seconds * 10**9))

    def check(self) -> None:
        """Each call answers what it would have without us, and each timer has gone with the clock."""
        for call, process in self.processes.items():
            number = LENT[call][2]
            if number is not None:
                process.send_signal(number)
            out, err = process.communicate(timeout=TIMEOUT_S)
            assert (process.returncode, err) == (0, ""), call
            answer, error, took, left = map(int, out.split())
            assert (answer, error) == LENT[call][:2], call
            assert call not in ("nanosleep", "poll-timed") or took >= TIMED_MS - 1
            assert self.left - (time.monotonic() - self.began) - 2 < left < self.left, call


def test_whatever_a_thread_is_in(privileged: Way, start: Start, programs: Programs) -> None:
    lent = Lent(privileged, start, programs, list(LENT), 200)
    for _ in range(20):
        lent.shift(10)
    lent.check()


def test_without_privilege(unprivileged: list[str], vdso: str, start: Start, programs: Programs) -> None:
    timer = Timer(Way(vdso, unprivileged), start, programs.c("timers"), "process")
    timer.set(5, 10)
    timer.adjust("--shift", "+16s")
    assert timer.count(2) == 2


def test_where_nobody_waits_for_several_futexes(privileged: Way, start: Start, programs: Programs) -> None:
    """As before Linux 5.16, or by a container's filter that does not know the call: it is looked each second.
    Under a filter of ours and one that the follower has too, whose programs' own may not be suspended."""
    way = Way(privileged.vdso, [sys.executable, str(SOURCES / "refusing.py"), "waitv"])
    for kind in KINDS:
        timer = Timer(way, start, programs.c("timers"), kind)
        timer.set(5, 10)
        timer.adjust("--shift", "+16s")
        assert timer.count(2) == 2
    done = way.run(programs.c("until"), "sem", "0.1", offset="-1000d")
    assert done.stdout.split()[1] == str(errno.ETIMEDOUT), done.stdout


def test_under_yama(under_yama: Way, start: Start, programs: Programs) -> None:
    timer = Timer(under_yama, start, programs.c("timers"), "process")
    timer.set(5)
    timer.adjust("--shift", "+6s")
    assert timer.count(1) == 1


def test_followers_that_are_killed_over_it(privileged: Way, start: Start, programs: Programs) -> None:
    """Whatever they leave half done goes back by itself, and their successors do it again."""
    lent = Lent(privileged, start, programs, ["compute", "read", "poll", "select"], 60)
    for again in range(6):
        victim = follower_of(lent.name)
        assert victim is not None
        lent.shift(10)
        time.sleep(0.0002 * again)
        os.kill(victim, signal.SIGKILL)
        deadline = time.monotonic() + TIMEOUT_S
        while follower_of(lent.name) in (victim, None):
            assert time.monotonic() < deadline
            time.sleep(0.005)
    lent.check()


def test_followers_that_are_killed_before_they_have_waited_long(
    privileged: Way, start: Start, program: Path
) -> None:
    """What one leaves in a program is given a second to be done with, from when another first sees it."""
    timer = Timer(privileged, start, program, "process", options=("--offset", "+1d"))
    assert timer.count(0) == 0
    kill_follower_at(start, timer.name, "ptrace:11")  # while a thread is in a call for it
    assert timer.process.stdin is not None
    assert timer.process.stdout is not None
    timer.process.stdin.write("set 500 1000\n")
    timer.process.stdin.flush()
    kills = 0
    while not select.select([timer.process.stdout], [], [], 0.3)[0]:
        os.kill(until(lambda: follower_of(timer.name), "no new follower"), signal.SIGKILL)
        kills += 1
        assert kills < 20, "the timer is not set"
    assert kills > 0, "the first has left nothing"
    assert read_until(timer.process.stdout.fileno(), r"\n") == "0\n"
    timer.adjust("--shift", "+600s")
    assert timer.count(1) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_guards_that_are_killed(privileged: Way, start: Start, program: Path, kind: str) -> None:
    """The follower takes its guard's place, and who follows from then on is told of changes too."""
    # Of no rate: who looks whether anything sleeps under one is awake now and then.
    timer = Timer(privileged, start, program, kind, options=("--offset", "+1d"))
    timer.set(500, 1000)
    for _ in range(4):  # descriptors may come to have the numbers that they had, but not each time
        calls = Path(f"/proc/{kill_guard(timer.name)}/syscall")
        # What it does at its beginning is over: from now on only the clock wakes it.
        until(lambda calls=calls: calls.read_text(encoding="ascii").startswith(PPOLL), "it does not sleep")
        timer.adjust("--shift", "+1000s")
        assert timer.count(1) == 1


def test_a_leader_that_has_ended(privileged: Way, start: Start, program: Path) -> None:
    timer = Timer(privileged, start, program, "leaderless")
    timer.set(5, 10)
    timer.adjust("--shift", "+16s")
    assert timer.count(2) == 2


@pytest.mark.parametrize("kind", ["descriptor", "headless"])
def test_a_thread_that_has_set_it_and_ended(privileged: Way, start: Start, program: Path, kind: str) -> None:
    if kind == "headless":
        require_pidfds_of_threads()
    timer = Timer(privileged, start, program, kind)
    assert timer.ask("elsewhere 5 10") == "0"
    timer.adjust("--shift", "+6s")
    timer.adjust("--shift", "+10s")
    assert timer.count(2) == 2


def test_a_program_that_has_set_it_and_ended(privileged: Way, start: Start, program: Path) -> None:
    timer = Timer(privileged, start, program, "descriptor")
    timer.set(5, 10)
    timer.ask("leave")
    assert timer.process.wait(TIMEOUT_S) == 0
    timer.adjust("--shift", "+6s")
    assert timer.count(1) == 1
    timer.ask("leave")
    timer.adjust("--rate", "0.001")
    timer.adjust("--shift", "+10s")
    assert timer.count(1) == 1


# Each of these is closed where it was set, and waited for in a child, under another number.
INHERITED = """
import ctypes, os, select, sys, time
libc = ctypes.CDLL(None)
class Setting(ctypes.Structure):
    _fields_ = [(name, ctypes.c_long) for name in ("every", "every_ns", "at", "at_ns")]
timers = [libc.timerfd_create(0, 0) for _ in range(4)]
now = int(time.time())
for i, fd in enumerate(timers):
    assert libc.timerfd_settime(fd, 1, ctypes.byref(Setting(0, 0, now + 10 * (i + 1), 0)), None) == 0
if os.fork() != 0:
    os.closerange(3, 64)
    sys.stdin.read()
    sys.exit()
elsewhere = [os.dup2(fd, 40 - fd) for fd in timers]
os.closerange(3, 30)
poll = select.poll()
for fd in elsewhere:
    poll.register(fd, select.POLLIN)
print("ready", flush=True)
while elsewhere:
    for fd, _ in poll.poll():
        print(elsewhere.index(fd), flush=True)
        poll.unregister(fd)
"""


@pytest.mark.parametrize("options", [("--freeze",), ("--rate", "0.001")])
def test_who_has_inherited_it_still_waits(privileged: Way, start: Start, options: tuple[str, ...]) -> None:
    timer = Timer(privileged, start, sys.executable, "-c", INHERITED, options=options)
    assert timer.process.stdout is not None
    read_until(timer.process.stdout.fileno(), "ready\n")
    for i in range(4):
        timer.adjust("--shift", "+10s")
        assert read_until(timer.process.stdout.fileno(), "\n") == f"{i}\n"


def test_those_that_are_deleted_are_forgotten(privileged: Way, start: Start, program: Path) -> None:
    """They are deleted without a word to us; as many as these would leave no room for others."""
    process = start(privileged.words(program, "process", offset=None))
    timer = Timer.__new__(Timer)
    timer.name, timer.vdso, timer.process = str(process.pid), privileged.vdso, process
    timer.set(3600, 3600)
    assert timer.ask("churn 17000") == "17000"
    timer.adjust("--shift", "+61m")
    assert timer.count(1) == 1
    timer.set(3600)
    timer.adjust("--shift", "+61m")
    assert timer.count(1) == 1
    assert process.communicate(timeout=TIMEOUT_S)[1] == ""


# Timers are set by the moved clock and then by none, over and over, while that clock is changed.
OTHERWISE = """
import ctypes, signal, sys, threading, time
libc = ctypes.CDLL(None)
class Setting(ctypes.Structure):
    _fields_ = [(name, ctypes.c_long) for name in ("every", "every_ns", "at", "at_ns")]
class Event(ctypes.Structure):
    _fields_ = [("value", ctypes.c_void_p), ("signal", ctypes.c_int), ("how", ctypes.c_int),
                ("rest", ctypes.c_int * 12)]
def make():
    if sys.argv[1] == "descriptor":
        return libc.timerfd_create(0, 0)
    timer, event = ctypes.c_void_p(), Event(None, 0, 1)
    assert libc.timer_create(0, ctypes.byref(event), ctypes.byref(timer)) == 0
    return timer
settime, gettime = {"descriptor": (libc.timerfd_settime, libc.timerfd_gettime),
                    "process": (libc.timer_settime, libc.timer_gettime)}[sys.argv[1]]
timers = [make() for _ in range(20)]
threading.Thread(target=signal.pause, daemon=True).start()
left, hour = Setting(), ctypes.byref(Setting(0, 0, 3600, 0))
print("ready", flush=True)
until, pause = time.monotonic() + float(sys.argv[2]), 0.0
while time.monotonic() < until:
    day = ctypes.byref(Setting(0, 0, int(time.time()) + 86400, 0))
    for timer in timers:
        settime(timer, 1, day, None)
    pause = (pause + 0.00007) % 0.002
    time.sleep(pause)
    for timer in timers:
        settime(timer, 0, hour, None)
    time.sleep(0.002)
    patience = time.monotonic() + 2
    for timer in timers:
        while gettime(timer, ctypes.byref(left)) != 0 or not 3500 < left.at <= 3600:
            assert time.monotonic() < patience, left.at
            time.sleep(0.001)
print("all", flush=True)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_its_program_sets_otherwise_meanwhile(privileged: Way, start: Start, kind: str) -> None:
    timer = Timer(privileged, start, sys.executable, "-c", OTHERWISE, kind, "2", options=("--offset", "+1d"))
    assert timer.process.stdout is not None
    said = read_until(timer.process.stdout.fileno(), "ready\n")
    _, page = find_open(timer.name)
    while timer.process.poll() is None:
        adjust(page, Adjustment(shift_ns=10**6))
        time.sleep(0.0005)
    out, err = timer.process.communicate(timeout=TIMEOUT_S)
    assert (said, out, err) == ("ready\n", "all\n", "")


@pytest.mark.parametrize(("timers", "threads", "children"), [(4000, 6, 0), (200, 1, 150)])
def test_threads_and_children_that_set_timers_meanwhile(
    privileged: Way, start: Start, programs: Programs, timers: int, threads: int, children: int
) -> None:
    """Threads that are lent queue for one place for their code, and a child has a copy of what is there."""
    words = [programs.c("setters"), str(timers), str(threads), str(children)]
    timer = Timer(privileged, start, *words, options=("--offset", "+1d"))
    assert timer.process.stdout is not None
    assert timer.process.stdin is not None
    read_until(timer.process.stdout.fileno(), "ready\n")
    for _ in range(10 if children else 1):
        timer.adjust("--shift", "+1000s")
    timer.process.stdin.write("1000\n")
    timer.process.stdin.flush()
    assert read_until(timer.process.stdout.fileno(), "\n").startswith("all ")


@pytest.mark.parametrize("kind", KINDS)
def test_the_follower_sleeps_until_the_clock_changes(
    privileged: Way, start: Start, program: Path, kind: str
) -> None:
    timer = Timer(privileged, start, program, kind, options=("--offset", "+1d"))
    timer.set(500, 1000)
    timer.adjust("--shift", "+600s")
    assert timer.count(1) == 1
    pid = follower_of(timer.name)

    def switches() -> list[str]:
        threads = Path(f"/proc/{pid}/task").glob("*/status")
        lines = [line for file in sorted(threads) for line in file.read_text(encoding="ascii").splitlines()]
        return [line for line in lines if "ctxt_switches" in line]

    before = switches()
    time.sleep(0.5)
    assert switches() == before
    timer.adjust("--shift", "+1000s")
    assert timer.count(1) == 1
