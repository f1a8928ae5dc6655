"""Programs that nobody has changed, plain and on a clock that stands a thousand days ahead."""

import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import OFFSET_S, Programs, Reading, Way, finish, host_clocks, lacking, parse_reading, want

DATE = ["date", "+wall %s"]

BASH = r"""
printf 'wall %(%s)T\n' -1
date '+wall %s' | cat | cat
echo "$(date '+wall %s')"
( ( date '+wall %s' ); printf 'wall %(%s)T\n' -1 )
date '+%s' | { read -r now; echo "wall $now"; }
cat <(date '+wall %s')
exec date '+wall %s'
"""

PERL = r"""
use Time::HiRes qw(clock_gettime CLOCK_REALTIME CLOCK_MONOTONIC);
$| = 1;
print "wall ", time, "\n", "wall ", Time::HiRes::time, "\n";
print "wall ", clock_gettime(CLOCK_REALTIME), "\nmonotonic ", clock_gettime(CLOCK_MONOTONIC), "\n";
print `date '+wall %s'`;
system("date", "+wall %s");
"""

NODE = r"""
console.log("wall " + Date.now() / 1000);
console.log("monotonic " + Number(process.hrtime.bigint()) / 1e9);
process.stdout.write(require("child_process").execFileSync("date", ["+wall %s"]));
setTimeout(() => console.log("wall " + new Date().getTime() / 1000), 1);
"""


PROGRAMS: dict[str, Callable[[Programs], list[str | Path]]] = {
    "date": lambda _: list(DATE),
    "bash": lambda _: ["bash", "-c", BASH],
    "python": lambda programs: [sys.executable, programs.script("clocks.py")],
    "perl": lambda _: [want("perl", "perl"), "-e", PERL],
    "glibc": lambda programs: [programs.c("clocks")],
    "glibc-static": lambda programs: [programs.static("clocks")],
    "musl": lambda programs: [programs.musl("clocks")],
    "musl-static": lambda programs: [programs.musl("clocks", static=True)],
    "go": lambda programs: [programs.go("clocks")],
    "node": lambda _: [want("node", "nodejs"), "-e", NODE],
    "java": lambda programs: [*programs.java("Clocks")],
}


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest, programs: Programs) -> list[str | Path]:
    return PROGRAMS[request.param](programs)


def read_plain(words: list[str | Path], **more: object) -> Reading:
    before = host_clocks()
    done = finish(words, **more)
    after = host_clocks()
    assert (done.returncode, done.stderr) == (0, "")
    return parse_reading(done.stdout, before, after)


def test_plain(program: list[str | Path]) -> None:
    read_plain(program).assert_host()


@pytest.mark.parametrize("clock", ["kernel", "tsc"])
def test_ahead(program: list[str | Path], clock: str, privileged: Way) -> None:
    privileged.read(*program, clock=clock).assert_moved()


def test_behind(program: list[str | Path], privileged: Way) -> None:
    privileged.read(*program, offset="-1000d").assert_moved(-OFFSET_S)


@pytest.mark.parametrize("clock", ["kernel", "tsc"])
def test_without_an_offset(program: list[str | Path], clock: str, privileged: Way) -> None:
    privileged.read(*program, clock=clock, offset=None).assert_host()


def test_where_only_an_ancestor_traces(program: list[str | Path], under_yama: Way) -> None:
    under_yama.read(*program).assert_moved()


def test_as_an_unprivileged_user(program: list[str | Path], privileged: Way, unprivileged: list[str]) -> None:
    Way(privileged.vdso, unprivileged).read(*program).assert_moved()


def test_at_a_time(privileged: Way) -> None:
    done = finish([privileged.vdso, "run", "--at", "2030-01-01T00:00:00Z", "--", "date", "-u", "+%F %H:%M"])
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"2030-01-01 00:0\d\n", done.stdout)


# ---- how programs start others ----


@pytest.mark.parametrize("how", ["exec", "thread", "vfork", "spawn"])
def test_started(how: str, way: Way, programs: Programs) -> None:
    reading = way.read(programs.c("starter"), how, programs.c("clocks"))
    assert len(reading.lines) == (18 if how == "vfork" else 9)
    reading.assert_moved()


def test_two_hundred_children(way: Way, programs: Programs) -> None:
    reading = way.read(programs.c("starter"), "many", "200", *DATE)
    assert len(reading.lines) == 200
    reading.assert_moved()


@pytest.fixture
def long_path(open_directory: Path) -> str:
    """A PATH in whose directories a program is not there, or may not be executed, many times over."""
    refusing = open_directory / "refusing"
    refusing.mkdir(exist_ok=True)
    for name in ("date", "no-such-program"):
        (refusing / name).write_text("not executable\n", encoding="utf-8")
        (refusing / name).chmod(0o644)
    nowhere = [f"{open_directory}/nowhere-{number}" for number in range(60)]
    return ":".join([*nowhere, str(refusing), *nowhere, str(refusing), *nowhere])


@pytest.mark.parametrize("how", ["exec", "thread", "vfork", "spawn"])
def test_a_search_along_the_path(how: str, way: Way, programs: Programs, long_path: str) -> None:
    date = shutil.which("date")
    assert date is not None
    path = f"{long_path}:{Path(date).parent}"
    reading = way.read("env", f"PATH={path}", programs.c("starter"), how, *DATE)
    assert len(reading.lines) == (2 if how == "vfork" else 1)
    reading.assert_moved()


def test_a_search_along_the_path_that_finds_nothing(way: Way, programs: Programs, long_path: str) -> None:
    before = host_clocks()
    done = way.run("env", f"PATH={long_path}", programs.c("starter"), "exec", "no-such-program")
    after = host_clocks()
    first, rest = done.stdout.split("\n", 1)
    assert (done.returncode, done.stderr, first) == (0, "", "errno 13")
    parse_reading(rest, before, after).assert_moved()


def test_failed_execs_and_signals(way: Way) -> None:
    """A failed exec goes back to its program as any failed call, with a handler running now and then.

    A handler without SA_RESTART may still interrupt an exec before the follower has seen it.
    """
    script = """
import os, signal, time
count = 0
def handler(*_):
    global count
    count += 1
signal.signal(signal.SIGALRM, handler)
signal.siginterrupt(signal.SIGALRM, False)
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
for _ in range(300):
    try:
        os.execv("/nowhere", ["nowhere"])
    except FileNotFoundError:
        pass
    try:
        os.execv("/", ["nowhere"])
    except PermissionError:
        pass
signal.setitimer(signal.ITIMER_REAL, 0)
assert count > 0
print("wall", time.time())
"""
    way.read(sys.executable, "-c", script).assert_moved()


def test_a_failed_exec_leaves_no_tracer(way: Way) -> None:
    """It is let go of as soon as its exec has failed, at the latest a moment after."""
    script = """
import os, re, time
try:
    os.execv("/nowhere", ["nowhere"])
except FileNotFoundError:
    pass
deadline = time.monotonic() + 10
while "TracerPid:\\t0\\n" not in open("/proc/self/status").read():
    assert time.monotonic() < deadline
"""
    done = way.run(sys.executable, "-c", script)
    assert (done.returncode, done.stderr) == (0, "")


# ---- 32-bit programs ----

FOREIGN = (
    "vdso: legacy-i386 is a 32-bit program and keeps the host's clock; "
    "64-bit programs that it starts do not\n"
)


def test_a_32_bit_program(way: Way, programs: Programs) -> None:
    date = shutil.which("date")
    legacy = programs.i386("legacy")
    before = host_clocks()
    done = way.run("sh", "-c", '"$1"; "$1" "$2" "+wall %s"; "$1" "$2" "+wall %s"', "sh", legacy, date)
    after = host_clocks()
    assert (done.returncode, done.stderr) == (0, FOREIGN)
    shifts = [shift for _, shift in parse_reading(done.stdout, before, after).shifts()]
    assert shifts == [0, 0, OFFSET_S, 0, OFFSET_S]


def test_a_32_bit_command(way: Way, programs: Programs) -> None:
    done = way.run(programs.i386("legacy"), shutil.which("date"), "+%Y")
    assert (done.returncode, done.stderr) == (0, FOREIGN)


# ---- other roots, namespaces and users ----


@pytest.mark.usefixtures("as_root")
def test_under_chroot(privileged: Way, programs: Programs, tmp_path: Path) -> None:
    shutil.copy(programs.static("clocks"), tmp_path / "clocks")
    shutil.copy(programs.static("starter"), tmp_path / "starter")
    reading = privileged.read("chroot", tmp_path, "/starter", "vfork", "/clocks")
    assert len(reading.lines) == 18
    reading.assert_moved()


@pytest.mark.usefixtures("as_root")
def test_in_another_mount_namespace(privileged: Way) -> None:
    privileged.read("unshare", "-m", "sh", "-c", "mount -t tmpfs none /proc; date '+wall %s'").assert_moved()


@pytest.mark.usefixtures("as_root")
def test_in_another_pid_namespace(privileged: Way) -> None:
    privileged.read(
        "unshare", "-pf", "--mount-proc", "sh", "-c", "date '+wall %s'; exec date '+wall %s'"
    ).assert_moved()


@pytest.mark.parametrize("clock", ["kernel", "tsc"])
def test_in_another_user_namespace(clock: str, privileged: Way, programs: Programs) -> None:
    done = finish(["unshare", "-Ur", "true"])
    if done.returncode != 0:
        lacking("no user namespaces here")
    privileged.read("unshare", "-Ur", programs.c("clocks"), clock=clock).assert_moved()


@pytest.mark.usefixtures("as_root")
def test_as_another_user(privileged: Way) -> None:
    reading = privileged.read(
        "su", "-s", "/bin/sh", "nobody", "-c", "date '+wall %s'; id -un | grep -q nobody"
    )
    assert len(reading.lines) == 1
    reading.assert_moved()


@pytest.mark.parametrize("clock", ["kernel", "tsc"])
def test_without_an_environment(clock: str, way: Way, programs: Programs) -> None:
    way.read("env", "-i", programs.c("clocks"), "exec", programs.static("clocks"), clock=clock).assert_moved()
    way.read(programs.c("clocks"), env={}, clock=clock).assert_moved()


# ---- tracing ----


def test_nobody_traces_it(way: Way) -> None:
    script = "grep TracerPid /proc/$$/status; exec grep TracerPid /proc/self/status"
    done = way.run("sh", "-c", script)
    assert re.findall(r"TracerPid:\s*(\d+)", done.stdout) == ["0", "0"]


def test_a_traced_program(way: Way) -> None:
    before = host_clocks()
    done = way.run(
        want("strace", "strace"), "-f", "-o", "/dev/null", "sh", "-c", "date '+wall %s'; date '+wall %s'"
    )
    after = host_clocks()
    assert done.returncode == 0
    parse_reading(done.stdout, before, after).assert_host()
    assert re.fullmatch(r"vdso: what strace \(pid \d+\) traces keeps the host's clock\n", done.stderr)


def test_a_traced_program_is_traced(way: Way) -> None:
    done = way.run(want("strace", "strace"), "-f", "-e", "trace=execve", "sh", "-c", "date; true")
    assert done.returncode == 0
    assert "execve(" in done.stderr
    assert "+++ exited with 0 +++" in done.stderr


# ---- one in another ----


def inner(way: Way, *command: str | Path, offset: str = "-10d", clock: str | None = None) -> list[str]:
    return Way(way.vdso).words(*command, offset=offset, clock=clock)


@pytest.mark.parametrize("clock", ["kernel", "tsc"])
@pytest.mark.parametrize("environment", [[], ["env", "-i", f"PATH={os.defpath}"]])
def test_the_inner_one_wins(way: Way, programs: Programs, clock: str, environment: list[str]) -> None:
    program = str(programs.c("clocks"))
    words = inner(way, "sh", "-c", f"{program}; (date '+wall %s')", clock=clock)
    reading = way.read(*environment, *words)
    assert len(reading.lines) == 10
    reading.assert_moved(-10 * 86400)


def test_after_the_inner_one_the_outer_one_goes_on(way: Way) -> None:
    words = " ".join(f"'{word}'" for word in inner(way, *DATE))
    before = host_clocks()
    done = way.run("sh", "-c", f"date '+wall %s'; {words}; date '+wall %s'; {words} & wait; date '+wall %s'")
    after = host_clocks()
    assert (done.returncode, done.stderr) == (0, "")
    shifts = [shift for _, shift in parse_reading(done.stdout, before, after).shifts()]
    assert shifts == [OFFSET_S, -10 * 86400, OFFSET_S, -10 * 86400, OFFSET_S]


def test_three_deep(way: Way) -> None:
    words = inner(way, *inner(way, *DATE, offset="+3d"), offset="+5d")
    way.read(*words).assert_moved(3 * 86400)


def test_the_inner_one_may_stand_still(way: Way) -> None:
    way.read(way.vdso, "run", "--", *DATE).assert_host()


# ---- not following ----


@pytest.mark.parametrize("clock", ["kernel", "tsc"])
def test_no_follow(way: Way, clock: str) -> None:
    before = host_clocks()
    script = "printf 'wall %(%s)T\\n' -1; date '+wall %s'; printf 'wall %(%s)T\\n' -1; exec date '+wall %s'"
    done = way.run("bash", "-c", script, options=["--no-follow"], clock=clock)
    after = host_clocks()
    assert (done.returncode, done.stderr) == (0, "")
    shifts = [shift for _, shift in parse_reading(done.stdout, before, after).shifts()]
    assert shifts == [OFFSET_S, 0, OFFSET_S, 0]


def test_no_follow_of_a_command_along_the_path(way: Way, long_path: str) -> None:
    path = f"{long_path}:{os.environ['PATH']}"
    way.read(*DATE, options=["--no-follow"], env={**os.environ, "PATH": path}).assert_moved()
