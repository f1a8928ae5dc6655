"""`vdso look`, on processes as they are and as they are made to be."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import elves
import pytest
from harness import SOURCES, Programs, Start, finish, want

JSON = ("look", "--json")
CALLS = {"clock_gettime", "gettimeofday", "time", "clock_getres", "sched_getcpu", "getrandom"}


def look(*words: str | Path) -> dict[str, Any]:
    done = finish(words)
    assert (done.returncode, done.stderr) == (0, "")
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def refused(*words: str | Path) -> str:
    """The one line, and its hint, of a command that ends with 1."""
    done = finish(words)
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert len(lines) <= 2
    assert lines[0].startswith("vdso: ")
    return lines[0]


def test_everything_in_one_document(vdso: str) -> None:
    document = look(vdso, *JSON)
    assert set(document) >= {"images", "pages", "vsyscall", "routes", "aslr", "unknown"}
    (image,) = document["images"]
    assert set(image) >= {"machine", "bits", "soname", "build_id", "kernel_version", "functions"}
    for function in image["functions"]:
        assert set(function) >= {"name", "version", "value", "size", "binding"}
    assert document["origin"] == "[vdso]"
    # Its pages lead up to it without a gap.
    ends = [page["end"] for page in document["pages"]]
    starts = [page["start"] for page in document["pages"][1:]] + [image["address"]]
    assert ends == starts
    assert document["aslr"]["execs"] == 200


def test_what_people_read(vdso: str) -> None:
    done = finish([vdso, "look"])
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("SONAME", "__vdso_clock_gettime", "[vvar]", "vsyscall", "ASLR", "clock_gettime(REALTIME)"):
        assert word in done.stdout
    assert "\x1b" not in done.stdout


def test_routes_are_those_that_strace_sees(vdso: str, programs: Programs) -> None:
    """Each call once under strace: what enters the kernel there is what was said to."""
    program = programs.c("calls")
    done = finish([want("strace", "strace"), "-f", "-qq", "-o", "/dev/stderr", program])
    assert done.returncode == 0, done.stderr
    entered: dict[str, bool] = {}
    label = ""
    for line in done.stderr.splitlines():
        if 'write(-1, "' in line:  # the program's word for the call that follows
            label = line.partition('write(-1, "')[2].partition('"')[0]
            entered[label] = False
        elif label and label != "end":
            entered[label] = True
    entered.pop("end")
    routes = look(vdso, *JSON)["routes"]["calls"]
    said = {
        route["call"] + (f" {route['clock']}" if route["clock"] else ""): route["syscall"] is not None
        for route in routes
    }
    assert {label: said[label] for label in entered} == entered
    assert {label.split()[0] for label in entered} == CALLS
    assert True in entered.values()


def test_a_library_that_keeps_a_state_for_its_calls(vdso: str, tmp_path: Path) -> None:
    """Each pass has the C library as it was: a call that was cut short would leave its state taken."""
    library = tmp_path / "reserving.so"
    done = finish(["gcc", "-O1", "-shared", "-fPIC", SOURCES / "reserving.c", "-o", library])
    assert done.returncode == 0, done.stderr
    done = finish([vdso, *JSON], env={**os.environ, "LD_PRELOAD": str(library)})
    assert (done.returncode, done.stderr) == (0, "")
    calls = {call["call"]: call for call in json.loads(done.stdout)["routes"]["calls"]}
    assert (calls["getrandom"]["route"], calls["getrandom"]["syscall"]) == ("vdso", None)


@pytest.fixture(scope="module")
def cores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A core as gdb writes it, and one that was put together."""
    directory = tmp_path_factory.mktemp("cores")
    made = directory / "made"
    made.write_bytes(elves.core(bytes(elves.build())))
    process = subprocess.Popen(["sleep", "60"])
    try:
        done = finish([want("gcore", "gdb"), "-o", directory / "gdb", process.pid])
        assert done.returncode == 0, done.stderr
    finally:
        process.kill()
        process.wait()
    return {"made": made, "gdb": directory / f"gdb.{process.pid}"}


@pytest.mark.parametrize("whose", ["made", "gdb"])
def test_a_core(vdso: str, cores: dict[str, Path], whose: str) -> None:
    """Its image was found by the auxiliary vector that the core holds."""
    done = finish([vdso, "look", cores[whose]])
    assert (done.returncode, done.stderr) == (0, "")
    assert "SONAME" in done.stdout
    assert "found by" not in done.stdout
    document = look(vdso, "look", cores[whose], "--json")
    assert document["sysinfo_ehdr"] == document["images"][0]["address"] is not None
    assert document["pages"] is None


def test_a_process_has_one_image(vdso: str, start: Start) -> None:
    process = start(["sleep", "60"])
    for word in ("self", str(process.pid)):
        assert "has no image 2" in refused(vdso, "look", word, "--image", "2")
        assert look(vdso, "look", word, "--image", "1", "--json")["images"]
    assert "this process has no image 0" in refused(vdso, "look", "--image", "0")


def test_the_names_of_files(vdso: str, tmp_path: Path) -> None:
    """What a terminal would obey is shown as what it is, and the same in JSON of look and of diff."""
    name = os.fsencode(tmp_path) + b"/\x1b[31m\n\xff.so"
    Path(os.fsdecode(name)).write_bytes(bytes(elves.build()))
    shown = f"{tmp_path}/\\x1b[31m\\n\\xff.so"
    done = finish([vdso, "look", os.fsdecode(name)])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == shown
    assert look(vdso, "look", os.fsdecode(name), "--json")["source"] == shown
    difference = json.loads(finish([vdso, "diff", os.fsdecode(name), "self", "--json"]).stdout)
    assert difference["a"] == shown
    assert "no image 7" in refused(vdso, "look", os.fsdecode(name), "--image", "7")
    assert shown in refused(vdso, "look", os.fsdecode(name), "--image", "7")
    for words in (
        ["look", os.fsdecode(name) + "x"],
        ["dump", "-o", os.fsdecode(name) + "/x"],
        ["bench", "--compare", os.fsdecode(name)],
        ["bench", "--save", os.fsdecode(name) + "/x"],
        ["disasm", "self", os.fsdecode(name)],
        [os.fsdecode(name)],
    ):
        done = finish([vdso, *words])
        assert done.returncode in (1, 2)
        assert shown in done.stderr
        assert "\x1b" not in done.stderr
        assert len(done.stderr.splitlines()) <= 2


def test_another_process(vdso: str, start: Start) -> None:
    process = start(["cat"])
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("there\n")
    process.stdin.flush()
    assert process.stdout.readline() == "there\n"  # past its exec
    document = look(vdso, "look", str(process.pid), "--json")
    maps = Path(f"/proc/{process.pid}/maps").read_text(encoding="ascii")
    (line,) = [line for line in maps.splitlines() if line.endswith("[vdso]")]
    assert f"{document['images'][0]['address']:x}" == line.partition("-")[0]
    assert document["routes"] is None
    assert [unknown["what"] for unknown in document["unknown"]] == ["how its C library routes each call"]


def test_randomisation_off(vdso: str) -> None:
    words = [want("setarch", "util-linux"), "-R", vdso]
    aslr = look(*words, *JSON)["aslr"]
    assert (aslr["distinct"], aslr["entropy_bits"], aslr["randomization_off"]) == (1, 0, True)
    assert "off for this process" in finish([*words, "look"]).stdout


def test_on_an_image_of_ours(vdso: str) -> None:
    words = [vdso, "run", "--", vdso]
    document = look(*words, *JSON)
    assert document["origin"].endswith("vdso-clock.so")
    assert document["pages"]
    assert {route["route"] for route in document["routes"]["calls"]} >= {"vdso"}
    assert "not the kernel's" in finish([*words, "look"]).stdout


def test_a_vdso_that_nobody_is_told_of(vdso: str, programs: Programs) -> None:
    """The image is mapped, its address is not in the auxiliary vector: every call goes to the kernel."""
    words = [programs.c("without_vdso"), vdso]
    document = look(*words, *JSON)
    assert document["sysinfo_ehdr"] is None
    assert {route["route"] for route in document["routes"]["calls"]} <= {"syscall", "library"}
    assert document["aslr"]["without_vdso"] == 0  # what it starts is told again
    assert "has no AT_SYSINFO_EHDR" in finish([*words, "look"]).stdout


def test_no_such_process(vdso: str, start: Start) -> None:
    process = start(["true"])
    process.wait(10)
    assert f"no process {process.pid}" in refused(vdso, "look", str(process.pid))


def test_zombie(vdso: str) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert "zombie" in refused(vdso, "look", str(pid))
    finally:
        os.waitpid(pid, 0)


@pytest.mark.usefixtures("as_root")
def test_kernel_thread(vdso: str) -> None:
    # Its parent is kthreadd, whose pid is 2 in the first pid namespace.
    if Path("/proc/2/comm").exists() and Path("/proc/2/comm").read_text().strip() == "kthreadd":
        assert "kernel thread" in refused(vdso, "look", "2")
    else:
        pytest.skip("no kernel thread is to be seen from this pid namespace")


@pytest.mark.usefixtures("as_root")
def test_process_of_another_user(vdso: str, unprivileged: list[str], start: Start) -> None:
    sleeper = start(["sleep", "60"])
    assert "somebody else" in refused(*unprivileged, vdso, "look", str(sleeper.pid))


@pytest.mark.parametrize("words", [["--nonsense"], ["1", "2"], ["--image"], ["--image", "one"]])
def test_usage(vdso: str, words: list[str]) -> None:
    done = finish([vdso, "look", *words])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("vdso: ")
    assert "vdso look --help" in done.stderr


def test_help_has_an_example(vdso: str) -> None:
    done = finish([vdso, "look", "--help"])
    assert done.returncode == 0
    assert "example:" in done.stdout


def test_into_a_closed_pipe(vdso: str) -> None:
    with subprocess.Popen([vdso, "look"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 141
