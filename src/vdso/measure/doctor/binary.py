"""What a program's files say of it: its C library, whether it looks for a vDSO, or calls into vsyscall.

Only read, as ELF that may lie (vdso.kernel.elf), and opened by way of the process, so that its own root and
mounts are what counts. Nothing is concluded from names where the bytes can tell.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from vdso.errors import SourceError
from vdso.kernel import elf
from vdso.kernel.file import CHUNK_BYTES, File
from vdso.kernel.image import Image
from vdso.measure.doctor.view import CannotSee, View

PT_INTERP = 3
NT_GNU_ABI_TAG = 1
SHT_STRTAB = 3
SEARCHED_BYTES_MAX = 512 << 20

# By either of these a C library, or whoever does without one, asks the image for it: vdso(7).
LOOKUPS = (b"__vdso_clock_gettime", b"__kernel_clock_gettime")
GLIBC_VERSION = re.compile(rb"release version ([0-9]+\.[0-9]+)")
MUSL_VERSION = re.compile(rb"\0([0-9]+\.[0-9]+\.[0-9]+)\0")
GO_MAGIC = b"\xff Go buildinf:"
GO_VERSION = re.compile(rb"go(1\.[0-9]+(?:\.[0-9]+)?)")
# The C library or its loader, as mapped: libc.so.6, libc-2.31.so, ld-musl-x86_64.so.1, ld-linux-x86-64.so.2.
GLIBC_FILE = re.compile(r"(?:libc\.so\.6|libc-2\.[0-9]+\.so|ld-linux.*|ld64?\.so\.[12]|ld-2\.[0-9]+\.so)$")
MUSL_FILE = re.compile(r"(?:ld-musl-.*|libc\.musl-.*)$")
BIONIC_LOADER = re.compile(r"linker(?:64)?$")

# What a library that stands before the C library takes from it.
INTERPOSED = (
    *("clock_gettime", "__clock_gettime", "gettimeofday", "__gettimeofday", "time", "clock_getres"),
    *("timespec_get", "ftime"),
)

# What the addresses of vsyscall's three functions have in common, little-endian, behind the two bytes that
# tell them apart. In 64 bits more of the second follow; in front of 32 that are sign-extended is an opcode.
VSYSCALL_MIDDLE = re.compile(rb"\x60\xff")
VSYSCALL_LOW = (b"\0\0", b"\0\4", b"\0\x08")
VSYSCALL_REST = b"\xff\xff\xff\xff"
# Prefix, opcode, ModRM, SIB and displacement of a `mov`, at most, and an address.
VSYSCALL_AROUND = 16


@dataclass(frozen=True, slots=True)
class Binary:
    """An ELF program. `interpreter`: the loader that it names, "" for a static one; `go`: the version of the
    Go that built it, "" for others."""

    bits: int
    interpreter: str
    go: str
    glibc: bool  # its start-up code is glibc's
    musl: bool


def beside(view: View, path: str) -> str:
    """Where a file that the process has at `path` is for us."""
    return os.path.join(view.root, view.of_process("root").lstrip("/"), path.lstrip("/"))


def opened(view: View, path: str) -> File:
    """Raises CannotSee."""
    try:
        return File(path)
    except SourceError as error:
        raise CannotSee(f"{view.process_name}'s files", error.message) from None


def program(view: View) -> Binary:
    """The process's program. Raises CannotSee."""
    with opened(view, os.path.join(view.root, view.of_process("exe"))) as file:
        try:
            return read(file)
        except SourceError as error:
            raise CannotSee(f"{view.process_name}'s program", error.message) from None


def read(file: File) -> Binary:
    """Raises SourceError."""
    head = elf.header(file)
    interpreter, go, glibc = "", "", False
    for segment in elf.segments(file, head):
        if segment.type == PT_INTERP:
            name = elf.part(file, segment.offset, min(segment.file_size, 4096), "the interpreter's name")
            interpreter = elf.text(name.partition(b"\0")[0])
        elif segment.type == elf.PT_NOTE:
            for note in elf.notes(file, head, segment, 1 << 16):
                glibc |= note.owner == b"GNU" and note.type == NT_GNU_ABI_TAG
                go = go or ("?" if note.owner == b"Go" else "")
    sections = elf.sections(file, head)
    for section in sections:
        if section.name == ".go.buildinfo":
            go = go_version(file, section)
    # musl leaves no note: only a symbol table that was not stripped tells.
    musl = (
        not interpreter
        and not glibc
        and any(
            section.type == SHT_STRTAB and find(file, (b"\0__init_libc\0",), section.offset, section.size)
            for section in sections
        )
    )
    return Binary(head.bits, interpreter, go, glibc, bool(musl))


def go_version(file: File, section: elf.Section) -> str:
    """The version in .go.buildinfo; "?" where it is kept elsewhere, as before Go 1.18."""
    data = file[section.offset : section.offset + min(section.size, 4096)]
    if not data.startswith(GO_MAGIC):
        return "?"
    found = GO_VERSION.search(data)
    return found[1].decode() if found else "?"


def find(file: File, words: tuple[bytes, ...], start: int = 0, size: int | None = None) -> bool:
    """Whether one of these stands in the file, or in that part of it. Raises SourceError."""
    return any(word in data for data in pieces(file, max(map(len, words)), start, size) for word in words)


def pieces(file: File, overlap: int, start: int = 0, size: int | None = None) -> Iterator[bytes]:
    """The file's bytes, or that part of it, in pieces that begin with the end of the one before. Raises
    SourceError: also for a file too large to be searched."""
    end = len(file) if size is None else min(len(file), start + size)
    if end - start > SEARCHED_BYTES_MAX:
        raise SourceError(f"{file.name} is too large to be searched")
    tail = b""
    for at in range(start, end, CHUNK_BYTES):
        data = tail + file[at : min(end, at + CHUNK_BYTES)]
        yield data
        tail = data[-overlap:]


def libraries(view: View) -> tuple[str, ...]:
    """The files that are mapped as code, each once. Raises CannotSee."""
    names = (
        mapping.name.removesuffix(" (deleted)")
        for mapping in view.mappings
        if "x" in mapping.permissions and mapping.name.startswith("/")
    )
    return tuple(dict.fromkeys(names))


def libc(view: View) -> str:
    """The C library that the process runs on, such as "glibc 2.36". Raises CannotSee."""
    found = program(view)
    name = ""
    mapped = libraries(view)
    for pattern, family, version in (
        (GLIBC_FILE, "glibc", GLIBC_VERSION),
        (MUSL_FILE, "musl", MUSL_VERSION),
        (BIONIC_LOADER, "bionic", None),
    ):
        paths = [path for path in (*mapped, found.interpreter) if pattern.match(os.path.basename(path))]
        if paths:
            number = next((text for text in (searched(view, path, version) for path in paths) if text), "")
            name = f"{family} {number}".strip()
            break
    if not name and found.glibc:
        name = "glibc"
    if not name and found.musl:
        name = "musl"
    if found.go:
        # Without cgo there is no C library in it at all.
        name = f"Go {found.go}".removesuffix(" ?") + (f", {name}" if name and found.interpreter else "")
    if not found.interpreter:
        return f"{name or 'a C library that is not known here, or none'}, static"
    return name or f"loaded by {found.interpreter}"


def searched(view: View, path: str, pattern: "re.Pattern[bytes] | None") -> str:
    """The first group of the first match in a file of the process's, "" without one."""
    if pattern is None:
        return ""
    try:
        with File(beside(view, path)) as file:
            found = next(filter(None, map(pattern.search, pieces(file, 64))), None)
            return found[1].decode() if found else ""
    except SourceError:
        return ""


def looks_for_vdso(view: View) -> bool:
    """Whether the process's program or C library names a function of the vDSO's. Raises CannotSee."""
    found = program(view)
    paths = [beside(view, found.interpreter)] if found.interpreter else []
    paths += [
        beside(view, path)
        for path in libraries(view)
        if GLIBC_FILE.match(os.path.basename(path)) or MUSL_FILE.match(os.path.basename(path))
    ]
    paths.append(os.path.join(view.root, view.of_process("exe")))
    unread: SourceError | None = None
    for path in dict.fromkeys(paths):
        try:
            with File(path) as file:
                if find(file, LOOKUPS):
                    return True
        except SourceError as error:
            unread = error
    if unread is not None:
        raise CannotSee(f"{view.process_name}'s program", unread.message)
    return False


def calls_vsyscall(view: View) -> bool:
    """Whether an address in the vsyscall page stands in the process's program. Raises CannotSee."""
    with opened(view, os.path.join(view.root, view.of_process("exe"))) as file:
        try:
            return any(has_vsyscall_address(data) for data in pieces(file, VSYSCALL_AROUND))
        except SourceError as error:
            raise CannotSee(f"{view.process_name}'s program", error.message) from None


def has_vsyscall_address(data: bytes) -> bool:
    for match in VSYSCALL_MIDDLE.finditer(data):
        at = match.start() - 2
        if at >= 0 and data[at : at + 2] in VSYSCALL_LOW:
            before = data[max(0, at - 8) : at]
            if data[at + 4 : at + 8] == VSYSCALL_REST or moves_sign_extended(before):
                return True
    return False


def moves_sign_extended(before: bytes) -> bool:
    """Whether what ends there is `mov $imm32, r/m64` up to its immediate: REX.W C7 /0, and how the place is
    said."""
    for size in range(3, len(before) + 1):
        rex, opcode, form, *rest = before[-size:]
        if rex & 0xF8 != 0x48 or opcode != 0xC7 or form & 0x38:
            continue
        kind, register = form >> 6, form & 7
        sib = kind != 3 and register == 4
        displacement = {0: 4 if register == 5 else 0, 1: 1, 2: 4, 3: 0}[kind]
        if sib and kind == 0 and rest and rest[0] & 7 == 5:
            displacement = 4
        if len(rest) == sib + displacement:
            return True
    return False


def interposes(view: View, path: str) -> tuple[str, ...]:
    """The clock functions that a library of the process's exports. Raises CannotSee."""
    return exported(beside(view, path))


def exported(path: str) -> tuple[str, ...]:
    """The clock functions that the library in this file exports. Raises CannotSee."""
    try:
        with File(path) as file:
            image = Image.from_bytes(file[:])
    except SourceError as error:
        raise CannotSee(path, error.message) from None
    names = {function.name for function in image.functions}
    return tuple(name for name in INTERPOSED if name in names)
