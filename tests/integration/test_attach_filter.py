"""The filter that `vdso attach --follow` puts into a process, and its follower: how long, and where not."""

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest
from following import (
    PATIENCE,
    Said,
    Shell,
    assert_refused,
    comm,
    followers,
    line_of,
    refusing,
    settled,
    status,
    tell,
)
from harness import OFFSET, OFFSET_S, TIMEOUT_S, Programs, Start, Way, finish, until, without_time

from vdso import _core
from vdso.clocks.session import sessions
from vdso.swap import attach as attaching
from vdso.swap.following import Following
from vdso.swap.run import IMAGE

NS = 10**9
FOLLOW = Following(_core.FILTER_EXEC | _core.FILTER_DEADLINES, False)


# ---- its follower ----


def test_a_follower_that_is_killed_comes_back(shell: Shell, follow: Said, detach: Said) -> None:
    follow(shell.process)
    for _ in range(3):
        first = settled(shell.pid)
        [follower] = [pid for pid in first if comm(pid) == "vdso-follower"]
        os.kill(follower, signal.SIGKILL)
        until(
            lambda old=first: len(followers(shell.pid) - old) == 1 and len(followers(shell.pid)) == 2,
            "no other",
        )
        assert shell.apart() == OFFSET_S
    detach(shell.process)
    follow(shell.process, "--offset", "-1000d")
    [follower] = [pid for pid in settled(shell.pid) if comm(pid) == "vdso-follower"]
    os.kill(follower, signal.SIGKILL)
    assert shell.apart() == -OFFSET_S, "the page that it was given later too"


def kill_followers(shell: Shell) -> None:
    """Nobody answers: execs fail with ENOSYS."""
    for pid in sorted(settled(shell.pid)):
        os.kill(pid, signal.SIGSTOP)  # so that neither replaces the other
    for pid in followers(shell.pid):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not followers(shell.pid), "they are still there")
    assert "implemented" in shell.ask("date +%s 2>&1")


def test_both_killed_and_mended(shell: Shell, follow: Said, detach: Said) -> None:
    """Attached again, it gets another filter, and a follower."""
    follow(shell.process)
    kill_followers(shell)
    detach(shell.process)
    follow(shell.process, "--offset", "-1000d")
    assert shell.apart() == -OFFSET_S
    assert status(shell.pid, "Seccomp_filters") == "2"


def test_both_killed_and_followed_again(shell: Shell, say: Said, follow: Said) -> None:
    """The same, attached as it is; with a follower that answers there is nothing to be done."""
    follow(shell.process)
    kill_followers(shell)
    words = ["attach", str(shell.pid), "--follow", *PATIENCE]
    done = say(*words)
    assert re.match(rf"attached bash .* to the session {shell.pid}, and follows it", done.stdout), done
    assert shell.itself() == shell.apart() == OFFSET_S
    assert status(shell.pid, "Seccomp_filters") == "2"
    until(lambda: len(followers(shell.pid)) == 2, "one follower and its guard")
    assert_refused(say(*words), 123, rf"process {shell.pid} \(bash\) is attached already")
    assert status(shell.pid, "Seccomp_filters") == "2"
    assert shell.itself() == shell.apart() == OFFSET_S


def test_its_name_is_free_again(shell: Shell, follow: Said, detach: Said, name: str) -> None:
    """Though its follower is there, and holds a page that nobody is on."""
    for days in (1, 2):
        follow(shell.process, "--session", name, "--offset", f"+{days}d")
        assert name in [one.name for one in sessions()]
        assert shell.apart() == days * 86400
        detach(shell.process)
        assert name not in [one.name for one in sessions()]


@pytest.mark.usefixtures("as_root")
def test_no_new_privs(say: Said, start: Start, unprivileged: list[str]) -> None:
    """Only where the process could not have a filter without: said once."""
    for prefix, needed in ((without_time(), False), (unprivileged, True)):
        shell = Shell(start, prefix=prefix)
        done = say("attach", str(shell.pid), "--offset", OFFSET, "--follow", *PATIENCE)
        assert done.returncode == 0
        assert ("setuid programs without their privilege" in done.stderr) == needed
        assert len(done.stderr.splitlines()) == needed
        assert status(shell.pid, "NoNewPrivs") == str(int(needed))
        assert shell.apart() == OFFSET_S
        assert say("detach", str(shell.pid), *PATIENCE).returncode == 0
        done = say("attach", str(shell.pid), "--offset", OFFSET, "--follow", *PATIENCE)
        assert (done.returncode, done.stderr) == (0, "")
        assert shell.apart() == OFFSET_S


def test_without_privilege(vdso: str, start: Start, unprivileged: list[str]) -> None:
    """Also attached anew, by who cannot suspend a filter, and so has to know that it does no harm."""
    shell = Shell(start, prefix=unprivileged)
    for days in (1, 2):
        words = [
            *unprivileged,
            vdso,
            "attach",
            str(shell.pid),
            "--offset",
            f"+{days}d",
            "--follow",
            *PATIENCE,
        ]
        done = finish(words)
        assert done.returncode == 0, done.stderr
        assert shell.apart() == days * 86400
        assert finish([*unprivileged, vdso, "detach", str(shell.pid), *PATIENCE]).returncode == 0
        assert shell.apart() == 0
    assert status(shell.pid, "Seccomp_filters") == "1"


# ---- where it cannot ----


@pytest.mark.usefixtures("as_root")
def test_somebody_else_s_listener(start: Start, say: Said) -> None:
    """There is one at the most. Without being followed it can be attached."""
    shell = Shell(start, prefix=[*without_time(), *refusing("listener")])
    assert_refused(
        say("attach", str(shell.pid), "--offset", OFFSET, "--follow"),
        119,
        r".* with somebody else's listener, .*",
    )
    assert shell.itself() == 0
    assert not followers(shell.pid)
    assert say("attach", str(shell.pid), "--offset", OFFSET, "--no-follow").returncode == 0
    assert shell.itself() == OFFSET_S


@pytest.mark.usefixtures("as_root")
def test_a_listener_where_it_has_to_be_followed(start: Start, say: Said) -> None:
    """It may set the host's clock, so it is not attached behind the user's back."""
    shell = Shell(start, prefix=refusing("listener"))
    done = say("attach", str(shell.pid), "--offset", OFFSET)
    assert_refused(done, 119, r".* with somebody else's listener, .*")
    assert "--no-follow lets it" in done.stderr
    assert shell.itself() == 0


def test_where_seccomp_is_refused(start: Start, vdso: str) -> None:
    """As in some containers, which who attaches is in as well: nothing is changed."""
    shell = Shell(start, prefix=[*without_time(), *refusing("seccomp")])
    words = [*without_time(), *refusing("seccomp"), vdso, "attach", str(shell.pid), "--offset", OFFSET]
    done = finish([*words, "--follow"])
    assert_refused(done, 119, r".* cannot be followed: seccomp: Operation not permitted")
    assert shell.apart() == shell.itself() == 0
    assert status(shell.pid, "Seccomp_filters") == "1"
    assert not followers(shell.pid)


def test_where_no_descriptor_can_be_taken(shell: Shell, vdso: str) -> None:
    """In a container: the process connects to a name of ours. It sends the listener as it does elsewhere."""
    for days in (1, 2):
        words = [vdso, "attach", str(shell.pid), "--offset", f"{days}d", "--follow", *PATIENCE]
        done = finish([*refusing("getfd"), *words])
        assert done.returncode == 0, done.stderr
        assert shell.apart() == days * 86400
        assert finish([*refusing("getfd"), vdso, "detach", str(shell.pid), *PATIENCE]).returncode == 0
    assert status(shell.pid, "Seccomp_filters") == "1"


@pytest.mark.usefixtures("as_root")
def test_a_filter_of_its_own(programs: Programs, start: Start, say: Said, unprivileged: list[str]) -> None:
    """One that would end it is suspended for us, and again when it is attached anew."""
    process = start([*unprivileged, programs.c("odd"), "seccomp"])
    assert line_of(process) == "ready\n"
    for days in (1000, 2000):
        done = say("attach", str(process.pid), "--offset", f"+{days}d", "--follow", *PATIENCE)
        assert done.returncode == 0, done.stderr
        assert status(process.pid, "Seccomp_filters") == "2"
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert abs(float(line_of(process).split()[1]) - time.time() - days * 86400) < TIMEOUT_S
        assert say("detach", str(process.pid), *PATIENCE).returncode == 0
    assert len(settled(process.pid)) == 2


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.usefixtures("as_root")
def test_what_another_follower_has_above_it(
    start: Start, privileged: Way, say: Said, name: str, asked: bool
) -> None:
    """A program that a `vdso run` has left on the host's clock, as it was traced: its follower takes it."""
    words = [*without_time(), *privileged.words(sys.executable, "-c", TRACER, offset="+5d")]
    outer = start(words if asked else [sys.executable, "-c", FILTERED, *words])
    inner = int(line_of(outer))
    assert status(inner, "Seccomp_filters") == str(2 - asked)
    done = say(
        "attach", str(inner), "--follow", "--session", name, "--freeze", "--at", "@1000000000", *PATIENCE
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert status(inner, "Seccomp_filters") == str(2 - asked)
    for line in ("printf '%(%s)T\\n' -1", "date +%s"):
        tell(outer, line)
        assert line_of(outer) == "1000000000\n"
    assert not followers(inner)


TRACER = """
import ctypes, os
libc = ctypes.CDLL(None)
child = os.fork()
if child == 0:
    libc.ptrace(0, 0, 0, 0)
    os.execvp("bash", ["bash", "--norc", "--noprofile"])
os.waitpid(child, 0)
libc.ptrace(17, child, 0, 0)
print(child, flush=True)
os.waitpid(child, 0)
"""
# A filter of somebody else's that does nothing: all are suspended for who attaches, and nobody is asked.
FILTERED = """
import ctypes, os, struct, sys
code = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, 0x7fff0000), 8)
program = struct.pack("=HxxxxxxQ", 1, ctypes.addressof(code))
assert ctypes.CDLL(None).prctl(22, 2, program, 0, 0) == 0
os.execvp(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.usefixtures("as_root")
def test_a_follower_above_it_that_sees_no_execs(
    start: Start, privileged: Way, vdso: str, say: Said, asked: bool
) -> None:
    """Of a `vdso run --no-follow`: nobody would follow it, whatever was said."""
    words = [*without_time(), *privileged.words("bash", "--norc", offset="+5d", options=["--no-follow"])]
    outer = start(words if asked else [sys.executable, "-c", FILTERED, *words])
    tell(outer, "bash --norc --noprofile\necho $$")
    inner = int(line_of(outer))
    done = say("attach", str(inner), "--follow", "--offset", OFFSET, *PATIENCE)
    assert_refused(done, 119, r".* cannot be followed: it is under a `vdso run --no-follow`, .*")
    assert status(inner, "Seccomp_filters") == str(2 - asked)
    tell(outer, f"{vdso} run --offset 1d -- date +%s 2>&1")
    assert line_of(outer).startswith("vdso: this is inside of a `vdso run --no-follow`, which")
    line_of(outer)
    assert say("attach", str(inner), "--no-follow", "--offset", OFFSET, *PATIENCE).returncode == 0
    tell(outer, "printf '%(%s)T\\n' -1")
    assert abs(int(line_of(outer)) - time.time() - OFFSET_S) < TIMEOUT_S


def odd(program: Programs, start: Start, how: str) -> "subprocess.Popen[str]":
    process = start([*without_time(), program.c("odd"), how])
    assert line_of(process) == "ready\n"
    return process


@pytest.mark.usefixtures("as_root")
def test_threads_with_filters_of_their_own(programs: Programs, start: Start, say: Said) -> None:
    """One has one, the other none: refused before anything is done. Each another: what is left is said."""
    for how, left in (("one-filter", False), ("two-filters", True)):
        process = odd(programs, start, how)
        threads = sorted(map(int, os.listdir(f"/proc/{process.pid}/task")))
        assert len(threads) == 2
        before = [status(tid, "Seccomp_filters") for tid in threads]
        done = say("attach", str(process.pid), "--offset", OFFSET, "--follow", *PATIENCE)
        assert_refused(
            done, 119, r".* cannot be followed: one of its threads has a seccomp filter of its own.*"
        )
        assert ("it has no_new_privs from now on" in done.stderr) == left
        assert "1" in [status(tid, "NoNewPrivs") for tid in threads] or not left
        assert left or {status(tid, "NoNewPrivs") for tid in threads} == {"0"}
        assert [status(tid, "Seccomp_filters") for tid in threads] == before
        assert not followers(process.pid)


@pytest.mark.usefixtures("as_root")
def test_a_thread_with_the_privilege(programs: Programs, start: Start, say: Said) -> None:
    """One of two has it: no_new_privs is not needed."""
    process = odd(programs, start, "one-able")
    done = say("attach", str(process.pid), "--offset", OFFSET, "--follow", *PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")
    for tid in os.listdir(f"/proc/{process.pid}/task"):
        assert (status(int(tid), "NoNewPrivs"), status(int(tid), "Seccomp_filters")) == ("0", "1")


@pytest.mark.parametrize(
    "options",
    [["--follow", "--no-follow"], ["--strict", "--no-follow"], ["--follow=yes"], ["--follow"], ["--strict"]],
)
def test_bad_input(shell: Shell, say: Said, options: list[str]) -> None:
    clock = ["--offset", "1d"] if len(options) > 1 or "=" in options[0] else []
    done = say("attach", str(shell.pid), *clock, *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("vdso: ")
    assert done.stderr.count("\n") <= 2
    assert not followers(shell.pid)


def test_refused_as_without(programs: Programs, start: Start, say: Said, privileged: Way) -> None:
    """What cannot be attached leaves no follower behind."""
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    zombie = int(line_of(start([programs.c("odd"), "zombie"])).split()[1])
    reader, writer = os.pipe()
    legacy = start([programs.i386("legacy")], stdout=subprocess.PIPE)
    swapped = start(privileged.words(programs.c("ticking")))
    line_of(swapped)
    until(lambda: comm(legacy.pid).startswith("legacy"), "it does not start")
    for pid, code in ((gone.pid, 118), (zombie, 121), (swapped.pid, 123)):
        done = say("attach", str(pid), "--offset", "1d", "--follow", "--timeout", "0")
        assert (done.returncode, done.stdout) == (code, "")
        assert len(done.stderr.splitlines()) <= 2
        until(lambda p=pid: not followers(p), "a follower is left behind")
    os.close(reader)
    os.close(writer)


# ---- what only looks as if it were on a clock of ours ----


def test_an_image_beside_the_kernel_s(start: Start, follow: Said, detach: Said, say: Said, name: str) -> None:
    """It is no session's program, and can be put on one."""
    process = start([*without_time(), sys.executable, "-c", LOCAL])
    assert line_of(process) == "ready\n"
    assert _core.clock_inode(process.pid) == 0
    follow(process, "--session", name, "--offset", OFFSET)
    tell(process)
    assert abs(float(line_of(process)) - time.time() - OFFSET_S) < TIMEOUT_S
    assert json.loads(say("time", name, "--json").stdout)["programs"] == [process.pid]
    detach(process)
    assert _core.clock_inode(process.pid) == 0


LOCAL = f"""
import sys, time
from vdso import _core
page = _core.ClockPage.create("vdso-clock:local")
page.set_offset(5, 0)
with open({IMAGE!r}, "rb") as file:
    image = _core.LocalImage(file.fileno(), page.reader_fd)
print("ready", flush=True)
for line in sys.stdin:
    print(time.time(), flush=True)
"""


# ---- for long ----


def run_rounds(programs: Programs, start: Start, rounds: int) -> None:
    """Attached and detached while 8 threads read the clock, others wait by it, and children are started."""
    process = start([*without_time(), programs.c("busy"), "8"])
    assert line_of(process) == "ready\n"
    for round_ in range(rounds):
        page = attaching.clock_page((1000 if round_ % 2 else -1000) * 86400 * NS)
        attaching.attach(process.pid, page.reader_fd, timeout_s=20, follow=FOLLOW)
        attaching.detach(process.pid, timeout_s=20)
    assert status(process.pid, "TracerPid") == "0"
    assert status(process.pid, "Seccomp_filters") == "1"
    assert len(settled(process.pid)) == 2
    tell(process)
    readings, back, waits, timeouts, bad, late, starts, failed = map(int, line_of(process).split())
    assert (back, bad, late, failed) == (0, 0, 0, 0)
    assert readings > waits > timeouts > 0
    assert starts > 0
    assert process.wait(TIMEOUT_S) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""


def test_rounds(programs: Programs, start: Start) -> None:
    run_rounds(programs, start, 25)


@pytest.mark.soak
def test_rounds_for_long(programs: Programs, start: Start) -> None:
    run_rounds(programs, start, 500)


def run_kills(shell: Shell, vdso: str, kills: int) -> None:
    """Whoever attaches is killed at any moment: the shell is attached or not, and its programs with it."""
    chance = random.Random(7)
    for _ in range(kills):
        words = [vdso, "attach", str(shell.pid), "--offset", OFFSET, "--follow", "--timeout", "0"]
        attacher = subprocess.Popen(
            words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        # It takes some 60 ms to come to it, most of them Python's.
        time.sleep(0.04 + chance.random() * 0.04)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(attacher.pid, signal.SIGKILL)
        attacher.wait()
        own = shell.itself()
        assert own in (0, OFFSET_S)
        assert shell.apart() == own
        finish([vdso, "detach", str(shell.pid), *PATIENCE])
        assert shell.apart() == 0


def test_the_attacher_is_killed(shell: Shell, vdso: str, follow: Said) -> None:
    run_kills(shell, vdso, 15)
    follow(shell.process)
    assert shell.apart() == OFFSET_S


@pytest.mark.soak
def test_the_attacher_is_killed_for_long(shell: Shell, vdso: str, follow: Said) -> None:
    run_kills(shell, vdso, 300)
    follow(shell.process)
    assert shell.apart() == OFFSET_S
