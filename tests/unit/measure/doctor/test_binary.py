"""What a program's files say of it, of files made for that."""

import shutil
import subprocess
from pathlib import Path

import hosts
import pytest

from vdso.kernel.file import File
from vdso.measure.doctor import binary
from vdso.measure.doctor.view import CannotSee


def of_assembly(directory: Path, instruction: str) -> bytes:
    """Its bytes, by the assembler."""
    if shutil.which("as") is None or shutil.which("objcopy") is None:
        pytest.skip("binutils are not installed")
    subprocess.run(["as", "-o", directory / "a.o"], input=f"{instruction}\n", text=True, check=True)
    subprocess.run(
        ["objcopy", "-O", "binary", "-j", ".text", directory / "a.o", directory / "a.bin"], check=True
    )
    return (directory / "a.bin").read_bytes()


@pytest.mark.parametrize(
    "instruction",
    [
        "movq $-10485760, %rax",
        "movq $0xffffffffff600400, %r11",
        "movq $0xffffffffff600800, 8(%rsp)",
        "movq $0xffffffffff600000, (%rbx)",
        "movq $0xffffffffff600400, 0x1234(%rbp,%rcx,8)",
        "movq $0xffffffffff600400, 0x100(%rip)",
        "movq $0xffffffffff600400, 0x1000",
        "movabsq $0xffffffffff600400, %rdx",
        ".quad 0xffffffffff600000",
    ],
)
def test_an_address_in_the_vsyscall_page(tmp_path: Path, instruction: str) -> None:
    code = b"\x90" * 9 + of_assembly(tmp_path, instruction) + b"\x90" * 9
    assert binary.calls_vsyscall(hosts.view(tmp_path, {"proc/self/exe": hosts.program(body=code)}))


@pytest.mark.parametrize(
    "instruction",
    ["movl $0xff600400, %eax", "addq $0xffffffffff600400, %rax", ".long 0xff600000, 0x12345678", "nop"],
)
def test_no_address_in_the_vsyscall_page(tmp_path: Path, instruction: str) -> None:
    code = b"\x90" * 9 + of_assembly(tmp_path, instruction) + b"\x90" * 9
    assert not binary.calls_vsyscall(hosts.view(tmp_path, {"proc/self/exe": hosts.program(body=code)}))


@pytest.mark.parametrize("before", [0, 1, (1 << 20) - 3, (1 << 20) - 1, 1 << 20])
def test_a_word_is_found_wherever_it_lies(tmp_path: Path, before: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"-" * before + b"needle" + b"-" * 10)
    with File(str(path)) as file:
        assert binary.find(file, (b"other", b"needle"))
        assert not binary.find(file, (b"needles",))
        assert not binary.find(file, (b"needle",), 0, before + 3)


MUSL = "/lib/ld-musl-x86_64.so.1"


@pytest.mark.parametrize(
    ("exe", "maps", "name"),
    [
        (hosts.program(), hosts.MAPS, "glibc 2.41"),
        # Held at its exec: the loader alone is there, and its file.
        (hosts.program(MUSL), hosts.MAPS.replace("/usr/lib/libc.so.6", MUSL), "musl 1.2.5"),
        (hosts.program("/system/bin/linker64"), "", "bionic"),
        (hosts.program("/opt/ld.so"), "", "loaded by /opt/ld.so"),
        (hosts.program(""), "", "a C library that is not known here, or none, static"),
    ],
)
def test_the_c_library(tmp_path: Path, exe: bytes, maps: str, name: str) -> None:
    files = {"proc/self/exe": exe, "proc/self/maps": maps, MUSL[1:]: b"musl libc\0Version %s\0\x001.2.5\0"}
    assert binary.libc(hosts.view(tmp_path, files)) == name


@pytest.mark.parametrize("exe", [b"", b"\x7fELF", b"#!/bin/sh\n", hosts.program()[:70]])
def test_a_program_that_is_damaged(tmp_path: Path, exe: bytes) -> None:
    view = hosts.view(tmp_path, {"proc/self/exe": exe})
    with pytest.raises(CannotSee):
        binary.program(view)


def test_a_library_that_is_damaged(tmp_path: Path) -> None:
    view = hosts.view(tmp_path, {"opt/bad.so": b"\x7fELF" + bytes(60)})
    with pytest.raises(CannotSee):
        binary.interposes(view, "/opt/bad.so")
