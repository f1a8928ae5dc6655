"""`vdso attach --follow`: what an attached process executes, waits for and sets.

Whatever might set the host's clock is tried without CAP_SYS_TIME first, as in test_setting.py.
"""

import errno
import json
import re
import select
import sys
import time
from collections.abc import Iterator

import pytest
from following import (
    PATIENCE,
    Gated,
    Said,
    Shell,
    assert_refused,
    comm,
    followers,
    line_of,
    rest,
    settled,
    status,
    tell,
)
from harness import OFFSET, OFFSET_S, TIMEOUT_S, Programs, Start, Way, finish, until, want, without_time

NS = 10**9
ETIMEDOUT = 110


# ---- what it executes ----


def test_a_shell_and_what_it_starts(shell: Shell, follow: Said, detach: Said) -> None:
    """On the session by fork and by exec; back with the host, and on another one, by the same follower."""
    assert shell.apart() == 0
    follow(shell.process)
    first = settled(shell.pid)
    assert len(first) == 2
    for line in (
        "date +%s",
        "printf '%(%s)T\\n' -1",
        "(date +%s)",
        "sh -c 'sh -c \"date +%s\"'",
        "exec -a x date +%s",
    ):
        if not line.startswith("exec"):
            assert shell.apart(line) == OFFSET_S, line
    assert status(shell.pid, "TracerPid") == "0"
    detach(shell.process)
    assert shell.apart() == shell.itself() == 0
    follow(shell.process, "--offset", "-1000d")
    assert shell.apart() == shell.itself() == -OFFSET_S
    assert settled(shell.pid) == first
    assert status(shell.pid, "Seccomp_filters") == "1"
    # Becomes another program itself.
    assert shell.apart("exec date +%s") == -OFFSET_S
    shell.process.wait(TIMEOUT_S)
    until(lambda: not followers(shell.pid), "the follower outlives what it follows")


def test_a_loop(shell: Shell, follow: Said, say: Said, name: str) -> None:
    """What `vdso time` says is seen by the next program."""
    follow(shell.process, "--session", name, "--at", "@1000000000", "--freeze")
    loop = "for i in 1 2 3 4 5 6 7 8; do date +%s; done | sort -u"
    assert shell.ask(loop) == "1000000000"
    for words in (["--shift", "+1h"], ["--rate", "3600", "--at", "@1000000000"]):
        assert say("time", name, *words).returncode == 0
    before = int(shell.ask("date +%s"))
    assert int(shell.ask("sleep .1; date +%s")) - before >= 360
    assert say("time", name, "--rate", "1", "--offset", "+1d").returncode == 0
    assert shell.apart() == 86400


def test_followed_later(shell: Shell, say: Said) -> None:
    """One that was attached without it; what it waits for and its clock go on as they are."""
    assert say("attach", str(shell.pid), "--offset", OFFSET, "--no-follow").returncode == 0
    assert shell.apart() == 0
    for _ in range(2):
        done = say("attach", str(shell.pid), "--follow", *PATIENCE)
        if done.returncode == 0:
            assert (done.stderr, "follows it" in done.stdout) == ("", True)
        assert shell.apart() == shell.itself() == OFFSET_S
    assert_refused(done, 123, r"process \d+ \(bash\) is attached already")
    assert_refused(
        say("attach", str(shell.pid), "--follow", "--offset", "1d"), 123, r"process .* is attached already"
    )


def test_a_child_is_followed_after_its_parent_is_detached(shell: Shell, follow: Said, detach: Said) -> None:
    """Each process for itself: by what is in it, and not by whose filter it has."""
    follow(shell.process)
    child = "(while read -r line; do date +%s >&3; done) 3>&1"
    assert shell.ask(f"coproc inner {{ {child}; }}; echo $inner_PID").isdigit()
    ask_child = "echo >&${inner[1]}; read -r -u ${inner[0]} x; echo $x"
    assert shell.apart(ask_child) == OFFSET_S
    detach(shell.process)
    assert shell.apart() == 0
    assert shell.apart(ask_child) == OFFSET_S


def test_a_parent_whose_workers_come_later(start: Start, follow: Said, say: Said, name: str) -> None:
    """It forks its workers and has them exec, as servers do that are upgraded without a stop."""
    parent = start([*without_time(), sys.executable, "-c", PARENT])
    assert line_of(parent) == "ready\n"
    assert parent.stdin is not None
    for days in (0, 1000, 2000):
        if days == 1000:
            follow(parent, "--session", name, "--offset", "+1000d")
        elif days == 2000:
            assert say("time", name, "--offset", "+2000d").returncode == 0
        parent.stdin.write("2\n")
        parent.stdin.flush()
        for _ in range(2):
            kind, seconds = line_of(parent).split()
            assert kind == "worker"
            assert abs(float(seconds) - time.time() - days * 86400) < TIMEOUT_S
    shown = json.loads(say("time", name, "--json").stdout)
    assert len(shown["programs"]) == 5, "four workers and their parent"


PARENT = r"""
import os, sys
print("ready", flush=True)
WORKER = "import os, sys, time; os.write(1, b'worker %r\\n' % time.time()); sys.stdin.read()"
keep = []
for line in sys.stdin:
    for _ in range(int(line)):
        down, up = os.pipe()
        keep.append(up)
        if os.fork() == 0:
            os.dup2(down, 0)
            os.execv(sys.executable, [sys.executable, "-c", WORKER])
        os.close(down)
"""


def test_on_a_session_that_vdso_run_began(
    shell: Shell, follow: Said, detach: Said, start: Start, privileged: Way, name: str
) -> None:
    other = start(privileged.words("cat", options=["--session", name]))
    until(lambda: comm(other.pid) == "cat", "it does not start")
    follow(shell.process, "--session", name)
    assert shell.apart() == OFFSET_S
    detach(shell.process)
    assert shell.apart() == 0
    assert other.poll() is None


def test_vdso_run_inside(shell: Shell, follow: Said, detach: Said, vdso: str) -> None:
    """The inner session wins; also when the shell has been detached, and has its filter still."""
    follow(shell.process)
    for attached in (OFFSET_S, 0):
        assert shell.apart(f"{vdso} run --offset -10d -- date +%s") == -10 * 86400
        assert shell.apart() == attached
        if attached:
            detach(shell.process)


def test_from_inside(shell: Shell, vdso: str, privileged: Way) -> None:
    """Who attaches runs on an image of ours: the follower must not take that for the kernel's."""
    words = [vdso, "attach", str(shell.pid), "--offset", OFFSET, "--follow", *PATIENCE]
    done = finish(privileged.words(*words, offset="-5d"))
    assert (done.returncode, done.stderr) == (0, "")
    assert shell.apart() == OFFSET_S


def test_attached_by_itself(shell: Shell, vdso: str) -> None:
    assert "follows it" in shell.ask(f"{vdso} attach $$ --offset {OFFSET} --follow")
    assert shell.apart() == OFFSET_S
    assert "detached" in shell.ask(f"{vdso} detach $$")
    assert "follows it" in shell.ask(f"{vdso} attach $$ --offset -10d --follow")
    assert shell.apart() == -10 * 86400


@pytest.mark.soak
def test_nothing_is_left_of_what_was_attached_by_itself(shell: Shell, vdso: str) -> None:
    """Who holds the session was started under the filter, whose follower has the page as well."""
    for days in (1, 2):
        assert "follows it" in shell.ask(f"{vdso} attach $$ --offset {days}d --follow")
        shell.ask(f"{vdso} detach $$")
    shell.process.kill()
    shell.process.wait()
    until(lambda: not followers(shell.pid), "the follower waits for what waits for it", 60)


# ---- what it waits for ----


@pytest.mark.parametrize(
    "call", ["cond", "sem", "futex", "waitv", "nanosleep", "timerfd", "timer", "queue", "pi-mutex"]
)
def test_a_deadline(call: str, gated: Gated, follow: Said) -> None:
    process = gated("until", call, "0.1")
    follow(process)
    tell(process)
    error, took, past = map(int, rest(process).split()[-3:])
    assert error in (0, ETIMEDOUT)
    assert past >= 0
    assert took < 20 * NS


@pytest.mark.parametrize("call", ["cond-monotonic", "nanosleep-boottime"])
def test_a_deadline_where_all_clocks_move(call: str, gated: Gated, follow: Said) -> None:
    process = gated("until", call, "20")
    follow(process, "--clocks", "all", "--rate", "100")
    tell(process)
    error, took, past = map(int, rest(process).split()[-3:])
    assert error in (0, ETIMEDOUT)
    assert past >= 0
    assert took < 15 * NS


@pytest.mark.parametrize("call", ["cond", "timerfd", "timer"])
def test_a_clock_that_is_changed_meanwhile(call: str, gated: Gated, follow: Said, say: Said) -> None:
    process = gated("until", call, "1000")
    follow(process)
    tell(process)
    assert line_of(process) == "waiting\n"
    assert say("time", str(process.pid), "--shift", "+2000s").returncode == 0
    error, took, past = map(int, rest(process).split()[-3:])
    assert error in (0, ETIMEDOUT)
    assert took < 500 * NS
    assert past >= 0


@pytest.mark.parametrize("call", ["cond", "nanosleep", "futex-bits", "queue", "waitv"])
def test_a_wait_that_had_begun(call: str, programs: Programs, start: Start, follow: Said, say: Said) -> None:
    """Goes by the session's clock from then on: it ends when that is past the deadline, and not before."""
    process = start([*without_time(), programs.c("until"), call, "1000"])
    assert line_of(process) == "waiting\n"
    follow(process, "--freeze")
    assert select.select([process.stdout], [], [], 0.1)[0] == []
    assert say("time", str(process.pid), "--shift", "+2000s").returncode == 0
    error, took, past = map(int, rest(process).split()[-3:])
    assert error in (0, ETIMEDOUT)
    assert took < 500 * NS
    assert past >= 0


@pytest.mark.parametrize("call", ["cond", "nanosleep", "queue"])
def test_a_wait_when_it_is_detached(call: str, gated: Gated, follow: Said, detach: Said) -> None:
    """It goes on by the host's clock, where a frozen one would never have let it end."""
    process = gated("until", call, "0.3")
    follow(process, "--freeze")
    tell(process)
    assert line_of(process) == "waiting\n"
    assert select.select([process.stdout], [], [], 0.5)[0] == [], "the clock stands still"
    detach(process)
    error, _, past = map(int, rest(process).split()[-3:])
    assert error in (0, ETIMEDOUT)
    assert past >= 0


def test_raw_calls(gated: Gated, say: Said) -> None:
    for options, moved in ((["--follow"], False), (["--strict"], True)):
        process = gated("raw_clocks")
        done = say("attach", str(process.pid), "--offset", OFFSET, *options, *PATIENCE)
        assert (done.returncode, done.stderr) == (0, "")
        tell(process)
        apart = dict(line.split() for line in rest(process).splitlines())
        for clock in ("realtime", "coarse", "tai", "gettimeofday", "time"):
            assert abs(int(apart[clock]) + (0 if moved else OFFSET_S)) < 20, clock


def test_a_filter_stays_as_it_was_put_in(shell: Shell, follow: Said, detach: Said, say: Said) -> None:
    follow(shell.process)
    detach(shell.process)
    words = ["attach", str(shell.pid), "--offset", OFFSET, "--strict", "--clocks", "all", *PATIENCE]
    done = say(*words, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["lacking"] == ["--strict", "--clocks all"]
    [line] = done.stderr.splitlines()
    assert re.fullmatch(
        r"vdso: bash \(pid \d+\) has its filter from before, .* --strict and --clocks all: .*", line
    )
    assert shell.apart() == OFFSET_S


# ---- what it sets ----


def beyond() -> list[float]:
    clocks = (time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME)
    return [time.clock_gettime(time.CLOCK_REALTIME) - time.clock_gettime(clock) for clock in clocks]


@pytest.fixture
def host_stays() -> Iterator[None]:
    """Held against two clocks that nobody can set."""
    before = beyond()
    yield
    assert all(abs(b - a) < 1 for a, b in zip(before, beyond(), strict=True)), "the host's clock was set"


SETS = {
    "clock_settime": 1000000000,
    "settimeofday": 1100000000,
    "adjtimex": 1150001000,
    "clock_adjtime": 1149999000,
}


def assert_sets(text: str) -> None:
    said = {line.split()[0]: [int(word) for word in line.split()[1:]] for line in text.splitlines()}
    for call, seconds in SETS.items():
        assert said[call][0] == 0, call
        assert abs(said[call][1] - seconds) < 20, call


@pytest.mark.usefixtures("host_stays")
def test_it_sets_the_session_s_clock(gated: Gated, follow: Said, shell: Shell, name: str) -> None:
    """Without the capability: what reached the kernel would come back with EPERM."""
    process = gated("set_clock")
    follow(process, "--session", name)
    follow(shell.process, "--session", name)
    tell(process)
    assert_sets(rest(process))
    assert abs(int(shell.ask("date +%s")) - 1500003000) < 20, "all on the session see it"
    said = shell.ask("date -u -s 2001-09-09T01:46:40Z >/dev/null && date +%s")
    assert abs(int(said) - 10**9) < 20


@pytest.mark.usefixtures("host_stays")
def test_what_cannot_be_swapped_sets_nothing(follow: Said, shell: Shell, programs: Programs) -> None:
    """The last on its session executes a 32-bit program: the kernel, which would say EINVAL, is not asked."""
    follow(shell.process)
    tell(shell.process, f"exec {programs.i386('set32')}")
    assert shell.process.wait(timeout=30) == errno.EPERM * 16 + errno.EPERM


@pytest.mark.usefixtures("as_root", "host_stays")
def test_it_never_reaches_the_host_s(gated: Gated, say: Said, start: Start, name: str) -> None:
    """With the capability it is followed unasked; only what has just been seen to be answered is tried."""
    test_it_sets_the_session_s_clock(
        gated, lambda p, *o: say("attach", str(p.pid), "--follow", *o), Shell(start), name
    )
    process = gated("set_clock", "keep", prefix=[])
    done = say("attach", str(process.pid), "--offset", OFFSET, *PATIENCE)
    assert done.returncode == 0
    assert "and follows it" in done.stdout
    [line] = done.stderr.splitlines()
    assert re.fullmatch(
        r"vdso: set_clock \(pid \d+\) may set the host's clock \(CAP_SYS_TIME\): it is followed, .*", line
    )
    assert status(process.pid, "Seccomp_filters") == "1"
    tell(process)
    assert_sets(rest(process))
    shell = Shell(start, prefix=[])
    assert say("attach", str(shell.pid), "--offset", OFFSET).returncode == 0
    assert abs(int(shell.ask("date -u -s 2001-09-09T01:46:40Z >/dev/null && date +%s")) - 10**9) < 20


@pytest.mark.usefixtures("as_root")
def test_declined(start: Start, say: Said) -> None:
    """One line each: with the capability; without it where the time is moved; none where it was asked for."""
    able, unable = Shell(start, prefix=[]), Shell(start)
    done = say("attach", str(able.pid), "--offset", OFFSET, "--no-follow")
    assert re.fullmatch(
        r"vdso: bash \(pid \d+\) may set the host's clock \(CAP_SYS_TIME\), and --no-follow lets it\n",
        done.stderr,
    )
    assert status(able.pid, "Seccomp") == "0"
    assert able.apart() == 0
    for options, lines in (([], 1), (["--no-follow"], 0)):
        done = say("attach", str(unable.pid), "--offset", OFFSET, *options)
        assert done.returncode == 0
        assert len(done.stderr.splitlines()) == lines
        assert ("absolute time" in done.stderr) == (lines == 1)
        assert status(unable.pid, "Seccomp") == "0"
        assert say("detach", str(unable.pid)).returncode == 0
    assert say("attach", str(unable.pid), "--session", f"x{unable.pid}").stderr == "", (
        "the host's time is not moved"
    )


@pytest.mark.usefixtures("as_root")
def test_in_a_user_namespace_it_cannot(start: Start, say: Said) -> None:
    """Its capabilities are over that namespace, and not over the host's clock."""
    process = start([want("unshare", "util-linux"), "-U", "-r", "sh", "-c", "echo ready; read x"])
    assert line_of(process) == "ready\n"
    assert int(status(process.pid, "CapEff"), 16) >> 25 & 1
    done = say("attach", str(process.pid), "--session", f"x{process.pid}")
    assert (done.returncode, done.stderr) == (0, "")
    assert status(process.pid, "Seccomp") == "0"


def test_detached_it_is_the_host_s_again(gated: Gated, follow: Said, detach: Said) -> None:
    """What it sets reaches the kernel, which refuses it: it has no capability."""
    process = gated("set_clock")
    follow(process)
    detach(process)
    tell(process)
    errors = {line.split()[0]: int(line.split()[1]) for line in rest(process).splitlines()}
    assert all(errors[call] == 1 for call in SETS)
