"""Attached processes on sessions: the same clock as for those that `vdso run` starts, found alike."""

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import TIMEOUT_S, Programs, Start, Way, finish, read_until, without_time

DAY_NS = 86400 * 10**9
AT, AT_S = "2030-01-01T00:00:00Z", 1893456000
PATIENCE = ["--timeout", "20"]  # a shared machine may keep a thread from stopping

Begin = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(start: Start) -> Start:
    """What cannot set the host's clock, and so is attached without being followed."""
    return lambda words, **more: start([*without_time(), *words], **more)


Said = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def begin(programs: Programs, start: Start) -> Begin:
    """Starts the program that prints its clocks, with that many threads that read them flat out."""

    def run(threads: int = 0, **more: Any) -> "subprocess.Popen[str]":
        process = start([programs.c("hot"), str(threads)], **more)
        assert line_of(process) == "ready\n"
        return process

    return run


@pytest.fixture
def attach(say: Said) -> Said:
    """Attaches, and says nothing on the standard error stream."""

    def run(process: "subprocess.Popen[str]", *options: str) -> "subprocess.CompletedProcess[str]":
        done = say("attach", str(process.pid), "--no-follow", *options, *PATIENCE)
        assert (done.returncode, done.stderr) == (0, "")
        return done

    return run


@pytest.fixture
def adjust(say: Said) -> Callable[..., None]:
    def run(*words: str) -> None:
        done = say("time", *words)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    return run


def line_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return read_until(process.stdout.fileno(), r"\n")


def ask(process: "subprocess.Popen[str]", what: str = "") -> list[int]:
    """[REALTIME, MONOTONIC, readings that went back, readings], times in ns."""
    assert process.stdin is not None
    process.stdin.write(what + "\n")
    process.stdin.flush()
    return list(map(int, line_of(process).split()))


def apart(process: "subprocess.Popen[str]") -> int:
    """Its REALTIME less the host's, in ns; the two are read one after the other."""
    return ask(process)[0] - time.clock_gettime_ns(time.CLOCK_REALTIME)


def near(value: int, wanted: int, within: int = 10**9) -> bool:
    return abs(value - wanted) < within


def state(say: Said, name: str) -> dict[str, Any]:
    done = say("time", name, "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert isinstance(shown, dict)
    return shown


def is_there(say: Said, name: str) -> bool:
    return any(one["name"] == name for one in json.loads(say("sessions", "--json").stdout))


def holders(name: str) -> set[int]:
    """Who holds the page for attached processes."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            comm = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
            if comm == "vdso-session" and any(
                os.readlink(f"/proc/{pid}/fd/{fd}").startswith(f"/memfd:vdso-clock:{name} ")
                for fd in os.listdir(f"/proc/{pid}/fd")
            ):
                found.add(int(pid))
    return found


def await_end(pid: int, limit_s: float = TIMEOUT_S) -> None:
    with contextlib.suppress(ProcessLookupError):
        fd = os.pidfd_open(pid)
        ended, _, _ = select.select([fd], [], [], limit_s)
        os.close(fd)
        assert ended, f"process {pid} does not end"


# ---- its clock ----


@pytest.mark.parametrize("clocks", ["wall", "all"])
def test_rate_freeze_and_thaw(
    begin: Begin, say: Said, attach: Said, adjust: Callable[..., None], name: str, clocks: str
) -> None:
    """Under threads that read flat out: nothing is torn, and nothing steps back."""
    process = begin(4)
    attach(process, "--session", name, "--rate", "1000", "--clocks", clocks)
    shown = state(say, name)
    assert (shown["rate"], shown["clocks"], shown["programs"]) == (1000, clocks, [process.pid])
    before = ask(process)
    host = time.monotonic_ns()
    while time.monotonic_ns() - host < 20_000_000:
        pass
    after = ask(process)
    assert after[0] - before[0] > 20 * 10**9, "20 ms are 20 s"
    assert (after[1] - before[1] > 20 * 10**9) == (clocks == "all")
    for _ in range(10):
        adjust(name, "--rate", "1")
        adjust(name, "--rate", "1000")
    adjust(name, "--freeze")
    stands = ask(process)
    again = ask(process)
    assert again[0] == stands[0] == state(say, name)["realtime_ns"] > after[0]
    assert (again[1] == stands[1]) == (clocks == "all")
    adjust(name, "--thaw")
    assert ask(process)[0] > stands[0]
    assert ask(process)[2] == 0, "a reading went back"
    assert ask(process)[3] > 1000
    adjust(name, "--at", AT, "--freeze")
    assert ask(process)[0] == AT_S * 10**9
    assert process.poll() is None


def test_frozen_from_the_outset(begin: Begin, attach: Said) -> None:
    process = begin()
    attach(process, "--freeze", "--at", AT)
    assert ask(process)[0] == ask(process)[0] == AT_S * 10**9


def test_without_a_name_it_goes_by_the_process_id(
    begin: Begin, say: Said, attach: Said, adjust: Callable[..., None]
) -> None:
    process = begin()
    done = attach(process, "--offset", "+1000d")
    assert re.fullmatch(r"attached hot \(pid \d+\); it stood still for [\d.]+ ms\n", done.stdout)
    assert near(apart(process), 1000 * DAY_NS)
    adjust(str(process.pid), "--shift", "-1d")
    assert near(apart(process), 999 * DAY_NS)
    assert str(process.pid) in say("sessions").stdout
    adjust(str(process.pid), "--reset")
    assert near(apart(process), 0)


def test_what_is_said(begin: Begin, attach: Said, name: str) -> None:
    one, two = begin(), begin()
    done = attach(one, "--session", name)
    where = f"to the session {name}; it stood"
    assert re.fullmatch(rf"attached hot \(pid {one.pid}\) {where} still for [\d.]+ ms\n", done.stdout)
    assert near(apart(one), 0), "a session begins at the host's time"
    said = json.loads(attach(two, "--session", name, "--json").stdout)
    assert (said["session"], said["pid"], said["name"], said["threads"]) == (name, two.pid, "hot", 1)


# ---- one clock for several ----


def test_two_on_one_session(
    begin: Begin, say: Said, attach: Said, adjust: Callable[..., None], name: str
) -> None:
    one, two = begin(), begin()
    attach(one, "--session", name, "--offset", "+10d")
    attach(two, "--session", name)
    assert near(apart(two), 10 * DAY_NS)
    adjust(name, "--offset", "+20d", "--freeze")
    assert ask(one)[0] == ask(two)[0] == state(say, name)["realtime_ns"]
    assert state(say, name)["programs"] == sorted((one.pid, two.pid))
    assert state(say, str(one.pid))["name"] == state(say, str(two.pid))["name"] == name
    assert len(holders(name)) == 1
    # One that is detached is on the host's clock, and is not counted; the other stays.
    assert say("detach", str(one.pid), *PATIENCE).returncode == 0
    assert near(apart(one), 0)
    assert state(say, name)["programs"] == [two.pid]
    adjust(name, "--at", AT)
    assert ask(two)[0] == AT_S * 10**9
    assert near(apart(one), 0)


def test_attached_to_what_vdso_run_started(
    begin: Begin,
    programs: Programs,
    start: Start,
    privileged: Way,
    say: Said,
    attach: Said,
    adjust: Callable[..., None],
    name: str,
) -> None:
    run = privileged.words(programs.c("hot"), "0", offset="+10d", options=["--session", name])
    started, process = start(run), begin()
    assert line_of(started) == "ready\n"
    attach(process, "--session", name)
    assert near(apart(process), 10 * DAY_NS)
    adjust(name, "--offset", "+30d", "--freeze")
    assert ask(process)[0] == ask(started)[0]
    assert state(say, name)["programs"] == sorted((started.pid, process.pid))
    # It outlives what began it.
    assert started.stdin is not None
    started.stdin.close()
    started.wait(TIMEOUT_S)
    follower = state(say, name)["holder_pid"]
    for _ in range(2):
        adjust(name, "--at", AT)
        assert ask(process)[0] == AT_S * 10**9
        assert state(say, name)["programs"] == [process.pid]
        if follower not in holders(name):
            await_end(follower)
    say("detach", str(process.pid), *PATIENCE)
    assert not is_there(say, name)


def test_run_on_what_was_attached(
    begin: Begin,
    programs: Programs,
    start: Start,
    privileged: Way,
    say: Said,
    attach: Said,
    adjust: Callable[..., None],
    name: str,
) -> None:
    process = begin()
    attach(process, "--session", name, "--at", AT, "--freeze")
    run = privileged.words(programs.c("hot"), "0", offset=None, options=["--session", name])
    started = start(run)
    assert line_of(started) == "ready\n"
    assert ask(started)[0] == AT_S * 10**9
    process.kill()
    process.wait()
    adjust(name, "--shift", "+1s")
    assert ask(started)[0] == (AT_S + 1) * 10**9
    assert state(say, name)["programs"] == [started.pid]


def test_children_stay_on_it(
    begin: Begin, say: Said, attach: Said, adjust: Callable[..., None], name: str
) -> None:
    process = begin()
    attach(process, "--session", name, "--offset", "+10d")
    child, real, *_ = ask(process, "fork")
    try:
        assert near(real - time.clock_gettime_ns(time.CLOCK_REALTIME), 10 * DAY_NS)
        assert state(say, name)["programs"] == sorted((process.pid, child))
        say("detach", str(process.pid), *PATIENCE)
        assert state(say, name)["programs"] == [child]
        adjust(name, "--shift", "+1d")
    finally:
        os.kill(child, signal.SIGKILL)


def test_two_that_begin_at_once_are_one_session(
    vdso: str, begin: Begin, start: Start, say: Said, adjust: Callable[..., None], name: str
) -> None:
    processes = [begin() for _ in range(4)]
    attaching = [start([vdso, "attach", str(one.pid), "--session", name, *PATIENCE]) for one in processes]
    for one in attaching:
        assert one.wait(TIMEOUT_S) == 0
    assert state(say, name)["programs"] == sorted(one.pid for one in processes)
    assert len(holders(name)) == 1
    adjust(name, "--offset", "+100d")
    assert all(near(apart(one), 100 * DAY_NS) for one in processes)


# ---- how long it lives ----


def test_it_ends_with_its_last_process(begin: Begin, say: Said, attach: Said, name: str) -> None:
    one, two = begin(), begin()
    attach(one, "--session", name, "--offset", "+1d")
    attach(two, "--session", name)
    [holder] = holders(name)
    one.kill()
    one.wait()
    assert is_there(say, name)
    assert holders(name) == {holder}
    two.kill()
    two.wait()
    assert not is_there(say, name)
    done = say("time", name, "--offset", "+1d")
    assert (done.returncode, done.stdout) == (125, "")
    await_end(holder)


def test_the_name_is_free_again_once_all_are_detached(
    begin: Begin, say: Said, attach: Said, adjust: Callable[..., None], name: str
) -> None:
    process = begin()
    for days in (1, 2, 3):
        attach(process, "--session", name, "--offset", f"+{days}d")
        assert near(apart(process), days * DAY_NS)
        adjust(name, "--shift", "+100d")
        assert near(apart(process), (days + 100) * DAY_NS)
        say("detach", str(process.pid), *PATIENCE)
        assert not is_there(say, name)
        assert near(apart(process), 0)
    process.kill()
    process.wait()
    for holder in holders(name):
        await_end(holder)


def test_whoever_holds_it_is_killed(begin: Begin, say: Said, attach: Said, name: str) -> None:
    """The process keeps its clock, and can be detached; another that joins brings a holder along."""
    process = begin()
    attach(process, "--session", name, "--offset", "+5d")
    for holder in holders(name):
        os.kill(holder, signal.SIGKILL)
        await_end(holder)
    assert near(apart(process), 5 * DAY_NS)
    assert not is_there(say, name)
    assert say("detach", str(process.pid), *PATIENCE).returncode == 0
    assert near(apart(process), 0)


@pytest.mark.soak
def test_attached_from_inside(begin: Begin, vdso: str, privileged: Way, name: str) -> None:
    """A holder that was started under the session's own follower ends all the same."""
    process = begin()
    words = [vdso, "attach", str(process.pid), "--session", name, *PATIENCE]
    inside = privileged.words(*words, offset="+5d", options=["--session", name])
    done = finish(inside)
    assert (done.returncode, done.stderr) == (0, "")
    assert near(apart(process), 5 * DAY_NS)
    [holder] = holders(name)
    process.kill()
    process.wait()
    await_end(holder, 60)


# ---- what cannot be ----


def test_attached_already(begin: Begin, say: Said, attach: Said, name: str) -> None:
    """It says by what command the clock is changed."""
    one, two = begin(), begin()
    attach(one, "--session", name, "--offset", "+1d")
    done = say("attach", str(one.pid), "--offset", "+2d")
    already = f"vdso: process {one.pid} (hot) is attached already\n  vdso time {name} ... changes its clock"
    assert (done.returncode, done.stdout) == (123, "")
    assert done.stderr == already + "\n"
    attach(two, "--session", name)
    done = say("attach", str(one.pid), "--session", name)
    assert done.stderr == already + ", and that of 1 other\n"
    assert near(apart(one), DAY_NS)


def test_started_by_vdso_run(programs: Programs, start: Start, privileged: Way, say: Said, name: str) -> None:
    words = privileged.words(programs.c("hot"), "0", offset="+10d", options=["--session", name])
    started = start(words)
    assert line_of(started) == "ready\n"
    done = say("attach", str(started.pid), "--offset", "+2d")
    assert (done.returncode, done.stdout) == (123, "")
    assert done.stderr.endswith(f"  vdso time {name} ... changes its clock\n")


def test_a_clock_of_its_own_is_not_given_twice(begin: Begin, say: Said, attach: Said, name: str) -> None:
    one, two = begin(), begin()
    attach(one, "--session", name, "--offset", "+1d")
    for option in (["--offset", "+2d"], ["--freeze"], ["--clocks", "all"]):
        done = say("attach", str(two.pid), "--session", name, *option)
        assert (done.returncode, done.stdout) == (125, "")
        assert f"the session {name} runs already" in done.stderr
        assert "vdso time" in done.stderr
    assert near(apart(two), 0)


@pytest.mark.parametrize(
    "options",
    [
        ["--rate", "2", "--freeze"],
        ["--rate", "-1"],
        ["--rate", "nan"],
        ["--rate", "1000001"],
        ["--clocks", "some"],
        ["--session", "a/b"],
        ["--session", "123"],
        ["--session", ""],
        ["--at", "@99999999999999999999"],
        ["--offset", "+9999999999999d"],
        ["--session"],
        ["--follow-me"],
    ],
)
def test_bad_input(begin: Begin, say: Said, options: list[str]) -> None:
    process = begin()
    done = say("attach", str(process.pid), *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("vdso: ")
    assert done.stderr.count("\n") <= 2
    assert near(apart(process), 0)


def test_help_says_what_is_not_done(say: Said) -> None:
    text = " ".join(say("attach", "--help").stdout.split())
    for words in ("--session NAME", "--rate X", "--freeze", "--clocks all", "absolute REALTIME deadline"):
        assert words in text
    assert "It is the default for a process that may set the host's clock" in text


@pytest.mark.usefixtures("as_root")
def test_another_user_s(
    begin: Begin, say: Said, vdso: str, unprivileged: list[str], name: str, programs: Programs, start: Start
) -> None:
    """Users have their own, without privilege; root sees and adjusts them, and they see none of root's."""
    theirs = start([*unprivileged, programs.c("hot"), "0"])
    assert line_of(theirs) == "ready\n"
    words = ["attach", str(theirs.pid), "--no-follow", "--session", name, "--offset", "+5d", *PATIENCE]
    done = finish([*unprivileged, vdso, *words])
    assert (done.returncode, done.stderr) == (0, "")
    assert near(apart(theirs), 5 * DAY_NS)
    done = finish([*unprivileged, vdso, "time", name, "--shift", "+1d"])
    assert (done.returncode, done.stderr) == (0, "")
    assert near(apart(theirs), 6 * DAY_NS)
    assert say("time", name, "--shift", "+1d").returncode == 0
    assert near(apart(theirs), 7 * DAY_NS)
    ours = begin()
    assert say("attach", str(ours.pid), "--session", name).returncode == 0, "root may join a user's"
    assert near(apart(ours), 7 * DAY_NS)
    for process in (theirs, ours):
        process.kill()
        process.wait()
    for holder in holders(name):
        await_end(holder)


@pytest.mark.parametrize("closed", ["<&-", "<&- >&-", "<&- >&- 2>&-"])
def test_from_where_standard_streams_are_closed(begin: Begin, vdso: str, closed: str) -> None:
    """As from a service's hook, or cron: nothing of ours gets their numbers."""
    process = begin()
    for words in (f"attach {process.pid} --no-follow --offset +1000d --timeout 20", f"detach {process.pid}"):
        assert finish(["sh", "-c", f'exec "$0" {words} {closed}', vdso]).returncode == 0
        assert near(apart(process), 1000 * DAY_NS if words.startswith("attach") else 0)
