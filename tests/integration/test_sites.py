"""Who reads the clock: real programs of each language, stopped at the vDSO, and asked for their callers.

The samples are taken by ptrace (tests/support/capture.py), so that nothing here depends on how calls are
counted.
"""

import dataclasses
import itertools
import os
import random
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
from capture import Capture, Captured
from harness import Programs, finish, want

from vdso.kernel.file import File
from vdso.measure.callers.objects import Object
from vdso.measure.callers.symbols import Symbols
from vdso.measure.sample import Sample
from vdso.measure.sites import Frame, Library, Site, Sites

REALTIME, MONOTONIC, REALTIME_COARSE, MONOTONIC_COARSE, BOOTTIME = 0, 1, 5, 6, 7
COUNT = 40

# Each function of sites.c, the clock that it reads, and who called it.
FUNCTIONS = {
    ("plainly", "main"),
    ("by_a_jump", "of_a_jump"),
    ("of_the_day", "main"),
    ("in_seconds", "through"),
    ("of_any_size", "main"),
    ("with_much_to_keep", "main"),
}


def resolved(samples: Iterable[Sample], captured: Captured) -> list[Site]:
    with Library() as library:
        sites = Sites()
        sites.add(samples, library.space(captured.pid, captured.mappings))
        return sites.found()


def sites_of(
    words: list[str | Path], count: int = COUNT, after: int = 0, stack_bytes: int = 512
) -> list[Site]:
    """The sites of a program's calls, some of the first left out: those of its start."""
    passed = itertools.count()
    with Capture(words, stack_bytes=stack_bytes) as running:
        captured = running.take(count, lambda _: next(passed) >= after)
        return resolved(captured.samples, captured)


def names(frames: Iterable[Frame]) -> list[str | None]:
    return [frame.function for frame in frames]


def callers(sites: list[Site]) -> set[tuple[str | None, str | None]]:
    """Each caller with its own."""
    for site in sites:
        assert site.unknown is None
        assert site.caller is not None
    return {
        (site.caller.function, site.beyond[0].function if site.beyond else None)
        for site in sites
        if site.caller
    }


BUILDS = {
    "plain": ("gcc", "-O2"),
    "unoptimised": ("gcc", "-O0"),
    "small": ("gcc", "-Os"),
    "frame pointers": ("gcc", "-O2", "-fno-omit-frame-pointer"),
    "fixed": ("gcc", "-O2", "-no-pie", "-fno-pie"),
    "static": ("gcc", "-O2", "-static"),
    "static-pie": ("gcc", "-O2", "-static-pie"),
    "without a table": ("gcc", "-O2", "-Wl,--no-eh-frame-hdr"),
    "without unwind information": ("gcc", "-O2", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables"),
    "musl": ("musl-gcc", "-O2"),
    "musl static": ("musl-gcc", "-O2", "-static"),
    "musl without any": ("musl-gcc", "-O2", "-static", "-fno-asynchronous-unwind-tables"),
}


@pytest.mark.parametrize("build", BUILDS)
def test_c(build: str, programs: Programs) -> None:
    words = list(BUILDS[build])
    if words[0] == "musl-gcc":
        words[0] = want("musl-gcc", "musl-tools")
    program = programs.compiled(f"sites-{build.replace(' ', '-')}", "sites.c", *words)
    sites = sites_of([program])
    found = callers(sites)
    assert found == FUNCTIONS
    for site in sites:
        assert site.caller is not None
        assert site.caller.object == str(program)
        assert site.caller.source == ".symtab"
        if site.caller.function == "by_a_jump":
            assert site.clock == MONOTONIC
            assert site.caller.tail == (build != "unoptimised")
        if site.caller.function == "with_much_to_keep":
            assert site.clock in (REALTIME_COARSE, MONOTONIC_COARSE)
        if site.function == "clock_gettime":
            assert "clock_gettime" in (site.via[0].function or "")
        # The ways that a call takes are counted apart, and each sample once.
        assert site.samples == site.weight
    assert sum(site.samples for site in sites) == COUNT
    assert len(sites) == len(FUNCTIONS) + 1, "with_much_to_keep has two"


def test_musls_other_calls_go_through_one(programs: Programs) -> None:
    program = programs.compiled("sites-musl", "sites.c", want("musl-gcc", "musl-tools"), "-O2")
    ways = {site.caller.function: names(site.via) for site in sites_of([program]) if site.caller}
    assert ways["in_seconds"] == ["clock_gettime", "time"]
    assert ways["of_the_day"] == ["clock_gettime", "gettimeofday"]


@pytest.mark.parametrize("options", [(), ("-static",), ("-O0",)])
def test_cpp(options: tuple[str, ...], programs: Programs) -> None:
    name = "-".join(["sites-c++", *(option.strip("-") for option in options)])
    program = programs.compiled(name, "sites.cc", want("g++", "g++"), "-O2", *options)
    sites = sites_of([program])
    found = {str(site.caller.function).replace(" (.isra.0)", "") for site in sites if site.caller}
    kind = "app::Timer<std::vector<int, std::allocator<int>>>"
    assert found == {f"{kind}::system()", f"{kind}::steady()"}
    for site in sites:
        assert names(site.via)[0] == "clock_gettime"
        clock = "system" if site.clock == REALTIME else "steady"
        assert names(site.via)[1] == f"std::chrono::_V2::{clock}_clock::now()"


@pytest.mark.parametrize(
    "options", [(), ("-Csymbol-mangling-version=v0",), ("-Cdebuginfo=2", "-Copt-level=0")]
)
def test_rust(options: tuple[str, ...], programs: Programs) -> None:
    name = "-".join(["sites-rust", *(option.strip("-").replace("=", "-") for option in options)])
    rustc = (want("rustc", "rustc"), "-O") if len(options) < 2 else (want("rustc", "rustc"),)
    program = programs.compiled(name, "sites.rs", *rustc, *options)
    sites = sites_of([program], after=4)
    found = {str(site.caller.function) for site in sites if site.caller}
    assert len(found) == 2
    assert any(one.endswith("::system") for one in found)
    assert any("Meter<" in one and one.endswith("::elapsed") for one in found)
    for site in sites:
        assert names(site.via)[0] == "clock_gettime"
        assert any("Timespec" in str(function) for function in names(site.via))


@pytest.mark.parametrize("options", [(), ("-ldflags=-s",), ("-buildmode=pie", "-ldflags=-s")])
def test_go(options: tuple[str, ...], programs: Programs) -> None:
    program = programs.go("sites", *options)
    # What Go's runtime reads for itself has callers too.
    sites = [site for site in sites_of([program], 60, after=200) if str(site.caller).count("main.")]
    assert {site.caller.function for site in sites if site.caller} == {"main.wall", "main.(*meter).read"}
    for site in sites:
        assert site.caller is not None
        assert names(site.beyond)[:1] == ["main.main"]
        assert site.caller.source == (".gopclntab" if options else ".symtab")
        assert {str(name).partition(".")[0] for name in names(site.via)} <= {"runtime", "time"}


def test_go_when_only_the_other_stack_was_looked_at(programs: Programs) -> None:
    with Capture([programs.go("sites")]) as running:
        captured = running.take(10, lambda sample: bool(sample.frame))
        sites = resolved([dataclasses.replace(one, frame=b"") for one in captured.samples], captured)
    for site in sites:
        assert site.caller is None
        assert site.unknown is not None
        assert site.unknown.endswith("the caller's frame is on a stack that the sample does not hold")


# ---- what cannot be found out ----


def test_a_sample_that_is_too_short(programs: Programs) -> None:
    program = programs.compiled("sites-plain", "sites.c", "gcc", "-O2")
    with Capture([program], stack_bytes=8) as running:
        captured = running.take(20)
        sites = resolved([dataclasses.replace(one, frame=b"") for one in captured.samples], captured)
    reached = [site for site in sites if site.caller]
    assert {site.function for site in reached} == {"gettimeofday", "time"}, "what libc does not stand before"
    missed = [site for site in sites if site.caller is None]
    assert missed
    for site in missed:
        assert site.unknown is not None
        assert "the sample's 8 bytes of stack end before the caller's frame" in site.unknown
        assert names(site.via) == ["clock_gettime"]


def test_a_stack_that_says_something_else(programs: Programs) -> None:
    """Whatever stands there: an answer or a reason, and never an address that follows no call."""
    program = programs.compiled("sites-plain", "sites.c", "gcc", "-O2")
    rng = random.Random(7)
    with Capture([program]) as running:
        captured = running.take(14)
        code = [one for one in captured.mappings if "x" in one.permissions]
        samples = []
        for sample in captured.samples * 20:
            stack = bytearray(sample.stack)
            for at in range(0, len(stack) - 8, 8):
                one = rng.choice(code)
                value = rng.choice([rng.getrandbits(64), rng.randrange(one.start, one.end), 0, (1 << 64) - 1])
                stack[at : at + 8] = value.to_bytes(8, "little")
            registers = {
                name: value if name in ("rip", "rsp") or rng.random() < 0.5 else rng.getrandbits(64)
                for name, value in sample.registers.items()
            }
            samples.append(dataclasses.replace(sample, stack=bytes(stack), registers=registers))
        sites = resolved(samples, captured)
    assert sum(site.samples for site in sites) == len(samples)
    reasons = {site.unknown.partition(": ")[2] for site in sites if site.unknown}
    assert any("follows no call" in reason for reason in reasons)
    assert any("no executable mapping" in reason for reason in reasons)


def test_a_return_address_in_no_mapping(programs: Programs) -> None:
    program = programs.compiled("sites-plain", "sites.c", "gcc", "-O2")
    with Capture([program]) as running:
        captured = running.take(1)
        (sample,) = captured.samples
        for rip in (0, 0x1000, sample.registers["rsp"], (1 << 64) - 1):
            lost = dataclasses.replace(sample, registers={**sample.registers, "rip": rip})
            (site,) = resolved([lost], captured)
            assert site.unknown == "its return address is in no executable mapping"
            assert (site.caller, site.via, site.beyond) == (None, (), ())


# ---- where the symbols and the files are ----


def test_a_stripped_program_has_addresses(programs: Programs, tmp_path: Path) -> None:
    whole = programs.compiled("sites-plain", "sites.c", "gcc", "-O2")
    stripped = tmp_path / "stripped"
    assert finish(["strip", "-o", stripped, whole]).returncode == 0
    with File(str(whole)) as file:
        known = Symbols(Object("whole", file), str(whole))
        found = set()
        for site in sites_of([stripped]):
            assert site.caller is not None
            assert (site.caller.function, site.caller.offset, site.caller.source) == (None, None, "no symbol")
            assert site.caller.label == f"stripped+{site.caller.address:#x}"
            symbol = known.find(site.caller.address - 1)
            assert symbol is not None
            found.add(symbol.name)
    # What ended in a jump has no name by which it could be found.
    assert found == {name for name, _ in FUNCTIONS} - {"by_a_jump"} | {"of_a_jump"}


def test_symbols_in_a_file_of_their_own(programs: Programs, tmp_path: Path) -> None:
    whole = programs.compiled("sites-plain", "sites.c", "gcc", "-O2")
    program, taken = tmp_path / "program", tmp_path / "program.debug"
    assert finish(["objcopy", "--only-keep-debug", whole, taken]).returncode == 0
    assert finish(["strip", "-o", program, whole]).returncode == 0
    assert finish(["objcopy", f"--add-gnu-debuglink={taken}", program], cwd=tmp_path).returncode == 0
    sites = sites_of([program])
    assert callers(sites) == FUNCTIONS
    assert {site.caller.source for site in sites if site.caller} == {str(taken)}


@pytest.mark.parametrize("replaced", [True, False])
def test_a_program_whose_file_is_another_by_now(replaced: bool, programs: Programs, tmp_path: Path) -> None:
    program = tmp_path / "program"
    shutil.copyfile(programs.compiled("sites-plain", "sites.c", "gcc", "-O2"), program)
    program.chmod(0o755)
    with Capture([program]) as running:
        program.unlink()
        if replaced:
            shutil.copyfile("/bin/true", program)
        captured = running.take(COUNT)
        assert any(mapping.name.endswith(" (deleted)") for mapping in captured.mappings)
        assert callers(resolved(captured.samples, captured)) == FUNCTIONS


def test_a_program_that_has_ended_meanwhile(programs: Programs) -> None:
    program = programs.compiled("sites-plain", "sites.c", "gcc", "-O2")
    with Library() as library:
        with Capture([program]) as running:
            captured = running.take(COUNT)
            space = library.space(captured.pid, captured.mappings)
        sites = Sites()
        sites.add(captured.samples, space)
        assert callers(sites.found()) == FUNCTIONS
    # Or was never looked at while it lived: its file is where it was.
    assert callers(resolved(captured.samples, captured)) == FUNCTIONS


@pytest.mark.parametrize("replaced", [True, False])
def test_a_file_that_is_gone(replaced: bool, programs: Programs, tmp_path: Path) -> None:
    """Nobody sees into it any more: where it stands is said, and why there is no more."""
    program = tmp_path / "program"
    shutil.copyfile(programs.compiled("sites-plain", "sites.c", "gcc", "-O2"), program)
    program.chmod(0o755)
    with Capture([program]) as running:
        captured = running.take(COUNT)
    os.rename(program, tmp_path / "elsewhere")
    if replaced:
        shutil.copyfile(tmp_path / "elsewhere", program)
    sites = resolved(captured.samples, captured)
    assert len(sites) == len(FUNCTIONS) + 1, "each place for itself"
    for site in sites:
        assert site.caller is not None
        assert (site.caller.function, site.beyond) == (None, ())
        assert site.caller.object == str(program)
        assert site.caller.source == "its file cannot be read, or is another one by now"


@pytest.mark.usefixtures("as_root")
def test_a_program_in_a_mount_namespace_of_its_own(programs: Programs, tmp_path: Path) -> None:
    program = programs.compiled("sites-static", "sites.c", "gcc", "-O2", "-static")
    inner = tmp_path / "inner"
    inner.mkdir()
    # The program is on a filesystem that only it can see, and under a name that here leads nowhere.
    script = f"mount -t tmpfs none {inner} && cp {program} {inner}/program && exec {inner}/program"
    words = [want("unshare", "util-linux"), "-m", want("sh", "dash"), "-c", script]
    with Capture(words, program=inner / "program") as running:
        captured = running.take(COUNT)
        assert not (inner / "program").exists()
        assert callers(resolved(captured.samples, captured)) == FUNCTIONS


# ---- generated code ----


def test_java(programs: Programs) -> None:
    words = programs.java("Sites")
    java = os.path.realpath(want(words[0], "default-jdk-headless"))
    sites = [site for site in sites_of([java, *words[1:]], 40, after=10_000) if site.weight > 2]
    assert {site.caller.label for site in sites if site.caller} == {"generated code [anon]"}
    for site in sites:
        assert site.caller is not None
        assert site.caller.source == "generated code"
        assert names(site.via)[0] == "clock_gettime"
        assert os.path.basename(site.via[1].object) == "libjvm.so"


def test_a_program_that_says_what_it_has_generated(
    programs: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where it writes another log
    node = os.path.realpath(want("node", "nodejs"))
    words = [node, "--perf-basic-prof", "--no-opt", "--always-sparkplug", programs.script("sites.js")]
    passed = itertools.count()
    with Capture(words) as running:
        captured = running.take(40, lambda _: next(passed) >= 2000)
        sites = resolved(captured.samples, captured)
    Path(f"/tmp/perf-{captured.pid}.map").unlink()
    generated = [frame for site in sites for frame in site.beyond if frame.source == "perf map"]
    assert any("currentTime" in str(frame.function) for frame in generated)
