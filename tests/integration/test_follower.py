"""The follower and its guard, killed: no exec fails, no program is half swapped, nothing is left behind."""

import contextlib
import datetime
import os
import random
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from harness import Way, until

VDSO = os.path.join(os.path.dirname(sys.executable), "vdso")
DAYS, FURTHER_DAYS = 1000, 3000
CLOCK_FILE = "/memfd:vdso-clock"
HELPERS = ("vdso-follower", "vdso-guard")
PATIENCE_S = 20.0


def year_after(days: int) -> str:
    return str((datetime.datetime.now() + datetime.timedelta(days=days)).year)


MOVED, FURTHER, HOST = year_after(DAYS), year_after(FURTHER_DAYS), year_after(0)


def clock_inode(pid: int) -> int:
    """Of the clock page that the process has mapped."""
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
        return next((int(line.split()[4]) for line in maps if CLOCK_FILE in line), 0)


def comm(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def state_and_ticks(pid: int) -> tuple[str, int]:
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stream:
        fields = stream.read().rpartition(")")[2].split()
    return fields[0], int(fields[11]) + int(fields[12])


def has_open(pid: int, inode: int) -> bool:
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            path = f"/proc/{pid}/fd/{fd}"
            if os.readlink(path).startswith(CLOCK_FILE) and os.stat(path).st_ino == inode:
                return True
    except OSError:
        pass
    return False


class Tree:
    """A `vdso run` of ours, and the helpers that hold its clock page open: never anybody else's."""

    def __init__(self, process: subprocess.Popen[str], program: int | None = None) -> None:
        self.process = process
        self.inode = clock_inode(program or process.pid)
        assert self.inode
        self.seen: dict[int, int] = {}  # pidfds

    def helper(self, name: str, other_than: int = 0) -> int:
        for entry in os.listdir("/proc"):
            pid = int(entry) if entry.isdigit() else 0
            if not pid or pid == other_than or comm(pid) != name or not has_open(pid, self.inode):
                continue
            if pid not in self.seen:
                try:
                    self.seen[pid] = os.pidfd_open(pid)
                except OSError:
                    continue
            if comm(pid) == name:
                return pid
        return 0

    def wait_for(self, name: str, other_than: int = 0) -> int:
        return int(str(until(lambda: self.helper(name, other_than), f"no new {name}")))

    def kill(self, pid: int) -> None:
        signal.pidfd_send_signal(self.seen[pid], signal.SIGKILL)
        self.ended(pid)

    def ended(self, pid: int) -> None:
        ready, _, _ = select.select([self.seen[pid]], [], [], PATIENCE_S)
        assert ready, f"{comm(pid)} is still there"

    def all_gone_after(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(PATIENCE_S)
        self.all_gone()

    def all_gone(self) -> None:
        for pid in self.seen:
            self.ended(pid)
        for name in HELPERS:
            until(lambda n=name: not self.helper(n), f"a {name} is left behind")


def line_of(process: "subprocess.Popen[str]") -> str:
    """What it says next, as long as it says one line at a time."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], PATIENCE_S)
    assert ready, "no answer"
    return process.stdout.readline()


@contextlib.contextmanager
def shell(*words: str) -> Iterator[tuple[subprocess.Popen[str], Callable[[str], str]]]:
    """A shell that takes one command at a time; what it answers, a line each."""
    process = subprocess.Popen(
        list(words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )

    def ask(command: str) -> str:
        assert process.stdin is not None
        process.stdin.write(command + "\n")
        process.stdin.flush()
        return line_of(process).strip()

    try:
        yield process, ask
    finally:
        end(process)


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait(PATIENCE_S)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):
                stream.close()


def run_words(days: int = DAYS) -> list[str]:
    return [VDSO, "run", "--offset", f"+{days}d", "--"]


@pytest.fixture
def tree() -> Iterator[tuple[Tree, Callable[[str], str]]]:
    with shell(*run_words(), "sh") as (process, ask):
        assert ask("date +%Y") == MOVED
        yield Tree(process), ask


# ---- under load ----

MAKEFILE = """
SHELL := /bin/sh
all: $(foreach i,$(shell seq 24),job$(i))
job%:
	@/bin/true
	@sh -c 'exec /bin/date "+D $$$$ %Y"'
	@sh -c '/bin/true && /bin/true | sh -c "exec /bin/date \\"+D \\$$\\$$ %Y\\""'
	@find /proc/self/fd -lname '*vdso-clock*' -printf 'L %l\\n'
.PHONY: all
"""


def kill_followers(tmp_path: str, kills: int) -> None:
    """Kills the follower again and again while execs go on, and looks at what every program saw."""
    makefile, stop = os.path.join(tmp_path, "Makefile"), os.path.join(tmp_path, "stop")
    out, err = os.path.join(tmp_path, "out"), os.path.join(tmp_path, "err")
    with open(makefile, "w", encoding="utf-8") as stream:
        stream.write(MAKEFILE)
    script = f"echo ready; exec >{out}; while [ ! -e {stop} ]; do make -j4 -f {makefile} || exit 1; done"
    chance = random.Random(3)
    with open(err, "w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [*run_words(), "sh", "-c", script], stdout=subprocess.PIPE, stderr=errors, text=True
        )
    try:
        assert line_of(process) == "ready\n"
        tree = Tree(process)
        follower = 0
        for _ in range(kills):
            follower = tree.wait_for("vdso-follower", follower)
            time.sleep(chance.random() * 0.01)  # so that it dies in another place each time
            assert process.poll() is None, open_text(err)
            tree.kill(follower)
        tree.wait_for("vdso-follower", follower)
        open(stop, "w", encoding="utf-8").close()
        assert process.wait(60) == 0, open_text(err)
        tree.all_gone()
    finally:
        open(stop, "w", encoding="utf-8").close()
        end(process)

    dates = re.findall(r"^D (\d+) (\d+)$", open_text(out), re.MULTILINE)
    lines = open_text(err).splitlines()
    warned = {
        m[1] for line in lines if (m := re.match(r"vdso: .* \(pid (\d+)\) .*on the host's clock", line))
    }
    unswapped = [pid for pid, year in dates if year != MOVED]
    silent = [pid for pid in unswapped if pid not in warned]
    print(
        f"{kills} kills, {len(dates)} dates, {len(unswapped)} on the host's clock, "
        f"{len(silent)} without a warning; {len(warned)} programs warned of"
    )
    assert len(dates) > kills
    assert {year for _, year in dates} <= {MOVED, HOST}
    assert not re.findall(r"^L .*$", open_text(out), re.MULTILINE)
    assert [line for line in lines if not line.startswith("vdso: ")] == []
    assert silent == []


def open_text(path: str) -> str:
    with open(path, encoding="utf-8") as stream:
        return stream.read()


def test_followers_killed_under_load(tmp_path: os.PathLike[str]) -> None:
    kill_followers(os.fspath(tmp_path), 20)


@pytest.mark.soak
def test_followers_killed_under_load_in_full(tmp_path: os.PathLike[str]) -> None:
    kill_followers(os.fspath(tmp_path), 200)


# ---- one at a time ----


def test_a_killed_follower_comes_back(tree: tuple[Tree, Callable[[str], str]]) -> None:
    run, ask = tree
    follower = run.wait_for("vdso-follower")
    guard = run.wait_for("vdso-guard")
    run.kill(follower)
    assert ask("date +%Y") == MOVED
    assert run.wait_for("vdso-follower", follower) != follower
    assert run.wait_for("vdso-guard") == guard


def test_a_killed_guard_comes_back(tree: tuple[Tree, Callable[[str], str]]) -> None:
    run, ask = tree
    follower = run.wait_for("vdso-follower")
    guard = run.wait_for("vdso-guard")
    run.kill(guard)
    assert ask("date +%Y") == MOVED
    second = run.wait_for("vdso-guard", guard)
    # The follower takes the guard's place, and a child of it the follower's: both roles are filled.
    follower = run.wait_for("vdso-follower", guard)
    assert second != follower
    run.kill(follower)
    assert ask("date +%Y") == MOVED
    assert run.wait_for("vdso-follower", follower) != follower


def test_killed_by_turns(tree: tuple[Tree, Callable[[str], str]]) -> None:
    run, ask = tree
    killed = 0
    for turn in range(10):
        name = HELPERS[turn % 2]
        killed = run.wait_for(name, killed)
        run.kill(killed)
        # Both must be there again before the next is killed: who loses both at once loses the listener.
        for other in HELPERS:
            run.wait_for(other, killed)
        assert ask("date +%Y") == MOVED


def test_those_that_come_after_have_no_more_open(tree: tuple[Tree, Callable[[str], str]]) -> None:
    run, ask = tree

    def replaced() -> list[int]:
        for name in ("vdso-guard", "vdso-follower"):
            killed = run.wait_for(name)
            run.kill(killed)
            pids = [run.wait_for(other, killed) for other in HELPERS]
        assert ask("date +%Y") == MOVED
        return [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids]

    first = replaced()
    for _ in range(4):
        last = replaced()
    assert last[0] <= first[0] + 1, "the follower"
    assert last[1] <= first[1] + 1, "the guard"


def test_a_session_that_comes_while_there_is_no_guard(
    under_yama: Way, tree: tuple[Tree, Callable[[str], str]]
) -> None:
    """In front nobody takes the guard's place; elsewhere it may come just then."""
    inner = f"{VDSO} run --offset +{FURTHER_DAYS}d -- date +%Y"
    with shell(*under_yama.words("sh", offset=f"+{DAYS}d")) as (process, ask):
        assert ask("date +%Y") == MOVED
        in_front = Tree(process, int(ask("echo $$")))
        for run, ask_there in ((in_front, ask), tree):
            run.kill(run.wait_for("vdso-guard"))
            for _ in range(2):
                assert ask_there(inner) == FURTHER
                assert ask_there("date +%Y") == MOVED


def test_nothing_is_left_behind(tree: tuple[Tree, Callable[[str], str]]) -> None:
    run, ask = tree
    run.wait_for("vdso-follower")
    run.wait_for("vdso-guard")
    background = int(ask("sleep 1000 >/dev/null 2>&1 & echo $!"))
    assert run.process.stdin is not None
    run.process.stdin.close()
    assert run.process.wait(PATIENCE_S) == 0
    # The last program under the filter is the one in the background: until it ends it is followed.
    assert run.helper("vdso-follower")
    until(lambda: clock_inode(background) == run.inode, "the one in the background is not swapped")
    os.kill(background, signal.SIGKILL)
    run.all_gone()


def test_no_work_without_execs(tree: tuple[Tree, Callable[[str], str]]) -> None:
    run, ask = tree
    helpers = [run.wait_for(name) for name in HELPERS]
    assert ask("date +%Y") == MOVED
    # What the last exec gave them to do may not be over yet.
    until(lambda: [state_and_ticks(pid)[0] for pid in helpers] == ["S", "S"], "the helpers do not sleep")
    before = [state_and_ticks(pid) for pid in helpers]
    run_for = time.monotonic() + 1.0
    while time.monotonic() < run_for:
        time.sleep(0.1)
        assert [state_and_ticks(pid)[0] for pid in helpers] == ["S", "S"]
    assert [state_and_ticks(pid) for pid in helpers] == before


def test_an_inner_session_outlives_the_follower() -> None:
    inner = [*run_words(), *run_words(FURTHER_DAYS), "sh"]
    with shell(*inner) as (process, ask):
        assert ask("date +%Y") == FURTHER
        outer = Tree(process)  # the inner session's page, which the outer follower keeps too
        follower = outer.wait_for("vdso-follower")
        for _ in range(3):
            outer.kill(follower)
            assert ask("date +%Y") == FURTHER
            follower = outer.wait_for("vdso-follower", follower)
            assert ask(f"{VDSO} run --offset +{DAYS}d -- date +%Y") == MOVED
            assert ask("date +%Y") == FURTHER
        outer.all_gone_after(process)


@pytest.mark.soak
def test_more_inner_sessions_than_a_socket_holds() -> None:
    """The guard takes at once what it is to keep: who gives it would else stand still, with every program."""
    with shell(*run_words(), "sh") as (_, ask):
        inner = f"{VDSO} run --offset +{FURTHER_DAYS}d -- date +%Y"
        for _ in range(300):
            assert ask(inner) == FURTHER


def test_a_killed_follower_in_front_is_succeeded(under_yama: Way) -> None:
    """Only a parent may trace there: the guard becomes the follower, once."""
    with shell(*under_yama.words("sh", offset=f"+{DAYS}d")) as (process, ask):
        program = int(ask("echo $$"))
        assert ask("date +%Y") == MOVED
        tree = Tree(process, program)
        follower, guard = tree.wait_for("vdso-follower"), tree.wait_for("vdso-guard")
        tree.kill(follower)
        assert ask("date +%Y") == MOVED
        assert tree.wait_for("vdso-follower", follower) == guard
        assert ask("sh -c 'date +%Y; exit 3'; echo $?") == MOVED
        tree.all_gone_after(process)
