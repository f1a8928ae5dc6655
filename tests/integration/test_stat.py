"""`vdso stat -- COMMAND`: what programs say that they have called, and what was counted."""

import contextlib
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import (
    TIMEOUT_S,
    Programs,
    Start,
    Terminal,
    Way,
    finish,
    ignore_children,
    lacking,
    read_until,
    state,
    until,
    want,
)

from vdso import _core
from vdso.kernel import maps as kernel_maps

LIBRARIES = ("glibc", "glibc-static", "musl", "musl-static")
Found = dict[str, Any]


def counted(programs: Programs, library: str = "glibc") -> Path:
    return {
        "glibc": lambda: programs.c("counted"),
        "glibc-static": lambda: programs.static("counted"),
        "musl": lambda: programs.musl("counted"),
        "musl-static": lambda: programs.musl("counted", static=True),
    }[library]()


class Stats:
    """`vdso stat`, by the words in front of it."""

    def __init__(self, way: Way) -> None:
        self.words = [*way.prefix, way.vdso, "stat"]

    def run(self, *words: str | Path, **more: Any) -> "subprocess.CompletedProcess[str]":
        return finish([*self.words, *words], **more)

    def found(self, *words: str | Path, status: int = 0, **more: Any) -> Found:
        """What it says of a command, as JSON."""
        done = self.run("--json", *words, **more)
        assert (done.returncode, done.stderr[:1]) == (status, "{"), done.stderr
        found: Found = json.loads(done.stderr)
        return found


def calls(found: Found, route: str | None = None) -> dict[str, int]:
    """{"clock_gettime MONOTONIC": calls}."""
    sums: Counter[str] = Counter()
    for row in found["rows"]:
        if route in (None, row["route"]):
            sums[f"{row['function']} {row['clock']}".rstrip()] += row["calls"]
    return dict(sums)


@pytest.fixture
def stats(way: Way) -> Stats:
    return Stats(way)


@pytest.fixture
def here(privileged: Way) -> Stats:
    return Stats(privileged)


# ---- exactly ----


HOW = {
    "threads": (8, 200_000, 1_600_000),
    "later": (300, 1000, 300_000),
    "forks": (20, 1000, 21_000),
    "vforks": (10, 1000, 11_000),
    "chain": (10, 1000, 11_000),
}


@pytest.mark.parametrize(
    ("how", "library"),
    [
        *((how, "glibc") for how in HOW),
        *(("threads", library) for library in LIBRARIES[1:]),
        ("later", "musl-static"),
    ],
)
def test_what_it_says_that_it_calls(how: str, library: str, here: Stats, programs: Programs) -> None:
    number, each, total = HOW[how]
    found = here.found("--by", "thread", counted(programs, library), how, str(number), str(each))
    assert calls(found) == {"clock_gettime MONOTONIC": total}
    assert found["calls"] == total == sum(group["calls"] for group in found["groups"])
    assert all(row["route"] == "vdso" for row in found["rows"])
    if how == "threads":
        assert sorted(group["calls"] for group in found["groups"]) == [each] * number
    if how == "later":
        # As many as can be told apart, and none of them with another's calls.
        apart = [group["calls"] for group in found["groups"] if group["tid"] != 0]
        assert set(apart) == {each}
        assert 250 <= len(apart) < number
        assert found["threads_at_least"]
    if how == "forks":
        assert found["processes"] == number + 1
    if how == "vforks":
        # In its parent's memory a child counts as its parent.
        assert (found["processes"], found["programs"]) == (1, number + 1)
    if how == "chain":
        assert (found["processes"], found["programs"]) == (1, number + 1)


def test_handlers_that_read_in_between(here: Stats, programs: Programs) -> None:
    done = here.run("--json", counted(programs), "signals", "4", "1000000")
    said = int(done.stdout.split()[1])
    assert said > 4_000_000
    assert calls(json.loads(done.stderr)) == {"clock_gettime MONOTONIC": said}


def test_a_thousand_children(stats: Stats, programs: Programs) -> None:
    found = stats.found("--by", "process", counted(programs), "forks", "1000", "100")
    assert calls(found) == {"clock_gettime MONOTONIC": 100_100}
    assert found["processes"] == len(found["groups"]) == 1001
    assert {group["calls"] for group in found["groups"]} == {100}
    assert {group["name"] for group in found["groups"]} == {"counted"}


def test_every_function_and_clock(here: Stats, programs: Programs) -> None:
    found = here.found(counted(programs), "all", "1", "100")
    of_the_vdso = [
        "REALTIME",
        "MONOTONIC",
        "MONOTONIC_RAW",
        "REALTIME_COARSE",
        "MONOTONIC_COARSE",
        "BOOTTIME",
        "TAI",
    ]
    through = ["PROCESS_CPUTIME_ID", "THREAD_CPUTIME_ID", "CPU time by id", "unknown"]
    others = ["gettimeofday", "time", "clock_getres"]
    assert calls(found, "vdso") == dict.fromkeys(
        [*(f"clock_gettime {name}" for name in of_the_vdso), *others], 100
    )
    assert calls(found, "vdso-syscall") == dict.fromkeys([f"clock_gettime {name}" for name in through], 100)
    rows = {row["clock"] or row["function"]: row for row in found["rows"]}
    assert rows["PROCESS_CPUTIME_ID"]["why"] == "CPU time is in no vDSO"
    assert rows["unknown"]["why"] == "there is no such clock"
    assert 0 < rows["MONOTONIC_COARSE"]["ns"] < rows["MONOTONIC"]["ns"] < rows["CPU time by id"]["ns"]
    assert rows["unknown"]["ns"] is None
    for row in rows.values():
        if row["ns"] is not None:
            assert row["cores"] == pytest.approx(row["calls"] / found["seconds"] * row["ns"] / 1e9, rel=0.5)


def test_system_calls_past_the_vdso(stats: Stats, programs: Programs) -> None:
    found = stats.found("--by", "thread", counted(programs), "raw", "2", "1000")
    assert calls(found, "syscall") == calls(found) == {"clock_gettime MONOTONIC": 2000}
    assert [group["calls"] for group in found["groups"]] == [1000, 1000]
    assert "past the vDSO" in found["rows"][0]["why"]


def test_go(here: Stats, programs: Programs) -> None:
    found = here.found(programs.go("counted"), "16", "20000")
    # time.Now() reads both clocks; the runtime reads one for itself too.
    assert calls(found)["clock_gettime REALTIME"] == 320_000
    assert calls(found)["clock_gettime MONOTONIC"] >= 320_000
    assert found["threads"] > 1


def test_java(here: Stats, programs: Programs) -> None:
    found = here.found(*programs.java("Counted"), "100000")
    assert calls(found)["clock_gettime MONOTONIC"] >= 100_000
    assert 100_000 <= calls(found)["clock_gettime REALTIME"] < 101_000


def test_node(here: Stats) -> None:
    code = "for (let i = 0; i < 100000; i++) process.hrtime.bigint()"
    found = here.found(want("node", "nodejs"), "-e", code)
    assert 100_000 <= calls(found)["clock_gettime MONOTONIC"] < 150_000


def test_python_and_what_a_shell_starts(here: Stats) -> None:
    code = "import time; [time.time() for _ in range(1000)]"
    found = here.found("sh", "-c", f"python3 -c '{code}'; python3 -c '{code}' & wait; exit 3", status=3)
    assert calls(found)["clock_gettime REALTIME"] >= 2000
    assert found["programs"] >= 3
    assert found["ended"] == "exit status 3"


# ---- ends ----


def command_of(pid: int) -> int:
    """Which of its children counts; the others are its own."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    (child,) = (int(child) for child in children if counts_calls(int(child)))
    return child


def test_killed_in_the_middle(here: Stats, programs: Programs, start: Start, tmp_path: Path) -> None:
    tally = tmp_path / "tally"
    stat = start([*here.words, "--json", counted(programs), "forever", "4", tally])
    assert stat.stdout is not None
    assert stat.stderr is not None
    read_until(stat.stdout.fileno(), "reading")
    child = command_of(stat.pid)
    os.kill(child, signal.SIGKILL)
    found = json.loads(read_until(stat.stderr.fileno(), ""))
    assert stat.wait(TIMEOUT_S) == 128 + signal.SIGKILL
    assert found["ended"] == "SIGKILL"
    said = sum(struct.unpack("=4Q", tally.read_bytes()[:32]))
    # Each of the four may have been between its call and its tally.
    assert said <= calls(found)["clock_gettime MONOTONIC"] <= said + 4


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -TERM $$"], 128 + signal.SIGTERM),
        (["/nonexistent"], 127),
        (["/etc/passwd"], 126),
    ],
)
def test_statuses(command: list[str], status: int, stats: Stats) -> None:
    done = stats.run(*command)
    assert done.returncode == status
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["--by", "nobody", "true"],
        ["-d", "0", "true"],
        ["-d", "x", "true"],
        [],
        ["-p", "1", "true"],
        ["-p", "no"],
    ],
)
def test_usage(words: list[str], here: Stats) -> None:
    done = here.run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_a_time(here: Stats, programs: Programs, tmp_path: Path) -> None:
    found = here.found(
        "-d", "0.3", counted(programs), "forever", "1", tmp_path / "t", status=128 + signal.SIGTERM
    )
    assert found["ended"] == "SIGTERM"
    assert 0.3 <= found["seconds"] < 10


def test_ctrl_c(terminal: Terminal, here: Stats, programs: Programs, tmp_path: Path) -> None:
    terminal.type(f"{' '.join(here.words)} {counted(programs)} forever 1 {tmp_path / 't'}\n")
    terminal.expect("reading")
    terminal.type("\x03")
    shown = terminal.expect(Terminal.PROMPT)
    assert "SIGINT" in shown
    assert "clock_gettime MONOTONIC" in shown
    assert "Traceback" not in shown
    assert "130" in terminal.command("echo $?")


def test_nothing_is_left(here: Stats, programs: Programs, tmp_path: Path) -> None:
    def there() -> set[str]:
        places = ["/dev/shm", "/run", "/var/tmp"]
        return {
            f"{place}/{name}"
            for place in places
            if os.path.isdir(place)
            for name in os.listdir(place)
            if "vdso" in name
        }

    def processes() -> list[str]:
        """Ours, and what they have started: whoever else is counted meanwhile is not meant."""
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if str(tmp_path).encode() in Path(f"/proc/{entry}/environ").read_bytes():
                    found.append(entry)
        return found

    before = there()
    here.found(
        "--sites", counted(programs), "forks", "5", "1000", env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    assert there() <= before
    assert list(tmp_path.iterdir()) == []
    # The follower sees the last program's end by its own: it is there a moment longer.
    until(lambda: not processes())


# ---- output ----


def test_the_table(here: Stats, programs: Programs) -> None:
    done = here.run("--by", "process", counted(programs), "forks", "1", "1000")
    assert done.stdout == "forks 2000\n"
    assert re.search(r"clock_gettime MONOTONIC +2,000 +[\d,]+ +[\d.]+ +[\d.]+ +vDSO", done.stderr)
    assert len(re.findall(r"^counted \(pid \d+\)$", done.stderr, re.MULTILINE)) == 2


@pytest.mark.parametrize("columns", [20, 60])
def test_on_a_narrow_terminal(columns: int, terminal: Terminal, here: Stats, programs: Programs) -> None:
    terminal.command(f"stty cols {columns}")
    shown = terminal.command(f"{' '.join(here.words)} {counted(programs)} all 1 1000")
    lines = re.sub("\x1b\\[[0-9;]*m", "", shown).splitlines()
    table = lines[next(index for index, line in enumerate(lines) if "calls" in line.split()) :]
    table = table[: next(index for index, line in enumerate(table) if line.startswith("together"))]
    assert max(len(line.rstrip()) for line in table) <= columns
    assert sum(line.count("1,000") for line in table) >= 14
    # Every figure is there: each below its name where there is no room for columns.
    for what in ("calls", "a second", "ns", "cores", "by"):  # no ns of a clock that there is none of
        assert sum(f"  {what} " in f"{line} " for line in table) >= 13, what


def test_whoever_reads_has_gone(here: Stats, programs: Programs) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = here.run(counted(programs), "all", "1", "10", stderr=writer)
    os.close(writer)
    assert (done.returncode, done.stdout) == (141, "all 0\n")


def test_into_a_file(here: Stats, programs: Programs, tmp_path: Path) -> None:
    path = tmp_path / "out"
    done = here.run("-o", path, counted(programs), "all", "1", "10")
    assert (done.returncode, done.stderr) == (0, "")
    assert "clock_gettime TAI" in path.read_text(encoding="utf-8")
    assert here.run("-o", tmp_path / "no" / "such", "true").returncode == 1
    done = here.run("-o", "-", counted(programs), "all", "1", "10")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.match("all 0\n.*clock_gettime TAI", done.stdout, re.DOTALL)


# ---- what outlives the command ----


class Outliving:
    """A program that goes on reading the clock, and executes another one when it is told to."""

    SCRIPT = """
("$0" forever 2 "$1/tally" >"$1/reading" & echo $! >"$1/reader"; wait) </dev/null 2>/dev/null >/dev/null &
(read line <"$1/go"; exec sleep 60) 2>/dev/null >/dev/null &
echo $! >"$1/executing"; read line <"$1/reading"
"""

    def __init__(self, programs: Programs, directory: Path) -> None:
        self.directory = directory
        self.words = ["sh", "-c", self.SCRIPT, str(counted(programs)), str(directory)]
        for name in ("reading", "go"):
            os.mkfifo(directory / name)

    @property
    def reader(self) -> int:
        return int((self.directory / "reader").read_text())

    @property
    def executing(self) -> int:
        return int((self.directory / "executing").read_text())

    def tally(self) -> int:
        return sum(struct.unpack("=2Q", (self.directory / "tally").read_bytes()[:16]))

    def end(self) -> None:
        for name in ("reader", "executing"):
            with contextlib.suppress(OSError, ValueError):
                os.kill(int((self.directory / name).read_text()), signal.SIGKILL)


@pytest.fixture
def outliving(programs: Programs, tmp_path: Path) -> Iterator[Outliving]:
    found = Outliving(programs, tmp_path)
    yield found
    found.end()


def test_what_outlives_the_command(here: Stats, outliving: Outliving, privileged: Way) -> None:
    done = here.run(*outliving.words)
    pid = outliving.reader
    assert done.returncode == 0
    said = done.stderr.splitlines()[-1]
    assert re.match(r"vdso: \d processes still run, on the counting image: ", said)
    assert f"counted (pid {pid})" in said
    assert f"(pid {outliving.executing})" in said
    assert not counts_calls(pid)
    before = outliving.tally()
    until(lambda: outliving.tally() > before)
    smaps = Path(f"/proc/{pid}/smaps").read_text()
    assert re.findall(r"memfd:vdso-counts.*\n(?:.+\n)*?Rss: +(\d+) kB", smaps) == ["0"]
    for words, status in ((["detach", str(pid)], 122), (["attach", str(pid), "--offset", "+1d"], 123)):
        refused = finish([privileged.vdso, *words])
        assert refused.returncode == status
        assert "`vdso stat`" in refused.stderr
        assert "start it anew" in refused.stderr
    assert here.run("-p", str(pid), "-d", "0.1").returncode == 123
    top = json.loads(finish([privileged.vdso, "top", "--once", "--json"]).stdout)
    assert [one["counted"] for one in top["programs"] if one["pid"] == pid] == [False]
    doctor = json.loads(finish([privileged.vdso, "doctor", "--quick", "--json", "-p", str(pid)]).stdout)
    assert doctor["subject"]["image"] == "vdso stat"
    # What it executes from now on is as it would have been.
    (outliving.directory / "go").write_text("\n")
    executed = outliving.executing
    until(lambda: Path(f"/proc/{executed}/comm").read_text() == "sleep\n")
    assert not any("vdso-count" in mapping.name for mapping in kernel_maps.read(executed))


def test_what_outlives_the_command_in_json(here: Stats, outliving: Outliving) -> None:
    found = here.found(*outliving.words)
    left = {one["pid"]: one for one in found["left"]}
    assert left[outliving.reader] == {"pid": outliving.reader, "name": "counted", "why": ""}


def test_whoever_counts_from_the_start_is_killed(
    here: Stats, start: Start, programs: Programs, privileged: Way, tmp_path: Path
) -> None:
    stat = start([*here.words, counted(programs), "forever", "1", tmp_path / "tally"])
    assert stat.stdout is not None
    read_until(stat.stdout.fileno(), "reading")
    child = command_of(stat.pid)
    stat.kill()
    stat.wait(TIMEOUT_S)
    assert counts_calls(child)
    done = finish([privileged.vdso, "detach", str(child)])
    assert (done.returncode, counts_calls(child)) == (0, False)
    assert "not counted any more" in done.stdout
    os.kill(child, signal.SIGKILL)


def counts_calls(pid: int) -> bool:
    return _core.counts_calls(pid)


# ---- signals ----


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_for_us_is_the_commands(
    number: signal.Signals, here: Stats, start: Start, programs: Programs, tmp_path: Path
) -> None:
    stat = start([*here.words, "--json", counted(programs), "forever", "1", tmp_path / "tally"])
    assert stat.stdout is not None
    read_until(stat.stdout.fileno(), "reading")
    os.kill(stat.pid, number)
    _, err = stat.communicate(timeout=TIMEOUT_S)
    assert (stat.returncode, json.loads(err)["ended"]) == (128 + number, number.name)


NOTING = """
import os, signal
def note(number, _):
    os.write(1, f"{number}\\n".encode())
    if number == signal.SIGINT:
        raise SystemExit
for number in (signal.SIGHUP, signal.SIGINT):
    signal.signal(number, note)
print("reading", flush=True)
while True:
    signal.pause()
"""


@pytest.mark.parametrize("alone", [False, True])
def test_a_signal_for_many_comes_once(alone: bool, here: Stats, start: Start) -> None:
    """Also where somebody, like timeout(1), sends it to us besides."""
    stat = start([*here.words, sys.executable, "-c", NOTING])
    assert stat.stdout is not None
    read_until(stat.stdout.fileno(), "reading\n")
    if alone:
        os.kill(stat.pid, signal.SIGSTOP)  # and it finds both at once, however busy the machine is
        os.kill(stat.pid, signal.SIGHUP)
    os.killpg(stat.pid, signal.SIGHUP)
    os.kill(stat.pid, signal.SIGCONT)
    read_until(stat.stdout.fileno(), f"{signal.SIGHUP:d}\n")
    os.kill(stat.pid, signal.SIGINT)  # after whatever else there is to be sent on
    assert read_until(stat.stdout.fileno(), "") == f"{signal.SIGINT:d}\n"


def test_the_command_has_no_signal_blocked(here: Stats) -> None:
    words = ["grep", "-E", "SigBlk|SigIgn", "/proc/self/status"]
    assert here.run("-o", "/dev/null", *words).stdout == finish(words).stdout


def test_where_the_end_of_children_is_ignored(here: Stats) -> None:
    found = here.found("sh", "-c", "exit 5", status=5, preexec_fn=ignore_children)
    assert found["ended"] == "exit status 5"
    words = ["grep", "SigIgn", "/proc/self/status"]
    plain = finish(words, preexec_fn=ignore_children).stdout
    assert here.run("-o", "/dev/null", *words, preexec_fn=ignore_children).stdout == plain


# ---- live ----


def test_a_command_live(terminal: Terminal, here: Stats, programs: Programs, tmp_path: Path) -> None:
    settings = terminal.command("stty -g")
    words = [
        *here.words,
        "--live",
        "-o",
        tmp_path / "table",
        counted(programs),
        "forever",
        "1",
        tmp_path / "t",
    ]
    terminal.type(f"{' '.join(map(str, words))} >{tmp_path / 'out'} 2>&1\n")
    terminal.expect("clock_gettime MONOTONIC")
    terminal.type("\x03")
    shown = terminal.expect(Terminal.PROMPT)
    assert "Traceback" not in shown
    assert "130" in terminal.command("echo $?")
    assert (tmp_path / "out").read_text() == "reading\n"
    assert "clock_gettime MONOTONIC" in (tmp_path / "table").read_text()
    assert terminal.command("stty -g") == settings


def test_live_without_a_terminal(here: Stats) -> None:
    done = finish([want("setsid", "util-linux"), "-w", *here.words, "--live", "true"])
    assert (done.returncode, done.stdout) == (2, "")
    assert "no terminal" in done.stderr


# ---- where it cannot ----


def test_inside_of_another(here: Stats, privileged: Way) -> None:
    for outer in ("run", "stat"):
        done = finish([privileged.vdso, outer, "--", *here.words, "true"])
        assert done.returncode == 121
        assert "inside" in done.stderr
    done = here.run(privileged.vdso, "run", "--offset", "+1d", "--", "date")
    assert done.returncode == 119
    assert "inside of a `vdso stat`" in done.stderr


def test_the_hosts_clock_is_not_set(here: Stats) -> None:
    """By a program that may not anyway: who could do it is not to be tried."""
    code = """
import ctypes, time
libc = ctypes.CDLL(None, use_errno=True)
host = ctypes.create_string_buffer(208)
print(libc.adjtimex(host) >= 0, int.from_bytes(host[88:96], "little") > 0)
host[0] = 2
print(libc.adjtimex(host), ctypes.get_errno())
try:
    time.clock_settime(time.CLOCK_REALTIME, 0)
except PermissionError:
    print("refused")
"""
    words = [*here.words, "-o", "/dev/null", "python3", "-c", code]
    done = finish([want("setpriv", "util-linux"), "--bounding-set=-sys_time", "--inh-caps=-sys_time", *words])
    assert done.stdout == "True True\n-1 1\nrefused\n"
    assert "may not set the clock" in done.stderr


def test_a_32_bit_program(here: Stats, programs: Programs) -> None:
    done = here.run("-o", "/dev/null", programs.i386("legacy"))
    assert "is not counted" in done.stderr


REFUSING = Path(__file__).parent / "programs" / "refusing.py"


@pytest.mark.parametrize(
    ("what", "said"), [("seccomp", "what it starts"), ("ptrace", "it could not be counted")]
)
def test_where_it_is_refused(what: str, said: str, here: Stats, programs: Programs) -> None:
    done = finish([sys.executable, REFUSING, what, *here.words, counted(programs), "forks", "3", "100"])
    assert (done.returncode, done.stdout) == (0, "forks 400\n")
    assert "not counted" in done.stderr.splitlines()[0]
    assert re.search(f"^not known: .*{said}", done.stderr, re.MULTILINE)


def test_an_unprivileged_user(programs: Programs, privileged: Way, unprivileged: list[str]) -> None:
    stats = Stats(Way(privileged.vdso, unprivileged))
    found = stats.found(counted(programs), "forks", "3", "1000")
    assert calls(found) == {"clock_gettime MONOTONIC": 4000}


# ---- in a running process ----


class Driven:
    """A program that reads clocks as it is told."""

    def __init__(self, start: Start, path: Path) -> None:
        self.process = start([path])
        assert self.process.stdout is not None
        self.out = self.process.stdout.fileno()
        read_until(self.out, "ready\n")

    @property
    def pid(self) -> int:
        return self.process.pid

    def do(self, how: str, number: int, count: int | str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{how} {number} {count}\n")
        self.process.stdin.flush()
        read_until(self.out, f"{how} .*\n")

    def image(self) -> bytes:
        """Its vDSO, as it is now."""
        mapping = kernel_maps.area(self.pid).image
        assert mapping is not None
        with open(f"/proc/{self.pid}/mem", "rb", buffering=0) as memory:
            memory.seek(mapping.start)
            return memory.read(mapping.size)


@pytest.fixture(params=["glibc", "musl-static"])
def driven(request: pytest.FixtureRequest, start: Start, programs: Programs) -> Driven:
    return Driven(start, counted(programs, request.param))


@pytest.fixture
def one(start: Start, programs: Programs) -> Driven:
    return Driven(start, counted(programs))


class Watching:
    """`vdso stat -p`, from when it counts on."""

    def __init__(self, stats: Stats, start: Start, pid: int, *options: str) -> None:
        self.process = start([*stats.words, "-p", str(pid), "--json", *options])
        self.pid = pid
        until(lambda: counts(pid))

    def end(self) -> Found:
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=TIMEOUT_S)
        assert (self.process.returncode, err) == (0, "")
        found: Found = json.loads(out)
        return found


def counts(pid: int) -> bool:
    """Whether it is on the counting image."""
    try:
        return _core.clock_inode(pid) != 0
    except OSError:
        return False


def test_what_a_running_process_calls(here: Stats, driven: Driven, start: Start) -> None:
    before = driven.image()
    driven.do("threads", 2, 1000)
    watching = Watching(here, start, driven.pid, "--by", "process")
    driven.do("threads", 4, 10_000)
    driven.do("later", 20, 100)
    driven.do("forks", 5, 1000)
    found = watching.end()
    assert calls(found, "vdso") == {"clock_gettime MONOTONIC": 40_000 + 2000 + 6000}
    assert {group["calls"] for group in found["groups"]} == {43_000, 1000}
    assert driven.image() == before
    driven.do("threads", 2, 1000)
    # What is still mapped takes no memory.
    smaps = Path(f"/proc/{driven.pid}/smaps").read_text()
    assert re.findall(r"memfd:vdso-counts.*\n(?:.+\n)*?Rss: +(\d+) kB", smaps) == ["0"]


def test_again_and_again(here: Stats, one: Driven, start: Start) -> None:
    sizes = set()
    for times in range(1, 4):
        watching = Watching(here, start, one.pid)
        one.do("threads", 2, times * 1000)
        assert calls(watching.end(), "vdso") == {"clock_gettime MONOTONIC": 2 * times * 1000}
        sizes.add(sum(mapping.size for mapping in kernel_maps.read(one.pid) if "vdso" in mapping.name))
    assert len(sizes) == 1, "what is mapped once is used again"


@pytest.mark.usefixtures("as_root")
def test_its_own_system_calls(here: Stats, one: Driven, start: Start) -> None:
    try:
        _core.tracepoint_find("clock_gettime")
    except OSError as error:
        lacking(f"no tracepoints here: {error}")
    watching = Watching(here, start, one.pid, "-d", "30")
    # It counts before its tracepoints are there: until they are.
    deadline = time.monotonic() + TIMEOUT_S
    while not any("perf_event" in link for link in descriptors(watching.process.pid)):
        assert time.monotonic() < deadline
    before = -1
    while (now := len(descriptors(watching.process.pid))) != before:
        before = now
        time.sleep(0.1)
    one.do("raw", 2, 1000)
    one.do("threads", 1, 10)
    found = watching.end()
    assert calls(found, "syscall") == {"clock_gettime MONOTONIC": 2000}
    assert calls(found, "vdso") == {"clock_gettime MONOTONIC": 10}


def descriptors(pid: int) -> list[str]:
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return found


def test_without_tracepoints(
    start: Start, programs: Programs, privileged: Way, unprivileged: list[str]
) -> None:
    stats = Stats(Way(privileged.vdso, unprivileged))
    own = Driven(lambda words: start([*unprivileged, *words]), counted(programs))
    watching = Watching(stats, start, own.pid)
    own.do("raw", 1, 1000)
    found = watching.end()
    assert calls(found) == {}
    assert any("itself" in unknown["what"] for unknown in found["unknown"])


def test_it_dies_meanwhile(here: Stats, one: Driven, start: Start) -> None:
    watching = Watching(here, start, one.pid)
    one.do("threads", 2, 1000)
    one.process.kill()
    out, err = watching.process.communicate(timeout=TIMEOUT_S)
    assert (watching.process.returncode, err) == (0, "")
    found = json.loads(out)
    assert calls(found) == {"clock_gettime MONOTONIC": 2000}
    assert found["ended"] == "it has ended"


def test_it_executes_another_program(here: Stats, start: Start, tmp_path: Path) -> None:
    """And what it has forked goes on for a while."""
    os.mkfifo(tmp_path / "go")
    process = start(["bash", "-c", 'read line; (read line <"$0/go") & exec sleep 60', str(tmp_path)])
    assert process.stdin is not None
    watching = Watching(here, start, process.pid)
    process.stdin.write("\n")
    process.stdin.flush()
    until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n")
    with pytest.raises(subprocess.TimeoutExpired):
        watching.process.wait(0.3)
    (tmp_path / "go").write_text("\n")
    out, err = watching.process.communicate(timeout=TIMEOUT_S)
    assert (watching.process.returncode, err) == (0, "")
    assert json.loads(out)["ended"] == "it has executed another program, or was detached"
    assert process.poll() is None


def test_its_first_thread_has_ended(here: Stats, start: Start, programs: Programs, privileged: Way) -> None:
    """What /proc has of the process went with that one. It is counted, and left, all the same."""
    odd = start([programs.c("odd"), "leader"])
    until(lambda: state(odd.pid) == "Z")
    done = here.run("--json", "-p", str(odd.pid), "-d", "0.5")
    assert (done.returncode, json.loads(done.stdout)["ended"]) == (0, "")
    assert finish([privileged.vdso, "detach", str(odd.pid)]).returncode == 122, "it has been left"
    assert odd.poll() is None


def test_it_is_no_session(here: Stats, one: Driven, start: Start, privileged: Way) -> None:
    watching = Watching(here, start, one.pid)
    assert f"{one.pid}" not in finish([privileged.vdso, "sessions"]).stdout.split()
    watching.end()


def test_children_are_left_too(here: Stats, one: Driven, start: Start) -> None:
    watching = Watching(here, start, one.pid)
    one.do("leave", 3, 0)  # children that wait
    children = [int(pid) for pid in Path(f"/proc/{one.pid}/task/{one.pid}/children").read_text().split()]
    assert len(children) == 3
    assert all(map(counts, children))
    watching.end()
    assert not any(map(counts, [one.pid, *children]))


def test_who_cannot_be_counted(here: Stats, one: Driven, start: Start, privileged: Way) -> None:
    def status(pid: int) -> int:
        done = here.run("-p", str(pid), "-d", "0.1")
        assert "Traceback" not in done.stderr
        assert done.stderr.startswith("vdso: ")
        return done.returncode

    watching = Watching(here, start, one.pid)
    assert status(one.pid) == 123, "another counts it"
    watching.end()
    assert finish([privileged.vdso, "attach", str(one.pid), "--offset", "+1d"]).returncode == 0
    assert status(one.pid) == 123, "it is on a session"
    assert finish([privileged.vdso, "detach", str(one.pid)]).returncode == 0
    swapped = start([privileged.vdso, "run", "--", "cat"])
    until(lambda: counts(swapped.pid))
    assert status(swapped.pid) == 123
    assert status(0x7FFFFFF0) == 118


def test_it_can_be_attached_to_a_session_afterwards(
    here: Stats, one: Driven, start: Start, privileged: Way
) -> None:
    Watching(here, start, one.pid).end()
    assert finish([privileged.vdso, "attach", str(one.pid), "--offset", "+1000d"]).returncode == 0
    one.do("threads", 1, 10)
    assert finish([privileged.vdso, "detach", str(one.pid)]).returncode == 0
    watching = Watching(here, start, one.pid)
    one.do("threads", 1, 10)
    assert calls(watching.end(), "vdso") == {"clock_gettime MONOTONIC": 10}


def test_whoever_counts_is_killed(here: Stats, one: Driven, start: Start, privileged: Way) -> None:
    """At any moment: the process goes on, and can be left by hand."""
    before = one.image()
    for after_s in (0.0, 0.08, 0.1, 0.12, 0.16, 0.2):
        stat = start([*here.words, "-p", str(one.pid)])
        time.sleep(after_s)
        os.killpg(stat.pid, signal.SIGKILL)
        stat.wait(TIMEOUT_S)
        one.do("threads", 2, 1000)
        done = finish([privileged.vdso, "detach", str(one.pid)])
        assert done.returncode in (0, 122), done.stderr
        assert one.image() == before
        one.do("forks", 2, 100)


def test_nobody_reads(here: Stats, one: Driven, start: Start) -> None:
    reader, writer = os.pipe()
    stat = start([*here.words, "-p", str(one.pid)], stdout=writer)
    os.close(writer)
    until(lambda: counts(one.pid))
    os.close(reader)
    assert stat.wait(TIMEOUT_S) == 141
    assert not counts(one.pid)


def test_live(terminal: Terminal, here: Stats, one: Driven) -> None:
    settings = terminal.command("stty -g")
    terminal.type(f"{' '.join(here.words)} -p {one.pid}\n")
    terminal.expect("Ctrl-C ends")
    one.do("threads", 2, 1000)
    terminal.expect("clock_gettime MONOTONIC")
    terminal.type("\x03")
    shown = terminal.expect(Terminal.PROMPT)
    assert "2,000" in shown
    assert "\x1b[?25h" in shown, "the cursor is there again"
    assert terminal.command("stty -g") == settings


# ---- who called ----

OF_SITES = {
    "plainly": "clock_gettime REALTIME",
    "by_a_jump": "clock_gettime MONOTONIC",
    "of_the_day": "gettimeofday",
    "in_seconds": "time",
    "of_any_size": "clock_gettime BOOTTIME",
}


def callers(found: Found) -> dict[str, dict[str, int]]:
    """{function: {"clock_gettime MONOTONIC": calls}}, of those that were found."""
    result: dict[str, dict[str, int]] = {}
    for one in found["callers"]:
        assert one["unknown"] == "", one
        called = f"{one['function']} {one['clock']}".rstrip()
        result.setdefault(one["caller"]["function"], {})[called] = one["calls"]
    return result


@pytest.mark.parametrize("library", ["glibc", "musl-static"])
def test_each_caller_by_its_name(library: str, here: Stats, programs: Programs) -> None:
    path = programs.c("sites") if library == "glibc" else programs.musl("sites", static=True)
    found = here.found("--sites", "-d", "0.3", path, status=128 + signal.SIGTERM)
    who, exactly = callers(found), calls(found)
    samples = {one["caller"]["function"]: one["samples"] for one in found["callers"]}
    for function, called in OF_SITES.items():
        # musl asks for the time of day, and for seconds, by clock_gettime.
        name = called if "musl" not in library or " " in called else "clock_gettime REALTIME"
        sharing = sum(name in by for by in who.values())
        near = max(0.3, 6 / samples[function] ** 0.5)  # few, where nobody came to look
        assert who[function] == {name: pytest.approx(exactly[name] / sharing, rel=near)}
    assert set(who["with_much_to_keep"]) == {
        "clock_gettime MONOTONIC_COARSE",
        "clock_gettime REALTIME_COARSE",
    }
    assert all(one["caller"]["object"] == str(path) for one in found["callers"])


def test_who_calls_in_go(here: Stats, programs: Programs) -> None:
    found = here.found("--sites", programs.go("counted"), "4", "100000")
    assert callers(found)["main.main.func1"]["clock_gettime REALTIME"] == 400_000


def test_who_calls_once_and_ends(here: Stats, programs: Programs) -> None:
    program = counted(programs)
    found = here.found("--sites", "sh", "-c", f"{program} threads 1 1; exec {program} chain 3 2")
    assert callers(found)["read_clock"] == {"clock_gettime MONOTONIC": 9}


def test_who_calls_in_a_running_process(here: Stats, start: Start, programs: Programs) -> None:
    process = start([programs.c("sites")])
    watching = Watching(here, start, process.pid, "--sites")
    time.sleep(0.2)  # some of each
    found = watching.end()
    assert OF_SITES.keys() <= callers(found).keys()


@pytest.mark.parametrize("library", LIBRARIES)
def test_who_makes_system_calls_past_the_vdso(library: str, here: Stats, programs: Programs) -> None:
    found = here.found("--sites", counted(programs, library), "raw", "2", "1000")
    assert found["unknown"] == []
    assert [one["calls"] for one in found["callers"]] == [2000]
    (one,) = found["callers"]
    assert (one["raw"], one["clock"], one["unknown"]) == (True, "MONOTONIC", "")
    assert one["caller"]["function"] == "raw"


def test_the_callers_in_the_table(here: Stats, programs: Programs) -> None:
    done = here.run("--sites", counted(programs), "threads", "2", "10000")
    assert re.search(r"^100\.0 %  read_clock \(counted\)$", done.stderr, re.MULTILINE)
    assert "clock_gettime MONOTONIC through clock_gettime (libc.so.6)" in done.stderr
