"""`vdso doctor`, whole: on this machine, where something is wrong with it, and with all kinds of programs."""

import contextlib
import ctypes
import fcntl
import importlib.resources
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import (
    SOURCES,
    Programs,
    Start,
    Way,
    Words,
    finish,
    ignore_children,
    lacking,
    read_until,
    state,
    until,
    want,
)
from jsonschema import Draft202012Validator
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from vdso import _core

CLOCKSOURCE = Path("/sys/devices/system/clocksource/clocksource0")
STATUS = {"fast": 0, "slow": 1, "unknown": 2}
REFUSING = [sys.executable, SOURCES / "refusing.py"]


@pytest.fixture(scope="session")
def schema() -> Draft202012Validator:
    text = importlib.resources.files("vdso.measure.doctor").joinpath("schema.json").read_text("utf-8")
    return Draft202012Validator(json.loads(text))


class Doctor:
    """`vdso doctor --quick --json`, with words in front of it and behind, and what it found."""

    def __init__(self, vdso: str, schema: Draft202012Validator) -> None:
        self.vdso = vdso
        self.schema = schema

    def words(self, *more: str | Path, prefix: Words = ()) -> list[str]:
        return [str(word) for word in (*prefix, self.vdso, "doctor", "--quick", "--json", *more)]

    def __call__(self, *more: str | Path, prefix: Words = (), **how: Any) -> "Found":
        done = finish(self.words(*more, prefix=prefix), timeout=120, **how)
        assert done.stdout, done.stderr
        found = Found(json.loads(done.stdout), done.stderr)
        self.schema.validate(found.document)
        assert done.returncode == STATUS[found.document["verdict"]]
        return found


class Found:
    def __init__(self, document: dict[str, Any], stderr: str) -> None:
        self.document = document
        self.stderr = stderr
        self.verdict = document["verdict"]
        self.subject = document["subject"]
        self.findings = {one["id"]: one for one in document["findings"]}
        self.unseen = {name: one for one in document["unseen"] for name in one["checks"]}


@pytest.fixture(scope="session")
def doctor(vdso: str, schema: Draft202012Validator) -> Doctor:
    return Doctor(vdso, schema)


# ---- This machine ----


def test_this_machine(vdso: str, schema: Draft202012Validator) -> None:
    done = finish([vdso, "doctor", "--json"])
    assert done.stderr == ""
    found = json.loads(done.stdout)
    schema.validate(found)
    assert done.returncode == STATUS[found["verdict"]]
    assert (
        found["host"]["machine"]["clocksource"] == (CLOCKSOURCE / "current_clocksource").read_text().strip()
    )
    looked = set(found["checks"])
    missed = {name for one in found["unseen"] for name in one["checks"]}
    assert not looked & missed
    listed = json.loads(finish([vdso, "doctor", "--list", "--json"]).stdout)["checks"]
    # How a program uses the clock is another's.
    assert looked | missed == {one["id"] for one in listed} - {"program-enters", "program-cpu-time"}


@pytest.mark.usefixtures("as_root")
def test_without_proc_and_sys(doctor: Doctor) -> None:
    hidden = 'mount -t tmpfs none /proc && mount -t tmpfs none /sys && exec "$@"'
    found = doctor(prefix=["unshare", "-m", "sh", "-c", hidden, "sh"])
    # What the C library takes is measured without them; by which way is not.
    assert found.verdict == "fast"
    assert found.document["reason"].startswith("a read of the clock of this process takes ")
    assert "libc-bypasses" in found.unseen
    assert found.findings == {}
    assert {"cmdline-tsc", "cpu-flags", "preload", "tracer"} <= set(found.unseen)


def test_one_cpu_is_not_compared(doctor: Doctor) -> None:
    cpu = min(os.sched_getaffinity(0))
    found = doctor(prefix=["taskset", "-c", str(cpu)])
    assert not found.document["figures"]["counter"]["compared"]
    assert "counters-differ" in found.unseen


def test_what_people_read(vdso: str) -> None:
    done = finish([vdso, "doctor", "--quick"])
    assert done.stderr == ""
    verdict = done.stdout.partition(":")[0]
    assert done.returncode == STATUS[verdict]
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert "each clock read costs" in lines[1]
    assert any(line.startswith("  MONOTONIC ") for line in lines)


def test_metrics(vdso: str) -> None:
    done = finish([vdso, "doctor", "--quick", "--openmetrics"])
    assert done.stderr == ""
    for families in (openmetrics_families(done.stdout), text_families(done.stdout)):
        values = {
            (sample.name, *sample.labels.values()): sample.value
            for family in families
            for sample in family.samples
        }
        verdict = next(name for name, status in STATUS.items() if status == done.returncode)
        assert values["vdso_doctor_verdict", verdict] == 1
        assert 0 < values["vdso_clock_read_seconds", "MONOTONIC", "syscall"] < 0.001


def test_list(vdso: str) -> None:
    done = finish([vdso, "doctor", "--list"])
    assert (done.returncode, done.stderr) == (0, "")
    assert "clocksource-slow (critical): " in done.stdout
    assert done.stdout.count("https://") >= 50


@pytest.mark.parametrize(
    "words",
    [
        ("what",),
        ("--",),
        ("--json", "--openmetrics"),
        ("-p", "1", "--", "true"),
        ("-p", "0"),
        ("-p", "-1"),
        ("-p", "x"),
        ("-p", "99999999999"),
        ("-p",),
        ("--list", "--quick"),
        ("--list", "--", "true"),
    ],
    ids=" ".join,
)
def test_usage(vdso: str, words: tuple[str, ...]) -> None:
    done = finish([vdso, "doctor", *words])
    assert (done.returncode, done.stdout) == (2, "")
    assert "vdso doctor --help" in done.stderr


# ---- What can be wrong with it, as far as one machine can have it ----


def test_a_vdso_that_is_hidden(doctor: Doctor, programs: Programs) -> None:
    found = doctor(prefix=[programs.c("without_vdso")])
    assert found.verdict == "slow"
    assert "vdso-hidden" in found.findings
    cost = found.document["cost"]
    assert cost["could_be_ns"] < cost["read_ns"]
    assert found.subject["image"] == "none"


def test_a_process_that_was_told_of_no_vdso(doctor: Doctor, programs: Programs, start: Start) -> None:
    outer = start([programs.c("without_vdso"), "cat"])
    pid = child_of(outer)
    read_until_it_runs(outer)
    found = doctor("-p", str(pid))
    assert found.verdict == "slow"
    assert f"[vdso] is mapped in process {pid}" in found.findings["vdso-hidden"]["cause"]


def child_of(process: "subprocess.Popen[str]") -> int:
    assert process.stdin
    # It answers when it has been started.
    read_until_it_runs(process)
    return int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])


def read_until_it_runs(process: "subprocess.Popen[str]") -> None:
    assert process.stdin
    assert process.stdout
    process.stdin.write("?\n")
    process.stdin.flush()
    read_until(process.stdout.fileno(), r"\?\n")


def test_a_filter_that_does_nothing_to_clocks(doctor: Doctor) -> None:
    found = doctor(prefix=[*REFUSING, "affinity"])
    assert "seccomp" in found.findings
    assert found.subject["seccomp_filters"] == 1


def test_a_filter_that_refuses_clock_calls(doctor: Doctor) -> None:
    found = doctor(prefix=[*REFUSING, "reading"])
    assert "MONOTONIC" in found.findings["seccomp-refuses"]["cause"]
    clock = next(one for one in found.document["figures"]["clocks"] if one["clock"] == "MONOTONIC")
    assert clock["syscall_ns"] is None
    assert 0 < clock["vdso_ns"] < 10_000
    # What answers is not what is refused.
    assert (found.verdict, found.document["cost"]["syscall_ns"]) == ("fast", None)


def test_a_filter_that_makes_clock_calls_dear(doctor: Doctor, privileged: Way) -> None:
    """Its listener answers each of them, as a sandbox's does."""
    words = privileged.words(options=["--strict"])
    found = doctor(prefix=words)
    assert "takes" in found.findings["seccomp-dear"]["cause"]
    assert found.subject["image"] == "vdso run"
    assert "our-image" in found.findings


@pytest.fixture(scope="session")
def interposing(programs: Programs) -> dict[str, Path]:
    built = {}
    for name, flags in (("quick", []), ("slow", ["-DSLOW"])):
        built[name] = programs.directory / f"interposing-{name}.so"
        words = [
            "gcc",
            "-O1",
            "-shared",
            "-fPIC",
            *flags,
            SOURCES / "interposing.c",
            "-o",
            built[name],
            "-ldl",
        ]
        assert finish(words).returncode == 0
    return built


@pytest.mark.parametrize(
    ("name", "check", "verdict"), [("quick", "preload", "fast"), ("slow", "preload-slow", "slow")]
)
def test_a_preloaded_library(
    doctor: Doctor, interposing: dict[str, Path], name: str, check: str, verdict: str
) -> None:
    found = doctor(env={**os.environ, "LD_PRELOAD": str(interposing[name])})
    assert found.verdict == verdict
    assert (
        f"{interposing[name]} stands before the C library and has clock_gettime"
        in found.findings[check]["cause"]
    )


# Another /etc, for who runs in it.
WITH_PRELOAD = """\
mount -t tmpfs none "$1" && cp -a /etc/. "$1" && echo "$2" >"$1/ld.so.preload" && mount --bind "$1" /etc &&
shift 2 && exec "$@"
"""


@pytest.mark.usefixtures("as_root")
def test_a_library_that_the_loaders_file_names(
    doctor: Doctor, interposing: dict[str, Path], tmp_path: Path
) -> None:
    words: Words = ["unshare", "-m", "sh", "-c", WITH_PRELOAD, "sh", tmp_path, interposing["quick"]]
    found = doctor(prefix=words)
    assert "preload" in found.findings
    assert found.subject["preloaded"] == [str(interposing["quick"])]


@pytest.mark.usefixtures("as_root")
def test_a_commands_preloaded_library_is_timed(doctor: Doctor, interposing: dict[str, Path]) -> None:
    """What is wrong is the library, though what was counted are the program's own system calls."""
    code = "import time; [time.time() for _ in range(300000)]"
    found = doctor("--", "env", f"LD_PRELOAD={interposing['slow']}", sys.executable, "-c", code)
    assert found.document["reason"] == "a preloaded library makes the clock slow"
    assert re.search(r"takes \d+ ns by its name, \d+ by the vDSO", found.findings["preload-slow"]["cause"])
    assert not {"program-enters", "libc-bypasses"} & set(found.findings)
    rows = found.document["observation"]["stat"]["rows"]
    # The process that times it is not the program's.
    assert sum(row["calls"] for row in rows if row["clock"] == "REALTIME") < 301_000
    # What the kernel's image has was seen before it was counted.
    assert "functions-missing" in found.document["checks"]


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("words", [["true"], ["env", "true"]], ids=" ".join)
def test_a_program_that_reads_no_clock(doctor: Doctor, words: list[str]) -> None:
    """What follows it reads the clock by system calls, and is not the program."""
    found = doctor("--", *words)
    seen = found.document["observation"]
    if seen is None:
        lacking("programs cannot be counted here")
    assert [row for row in seen["stat"]["rows"] if row["route"] == "syscall"] == []
    assert "program-enters" not in found.findings
    assert "functions-missing" in found.document["checks"]


def test_what_a_launcher_becomes_is_looked_at(doctor: Doctor, interposing: dict[str, Path]) -> None:
    found = doctor("--", "env", f"LD_PRELOAD={interposing['quick']}", "sleep", "0.4")
    assert found.subject["name"] == "sleep"
    assert "preload" in found.findings


READS = "import time; end = time.time() + 1; all(time.time() < end for _ in iter(int, 1))"


@pytest.mark.parametrize("end", ["", "; exit 3"], ids=["exec", "fork"])
def test_who_makes_the_calls_is_looked_at(doctor: Doctor, interposing: dict[str, Path], end: str) -> None:
    """And not the shell that starts it, whether that becomes it or waits for it."""
    library = str(interposing["quick"])
    found = doctor("--", "sh", "-c", f"LD_PRELOAD={library} {sys.executable} -c '{READS}'{end}")
    if found.document["observation"] is None:
        lacking("programs cannot be counted here")
    assert found.subject["name"].startswith("python")
    assert found.subject["preloaded"] == [library]
    assert library in found.findings["preload"]["cause"]


@pytest.mark.parametrize("end", ["", "; :"], ids=["exec", "fork"])
def test_who_ends_as_soon_as_it_has_begun(doctor: Doctor, interposing: dict[str, Path], end: str) -> None:
    """It is not called fast for what the shell is that has started it."""
    found = doctor("--", "sh", "-c", f"export LD_PRELOAD={interposing['quick']}; date{end}")
    if found.document["observation"] is None:
        lacking("programs cannot be counted here")
    if found.subject["name"] == "date":  # it was there to be looked at, after all
        assert "preload" in found.findings
        return
    assert (found.verdict, found.document["cost"]) == ("unknown", None)
    assert re.match(
        r"date \(process \d+, \d+ of \d+ calls\) could not be looked at", found.document["reason"]
    )
    assert f"it had {interposing['quick']} mapped" in found.document["reason"]


def test_libfaketime(doctor: Doctor) -> None:
    want("faketime", "faketime")
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    found = doctor("--", "date", env={**os.environ, "LD_PRELOAD": str(library)})
    assert "clock_gettime" in found.findings["preload"]["cause"]


def test_under_strace(doctor: Doctor) -> None:
    found = doctor(prefix=[want("strace", "strace"), "-f", "-o", os.devnull])
    assert re.search(r"strace, process \d+ traces this process", found.findings["tracer"]["cause"])
    cost = found.document["cost"]
    if cost is None:  # for noise, which is said
        assert any("noise" in one["why"] for one in found.unseen.values())
        return
    # What is saved would be strace's.
    assert cost["cores"] is None
    assert cost["read_ns"] > 0


def test_a_process_under_strace(doctor: Doctor, start: Start) -> None:
    outer = start([want("strace", "strace"), "-f", "-o", os.devnull, "cat"])
    pid = child_of(outer)
    found = doctor("-p", str(pid))
    assert f"traces process {pid}" in found.findings["tracer"]["cause"]
    assert found.subject["tracer"].startswith("strace")


@pytest.mark.usefixtures("as_root")
def test_a_time_namespace(doctor: Doctor) -> None:
    found = doctor(prefix=["unshare", "-T", "--monotonic", "86400"])
    assert "monotonic 86400 s" in found.findings["time-namespace"]["cause"]
    assert found.verdict == doctor().verdict
    assert found.document["host"]["mode"] == doctor().document["host"]["mode"]


def test_a_process_that_may_not_read_the_counter() -> None:
    """PR_SET_TSC lasts over fork and exec, and what is linked dynamically does not live long under it: the
    loader reads the counter. So it is set, and found, by a child that does nothing else."""
    from vdso import _core
    from vdso.measure.doctor import clocksource
    from vdso.measure.doctor.view import Measured, View

    pr_set_tsc, pr_tsc_sigsegv = 26, 2
    prctl = ctypes.CDLL(None).prctl
    assert list(clocksource.forbidden(View(Measured(counter_allowed=_core.counter_allowed())))) == []
    child = os.fork()
    if child == 0:
        status = 9
        with contextlib.suppress(BaseException):
            prctl(pr_set_tsc, pr_tsc_sigsegv, 0, 0, 0)
            found = list(clocksource.forbidden(View(Measured(counter_allowed=_core.counter_allowed()))))
            status = 0 if len(found) == 1 else 1
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.fixture
def other_clocksource() -> Iterator[str]:
    """The host on another clocksource that its vDSO reads, for the length of a test. Put back by a process of
    its own, which also does so if this one is killed."""
    current = CLOCKSOURCE / "current_clocksource"
    before = current.read_text().strip()
    available = (CLOCKSOURCE / "available_clocksource").read_text().split()
    others = [name for name in available if name in ("tsc", "kvm-clock") and name != before]
    if not others or not os.access(current, os.W_OK):
        pytest.skip("one clocksource alone, or it may not be changed")
    words = ["sh", "-c", 'read -r line; echo "$1" >"$2"', "sh", before, str(current)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, start_new_session=True) as keeper:
        try:
            current.write_text(others[0])
            yield others[0]
        finally:
            assert keeper.stdin
            keeper.stdin.close()
            keeper.wait()
    assert current.read_text().strip() == before


@pytest.mark.usefixtures("as_root")
def test_another_clocksource(doctor: Doctor, other_clocksource: str) -> None:
    found = doctor()
    assert found.document["host"]["machine"]["clocksource"] == other_clocksource
    available = found.document["host"]["clocksources"]
    assert ("clocksource-not-best" in found.findings) == (available[0] != other_clocksource)
    assert found.document["host"]["mode"] == {"kvm-clock": "pvclock"}.get(
        other_clocksource, other_clocksource
    )


def test_a_personality_without_randomisation(doctor: Doctor) -> None:
    found = doctor(prefix=["setarch", "-R"])
    assert "aslr-off-here" in found.findings
    assert "aslr-fixed" not in found.findings


def test_a_sealed_vdso(doctor: Doctor, programs: Programs, start: Start) -> None:
    process = start([programs.c("odd"), "sealed"])
    assert process.stdout
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()
    if process.stdout.readline() == "":
        pytest.skip("this kernel has no mseal")
    found = doctor("-p", str(process.pid))
    if "sealed" not in Path(f"/proc/{process.pid}/smaps").read_text() and "sealed" not in found.findings:
        assert not re.search(r"VmFlags:.* sl\b", Path(f"/proc/{process.pid}/smaps").read_text())
        pytest.skip("this kernel does not seal the vDSO, or does not say so")
    assert "sealed" in found.findings


def test_an_attached_process(vdso: str, doctor: Doctor, start: Start) -> None:
    process = start(["cat"])
    read_until_it_runs(process)
    done = finish([vdso, "attach", str(process.pid), "--offset", "+1h"])
    if done.returncode:
        lacking(f"vdso attach: {done.stderr}")
    found = doctor("-p", str(process.pid))
    assert found.subject["image"] == "vdso attach"
    assert "our-image" in found.findings


def test_a_process_that_a_killed_stat_has_left(vdso: str, doctor: Doctor, start: Start) -> None:
    """It goes on counting, for nobody: what ends that is named by the doctor, and by who would count it."""
    process = start(["cat"])
    read_until_it_runs(process)
    counting = start([vdso, "stat", "-p", str(process.pid)])
    until(lambda: counting.poll() is not None or _core.clock_inode(process.pid))
    if counting.poll() is not None:
        lacking("vdso stat -p")
    counting.kill()
    counting.wait()
    found = doctor("-p", str(process.pid))
    assert found.subject["image"] == "vdso stat -p"
    way = f"vdso detach {process.pid}"
    assert found.findings["our-counting-jumps"]["remedy"] == way
    assert way in finish([vdso, "stat", "-p", str(process.pid)]).stderr
    assert finish([vdso, "detach", str(process.pid)]).returncode == 0
    assert doctor("-p", str(process.pid)).subject["image"] == "kernel"


def test_what_stat_has_started_and_left(vdso: str, doctor: Doctor) -> None:
    # It has come to its own program before it is left.
    code = "sleep 60 >/dev/null 2>&1 & until grep -q sleep /proc/$!/comm; do :; done; echo $!"
    done = finish([vdso, "stat", "--", "sh", "-c", code])
    child = int(done.stdout.split()[0])
    try:
        found = doctor("-p", str(child))
    finally:
        os.kill(child, signal.SIGKILL)
    if found.subject["image"] != "vdso stat":
        lacking("programs cannot be counted here")
    assert "start it anew" in found.findings["our-counting-image"]["remedy"]
    assert "start it anew without vdso stat" in found.findings["our-filter"]["remedy"]
    assert "seccomp" not in found.findings


# ---- Programs ----


def test_programs_by_their_c_library(doctor: Doctor, programs: Programs) -> None:
    kinds = {
        programs.c("clocks"): r"glibc \d+\.\d+",
        programs.static("clocks"): "glibc, static",
        programs.musl("clocks"): r"musl \d+\.\d+\.\d+",
        programs.musl(
            "clocks", static=True
        ): "musl, static|a C library that is not known here, or none, static",
        programs.go("clocks"): r"Go 1\.\d+(\.\d+)?, static",
    }
    for path, libc in kinds.items():
        found = doctor("--", path)
        assert re.fullmatch(libc, found.subject["libc"]), (path, found.subject["libc"])
        assert found.subject["kind"] == "command"
        assert found.subject["image"] == "kernel"
        assert found.subject["ended"] == "exit status 0"
        assert "program-blind" not in found.findings
        # What it prints is not the diagnosis.
        assert found.stderr


def test_a_program_of_32_bits(doctor: Doctor, programs: Programs) -> None:
    found = doctor("--", programs.i386("legacy"))
    assert found.subject["bits"] == 32
    assert "program-32-bit" in found.findings


def test_a_program_that_looks_for_no_vdso(doctor: Doctor, programs: Programs) -> None:
    source = programs.directory / "nothing.c"
    source.write_text("int main(void) { return 0; }\n")
    words = [want("musl-gcc", "musl-tools"), "-static", source, "-o", programs.directory / "nothing"]
    assert finish(words).returncode == 0
    found = doctor("--", programs.directory / "nothing")
    assert "names a function of the vDSO's" in found.findings["program-blind"]["cause"]
    # Whether it reads the clock at all was seen, or there is no verdict.
    assert (found.document["observation"] is None) == (found.verdict == "unknown")


def test_a_program_with_vsyscalls_address(doctor: Doctor, programs: Programs) -> None:
    found = doctor("--", programs.c("vsyscall"))
    assert len({"vsyscall-used", "vsyscall-gone"} & set(found.findings)) == 1
    assert not {"vsyscall-used", "vsyscall-gone"} & set(doctor("--", programs.c("clocks")).findings)


def test_what_a_command_reads_is_counted(doctor: Doctor) -> None:
    """With all that it starts: every read, of the vDSO's too."""
    code = "import time; [time.time() for _ in range(100000)]"
    found = doctor("--", "sh", "-c", f'{sys.executable} -c "{code}"; true')
    seen = found.document["observation"]
    assert seen["whole"]
    rows = {(row["clock"], row["route"]): row["calls"] for row in seen["stat"]["rows"]}
    assert 100_000 <= rows["REALTIME", "vdso"] < 101_000
    cost = found.document["cost"]
    assert cost["measured"]
    assert cost["reads_per_second"] > 10_000
    # What it was run on to be counted is not what it has.
    assert found.subject["image"] == "kernel"
    assert found.subject["seccomp_filters"] == doctor().subject["seccomp_filters"]


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("way", ["command", "process"])
def test_a_program_that_makes_the_system_call(
    doctor: Doctor, programs: Programs, start: Start, way: str
) -> None:
    program = programs.c("bypassing")
    if way == "command":
        words: list[str | Path] = ["--", program, "200"]
    else:
        process = start([program])
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        words = ["-p", str(process.pid)]
    found = doctor(*words)
    seen = found.document["observation"]
    if seen is None or (way == "command" and seen["slowed"]):
        lacking("no tracepoints here")
    assert found.verdict == "slow"
    assert "clock_gettime(MONOTONIC)" in found.findings["program-enters"]["cause"]
    cost = found.document["cost"]
    assert cost["measured"]
    assert cost["reads_per_second"] > 10_000
    assert cost["cores"] > 0


def test_calls_that_counting_has_slowed_are_no_rate(
    doctor: Doctor, programs: Programs, unprivileged: list[str]
) -> None:
    """Whoever may not use tracepoints counts them by stopping them."""
    if not unprivileged:
        pytest.skip("it takes root to have two users")
    found = doctor("--", programs.c("bypassing"), "200", prefix=unprivileged)
    assert found.document["observation"]["slowed"]
    assert found.verdict == "slow"
    assert "program-enters" in found.findings
    assert not found.document["cost"]["measured"]


def test_a_running_process_is_counted_and_left(vdso: str, start: Start) -> None:
    code = "import sys, time\nprint('ready', flush=True)\nwhile time.time(): pass"
    process = start([sys.executable, "-c", code])
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    before = Path(f"/proc/{process.pid}/auxv").read_bytes()
    done = finish([vdso, "doctor", "--json", "-p", str(process.pid)], timeout=120)
    found = json.loads(done.stdout)
    seen = found["observation"]
    if seen is None or not seen["whole"]:
        lacking(f"a running process cannot be counted in here: {found['unseen']}")
    assert found["cost"]["measured"]
    assert found["cost"]["reads_per_second"] > 100_000
    # It goes on, on the kernel's vDSO.
    assert process.poll() is None
    assert Path(f"/proc/{process.pid}/auxv").read_bytes() == before
    again = json.loads(finish([vdso, "doctor", "--quick", "--json", "-p", str(process.pid)]).stdout)
    assert again["subject"]["image"] == "kernel"


def test_what_could_not_be_counted_is_said(doctor: Doctor) -> None:
    """Where nobody may trace: it runs all the same."""
    found = doctor("--", "sh", "-c", "exit 3", prefix=[*REFUSING, "ptrace"])
    assert found.document["observation"] is None
    assert found.unseen["program-enters"]["why"]
    assert found.subject["ended"] == "exit status 3"
    assert any(one["what"].startswith("the command") for one in found.document["unseen"])


def test_a_script_without_a_first_line(doctor: Doctor, programs: Programs) -> None:
    script = programs.directory / "plain-script"
    script.write_text("exit 7\n")
    script.chmod(0o755)
    found = doctor("--", script)
    assert found.subject["ended"] == "exit status 7"


@pytest.mark.parametrize("prefix", [[], [*REFUSING, "ptrace"]], ids=["counted", "not counted"])
def test_where_the_end_of_children_is_ignored(prefix: list[str | Path], doctor: Doctor) -> None:
    words = ["sh", "-c", "exit 5"]
    assert doctor("--", *words, prefix=prefix, preexec_fn=ignore_children).subject["ended"] == "exit status 5"
    words = ["grep", "SigIgn", "/proc/self/status"]
    plain = finish(words, preexec_fn=ignore_children).stdout
    assert plain in doctor("--", *words, prefix=prefix, preexec_fn=ignore_children).stderr


def test_a_command_that_is_killed(doctor: Doctor) -> None:
    assert doctor("--", "sh", "-c", "kill -KILL $$").subject["ended"] == "SIGKILL"


def test_a_command_that_forks_a_thousand_children(doctor: Doctor, programs: Programs) -> None:
    found = doctor("--", programs.c("starter"), "many", "1000", "true")
    assert found.subject["ended"] == "exit status 0"


def test_a_command_that_is_not_there(vdso: str, programs: Programs) -> None:
    plain = programs.directory / "no-program"
    plain.write_text("")
    for command, status in (("/nowhere/at/all", 127), ("no-such-command-here", 127), (str(plain), 126)):
        done = finish([vdso, "doctor", "--quick", "--", command])
        assert (done.returncode, done.stdout) == (status, "")
        assert len(done.stderr.splitlines()) == 1


def test_what_ends_the_doctor_ends_its_command(doctor: Doctor, start: Start) -> None:
    process = start(doctor.words("--", "sh", "-c", "echo ready >&2; exec sleep 60"))
    assert process.stderr
    read_until(process.stderr.fileno(), "ready")
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert json.loads(out)["subject"]["ended"] == "SIGTERM"


def test_an_interrupt_is_the_commands(doctor: Doctor, start: Start) -> None:
    process = start(doctor.words("--", "sh", "-c", "echo ready >&2; exec sleep 60"))
    assert process.stderr
    read_until(process.stderr.fileno(), "ready")
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert json.loads(out)["subject"]["ended"] == "SIGINT"


# ---- Processes ----


def test_a_process(doctor: Doctor, start: Start) -> None:
    process = start(["cat"])
    read_until_it_runs(process)
    found = doctor("-p", str(process.pid))
    assert (found.subject["kind"], found.subject["pid"], found.subject["name"]) == (
        "process",
        process.pid,
        "cat",
    )
    assert found.verdict == doctor().verdict
    # Only it could say.
    assert "counter-forbidden" in found.unseen


def test_system_calls_alone_are_not_called_reads(vdso: str, start: Start) -> None:
    process = start(["cat"])
    read_until_it_runs(process)
    done = finish([vdso, "doctor", "--quick", "-p", str(process.pid)])
    line = next((line for line in done.stdout.splitlines() if line.startswith("observed")), "")
    if not line:
        lacking("no tracepoints here")
    assert re.fullmatch(r"observed +\d+ system calls? in .*", line), line


def test_processes_that_cannot_be_looked_at(vdso: str, programs: Programs, start: Start) -> None:
    odd = start([programs.c("odd"), "zombie"])
    assert odd.stdout
    zombie = int(odd.stdout.readline().split()[1])
    for pid, said in (
        (zombie, "zombie|there is no process"),
        (2, "kernel thread"),
        (4_000_000, "no process"),
    ):
        if pid == 2 and not Path("/proc/2").exists():
            continue
        done = finish([vdso, "doctor", "--quick", "-p", str(pid)])
        assert (done.returncode, done.stdout) == (2, "")
        assert re.search(said, done.stderr)
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("option", ["--quick", "--json"])
def test_a_process_whose_first_thread_has_ended(
    doctor: Doctor, programs: Programs, start: Start, option: str
) -> None:
    """It lives on in the others, by which it is looked at. With and without jumps in its vDSO."""
    odd = start([programs.c("odd"), "leader"])
    until(lambda: state(odd.pid) == "Z")
    words = [word for word in doctor.words("-p", str(odd.pid)) if word != "--quick" or option == word]
    done = finish(words, timeout=120)
    found = Found(json.loads(done.stdout), done.stderr)
    doctor.schema.validate(found.document)
    assert (found.subject["pid"], found.subject["name"], found.subject["image"]) == (odd.pid, "odd", "kernel")
    assert f"process {odd.pid}" in found.document["reason"]
    assert finish([doctor.words()[0], "detach", str(odd.pid)]).returncode == 122, "it has been left"
    assert odd.poll() is None


def test_a_process_that_is_somebody_elses(doctor: Doctor, unprivileged: list[str], start: Start) -> None:
    if not unprivileged:
        pytest.skip("it takes root to have two users")
    process = start(["cat"])
    read_until_it_runs(process)
    found = doctor("-p", str(process.pid), prefix=unprivileged)
    assert found.verdict == "unknown"
    assert "vdso-hidden" in found.unseen
    # What everybody may read is read.
    assert found.subject["name"] == "cat"


def test_a_process_that_dies_meanwhile(vdso: str, start: Start) -> None:
    """While it is measured, before and after: what was seen of it is nobody's."""
    for delay_s in (0.0, 0.05, 0.1, 0.2, 0.3):
        process = start(["sleep", "60"])
        running = start([vdso, "doctor", "-p", str(process.pid)])
        assert running.stdout
        select.select([running.stdout], [], [], delay_s)
        process.kill()
        process.wait()
        out, err = running.communicate(timeout=30)
        assert (running.returncode, out) == (2, "")
        assert re.fullmatch(rf"vdso: .*{process.pid}.*\n", err), err


# ---- Output ----


def test_nobody_reads(vdso: str) -> None:
    for option in ((), ("--json",), ("--openmetrics",), ("--list",)):
        with subprocess.Popen(
            [vdso, "doctor", *(() if option == ("--list",) else ("--quick",)), *option],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stdout
            assert process.stderr
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == 141


@pytest.mark.parametrize("option", ["--json", "--openmetrics", "--list"])
def test_a_full_device(vdso: str, option: str) -> None:
    with open("/dev/full", "w") as full:
        done = finish([vdso, "doctor", option], stdout=full)
    # 1 would say that the clock is slow.
    assert done.returncode == 2
    assert done.stderr == "vdso: no space left on device\n"


def test_closed_streams(vdso: str) -> None:
    done = finish(["sh", "-c", '"$0" doctor --quick >&- 2>&- <&-; echo $?', vdso])
    assert done.stdout == "2\n"
    # Nothing is thrown away in silence.
    for option in ("--quick", "--json", "--openmetrics", "--list"):
        done = finish(["sh", "-c", 'exec "$0" doctor "$1" >&-', vdso, option])
        assert (done.returncode, done.stderr) == (2, "vdso: standard output is closed\n")
    done = finish(["sh", "-c", '"$0" doctor --quick --json -- echo there 2>&-', vdso])
    assert json.loads(done.stdout)["subject"]["ended"] == "exit status 0"


@pytest.mark.parametrize("columns", [20, 1, 0])
def test_a_narrow_terminal(vdso: str, columns: int, start: Start) -> None:
    fd, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = start([vdso, "doctor", "--quick"], stdout=inner)
    os.close(inner)
    text = read_until(fd, "")
    os.close(fd)
    assert process.wait() in STATUS.values()
    plain = re.sub(r"\x1b\[\d+m", "", text).splitlines()
    assert max(map(len, plain)) <= (20 if columns else 100)
    assert "\x1b[" in text


def test_nothing_is_left(doctor: Doctor, tmp_path: Path) -> None:
    before = set(os.listdir("/dev/shm"))
    doctor("--", "true", env={**os.environ, "TMPDIR": str(tmp_path)}, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert set(os.listdir("/dev/shm")) <= before
