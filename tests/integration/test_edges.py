"""Where the kernel or a limit refuses something: the next best way or one clear line, and never half a swap.

And debuggers and profilers, which find our image where they would find the kernel's.
"""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import OFFSET, SOURCES, TIMEOUT_S, Programs, Start, Way, finish, want

from vdso.swap.run import IMAGE

MOVED_S = 1000 * 86400
STARTED = "started"
FUTEX = 202  # its number on x86-64

# REALTIME as libc sees it, less what a system call says, to the second; and the same of MONOTONIC.
SHIFT = """
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int main(void)
{
	for (int id = 0; id < 2; id++) {
		struct timespec libc, kernel;
		clock_gettime(id, &libc);
		syscall(SYS_clock_gettime, id, &kernel);
		char line[64];
		long ns = (libc.tv_sec - kernel.tv_sec) * 1000000000 + libc.tv_nsec - kernel.tv_nsec;
		int size = snprintf(line, sizeof line, "%ld ", (ns - 500000000) / 1000000000 + (ns > 500000000));
		if (write(1, line, size) != size)
			return 1;
	}
	return 0;
}
"""

SPIN = """
#include <stdio.h>
#include <time.h>
__attribute__((noinline)) long spin(void *at)
{
	long sum = 0;
	do {
		sum += clock_gettime(CLOCK_REALTIME, at);
	} while (sum >= 0);
	return sum;
}
int main(int argc, char **argv)
{
	struct timespec ts;
	(void)argv;
	puts("started");
	fflush(stdout);
	return (int)spin(argc > 1 ? (void *)8 : &ts);
}
"""


def compile_c(directory: Path, name: str, text: str, *flags: str) -> Path:
    source = directory / f"{name}.c"
    source.write_text(text, encoding="utf-8")
    words = [want("cc", "gcc"), "-g", "-O1", *flags, "-o", directory / name, source]
    done = finish(words)
    assert done.returncode == 0, done.stderr
    return directory / name


@pytest.fixture(scope="module")
def shift(open_directory: Path) -> Path:
    return compile_c(open_directory, "shift", SHIFT)


@pytest.fixture(scope="module")
def static_shift(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_c(tmp_path_factory.mktemp("shift"), "static-shift", SHIFT, "-static")


@pytest.fixture(scope="module")
def spin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_c(tmp_path_factory.mktemp("spin"), "spin", SPIN)


MOVED, HOST = f"{MOVED_S} 0 ", "0 0 "


def refusing(way: Way, what: str) -> Way:
    """The same where the kernel refuses it."""
    return Way(way.vdso, [sys.executable, str(SOURCES / "refusing.py"), what, *way.prefix], way.becomes)


def warnings(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if line.startswith("vdso: ")]


# ---- ptrace refused ----


def test_without_ptrace_the_host_s_clock(privileged: Way, shift: Path) -> None:
    done = refusing(privileged, "ptrace").run("sh", "-c", f"{shift} && {shift}")
    assert (done.returncode, done.stdout) == (0, HOST * 2)
    assert done.stderr.count("\n") == 1, done.stderr
    assert (
        "programs cannot be traced here (Operation not permitted) and run on the host's clock" in done.stderr
    )


def test_without_ptrace_strictly_nothing_is_started(privileged: Way, shift: Path) -> None:
    done = refusing(privileged, "ptrace").run(shift, options=["--strict-swap"])
    assert (done.returncode, done.stdout) == (120, "")
    assert f"{shift} cannot be swapped, and is not started" in done.stderr
    assert len(warnings(done)) == 2, done.stderr


def test_without_ptrace_and_following(privileged: Way, shift: Path) -> None:
    done = refusing(privileged, "ptrace").run(shift, options=["--no-follow"])
    assert (done.returncode, done.stdout) == (0, HOST)
    assert warnings(done) == [
        "vdso: the command cannot be traced: Operation not permitted: the command runs on the host's clock"
    ]
    assert "SYS_PTRACE" in done.stderr
    done = refusing(privileged, "ptrace").run(shift, options=["--no-follow", "--strict-swap"])
    assert (done.returncode, done.stdout) == (120, "")
    assert warnings(done) == ["vdso: the command cannot be traced: Operation not permitted"]


@pytest.mark.parametrize("scope", ["2", "3"])
def test_yama_that_lets_nobody_trace(shift: Path, scope: str, tmp_path: Path) -> None:
    """By a file in the place of Yama's own, and without the capability that overrides scope 2."""
    said = tmp_path / "ptrace_scope"
    said.write_text(scope + "\n")
    program = (
        "import sys; from vdso.swap import process, run; process.YAMA_SCOPE = sys.argv[1]; "
        "run.has_capability = lambda number: False; from vdso.cli import main; sys.exit(main(sys.argv[2:]))"
    )
    command = [sys.executable, "-c", program, str(said), "run", "--offset", "+1000d"]
    done = subprocess.run([*command, str(shift)], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (0, HOST)
    assert f"(kernel.yama.ptrace_scope is {scope}): the command runs on the host's clock" in done.stderr
    done = subprocess.run(
        [*command, "--strict-swap", str(shift)], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout) == (120, "")


def test_without_ptrace_under_yama(under_yama: Way, shift: Path) -> None:
    done = refusing(under_yama, "ptrace").run(shift)
    assert (done.returncode, done.stdout) == (0, HOST)
    assert len(warnings(done)) == 1, done.stderr


# ---- seccomp refused, or taken ----

REFUSALS = {"seccomp": "Operation not permitted", "listener": "Device or resource busy"}


@pytest.mark.parametrize("clock", ["kernel", "tsc"])
@pytest.mark.parametrize("what", REFUSALS)
def test_without_a_filter_the_command_is_swapped(privileged: Way, shift: Path, what: str, clock: str) -> None:
    done = refusing(privileged, what).run("sh", "-c", f"{shift}; exec {shift}", clock=clock)
    assert (done.returncode, done.stdout) == (0, HOST * 2)
    done = refusing(privileged, what).run(shift, clock=clock)
    assert (done.returncode, done.stdout) == (0, MOVED)
    reason = f"no seccomp filter can be installed here ({REFUSALS[what]})"
    assert done.stderr == f"vdso: {reason}: programs that the command starts keep the host's clock\n"


@pytest.mark.parametrize("what", REFUSALS)
def test_without_a_filter_strictly_nothing_is_started(privileged: Way, shift: Path, what: str) -> None:
    done = refusing(privileged, what).run(shift, options=["--strict-swap"])
    assert (done.returncode, done.stdout) == (119, "")
    assert warnings(done) == [f"vdso: no seccomp filter can be installed here: {REFUSALS[what]}"]
    assert "--no-follow" in done.stderr


@pytest.mark.parametrize("options", [["--no-follow"], ["--no-follow", "--strict-swap"]])
@pytest.mark.parametrize("what", REFUSALS)
def test_without_a_filter_or_following(privileged: Way, shift: Path, what: str, options: list[str]) -> None:
    """Nobody wants to follow: nothing is lost that was asked for."""
    done = refusing(privileged, what).run(shift, options=options)
    assert (done.returncode, done.stdout, done.stderr) == (0, MOVED, "")


@pytest.mark.parametrize("what", REFUSALS)
def test_without_a_filter_the_clock_cannot_be_set(privileged: Way, what: str) -> None:
    """CAP_SYS_TIME is dropped instead; the attempt is an adjtimex that would change nothing."""
    script = "import ctypes, os; l = ctypes.CDLL(None, use_errno=True); "
    script += "b = (ctypes.c_long * 64)(0x4000); r = l.adjtimex(b); print(r, ctypes.get_errno())"
    done = refusing(privileged, what).run(sys.executable, "-c", script)
    assert done.stdout == "-1 1\n"


# ---- limits ----


@pytest.mark.parametrize("limit", range(6))
def test_few_descriptors(way: Way, static_shift: Path, limit: int) -> None:
    """Two are needed for some microseconds. A program that has no room for them keeps what room it has."""
    command = f"ulimit -n {limit}; exec {static_shift}"
    done = way.run("sh", "-c", command)
    assert done.returncode == 0, done.stderr
    if limit >= 5:
        assert (done.stdout, done.stderr) == (MOVED, "")
    else:
        assert done.stdout == HOST
        assert re.fullmatch(
            r"vdso: static-shift \(pid \d+\) runs on the host's clock: Too many open files\n", done.stderr
        )
    done = way.run("sh", "-c", command, options=["--strict-swap"])
    assert (done.returncode, done.stdout) == ((0, MOVED) if limit >= 5 else (125, ""))
    assert ("is not started" in done.stderr) == (limit < 5)


def test_a_descriptor_is_not_kept(way: Way) -> None:
    """With room for one: had it been used up, the dynamic linker could open nothing."""
    done = way.run("sh", "-c", "ulimit -n 4; exec date +%Y")
    assert done.returncode == 0, done.stderr
    assert len(warnings(done)) == 1


@pytest.mark.parametrize("limit", range(5, 12))
def test_few_descriptors_for_the_command_line(vdso: str, shift: Path, limit: int) -> None:
    """Python itself needs some: below that it is Python's to complain."""
    words = f"ulimit -n {limit}; exec {vdso} run --offset {OFFSET} -- {shift}"
    done = finish(["sh", "-c", words])
    if done.returncode == 0:
        assert (done.stdout, done.stderr) == (MOVED, "")
    else:
        assert done.stdout == ""
        assert re.search(r"too many open files", done.stderr, re.IGNORECASE), done.stderr
        assert "Traceback" not in done.stderr or "/vdso/" not in done.stderr


def test_little_memory(way: Way, static_shift: Path) -> None:
    """A swap takes 20 KiB of the address space: with so much more a program ends as without us."""
    step_kib, room_kib = 8, 24
    sizes = range(700, 1100, step_kib)
    tries = (f"(ulimit -v {size}; exec {static_shift} 2>&1; exit 9); echo '=' $? {size}" for size in sizes)
    script = ";".join(tries)
    plain, swapped = (
        re.findall(r"(.*)= (\d+) (\d+)\n", done.stdout)
        for done in (finish(["sh", "-c", script], stderr=subprocess.PIPE), way.run("sh", "-c", script))
    )
    assert len(plain) == len(swapped) == len(sizes)
    assert {plain[0][1], plain[-1][1]} > {"0"}, "nothing is tried"
    for before, (text, status, size) in zip(
        plain[: -room_kib // step_kib], swapped[room_kib // step_kib :], strict=True
    ):
        if before[1] == "0":
            assert status == "0", f"at {size} KiB"
        if status == "0":
            assert text == MOVED or (text.endswith(HOST) and "runs on the host's clock" in text), (
                f"at {size} KiB: {text}"
            )
        else:
            assert status in {one[1] for one in plain}, f"at {size} KiB: {text}"
    assert swapped[-1][0] == MOVED


# ---- time namespaces ----


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("clock", ["kernel", "tsc"])
@pytest.mark.parametrize("inside", [True, False], ids=["run-inside", "enter-inside"])
def test_a_time_namespace(privileged: Way, shift: Path, clock: str, inside: bool) -> None:
    """Libc's MONOTONIC is the namespace's, as the system call's is: the keeper's lines are not used."""
    enter = [want("unshare", "util-linux"), "-T", "--monotonic", "1000000", "--boottime", "2000000"]
    if inside:
        done = Way(privileged.vdso, enter).run(shift, clock=clock)
    else:
        done = privileged.run(*enter, shift, clock=clock)
    assert (done.returncode, done.stdout, done.stderr) == (0, MOVED, "")


# ---- debuggers and profilers ----


@pytest.fixture(params=["kernel", "tsc"])
def spinning(
    request: pytest.FixtureRequest, privileged: Way, spin: Path, start: Start
) -> Iterator["subprocess.Popen[str]"]:
    """A program in clock_gettime, on either kind of clock."""
    process = start(privileged.words(spin, clock=request.param))
    assert process.stdout is not None
    assert process.stdout.readline() == f"{STARTED}\n"
    yield process
    process.kill()


def gdb(*words: str | Path) -> str:
    done = finish([want("gdb", "gdb"), "-nx", "-batch", "-iex", "set debuginfod enabled off", *words])
    return done.stdout + done.stderr


def frames(text: str) -> list[str]:
    return re.findall(r"^#\d+ .*?(\w+) \(", text, re.MULTILINE)


def test_gdb(spinning: "subprocess.Popen[str]", spin: Path, tmp_path: Path) -> None:
    core = tmp_path / "core"
    commands = ["break __vdso_clock_gettime", "continue", "stepi 20", "info symbol $pc", "backtrace"]
    commands += [f"generate-core-file {core}", "delete", "finish", "backtrace", "detach"]
    words = [word for command in commands for word in ("-ex", command)]
    text = gdb("-p", str(spinning.pid), *words)
    assert "system-supplied DSO" in text, text
    seen = frames(text)
    assert seen[:1] == ["__vdso_clock_gettime"], text
    assert seen.count("spin") >= 2, text
    assert seen.count("main") >= 2, text
    assert "__vdso_clock_gettime" not in seen[seen.index("main") + 1 :], text
    assert spinning.poll() is None, "it goes on"
    text = gdb("-ex", "backtrace", "-ex", "info symbol $pc", spin, core)
    assert frames(text)[-1] == "main", text
    assert "__vdso_clock_gettime" in frames(text), text


def test_gdb_finds_the_way_out_of_a_wait(privileged: Way, start: Start, programs: Programs) -> None:
    until = programs.c("until")
    process = start(privileged.words(until, "nanosleep", "5", offset=None, options=["--freeze"]))
    end = time.monotonic() + TIMEOUT_S
    # It sleeps on a futex once it has been turned, which a debugger that comes earlier would prevent.
    while not Path(f"/proc/{process.pid}/syscall").read_text(encoding="ascii").startswith(f"{FUTEX} "):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    text = gdb("-p", str(process.pid), "-ex", "backtrace")
    assert frames(text)[0] == "vdso_wait", text
    assert frames(text)[-2:] == ["call", "main"], text


def test_a_core_dump(privileged: Way, spin: Path, tmp_path: Path) -> None:
    """A bad pointer: the program ends in our image, and the kernel writes what is left of it."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text(encoding="ascii").strip()
    line = f"ulimit -c unlimited; exec {privileged.line(str(spin), 'badly')}"
    done = finish(["sh", "-c", line], cwd=tmp_path)
    assert done.returncode == -signal.SIGSEGV
    assert done.stdout == f"{STARTED}\n"
    cores = list(tmp_path.glob("core*"))
    if not cores:
        assert pattern != "core", "a core dump was to be expected"
        return  # it goes to a program of the host's
    text = gdb("-ex", "backtrace", spin, cores[0])
    # Where an offset is added __vdso_clock_gettime has gone on by a jump, and so has no frame.
    assert {"__vdso_clock_gettime", "with_offset"} & set(frames(text)), text
    assert frames(text)[-1] == "main", text


def test_perf(privileged: Way, spin: Path, tmp_path: Path) -> None:
    data = tmp_path / "perf.data"
    # By the clock: a virtual machine may have no counters.
    record = [want("perf", "linux-perf"), "record", "-q", "-e", "cpu-clock", "-o", data, "--"]
    done = finish([*record, "timeout", "1", *privileged.words(spin, clock="tsc")])
    assert data.exists(), done.stderr
    done = finish(["perf", "report", "-i", data, "--stdio", "--sort", "dso,sym"], timeout=TIMEOUT_S)
    rows = re.findall(r"^ *([\d.]+)% +(\S+) +\[\.\] (\S+)", done.stdout, re.MULTILINE)
    ours = {symbol: float(share) for share, image, symbol in rows if image == Path(IMAGE).name}
    assert ours.get("__vdso_clock_gettime", 0) > 10, done.stdout


# ---- where a sandbox lacks a system call ----


@pytest.mark.parametrize(
    ("what", "call", "words"),
    [
        ("memfd", "memfd_create", ["run", "--offset", "+1d", "--", "date"]),
        ("memfd", "memfd_create", ["stat", "--", "date"]),
        ("memfd", "memfd_create", ["attach", "OTHER", "--offset", "+1d"]),
        ("memfd", "memfd_create", ["stat", "-p", "OTHER", "-d", "0.1"]),
        ("pidfd", "pidfd_open", ["stat", "--", "date"]),
        ("pidfd", "pidfd_open", ["stat", "-p", "OTHER", "-d", "0.1"]),
    ],
)
def test_the_call_that_is_refused_is_named(
    what: str, call: str, words: list[str], privileged: Way, start: Start
) -> None:
    other = start(["sleep", "60"])
    words = [str(other.pid) if word == "OTHER" else word for word in words]
    done = finish([sys.executable, SOURCES / "refusing.py", what, privileged.vdso, *words])
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith(f"vdso: {call} is refused here: operation not permitted\n")


# ---- without /proc ----

WITHOUT_PROC = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize(
    "words",
    [
        ["run", "--", "true"],
        ["stat", "--", "true"],
        ["stat", "-p", "1", "-d", "0.1"],
        ["attach", "1", "--offset", "+1d"],
        ["detach", "1"],
        ["sessions"],
        ["time"],
    ],
    ids=" ".join,
)
def test_without_proc(privileged: Way, words: list[str]) -> None:
    done = finish([*WITHOUT_PROC, privileged.vdso, *words])
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == "vdso: /proc is not mounted\n  mount -t proc proc /proc\n"


@pytest.mark.usefixtures("as_root")
def test_top_without_proc(privileged: Way) -> None:
    words = [*WITHOUT_PROC, privileged.vdso, "top", "--once", "-d", "0.05"]
    found = json.loads(finish([*words, "--json"]).stdout)
    assert (found["sessions"], found["programs"]) == (None, None)
    assert found["processes_why"] == "/proc is not mounted"
    shown = finish(words).stdout.splitlines()
    assert {"sessions: /proc is not mounted", "programs: /proc is not mounted"} <= set(shown)
