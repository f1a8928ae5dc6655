"""`vdso bench`, as a person and a program meet it; its figures beside a plain C loop's."""

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
from harness import Programs, Start, Terminal, Way, finish, read_until, want

PLAIN = Path(__file__).parents[2] / "benchmarks" / "programs" / "plain.c"
AGREE = 0.05


@pytest.fixture(scope="module")
def saved(vdso: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run in a file, and what it printed."""
    path = tmp_path_factory.mktemp("bench") / "run.json"
    done = finish([vdso, "bench", "--quick", "--save", path])
    assert (done.returncode, done.stderr) == (0, "")
    return path, done.stdout


def refused(*words: str | Path, status: int = 1) -> str:
    """The one line of an error, without its hint."""
    done = finish(words)
    assert done.returncode == status, done.stderr
    lines = done.stderr.splitlines()
    assert 1 <= len(lines) <= 2
    assert lines[0].startswith("vdso: ")
    assert done.stdout == ""
    return lines[0]


# ---- what it prints ----


def test_in_a_pipe_it_is_plain_and_ends_with_what_it_means(saved: tuple[Path, str]) -> None:
    _, out = saved
    assert "\x1b" not in out
    for word in ("REALTIME", "THREAD_CPUTIME", "gettimeofday", "getcpu", "getrandom", "getppid", "rdtscp"):
        assert word in out
    assert out.splitlines()[-1].startswith(("At 10 million reads", "Without a vDSO", "What the vDSO saves"))


def test_json_is_what_save_keeps(vdso: str, saved: tuple[Path, str]) -> None:
    kept = json.loads(saved[0].read_text())
    done = finish([vdso, "bench", "--quick", "--json"])
    printed = json.loads(done.stdout)

    def shape(value: Any) -> Any:
        return {key: shape(item) for key, item in value.items()} if isinstance(value, dict) else type(value)

    assert shape(printed) == shape(kept)
    assert [(row["call"], row["clock"], row["route"]) for row in printed["rows"]] == [
        (row["call"], row["clock"], row["route"]) for row in kept["rows"]
    ]
    assert all(len(row["rounds_ns"]) == row["rounds"] for row in printed["rows"])


def test_two_saved_runs_are_compared_without_measuring(vdso: str, saved: tuple[Path, str]) -> None:
    path, _ = saved
    done = finish([vdso, "bench", "--compare", path, path])
    assert (done.returncode, done.stderr) == (0, "")
    assert "0 faster, 0 slower," in done.stdout
    assert "warning: another" not in done.stdout


def test_a_run_of_another_machine_is_said(vdso: str, saved: tuple[Path, str], tmp_path: Path) -> None:
    run = json.loads(saved[0].read_text())
    run["machine"] |= {"host": "elsewhere", "kernel": "5.10", "clocksource": "hpet", "cpu_model": "Z80"}
    for row in run["rows"]:
        row["rounds_ns"] = [2 * ns for ns in row["rounds_ns"]]
        row["median_ns"] = row["median_ns"] and 2 * row["median_ns"]
    other = tmp_path / "other.json"
    other.write_text(json.dumps(run))
    out = finish([vdso, "bench", "--compare", other, "--quick"]).stdout
    for what in ("machine: elsewhere", "kernel: 5.10", "clocksource: hpet", "CPU: Z80"):
        assert f"warning: another {what}, now " in out
    assert " 0 slower" in out
    comparison = json.loads(finish([vdso, "bench", "--compare", other, saved[0], "--json"]).stdout)[
        "comparison"
    ]
    read = next(
        row
        for row in comparison["rows"]
        if (row["call"], row["clock"], row["route"]) == ("clock_gettime", "MONOTONIC", "syscall")
    )
    assert read["verdict"] == "faster"
    assert 0.4 < read["ratio"] < 0.6


# ---- files ----


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file"),
        ("", "not JSON, or cut off"),
        ("{}", "no saved bench"),
        ('{"kind": "vdso bench", "format": 0}', "another version's format (0"),
        ('{"kind": "vdso bench", "format": 1}', "a damaged bench"),
    ],
)
def test_files_that_are_no_runs(vdso: str, tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "run.json"
    if content is not None:
        path.write_text(content)
    assert said in refused(vdso, "bench", "--compare", path)


def test_a_place_that_cannot_be_written_is_known_before_the_run(vdso: str, tmp_path: Path) -> None:
    for option in ("--save", "--html", "--svg"):
        assert "no such directory" in refused(vdso, "bench", option, tmp_path / "none" / "file")


def test_a_pipe_is_no_run_and_is_not_waited_for(vdso: str, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "a pipe" in refused(vdso, "bench", "--compare", pipe)
    assert "a pipe" in refused(vdso, "bench", "--compare", pipe, pipe)


def test_a_file_that_may_not_be_written_is_known_before_the_run(
    unprivileged: list[str], vdso: str, open_directory: Path
) -> None:
    """write_file() would not replace it, though the directory lets it."""
    directory = open_directory / "closed-file"
    directory.mkdir()
    directory.chmod(0o777)
    path = directory / "run.json"
    path.write_text("before")
    path.chmod(0o444)
    for option in ("--save", "--svg", "--html"):
        assert "permission denied" in refused(*unprivileged, vdso, "bench", option, path)
    assert path.read_text() == "before"


def test_page_and_picture(vdso: str, saved: tuple[Path, str], tmp_path: Path) -> None:
    page, picture = tmp_path / "run.html", tmp_path / "run.svg"
    done = finish([vdso, "bench", "--compare", saved[0], saved[0], "--html", page, "--svg", picture])
    assert (done.returncode, done.stderr) == (0, "")
    assert page.read_text().startswith("<!doctype html>")
    assert picture.read_text().startswith("<svg ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.html", "run.svg"]


def test_without_matplotlib_it_is_one_line_before_the_run(vdso: str, tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ImportError('hidden by the test')\n")
    done = finish(
        [vdso, "bench", "--html", tmp_path / "x.html"], env={**os.environ, "PYTHONPATH": str(tmp_path)}
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "vdso: --html draws with matplotlib, which is not installed\n  pip install 'vdso[report]'\n"
    )


# ---- a terminal, and the way out ----


def test_a_bar_on_a_terminal_alone(terminal: Terminal, vdso: str, tmp_path: Path) -> None:
    out = terminal.command(f"'{vdso}' bench --quick")
    assert re.search(r"measuring .* \d+/200\r", out)
    assert out.count("\x1b[?25l") == out.count("\x1b[?25h") == 1  # the cursor is back
    out = terminal.command(f"'{vdso}' bench --quick 2>'{tmp_path}/err' | cat; stat -c %s '{tmp_path}/err'")
    assert "\x1b" not in out
    assert out.splitlines()[-1].strip() == "0"


def test_ctrl_c_in_the_middle(terminal: Terminal, vdso: str, tmp_path: Path) -> None:
    before = termios.tcgetattr(terminal.fd)
    path = tmp_path / "run.json"
    path.write_text("before")
    terminal.type(f"'{vdso}' bench --save '{path}'; echo status $?\n")
    terminal.expect(r" [1-9]\d+/\d+\r")  # in the middle of it
    terminal.type("\x03")
    out = terminal.expect(terminal.PROMPT)
    assert "\x1b[?25h" in out
    assert "Traceback" not in out
    assert "status" not in out  # the shell's list ends too
    assert termios.tcgetattr(terminal.fd) == before
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_interrupted_in_a_pipe(start: Start, vdso: str) -> None:
    process = start([vdso, "bench", "--json"])
    # It is measuring once it is pinned.
    allowed = os.sched_getaffinity(0)
    if len(allowed) > 1:
        while len(os.sched_getaffinity(process.pid)) > 1:
            assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == -signal.SIGINT
    assert process.stdout is not None
    assert process.stderr is not None
    assert read_until(process.stdout.fileno(), "") == ""
    assert read_until(process.stderr.fileno(), "") == ""


# ---- warnings, provoked ----


def warnings(done: "subprocess.CompletedProcess[str]") -> dict[str, str]:
    assert done.returncode == 0, done.stderr
    return {found["id"]: found["text"] for found in json.loads(done.stdout)["warnings"]}


def test_a_tracer(vdso: str) -> None:
    words = [want("strace", "strace"), "-f", "-o", os.devnull, vdso, "bench", "--quick", "--json"]
    assert "strace" in warnings(finish(words, timeout=120))["tracer"]
    out = finish(words[:-1], timeout=120).stdout
    assert out.splitlines()[-1].startswith("What the vDSO saves cannot be said by this run: a debugger")


@pytest.mark.parametrize(
    ("what", "expected"), [("ptrace", {"seccomp"}), ("affinity", {"seccomp", "unpinned"})]
)
def test_a_seccomp_filter(vdso: str, programs: Programs, what: str, expected: set[str]) -> None:
    script = programs.script("refusing.py")
    found = warnings(finish([sys.executable, script, what, vdso, "bench", "--quick", "--json"]))
    assert set(found) & {"seccomp", "unpinned", "tracer"} == expected
    assert found["seccomp"].startswith("a seccomp filter on")


def test_on_an_image_of_ours(privileged: Way) -> None:
    found = warnings(privileged.run(privileged.vdso, "bench", "--quick", "--json", offset=None))
    assert found["our-image"] == "the vDSO of this process is one of ours, not the kernel's"


def test_a_preloaded_library(vdso: str) -> None:
    done = finish([vdso, "bench", "--quick", "--json"], env={**os.environ, "LD_PRELOAD": "libc.so.6"})
    assert "libc.so.6" in warnings(done)["preloaded"]


def test_a_quiet_process_has_none_of_these(saved: tuple[Path, str]) -> None:
    found = {warning["id"] for warning in json.loads(saved[0].read_text())["warnings"]}
    assert not found & {"tracer", "seccomp", "our-image", "preloaded", "unpinned", "no-vdso"}


# ---- beside a plain C loop ----


class Plain:
    """benchmarks/programs/plain.c, on the CPU that bench will take."""

    COUNT = 2000

    def __init__(self, start: Start, directory: Path) -> None:
        from vdso.measure.machine import choose_cpu

        program = directory / "plain"
        done = finish(["gcc", "-O2", PLAIN, "-o", program, "-ldl"])
        assert done.returncode == 0, done.stderr
        self.process = start([program])
        os.sched_setaffinity(self.process.pid, {choose_cpu(os.sched_getaffinity(0))})
        self.taken: dict[str, list[float]] = {}

    def ask(self, *_: int) -> None:
        """One batch of each route: between two rounds of bench's."""
        for route in ("loop", "libc", "vdso", "syscall"):
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            self.process.stdin.write(f"{route} 1 {self.COUNT}\n")
            self.process.stdin.flush()
            self.taken.setdefault(route, []).append(float(self.process.stdout.readline()) / self.COUNT)

    def median(self, route: str) -> float:
        loop = statistics.median(self.taken["loop"])
        return statistics.median(self.taken[route]) - loop


@pytest.mark.soak
def test_agrees_with_a_plain_c_loop(start: Start, tmp_path: Path) -> None:
    """Both in one run, round by round, so that both see the same machine. Three tries, as neighbours are."""
    from vdso.measure import bench

    plain = Plain(start, tmp_path)
    tries = []
    for _ in range(3):
        plain.taken.clear()
        result = bench(rounds=120, limit_s=20, progress=plain.ask)
        ratios = {}
        for route in ("libc", "vdso", "syscall"):
            row = result.row("clock_gettime", route, "MONOTONIC")
            assert row is not None
            if row.median_ns is None:
                continue
            ratios[route] = row.median_ns / plain.median(route)
        tries.append({route: round(ratio, 3) for route, ratio in ratios.items()})
        if all(abs(ratio - 1) <= AGREE for ratio in ratios.values()):
            return
    pytest.fail(f"bench over plain C: {tries}")
