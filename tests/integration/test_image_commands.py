"""`vdso dump`, `disasm` and `diff` on real processes and files, beside readelf, objdump and gdb."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import elves
import kernels
import pytest
from harness import Start, Terminal, finish, lacking, read_until, until, want

from vdso.kernel import Image, auxv, maps
from vdso.kernel import source as sources


@pytest.fixture
def sleeper(start: Start) -> "subprocess.Popen[str]":
    return start(["sleep", "1000"])


@pytest.fixture
def dumped(vdso: str, tmp_path: Path) -> Path:
    """This machine's image in a file."""
    path = tmp_path / "vdso.so"
    done = finish([vdso, "dump", "-o", path])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return path


@pytest.fixture(scope="session")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kernel image of Debian's: downloads some 27 MB by apt, once a session."""
    try:
        return kernels.download_debian(tmp_path_factory.mktemp("debian"))
    except LookupError as error:
        lacking(str(error))
        raise


def refused(vdso: str, *words: str | Path, status: int = 1) -> str:
    """Runs what must fail with one line and perhaps a hint, and returns them."""
    done = finish([vdso, *words])
    assert (done.returncode, done.stdout) == (status, "")
    lines = done.stderr.splitlines()
    assert lines[0].startswith("vdso: ")
    assert len(lines) <= 2
    return done.stderr


# ---- dump ----


def test_dump_is_what_readelf_shows(dumped: Path) -> None:
    """The same names, versions, values, sizes, bindings; build id; SONAME; hash tables."""
    readelf = want("readelf", "binutils")
    image = Image.from_file(str(dumped))
    theirs = set()
    for line in finish([readelf, "--dyn-syms", "-W", dumped]).stdout.splitlines():
        match = re.match(r"\s*\d+: ([0-9a-f]+)\s+(\d+) FUNC\s+(\w+)\s+DEFAULT\s+\d+ (\S+)", line)
        if match:
            value, size, binding, name = match.groups()
            name, _, version = name.partition("@@")
            theirs.add((name, version, int(value, 16), int(size), binding.lower()))
    assert len(theirs) >= 5
    assert {(f.name, f.version, f.value, f.size, f.binding) for f in image.functions} == theirs
    notes = finish([readelf, "-n", dumped]).stdout
    assert f"Build ID: {image.build_id}" in notes
    assert image.version_note is not None
    assert f"description data: {image.version_note.to_bytes(4, 'little').hex(' ')}" in notes
    tags = finish([readelf, "-d", dumped]).stdout
    assert f"[{image.soname}]" in tags
    assert {table.kind for table in image.hash_tables} == {
        kind for kind, name in (("sysv", "(HASH)"), ("gnu", "(GNU_HASH)")) if name in tags
    }


def test_readelf_agrees_on_every_machine(tmp_path: Path) -> None:
    readelf = want("readelf", "binutils")
    path = tmp_path / "image.so"
    for machine in elves.MACHINES:
        path.write_bytes(bytes(elves.build(machine)))
        done = finish([readelf, "-aW", path])
        assert "arning" not in done.stdout + done.stderr
        for function in Image.from_file(str(path)).functions:
            row = rf"0*{function.value:x} +{function.size} FUNC +{function.binding.upper()} "
            row += rf".* {function.name}@@{function.version}$"
            assert re.search(row, done.stdout, re.MULTILINE), (machine, function)


def test_dump_of_a_process_is_what_gdb_dumps(
    vdso: str, sleeper: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    """Of a process that gdb has stopped, and while gdb holds it."""
    gdb = want("gdb", "gdb")
    area = maps.area(sleeper.pid)
    assert area.image is not None
    theirs, ours = tmp_path / "gdb", tmp_path / "ours"
    commands = [f"dump binary memory {theirs} {area.image.start:#x} {area.image.end:#x}"]
    commands.append(f"shell {vdso} dump {sleeper.pid} -o {ours}")
    words = [gdb, "-nx", "-q", "-batch", "-p", str(sleeper.pid)]
    for command in commands:
        words += ["-ex", command]
    done = finish(words)
    assert theirs.exists(), done.stderr
    assert len(theirs.read_bytes()) == area.image.size
    assert ours.read_bytes() == theirs.read_bytes()


def test_dump_reads_itself_back(vdso: str, dumped: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    assert finish([vdso, "dump", dumped, "-o", again]).returncode == 0
    assert again.read_bytes() == dumped.read_bytes()
    assert len(dumped.read_bytes()) == Image.from_process().size_bytes


def test_dump_into_a_pipe(vdso: str, dumped: Path) -> None:
    done = subprocess.run([vdso, "dump", "-o", "-"], capture_output=True, check=True)
    assert done.stdout == dumped.read_bytes()
    done = subprocess.run(
        f"{vdso} dump -o - | head -c 10 >/dev/null", shell=True, capture_output=True, check=True
    )
    assert done.stderr == b""


def test_dump_onto_a_terminal_is_refused(vdso: str, terminal: Terminal) -> None:
    said = terminal.command(f"{vdso} dump -o -; echo status $?")
    assert "no text for a terminal" in said
    assert "status 2" in said


def test_dump_writes_whole_or_not_at_all(vdso: str, dumped: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_bytes(b"what was there before")
    there.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to(there)
    # A limit on the size of files is met in the middle of writing.
    done = finish(["sh", "-c", f"trap '' XFSZ; ulimit -f 4; exec {vdso} dump -o {link}"])
    assert done.returncode == 1, done.stderr
    assert "cannot be written" in done.stderr
    assert there.read_bytes() == b"what was there before"
    assert sorted(os.listdir(tmp_path)) == ["link", "there", "vdso.so"]
    assert finish([vdso, "dump", "-o", link]).returncode == 0
    assert link.is_symlink()
    assert there.read_bytes() == dumped.read_bytes()
    assert stat.S_IMODE(there.stat().st_mode) == 0o640


def test_dump_where_it_cannot_write(vdso: str, tmp_path: Path) -> None:
    for target in (tmp_path, tmp_path / "none" / "file", "/proc/none", "/dev/full"):
        assert "cannot be written" in refused(vdso, "dump", "-o", target)
    assert finish([vdso, "dump", "-o", "/dev/null"]).returncode == 0
    assert "-o" in refused(vdso, "dump", status=2)


# ---- sources ----


@pytest.fixture(scope="session")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A core that gdb wrote."""
    path = tmp_path_factory.mktemp("core") / "core"
    with subprocess.Popen(["sleep", "1000"]) as child:
        words = [
            want("gdb", "gdb"),
            "-nx",
            "-q",
            "-batch",
            "-p",
            str(child.pid),
            "-ex",
            f"generate-core-file {path}",
        ]
        done = finish([*words, "-ex", "kill"])
        child.kill()
    assert path.exists(), done.stderr
    return path


def test_a_core_of_gdbs(vdso: str, core: Path, dumped: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert finish([vdso, "dump", core, "-o", out]).returncode == 0
    assert out.read_bytes() == dumped.read_bytes()
    assert sources.read(str(core)).kind == "core"


def test_a_core_of_the_kernels(vdso: str, dumped: Path, tmp_path: Path) -> None:
    pattern = Path("/proc/sys/kernel/core_pattern").read_text(encoding="utf-8").strip()
    if "/" in pattern or pattern.startswith("|"):
        pytest.skip("the kernel's cores do not go into the current directory here")
    done = finish(["sh", "-c", "ulimit -c unlimited; sh -c 'kill -QUIT $$'; true"], cwd=tmp_path)
    assert done.returncode == 0
    found = [path for path in tmp_path.iterdir() if path != dumped]
    if not found:
        pytest.skip("no core was written here")
    out = tmp_path / "out"
    assert finish([vdso, "dump", found[0], "-o", out]).returncode == 0
    assert out.read_bytes() == dumped.read_bytes()


def executes(pid: int, program: str | Path) -> bool:
    """Whether its exec is over: its vector is another then, and for a moment before that empty."""
    return os.path.samefile(f"/proc/{pid}/exe", program) and auxv.AT_PAGESZ in auxv.read(pid)


def test_a_32_bit_process(vdso: str, start: Start, open_directory: Path, tmp_path: Path) -> None:
    """Its vector has 4-byte words, and its image is i386's."""
    source = tmp_path / "waits.c"
    source.write_text(
        'void _start(void) { for (;;) __asm__ volatile("int $0x80" : : "a"(29)); }\n', encoding="ascii"
    )
    program = open_directory / "waits-i386"
    words = [
        "gcc",
        "-m32",
        "-nostdlib",
        "-static",
        "-ffreestanding",
        "-fno-pie",
        "-no-pie",
        source,
        "-o",
        program,
    ]
    done = finish(words)
    if done.returncode != 0:
        lacking(f"no 32-bit programs can be built here (Debian: gcc-multilib): {done.stderr[:200]}")
    child = start([program])
    until(lambda: executes(child.pid, program))
    vector = auxv.read(child.pid)
    assert vector[auxv.AT_PAGESZ] == 4096
    area = maps.area(child.pid)
    if area.image is None:
        assert "has no vDSO" in refused(vdso, "dump", str(child.pid), "-o", "/dev/null")
        return
    assert vector[auxv.AT_SYSINFO_EHDR] == area.image.start
    image = Image.from_process(child.pid)
    assert (image.machine, image.bits) == ("i386", 32)
    assert image.lookup("__kernel_vsyscall") is not None


def test_debians_kernel(vdso: str, debian: Path, tmp_path: Path) -> None:
    """Every image in it, and what dump writes of each is what readelf reads."""
    found = sources.read(str(debian))
    assert found.kind == "kernel"
    assert found.release is not None
    assert {"x86-64", "i386"} <= {image.machine for image in found.images}
    for number, image in enumerate(found.images, 1):
        assert image.kernel_version is not None
        assert found.release.startswith(".".join(image.kernel_version.split(".")[:2]))
        out = tmp_path / f"{image.machine}.so"
        assert finish([vdso, "dump", debian, "--image", str(number), "-o", out]).returncode == 0
        assert out.read_bytes() == image.data
        done = finish([want("readelf", "binutils"), "-aW", out])
        assert "arning" not in done.stdout + done.stderr
        for function in image.functions:
            assert f" {function.name}@@{function.version}" in done.stdout
            assert image.lookup(function.name, function.version) == function
        assert all(table.missing == () for table in image.hash_tables)
    by_machine = {image.machine: image for image in found.images}
    assert by_machine["x86-64"].soname == "linux-vdso.so.1"
    assert by_machine["i386"].soname == "linux-gate.so.1"
    assert by_machine["i386"].lookup("__kernel_vsyscall", "LINUX_2.5") is not None
    assert "2 images" in refused(vdso, "dump", debian, "-o", "/dev/null") or len(found.images) != 2
    assert "no image 9" in refused(vdso, "dump", debian, "--image", "9", "-o", "/dev/null")


def test_x32_as_the_linker_makes_it(vdso: str, tmp_path: Path) -> None:
    """ELFCLASS32 for x86-64: Debian's kernels have none any more."""
    source, script = tmp_path / "time.s", tmp_path / "versions"
    source.write_text(
        ".globl __vdso_time\n.type __vdso_time, @function\n__vdso_time: movl %edi, %eax\nret\n"
        ".size __vdso_time, .-__vdso_time\n",
        encoding="ascii",
    )
    script.write_text("LINUX_2.6 { global: __vdso_time; local: *; };\n", encoding="ascii")
    built, out = tmp_path / "time.o", tmp_path / "x32.so"
    assert finish([want("as", "binutils"), "--x32", source, "-o", built]).returncode == 0
    words = ["ld", "-m", "elf32_x86_64", "-shared", "--hash-style=both", "-soname=linux-vdso.so.1"]
    done = finish([*words, f"--version-script={script}", built, "-o", out])
    assert done.returncode == 0, done.stderr
    image = Image.from_file(str(out))
    assert (image.machine, image.bits) == ("x32", 32)
    function = image.lookup("__vdso_time", "LINUX_2.6")
    assert function is not None
    assert image.code(function) == bytes.fromhex("89f8c3")
    assert "mov" in finish([vdso, "disasm", out, "time"]).stdout


BAD = {
    "no process": ["99999999"],
    "no file": ["/nowhere/file"],
    "a directory": ["/tmp"],
    "a device": ["/dev/zero"],
    "a text": ["/etc/passwd"],
    "an empty word": [""],
}


@pytest.mark.parametrize("command", ["dump", "disasm", "look"])
@pytest.mark.parametrize("what", BAD)
def test_bad_sources(vdso: str, command: str, what: str, tmp_path: Path) -> None:
    more = ["-o", str(tmp_path / "out")] if command == "dump" else []
    more = ["time"] if command == "disasm" else more
    refused(vdso, command, *BAD[what], *more)
    assert not (tmp_path / "out").exists()


def test_a_process_of_another_user(
    vdso: str, unprivileged: list[str], sleeper: "subprocess.Popen[str]"
) -> None:
    if not unprivileged:
        lacking("only root may become another user")
    done = finish([*unprivileged, vdso, "dump", str(sleeper.pid), "-o", "-"])
    assert (done.returncode, done.stdout) == (1, "")
    assert "somebody else" in done.stderr
    assert len(done.stderr.splitlines()) == 2


WITHOUT = """
import ctypes, os
libc = ctypes.CDLL(None)
with open("/proc/self/maps") as file:
    for line in file:
        if line.rstrip().endswith("[vdso]"):
            start, end = (int(word, 16) for word in line.split()[0].split("-"))
assert libc.munmap(ctypes.c_void_p(start), ctypes.c_size_t(end - start)) == 0
os.write(1, b"gone\\n")
os.read(0, 1)
"""


def test_a_process_without_a_vdso(vdso: str, start: Start) -> None:
    """One that has unmapped it: the vector still has an address, and nothing is there."""
    child = start([sys.executable, "-c", WITHOUT])
    assert child.stdout is not None
    assert read_until(child.stdout.fileno(), "\n") == "gone\n"
    for words in (["dump", str(child.pid), "-o", "/dev/null"], ["disasm", str(child.pid), "time"]):
        assert f"process {child.pid} has no vDSO" in refused(vdso, *words)


def test_under_vdso_run_it_is_the_image_that_programs_find(vdso: str, tmp_path: Path, dumped: Path) -> None:
    ours = tmp_path / "ours"
    done = finish([vdso, "run", "--", vdso, "dump", "-o", ours])
    assert (done.returncode, done.stderr) == (0, "")
    assert Image.from_file(str(ours)).build_id != Image.from_file(str(dumped)).build_id
    done = finish([vdso, "run", "--", vdso, "diff", "self", dumped])
    assert done.returncode == 1
    assert "~ __vdso_clock_gettime = clock_gettime" in done.stdout


def test_a_file_of_two_sparse_gigabytes(vdso: str, tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    path.touch()
    os.truncate(path, 2 << 30)
    assert "neither an ELF file nor a kernel image" in refused(vdso, "dump", path, "-o", "/dev/null")


# ---- disasm ----


def test_disasm_finds_objdumps_instructions(vdso: str, dumped: Path) -> None:
    """The same bytes at the same places, all of .text: what only fills up aside."""
    objdump = want("objdump", "binutils")
    row = re.compile(r"^ +([0-9a-f]+):?\s+((?:[0-9a-f]{2} )*[0-9a-f]{2})\s", re.MULTILINE)

    def places(text: str) -> dict[int, bytes]:
        return {int(at, 16): bytes.fromhex(code) for at, code in row.findall(text)}

    theirs = places(finish([objdump, "-d", "--insn-width=16", "-j", ".text", dumped]).stdout)
    ours = places(finish([vdso, "disasm", dumped]).stdout)
    assert len(ours) > 300
    assert {at: code for at, code in theirs.items() if at in ours} == ours
    left_out = b"".join(code for at, code in theirs.items() if at not in ours)
    assert len(left_out) < sum(map(len, theirs.values())) / 5


def test_disasm_names_what_it_reads(vdso: str, dumped: Path) -> None:
    live = finish([vdso, "disasm", "time"]).stdout
    assert re.search(r"rip - 0x[0-9a-f]+\].*# <\[vvar\](\+0x[0-9a-f]+)?>", live)
    saved = finish([vdso, "disasm", dumped, "time"]).stdout
    assert re.search(r"# <image-0x[0-9a-f]+>", saved)
    assert re.search(r"j\w+ .*<__vdso_time\+0x[0-9a-f]+>", saved)
    assert saved.splitlines()[2].startswith("__vdso_time = time  LINUX_2.6, ")


def test_disasm_tells_source_and_function_apart(vdso: str, dumped: Path, tmp_path: Path) -> None:
    by_either = [finish([vdso, "disasm", name]).stdout.splitlines()[2:] for name in ("time", "__vdso_time")]
    assert by_either[0] == by_either[1] != []
    # A file of a function's name is a source; with a slash it can be nothing else.
    (tmp_path / "time").write_bytes(dumped.read_bytes())
    assert "code without a name" in finish([vdso, "disasm", "time"], cwd=tmp_path).stdout
    assert "no file or process ./none" in refused(vdso, "disasm", "./none")


def test_disasm_of_no_such_function(vdso: str) -> None:
    said = refused(vdso, "disasm", "self", "__vdso_clock_gettim")
    assert "no function __vdso_clock_gettim" in said
    assert "__vdso_clock_gettime" in said.splitlines()[1]
    assert "__vdso_time" in refused(vdso, "disasm", "self", "zzz")


def test_disasm_is_coloured_on_a_terminal_only(vdso: str, terminal: Terminal) -> None:
    assert "\x1b[" in terminal.command(f"{vdso} disasm time")
    assert "\x1b[" not in terminal.command(f"{vdso} disasm time | cat")


@pytest.mark.parametrize("machine", elves.MACHINES)
def test_disasm_of_every_machine(vdso: str, machine: str, tmp_path: Path) -> None:
    code = {
        "arm64": "000000b0 1f2003d5 01000014 c0035fd6",
        "arm": "00f020e3 000000ea 1eff2fe1",
        "riscv64": "97d7ffff 6f004000 13000000 67800000",
        "ppc64le": "00000060 04000048 2000804e",
        "s390x": "c010ffffe000 a7f40002 07fe",
        "s390": "c010ffffe000 a7f40002 07fe",
    }.get(machine, "90 eb00 c3")
    path = tmp_path / "image.so"
    path.write_bytes(bytes(elves.build(machine, code=bytes.fromhex(code.replace(" ", "")))))
    done = finish([vdso, "disasm", path, "clock_gettime"])
    assert (done.returncode, done.stderr) == (0, "")
    assert ".byte" not in done.stdout.splitlines()[3]
    assert "<__vdso_clock_gettime+0x" in done.stdout
    if machine in ("arm64", "riscv64", "s390x"):
        assert "# <image" in done.stdout


def test_disasm_of_a_machine_that_capstone_does_not_know(vdso: str, tmp_path: Path) -> None:
    elf = elves.build()
    elf.data[18:20] = b"\x02\x01"
    path = tmp_path / "image.so"
    path.write_bytes(bytes(elf))
    assert "no disassembly for machine-258" in refused(vdso, "disasm", path)


# ---- diff ----


def test_diff_of_the_same(vdso: str, dumped: Path, sleeper: "subprocess.Popen[str]") -> None:
    for a, b in (("self", "self"), ("self", dumped), (dumped, str(sleeper.pid))):
        done = finish([vdso, "diff", a, b])
        assert (done.returncode, done.stderr) == (0, "")
        assert "the same: " in done.stdout


def test_diff_of_changed_code(vdso: str, dumped: Path, tmp_path: Path) -> None:
    image = Image.from_file(str(dumped))
    function = image.lookup("__vdso_time")
    assert function is not None
    changed = bytearray(image.data)
    at = image.offset(function) + function.size - 1
    assert changed[at] == 0xC3
    changed[at] = 0xCC
    path = tmp_path / "changed.so"
    path.write_bytes(changed)
    done = finish([vdso, "diff", dumped, path])
    assert done.returncode == 1
    assert re.findall(r"^[-+~] .*", done.stdout, re.MULTILINE) == ["~ __vdso_time = time  code"]
    found = json.loads(finish([vdso, "diff", dumped, path, "--json"]).stdout)
    assert found["same"] is False
    assert [(one["name"], one["kind"], one["what"]) for one in found["images"][0]["functions"]] == [
        ("__vdso_time", "changed", ["code"]),
        ("time", "changed", ["code"]),
    ]


def test_diff_of_a_kernel_and_the_same_kernel_booted(vdso: str, debian: Path, tmp_path: Path) -> None:
    """As the kernel would patch it on two kinds of CPU, done here by the list in the image itself."""
    from vdso.kernel import alternatives

    (image,) = (image for image in sources.read(str(debian)).images if image.machine == "x86-64")
    sites = alternatives.sites(image)
    assert sites
    variants = []
    for choice in (0, -1):
        data = bytearray(image.data)
        for site in sites.values():
            one = site.replacements[choice]
            code = image.data[one.value : one.value + one.size]
            data[site.value : site.value + site.size] = code + b"\x90" * (site.size - one.size)
        variants.append(tmp_path / f"booted{choice}.so")
        variants[-1].write_bytes(data)
        assert bytes(data) != image.data
    for a, b in ((debian, variants[0]), (variants[1], debian), (variants[0], variants[1])):
        done = finish([vdso, "diff", a, b])
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        assert f"{len(sites)} places are the kernel's to patch" in done.stdout


def test_diff_of_two_kernels(vdso: str, debian: Path) -> None:
    done = finish([vdso, "diff", debian, debian])
    assert (done.returncode, done.stdout.count("the same: ")) == (0, len(sources.read(str(debian)).images))
    done = finish([vdso, "diff", "self", debian])
    assert done.returncode == 1 or Image.from_process().kernel_version in str(
        sources.read(str(debian)).release
    )
    assert "machine   x86-64" in done.stdout


def test_diff_of_what_cannot_be_compared(vdso: str, tmp_path: Path) -> None:
    """2, as with diff(1): 1 says that they differ."""
    assert "no file" in refused(vdso, "diff", "self", "/nowhere", status=2)
    assert refused(vdso, "diff", "self", status=2)
    path = tmp_path / "vmlinux"
    images = [bytes(elves.build(machine)) for machine in ("arm64", "arm")]
    path.write_bytes(kernels.vmlinux(kernels.kernel(*images)))
    said = refused(vdso, "diff", "self", path, status=2)
    assert "no image for x86-64" in said
    assert "1 arm64, 2 arm" in said
    assert finish([vdso, "diff", "self", path, "--image", "2"]).returncode == 1


def test_disasm_of_a_process_that_has_gone_on(
    start: Start, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What its pages are called is known by the mappings that its image was read with."""
    from vdso.commands import disasm

    child = start(["sleep", "60"])
    whole = sources.read

    def read(word: str | None = None) -> sources.Source:
        found = whole(word)
        child.kill()
        child.wait()
        return found

    monkeypatch.setattr(sources, "read", read)
    until(lambda: executes(child.pid, shutil.which("sleep") or ""))
    assert disasm.main([str(child.pid), "__vdso_time"]) == 0
    assert "<[vvar" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["dump", "disasm", "diff"])
def test_help(vdso: str, command: str) -> None:
    done = finish([vdso, command, "--help"])
    assert (done.returncode, done.stderr) == (0, "")
    assert "example:" in done.stdout
    assert "exit status:" in done.stdout
    assert refused(vdso, command, "--none", status=2)
