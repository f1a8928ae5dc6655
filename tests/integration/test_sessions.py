"""Sessions by name: one clock for all their programs, adjusted as they run, gone when the last has ended."""

import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from harness import TIMEOUT_S, Start, Way, finish, holders, read_until

DAY_NS = 86400 * 10**9
MINUTE_NS = 60 * 10**9
AT, AT_S = "2030-01-01T00:00:00Z", 1893456000

# Answers each line with REALTIME and MONOTONIC in ns.
READER = """
import sys, time
for line in sys.stdin:
    print(time.clock_gettime_ns(time.CLOCK_REALTIME), time.clock_gettime_ns(time.CLOCK_MONOTONIC), flush=True)
"""


class Session:
    """A reader on a session of its own name."""

    def __init__(self, way: Way, start: Start, *options: str, command: tuple[str, ...] | None = None) -> None:
        self.vdso = way.vdso
        self.way = way
        self.start = start
        self.name = f"test-{os.getpid()}-{time.monotonic_ns()}"
        self.process = self.join(*options, command=command)

    def join(self, *options: str, command: tuple[str, ...] | None = None) -> "subprocess.Popen[str]":
        words = self.way.words(
            *(command or (sys.executable, "-u", "-c", READER)),
            offset=None,
            options=["--session", self.name, *options],
        )
        return self.start(words)

    def read(self, process: "subprocess.Popen[str] | None" = None) -> tuple[int, int]:
        process = process or self.process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        real, mono = read_until(process.stdout.fileno(), r"\n").split()
        return int(real), int(mono)

    def time(self, *words: str, name: str | None = None) -> "subprocess.CompletedProcess[str]":
        return finish([*self.way.prefix, self.vdso, "time", name or self.name, *words])

    def adjust(self, *words: str) -> None:
        done = self.time(*words)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def state(self) -> dict[str, Any]:
        done = self.time("--json")
        assert done.returncode == 0, done.stderr
        shown = json.loads(done.stdout)
        assert isinstance(shown, dict)
        return shown


@pytest.fixture
def vdso_time(vdso: str) -> list[str]:
    return [vdso, "time"]


def apart(session: Session, process: "subprocess.Popen[str] | None" = None) -> int:
    """The session's REALTIME less the host's, in ns; the two are read one after the other."""
    return session.read(process)[0] - time.clock_gettime_ns(time.CLOCK_REALTIME)


def near(value: int, wanted: int, within: int = 10**9) -> bool:
    return abs(value - wanted) < within


def test_one_clock_for_all_its_programs(way: Way, start: Start) -> None:
    session = Session(way, start, "--at", AT)
    assert near(session.read()[0], AT_S * 10**9, 20 * 10**9)
    other = session.join()
    assert near(apart(session, other), apart(session))
    session.adjust("--offset", "+1000d")
    assert near(apart(session), 1000 * DAY_NS)
    assert near(apart(session, other), 1000 * DAY_NS)
    session.adjust("--shift", "-1d")
    assert near(apart(session, other), 999 * DAY_NS)
    session.adjust("--reset")
    assert near(apart(session), 0)
    # It ends with its last program, not with its first.
    assert session.process.stdin is not None
    session.process.stdin.close()
    session.process.wait(TIMEOUT_S)
    session.adjust("--offset", "+1d")
    assert near(apart(session, other), DAY_NS)


def test_a_rate_is_continuous_and_a_freeze_stands_still(privileged: Way, start: Start) -> None:
    session = Session(privileged, start, "--at", AT)
    before = session.read()[0]
    session.adjust("--rate", "1000")
    after = session.read()[0]
    assert before < after < before + 1000 * TIMEOUT_S * 10**9
    session.adjust("--freeze")
    state = session.state()
    assert (state["frozen"], state["rate"], state["thaw_rate"]) == (True, 0, 1000)
    stands = session.read()[0]
    assert stands >= after
    assert session.read()[0] == stands == session.state()["realtime_ns"]
    session.adjust("--at", "2040-01-01T00:00:00Z")
    assert session.read()[0] == 2208988800 * 10**9, "set, and still frozen"
    session.adjust("--thaw")
    assert session.state()["rate"] == 1000
    session.adjust("--at", AT, "--rate", "1")
    assert near(session.read()[0], AT_S * 10**9, 20 * 10**9)


@pytest.mark.parametrize("clocks", ["wall", "all"])
def test_which_clocks(privileged: Way, start: Start, clocks: str) -> None:
    session = Session(privileged, start, "--clocks", clocks)
    for step, words in enumerate((["--rate", "10000"], ["--at", AT], ["--freeze"])):
        mono = session.read()[1]
        session.adjust(*words)
        again = session.read()[1]
        assert again >= mono, "MONOTONIC steps back for nobody"
        host = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        if clocks == "wall":
            assert near(again, host, 20 * 10**9)
        elif step:
            assert again - host > MINUTE_NS, "at the session's pace, from its own value"
            assert not near(again, AT_S * 10**9, 10**6 * MINUTE_NS), "and never set to a date"
    assert session.state()["clocks"] == clocks
    if clocks == "all":
        assert session.read()[1] == session.read()[1]


def test_a_run_without_a_name_goes_by_its_process_id(privileged: Way, start: Start) -> None:
    process = start(privileged.words(sys.executable, "-u", "-c", READER, offset=None))
    session = Session.__new__(Session)
    session.vdso, session.way, session.name, session.process = (
        privileged.vdso,
        privileged,
        str(process.pid),
        process,
    )
    assert near(apart(session), 0)
    session.adjust("--rate", "100", "--offset", "+10d")
    assert apart(session) > 10 * DAY_NS
    assert session.state()["programs"] == [process.pid]


def test_inside_a_session_its_own_is_meant(privileged: Way, start: Start) -> None:
    session = Session(privileged, start)
    done = privileged.run("sh", "-c", f"{privileged.vdso} time --shift +10d && date +%s")
    assert done.returncode == 0, done.stderr
    assert near(int(done.stdout), int(time.time()) + 1010 * 86400, 60)
    assert near(apart(session), 0), "another's is left alone"


def test_a_session_inside_another(privileged: Way, start: Start) -> None:
    name = f"inner-{os.getpid()}"
    inner = privileged.words(sys.executable, "-u", "-c", READER, offset="+500d", options=["--session", name])
    outer = Session(privileged, start, "--offset", "+10d", command=("sh", "-c", shlex.join(inner) + "; true"))
    assert near(apart(outer), 500 * DAY_NS)
    assert finish([privileged.vdso, "time", name, "--offset", "+600d"]).returncode == 0
    assert near(apart(outer), 600 * DAY_NS)
    assert near(outer.state()["offset_ns"], 10 * DAY_NS)


def test_sessions_lists_them(privileged: Way, start: Start, vdso: str) -> None:
    session = Session(privileged, start, "--offset", "+1000d", "--freeze")
    session.read()
    listed = {one["name"]: one for one in json.loads(finish([vdso, "sessions", "--json"]).stdout)}
    assert listed[session.name]["frozen"]
    assert listed[session.name]["programs"] == [session.process.pid]
    text = finish([vdso, "sessions"]).stdout
    assert session.name in text
    assert "frozen" in text
    shown = session.time().stdout
    for word in (session.name, "offset", "rate", "frozen", "wall"):
        assert word in shown


# A page of a version to come, held as a follower holds it.
STRANGE = """
import os, sys
fd = os.memfd_create("vdso-clock:strange")
os.write(fd, b"another magic" + bytes(4 * 4096))
with open("/proc/self/comm", "w") as stream:
    stream.write("vdso-follower")
print("ready", flush=True)
sys.stdin.read()
"""


def test_one_that_cannot_be_read_hides_no_other(privileged: Way, start: Start, vdso: str) -> None:
    strange = start([sys.executable, "-c", STRANGE])
    assert strange.stdout is not None
    read_until(strange.stdout.fileno(), "ready\n")
    session = Session(privileged, start, "--offset", "+1d")
    session.read()
    done = finish([vdso, "sessions", "--json"])
    assert (done.returncode, done.stderr) == (0, "")
    names = [one["name"] for one in json.loads(done.stdout)]
    assert session.name in names
    assert "strange" not in names
    session.adjust("--shift", "+1d")


def test_nothing_stays_behind(privileged: Way, start: Start) -> None:
    session = Session(privileged, start, "--offset", "+1d")
    session.read()
    before = {place: set(os.listdir(place)) for place in ("/dev/shm", "/tmp", "/run")}
    assert session.process.stdin is not None
    session.process.stdin.close()
    session.process.wait(TIMEOUT_S)
    deadline = time.monotonic() + TIMEOUT_S
    while (done := session.time("--offset", "+1d")).returncode == 0:  # the follower ends a moment later
        assert time.monotonic() < deadline
    assert done.returncode == 125
    assert (
        done.stderr
        == f"vdso: there is no session {session.name}\n  vdso sessions lists those that there are\n"
    )
    for place, names in before.items():
        assert not [name for name in set(os.listdir(place)) - names if "vdso" in name and "test" not in name]


OTHER_VERSION = """
import os, sys
from vdso import _core
page = _core.ClockPage.create("vdso-clock:" + sys.argv[1])
page.set_identity()
page.release()
os.pwrite(page.fd, b"other", 40)  # the schema's hash in the page's header
open("/proc/self/comm", "w").write("vdso-follower")
print("ready", flush=True)
sys.stdin.read()
"""


def test_another_version_s_session_is_left_alone(privileged: Way, start: Start) -> None:
    name = f"other-{os.getpid()}"
    other = start([sys.executable, "-c", OTHER_VERSION, name])
    assert other.stdout is not None
    assert other.stdout.readline() == "ready\n"
    session = Session(privileged, start, "--offset", "+1d")
    session.read()
    listed = finish([privileged.vdso, "sessions", "--json"])
    assert (listed.returncode, listed.stderr) == (0, "")
    names = {one["name"] for one in json.loads(listed.stdout)}
    assert session.name in names
    assert name not in names
    refused = finish([privileged.vdso, "time", name])
    assert refused.returncode == 125
    assert refused.stderr.startswith(f"vdso: the session {name} is another version's\n")


def test_it_outlives_its_follower(privileged: Way, start: Start) -> None:
    session = Session(privileged, start, "--offset", "+1d")
    session.read()
    for _ in range(3):
        holder = int(session.state()["holder_pid"])
        os.kill(holder, 9)
        session.adjust("--shift", "+1d")
        # Whoever was killed is succeeded before the next one is: both at once would end the session.
        deadline = time.monotonic() + TIMEOUT_S
        while len(holders(session.name)) < 2:
            assert time.monotonic() < deadline
    assert near(apart(session), 4 * DAY_NS)


def test_two_that_begin_at_once_are_one_session(privileged: Way, start: Start) -> None:
    name = f"race-{os.getpid()}"
    processes = [
        start(privileged.words(sys.executable, "-u", "-c", READER, offset=None, options=["--session", name]))
        for _ in range(4)
    ]
    session = Session.__new__(Session)
    session.vdso, session.way, session.name = privileged.vdso, privileged, name
    for process in processes:
        session.read(process)
    session.adjust("--offset", "+100d")
    assert all(near(apart(session, process), 100 * DAY_NS) for process in processes)


def test_many_writers_take_turns(privileged: Way, start: Start) -> None:
    session = Session(privileged, start)
    session.read()
    failed: list[str] = []

    def shift() -> None:
        for _ in range(5):
            done = session.time("--shift", "+1d")
            failed.extend([done.stderr] if done.returncode else [])

    threads = [threading.Thread(target=shift) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert near(apart(session), 15 * DAY_NS)


@pytest.mark.usefixtures("as_root")
def test_another_user_s_is_not_to_be_seen(
    privileged: Way, unprivileged: list[str], start: Start, vdso: str
) -> None:
    session = Session(privileged, start)
    session.read()
    done = finish([*unprivileged, vdso, "time", session.name, "--offset", "+1d"])
    assert done.returncode == 125
    assert "there is no session" in done.stderr


@pytest.mark.usefixtures("as_root")
def test_root_adjusts_a_user_s(unprivileged: list[str], start: Start, vdso: str) -> None:
    session = Session(Way(vdso, unprivileged), start, "--offset", "+1d")
    session.read()
    assert finish([vdso, "time", session.name, "--offset", "+2d"]).returncode == 0
    assert near(apart(session), 2 * DAY_NS)


# ---- what cannot be ----


def test_a_clock_of_its_own_is_not_given_twice(privileged: Way, start: Start) -> None:
    session = Session(privileged, start)
    session.read()
    done = privileged.run("true", options=["--session", session.name])
    assert done.returncode == 125
    assert f"the session {session.name} runs already" in done.stderr
    assert "vdso time" in done.stderr


def test_a_tsc_clock_is_its_keeper_s(privileged: Way, start: Start) -> None:
    session = Session(privileged, start, "--clock", "tsc", "--offset", "+5d")
    assert near(apart(session), 5 * DAY_NS)
    assert session.state()["clock"] == "tsc"
    done = session.time("--offset", "+1d")
    assert done.returncode == 125
    assert "keeper" in done.stderr
    assert near(apart(session), 5 * DAY_NS)
    done = privileged.run("true", options=["--rate", "2"], clock="tsc")
    assert done.returncode == 2


@pytest.mark.parametrize(
    "words",
    [
        ["--at", "yesterday"],
        ["--offset", "90"],
        ["--rate", "nan"],
        ["--rate", "-1"],
        ["--rate", "inf"],
        ["--rate", "1000001"],
        ["--rate", "1e-30"],
        ["--rate", ""],
        ["--shift", "+999999999999d"],
        ["--at", "@99999999999999999999"],
        ["--freeze", "--thaw"],
        ["--at", "@0", "--offset", "1d"],
        ["--reset", "--freeze"],
        ["--sideways"],
    ],
)
def test_bad_input(privileged: Way, start: Start, words: list[str]) -> None:
    session = Session(privileged, start)
    session.read()
    done = session.time(*words)
    assert done.returncode == 2
    assert done.stderr.startswith("vdso: ")
    assert done.stderr.count("\n") == 2
    assert near(apart(session), 0)


def test_beyond_the_last_second(privileged: Way, start: Start) -> None:
    session = Session(privileged, start)
    session.read()
    session.adjust("--at", "2300-01-01T00:00:00Z")
    assert session.state()["realtime_ns"] > 2**63
    session.adjust("--at", "@-1000")
    assert session.state()["realtime_ns"] < 0
    session.adjust("--at", "@67768036191676799", "--freeze")
    done = session.time("--shift", "+1s")
    assert done.returncode == 2
    assert "no clock goes so far" in done.stderr
    assert session.state()["realtime_ns"] == 67768036191676799 * 10**9


@pytest.mark.parametrize("name", ["", "a/b", "../x", "123", "-x", "a b", "ä", "x" * 65])
def test_names(privileged: Way, name: str) -> None:
    done = privileged.run("true", options=[f"--session={name}"], offset=None)
    assert done.returncode == 2
    assert done.stderr.startswith("vdso: ")


def test_no_such_session(vdso_time: list[str]) -> None:
    done = finish([*vdso_time, "no-such-session", "--offset", "+1d"])
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith("vdso: there is no session no-such-session\n")


@pytest.mark.parametrize("name", ["\u00b2", "1" * 5000, "../x"], ids=["superscript", "long", "path"])
def test_no_such_session_beside_another(privileged: Way, start: Start, name: str) -> None:
    """Digits that int() does not take, among others."""
    session = Session(privileged, start)
    session.read()
    done = session.time(name=name)
    assert (done.returncode, done.stderr.splitlines()[0]) == (125, f"vdso: there is no session {name}")


@pytest.fixture(autouse=True)
def _host_stays() -> Iterator[None]:
    before = time.clock_gettime(time.CLOCK_REALTIME) - time.clock_gettime(time.CLOCK_BOOTTIME)
    yield
    after = time.clock_gettime(time.CLOCK_REALTIME) - time.clock_gettime(time.CLOCK_BOOTTIME)
    assert abs(after - before) < 1
