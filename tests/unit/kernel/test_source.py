"""What SOURCE may be, and what it may not."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import elves
import pytest

from vdso.errors import SourceError
from vdso.kernel import Image, auxv, maps, process, source


def refused(word: str) -> SourceError:
    with pytest.raises(SourceError) as caught:
        source.read(word)
    assert caught.value.exit_code == 1
    assert "\n" not in caught.value.message
    assert "\n" not in caught.value.hint
    return caught.value


# ---- processes ----


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(["sleep", "1000"]) as child:
        yield child
        child.kill()


def test_this_process() -> None:
    own, named, by_pid = source.read(), source.read("self"), source.read(str(os.getpid()))
    assert (own.kind, own.name, own.pid) == ("process", "this process", None)
    assert own.images == named.images
    assert by_pid.images[0].data == own.images[0].data
    image = own.images[0]
    area = maps.area()
    assert area.image is not None
    assert (image.address, image.size_bytes) == (area.image.start, area.image.size)
    assert image == Image.from_process()
    assert image.pid is None
    assert by_pid.images[0].pid == by_pid.pid == os.getpid()


def test_another_process(sleeper: "subprocess.Popen[bytes]") -> None:
    found = source.read(str(sleeper.pid))
    assert found.name == f"process {sleeper.pid}"
    assert found.images[0].data == Image.from_process().data
    assert found.images[0].address == auxv.read(sleeper.pid)[auxv.AT_SYSINFO_EHDR]


def test_a_process_that_executes_all_the_time() -> None:
    """Between two programs it has no vDSO, or the one's vector and the other's mappings."""
    again = 'exec sh -c "$0" "$0"'
    with subprocess.Popen(["sh", "-c", again, again]) as child:
        try:
            for _ in range(500):
                assert source.from_process(child.pid).functions
        finally:
            child.kill()


def test_no_such_process() -> None:
    with subprocess.Popen(["true"]) as child:
        child.wait()
    assert refused(str(child.pid)).message == f"there is no process {child.pid}"
    assert "there is no process" in refused("0").message
    assert "there is no process" in refused("99999999999999999999999").message


def test_a_zombie() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    try:
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        assert "zombie" in refused(str(child)).message
    finally:
        os.waitpid(child, 0)


def test_a_kernel_thread() -> None:
    """Where this place has its own processes alone, its view of them shows none."""
    for entry in os.listdir("/proc"):
        with contextlib.suppress(OSError, IndexError):
            words = Path("/proc", entry, "stat").read_bytes().rpartition(b")")[2].split()
            if int(words[6]) & process.PF_KTHREAD:
                assert "kernel thread" in refused(entry).message
                return
    pytest.skip("no kernel thread is to be seen here")


def test_dies_while_it_is_read(sleeper: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch) -> None:
    """At each of the steps: before its maps, and before its memory."""
    read = process.read

    def after(name: str) -> Callable[[int | None, str], bytes]:
        def reading(pid: int | None, file: str) -> bytes:
            data = read(pid, file)
            if file == name:
                sleeper.kill()
                os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
            return data

        return reading

    monkeypatch.setattr(process, "read", after("auxv"))
    assert "zombie" in refused(str(sleeper.pid)).message
    sleeper.wait()
    assert "there is no" in refused(str(sleeper.pid)).message


@pytest.mark.parametrize("reap", [False, True])
def test_dies_before_its_memory_is_read(
    sleeper: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch, reap: bool
) -> None:
    read_memory = process.read_memory

    def reading(pid: int | None, address: int, size: int) -> bytes:
        sleeper.kill()
        os.waitid(os.P_PID, sleeper.pid, os.WEXITED | (0 if reap else os.WNOWAIT))
        return read_memory(pid, address, size)

    monkeypatch.setattr(process, "read_memory", reading)
    message = refused(str(sleeper.pid)).message
    assert "there is no process" in message if reap else "zombie" in message


def test_its_memory_goes_after_it_was_opened(
    sleeper: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    address = auxv.read(sleeper.pid)[auxv.AT_SYSINFO_EHDR]
    pread = os.pread

    def reading(fd: int, size: int, at: int) -> bytes:
        sleeper.kill()
        os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
        return pread(fd, size, at)

    monkeypatch.setattr(os, "pread", reading)
    with pytest.raises(SourceError, match="ended while it was read"):
        process.read_memory(sleeper.pid, address, 4096)


def test_memory_that_is_not_there() -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        process.read_memory(None, 0, 16)


OTHERS = """
import os, sys
from vdso.errors import SourceError
from vdso.kernel import source
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
try:
    source.read(sys.argv[1])
except SourceError as error:
    print(error.message, error.exit_code)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_of_another_user(sleeper: "subprocess.Popen[bytes]") -> None:
    # Where the tree may not be read by nobody, the modules are at hand before.
    words = [
        sys.executable,
        "-c",
        f"import vdso.kernel.source, vdso.kernel.image\n{OTHERS}",
        str(sleeper.pid),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == f"process {sleeper.pid} belongs to somebody else, or may not be looked into 1\n"


def test_without_a_vdso(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under vdso=0: neither the vector nor the maps have it."""
    mappings = [mapping for mapping in maps.read() if mapping.name != "[vdso]"]
    monkeypatch.setattr(auxv, "read", lambda _pid: {auxv.AT_PAGESZ: 4096})
    monkeypatch.setattr(maps, "read", lambda _pid: mappings)
    with pytest.raises(SourceError, match="this process has no vDSO"):
        source.read()


def test_a_vector_that_leads_to_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    writable = next(mapping for mapping in maps.read() if mapping.permissions == "rw-p")
    monkeypatch.setattr(auxv, "read", lambda _pid: {auxv.AT_SYSINFO_EHDR: writable.start})
    with pytest.raises(SourceError, match="this process: "):
        source.read()
    # Nowhere at all: the mapping of that name is left.
    monkeypatch.setattr(auxv, "read", lambda _pid: {auxv.AT_SYSINFO_EHDR: 0x10})
    assert source.read().images[0].soname == "linux-vdso.so.1"


# ---- files ----


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "image.so"
    path.write_bytes(bytes(elves.build("arm64")))
    found = source.read(str(path))
    assert (found.kind, found.name, found.pid) == ("file", str(path), None)
    assert found.images[0].machine == "arm64"
    assert Image.from_file(str(path)) == found.images[0]


def test_a_file_with_a_name_of_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("999999999").write_bytes(bytes(elves.build("arm")))
    assert "there is no process" in refused("999999999").message
    assert source.read("./999999999").images[0].machine == "arm"


def test_a_library_is_read_as_well() -> None:
    path = next(mapping.name for mapping in maps.read() if "/libc.so" in mapping.name)
    image = source.read(path).images[0]
    assert image.lookup("getpid") is not None
    assert all(table.missing == () for table in image.hash_tables)


def test_no_such_file(tmp_path: Path) -> None:
    assert "there is no file or process" in refused(str(tmp_path / "none")).message
    assert "there is no file or process" in refused("/etc/passwd/none").message
    assert refused("a\0b")
    assert "too long" in refused("x" * 5000).message


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    path = os.fsdecode(os.path.join(os.fsencode(tmp_path), b"\xff\n\x1b[2J"))
    assert refused(path).message.endswith(r"/\xff\n\x1b[2J")
    Path(path).write_bytes(bytes(elves.build()))
    assert source.read(path).name.endswith(r"/\xff\n\x1b[2J")
    assert source.read(path).name.isprintable()


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "a directory" in refused(str(tmp_path)).message
    # Nobody writes into it: opening it must not wait.
    assert "a pipe" in refused(str(tmp_path / "pipe")).message
    assert "a device" in refused("/dev/zero").message
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        assert refused(str(tmp_path / "socket")).message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "an empty file"),
        (b"\x7f", "neither an ELF file nor a kernel image"),
        (b"hello, world\n" * 1000, "neither an ELF file nor a kernel image"),
        (b"\x7fELF", "cut off"),
        (bytes(elves.build())[:300], "PT_DYNAMIC"),
        (bytes(elves.build(symbols=())), "exports no function"),
        (b"MZ" + bytes(1000), "neither an ELF file nor a kernel image"),
        (b"BZh9" + bytes(1000), "damaged"),
    ],
)
def test_files_that_are_none(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    error = refused(str(path))
    assert error.message.startswith(f"{path}: ")
    assert words in error.message


def test_an_object_file(tmp_path: Path) -> None:
    data = bytearray(elves.build().data)
    data[16] = 1
    path = tmp_path / "file.o"
    path.write_bytes(data)
    assert "object file" in refused(str(path)).message


@pytest.mark.parametrize(
    "start", [b"", bytes(elves.build()), elves.core(bytes(elves.build())), b"\x1f\x8b\x08"]
)
def test_a_sparse_file_of_two_gigabytes(tmp_path: Path, start: bytes) -> None:
    """Whatever it begins as: what is behind is not read, or only as a kernel would be."""
    path = tmp_path / "sparse"
    path.write_bytes(start)
    os.truncate(path, 2 << 30)
    if start[16:17] == b"\4":
        assert source.read(str(path)).kind == "core"
    elif start[:4] == b"\x7fELF":
        assert source.read(str(path)).images[0].machine == "x86-64"
    else:
        refused(str(path))


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "closed"
    path.write_bytes(bytes(elves.build()))
    path.chmod(0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        assert "permission denied" in refused(str(path)).message
    finally:
        os.seteuid(user)


def test_pick() -> None:
    images = tuple(Image.from_bytes(bytes(elves.build(machine))) for machine in ("x86-64", "i386"))
    assert source.pick(images, 2) is images[1]
    assert source.pick(images[:1], None) is images[0]
    for number in (0, 3, -1):
        with pytest.raises(SourceError, match="no image") as caught:
            source.pick(images, number)
        assert caught.value.hint == "it has 1 x86-64, 2 i386"
    with pytest.raises(SourceError, match="2 images"):
        source.pick(images, None)


def test_interrupted(sleeper: "subprocess.Popen[bytes]") -> None:
    """A stopped process can be read as well."""
    sleeper.send_signal(signal.SIGSTOP)
    assert source.read(str(sleeper.pid)).images
