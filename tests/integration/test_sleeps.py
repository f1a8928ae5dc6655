"""Sleeps and timeouts for a length of time under a changed rate: one line, and nothing slower for it."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import TIMEOUT_S, Programs, Start, Way, finish, follower_of, read_until

SLEEPS = r"vdso: (\S+) \(pid \d+\) sleeps for a length of time: that is the host's, whatever the rate .*\n"
WAITS = r"vdso: (\S+) \(pid \d+\) waits in (\w+) with a timeout: that is the host's, whatever the rate .*\n"


@pytest.fixture
def timeouts(programs: Programs) -> Path:
    return programs.c("timeouts")


def line_of(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    return read_until(process.stderr.fileno(), r"\n")


COMMANDS = {
    "sleep": ["sleep", "30"],
    "python": [sys.executable, "-c", "import time; time.sleep(30)"],
    "perl": ["perl", "-e", "select(undef, undef, undef, 30)"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_program_that_sleeps(way: Way, start: Start, name: str) -> None:
    process = start(way.words(*COMMANDS[name], options=["--rate", "2"]))
    assert re.fullmatch(SLEEPS, line_of(process))


CALLS = {
    "nanosleep": None,
    "empty-poll": None,
    "poll": "poll",
    "ppoll": "poll|ppoll",
    "select": "select|pselect",
    "epoll_wait": "epoll_wait|epoll_pwait",
    "sigtimedwait": "sigtimedwait",
    "semtimedop": "semtimedop",
    "futex": "futex",
    "futex-until": "futex",
    "recv": "recv",
}


def test_what_a_timeout_is(privileged: Way, start: Start, timeouts: Path, open_directory: Path) -> None:
    started = {}
    for call in CALLS:
        program = open_directory / f"t-{call}"  # a name each: it is said once of a name
        if not program.exists():
            program.symlink_to(timeouts)
        started[call] = start(privileged.words(program, call, offset=None, options=["--freeze"]))
    for call, process in started.items():
        line = line_of(process)
        wanted = CALLS[call]
        match = re.fullmatch(SLEEPS if wanted is None else WAITS, line)
        assert match, (call, line)
        assert wanted is None or match[2] in wanted.split("|")


NONE = ["endless-poll", "endless-select", "endless-epoll", "endless-recv", "read", "pause", "wall-clock"]


def test_what_none_is(privileged: Way, timeouts: Path) -> None:
    done = privileged.run(timeouts, *NONE, offset=None, options=["--freeze"])
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_is_said_at_the_host_s_pace(way: Way) -> None:
    done = way.run("sleep", ".3")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_clock_that_is_scaled_with_the_rest(privileged: Way, start: Start, timeouts: Path) -> None:
    """Until a time of MONOTONIC, which this session scales: translated, and nothing to be said."""
    options = ["--rate", "0.001", "--clocks", "all"]
    process = start(privileged.words(timeouts, "futex-until", offset=None, options=options))
    time.sleep(0.4)
    process.kill()
    assert process.communicate(timeout=TIMEOUT_S)[1] == ""


def test_once_a_program(privileged: Way) -> None:
    """However many of them a script starts, and also those that it forks."""
    script = "for i in 1 2 3; do sleep .2; done; (sleep .2)& wait"
    done = privileged.run("sh", "-c", script, offset=None, options=["--rate", "3"])
    assert re.fullmatch(SLEEPS, done.stderr), done.stderr


def test_a_rate_that_comes_later(privileged: Way, start: Start, timeouts: Path) -> None:
    """To programs that run already, and that nobody has seen begin."""
    name = f"sleeps-{time.monotonic_ns()}"
    script = f"import os\nif os.fork() == 0: os.execv({str(timeouts)!r}, ['t', 'poll'])\nos.wait()"
    process = start(privileged.words(sys.executable, "-c", script, offset=None, options=["--session", name]))
    deadline = time.monotonic() + TIMEOUT_S
    while finish([privileged.vdso, "time", name, "--rate", "2"]).returncode != 0:
        assert time.monotonic() < deadline
    assert re.fullmatch(WAITS, line_of(process))


FORKED = """
import os, time
if os.fork() == 0:
    time.sleep(.5)
    open("/proc/self/comm", "w").write("forked")
    time.sleep(30)
os.wait()
"""


def test_one_that_only_forks(privileged: Way, start: Start) -> None:
    """Which no exec shows: it is found among all processes, a second after the rate has begun."""
    process = start(privileged.words(sys.executable, "-c", FORKED, offset=None, options=["--rate", "2"]))
    assert process.stderr is not None
    read_until(process.stderr.fileno(), r"vdso: forked \(pid \d+\) sleeps .*\n")


def test_no_sleep_is_slower_for_it(privileged: Way, start: Start) -> None:
    """The follower is not asked: it sleeps while the program makes thousands of them."""
    name = f"sleeps-{time.monotonic_ns()}"
    script = "import sys, time\nprint(flush=True)\nwhile True: time.sleep(1e-6)"
    options = ["--session", name, "--offset", "+1d"]
    process = start(privileged.words(sys.executable, "-c", script, offset=None, options=options))
    assert process.stdout is not None
    read_until(process.stdout.fileno(), r"\n")
    pid = follower_of(name)

    def used() -> list[str]:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
        return [line for line in lines if "ctxt_switches" in line]

    time.sleep(0.2)  # it has just seen the program begin
    before = used()
    time.sleep(0.2)
    assert used() == before
