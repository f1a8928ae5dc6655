"""The file of a published page: an ELF shared object whose functions read the page that it ends with.

    headers, hashes, symbols, field table, unwind information      read-only
    reader code, and a trampoline for each function                 executable
    .dynamic, which glibc writes to                                 writable, and private to who loads it
    symbols and section headers for debuggers                       not mapped
    the page                                                        read-only

Nothing is compiled and nothing needs a relocation: the reader code was compiled when the package was built,
and the trampolines are trampolines.py's. The page is a segment of its own that nobody may write to: a
private mapping that was written to, once, would be a copy that stands still. Addresses are offsets in the
file.
"""

import functools
import mmap
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from vdso import _core
from vdso.pages import elf, fieldtable, readercode
from vdso.pages.elf import SHF_ALLOC, SHT_PROGBITS, Section
from vdso.pages.functions import Function, c_name, functions
from vdso.pages.readercode import ReaderCode
from vdso.pages.schema import Layout
from vdso.pages.trampolines import ENCODERS, PADDING

PAGE_SECTION = ".vdso.page"
_TRAMPOLINE_ALIGN = 16
_SEGMENTS = 10
_X86_FEATURES = 0xC0000002, 3  # GNU_PROPERTY_X86_FEATURE_1_AND: IBT and SHSTK


@dataclass(frozen=True, slots=True)
class Library:
    """A live library without its page: `prefix` is all that stands in front of it. Offsets and sizes in
    bytes.

    `size` is the whole file's; `fields_offset` and `fields_size` say where in the prefix the encoded field
    table is.
    """

    prefix: bytes = field(repr=False)
    page_offset: int
    fields_offset: int
    fields_size: int
    size: int


@dataclass(frozen=True, slots=True)
class _Placed:
    """A function's trampoline within the code."""

    function: Function
    place: int
    size: int


def build(layout: Layout, name: str, *, slots: int) -> Library:
    """Makes the library for a page of this layout, which has `slots` slots, under this name.

    Raises BadSchema where two fields' functions would have one name.
    """
    reader = readercode.load()
    stride, page_bytes = _core.page_shape(slots, layout.record_size)
    prefix = c_name(name)
    exports = {}
    placed, code_size = _place(reader, functions(layout, slots, stride))
    for one in placed:
        exports[f"{prefix}_{one.function.name}"] = one
        if one.function.tag is not None:
            exports[f"{prefix}_{one.function.name}.{one.function.tag}"] = one
    order, gnu_hash = elf.gnu_hash(exports)
    soname = f"{name}.so"  # the link by which the dynamic linker finds what a program was linked with
    strings = elf.Strings([soname, *order])
    # Debuggers show one name for an address: the plain one.
    plain = [text for text in order if "." not in text]
    names = elf.Strings([f"{prefix}_page", "_DYNAMIC", *(s.name for s in reader.symbols), *plain])
    local = 3 + len(reader.symbols)

    # ---- Where everything is ----
    image = elf.Image(reader.machine, _SEGMENTS)
    add = image.add
    page_size = mmap.PAGESIZE
    properties = add(".note.gnu.property", elf.SHT_NOTE, SHF_ALLOC, 8, _properties())
    identity = add(".note.gnu.build-id", elf.SHT_NOTE, SHF_ALLOC, 4, _identity(layout, slots, name))
    hashes = add(".hash", elf.SHT_HASH, SHF_ALLOC, 8, elf.hash_size(len(order)), link=".dynsym", entry_size=4)
    gnu_hashes = add(".gnu.hash", elf.SHT_GNU_HASH, SHF_ALLOC, 8, gnu_hash, link=".dynsym")
    symbol_bytes = (1 + len(order)) * elf.SYM.size
    symbols = add(
        ".dynsym", elf.SHT_DYNSYM, SHF_ALLOC, 8, symbol_bytes, link=".dynstr", info=1, entry_size=elf.SYM.size
    )
    texts = add(".dynstr", elf.SHT_STRTAB, SHF_ALLOC, 1, bytes(strings.data))
    fields = add(".vdso.fields", SHT_PROGBITS, SHF_ALLOC, 8, fieldtable.encode(layout))
    frame_header = add(".eh_frame_hdr", SHT_PROGBITS, SHF_ALLOC, 4, reader.eh_frame_header_size)
    frames = add(".eh_frame", SHT_PROGBITS, SHF_ALLOC, 8, reader.eh_frame_size)
    text = add(".text", SHT_PROGBITS, SHF_ALLOC | elf.SHF_EXECINSTR, page_size, code_size)
    image.end = elf.align(image.end, page_size)
    dynamic = add(
        ".dynamic",
        elf.SHT_DYNAMIC,
        SHF_ALLOC | elf.SHF_WRITE,
        8,
        8 * elf.DYN.size,
        link=".dynstr",
        entry_size=elf.DYN.size,
    )
    all_bytes = (local + len(plain)) * elf.SYM.size
    table = add(
        ".symtab", elf.SHT_SYMTAB, 0, 8, all_bytes, link=".strtab", info=local, entry_size=elf.SYM.size
    )
    add(".strtab", elf.SHT_STRTAB, 0, 1, bytes(names.data))
    image.add_headers(PAGE_SECTION)
    page = add(PAGE_SECTION, SHT_PROGBITS, SHF_ALLOC, page_size, elf.align(page_bytes, page_size))

    # ---- What is in it ----
    hashes.content = elf.sysv_hash(order)
    symbols.content = bytes(elf.SYM.size) + _symbols(order, exports, strings, text)
    table.content = b"".join(
        (
            bytes(elf.SYM.size),
            _symbol(names, f"{prefix}_page", elf.LOCAL_OBJECT, page, 0, page.size),
            _symbol(names, "_DYNAMIC", elf.LOCAL_OBJECT, dynamic, 0, dynamic.size),
            *(_symbol(names, s.name, elf.LOCAL_FUNC, text, s.place, s.size) for s in reader.symbols),
            _symbols(plain, exports, names, text),
        )
    )
    text.content = _code(reader, placed, text, page)
    first = placed[0].place
    frames.content, frame_table = readercode.moved_eh_frame(
        reader, frames.offset, text.offset, (text.offset + first, text.size - first)
    )
    frame_header.content = readercode.eh_frame_header(frame_header.offset, frames.offset, frame_table)
    dynamic.content = b"".join(
        elf.DYN.pack(tag, value)
        for tag, value in (
            (elf.DT_SONAME, strings.places[soname]),
            (elf.DT_HASH, hashes.offset),
            (elf.DT_GNU_HASH, gnu_hashes.offset),
            (elf.DT_STRTAB, texts.offset),
            (elf.DT_SYMTAB, symbols.offset),
            (elf.DT_STRSZ, texts.size),
            (elf.DT_SYMENT, elf.SYM.size),
            (elf.DT_NULL, 0),
        )
    )
    segments = [
        elf.Segment(elf.PT_LOAD, elf.PF_R, 0, frames.end, page_size),
        elf.over(elf.PT_LOAD, elf.PF_R | elf.PF_X, text, text, page_size),
        elf.over(elf.PT_LOAD, elf.PF_R | elf.PF_W, dynamic, dynamic, page_size),
        elf.over(elf.PT_LOAD, elf.PF_R, page, page, page_size),
        elf.over(elf.PT_DYNAMIC, elf.PF_R | elf.PF_W, dynamic, dynamic, 8),
        elf.over(elf.PT_NOTE, elf.PF_R, properties, properties, 8),
        elf.over(elf.PT_NOTE, elf.PF_R, identity, identity, 4),
        elf.over(elf.PT_GNU_PROPERTY, elf.PF_R, properties, properties, 8),
        elf.over(elf.PT_GNU_EH_FRAME, elf.PF_R, frame_header, frame_header, 4),
        elf.Segment(elf.PT_GNU_STACK, elf.PF_R | elf.PF_W, 0, 0, 16),
    ]
    return Library(image.write(page.offset, segments), page.offset, fields.offset, fields.size, page.end)


# ---- Notes ----


def _properties() -> bytes:
    # A process that runs on a shadow stack loads nothing without.
    return elf.note(
        elf.NT_GNU_PROPERTY_TYPE_0, struct.pack("<IIII", _X86_FEATURES[0], 4, _X86_FEATURES[1], 0)
    )


def _identity(layout: Layout, slots: int, name: str) -> bytes:
    """Two files with one build id are the same up to their page."""
    build_id = struct.pack("<QIII", layout.hash, slots, _code_sum(), zlib.crc32(name.encode()))
    return elf.note(elf.NT_GNU_BUILD_ID, build_id)


@functools.cache
def _code_sum() -> int:
    return zlib.crc32(readercode.load().code)


# ---- Symbols ----


def _symbol(names: elf.Strings, name: str, info: int, section: Section, place: int, size: int) -> bytes:
    return elf.SYM.pack(names.places[name], info, 0, section.index, section.offset + place, size)


def _symbols(order: Sequence[str], exports: dict[str, _Placed], names: elf.Strings, text: Section) -> bytes:
    return b"".join(
        _symbol(names, name, elf.GLOBAL_FUNC, text, exports[name].place, exports[name].size) for name in order
    )


# ---- The code ----


def _trampoline(reader: ReaderCode, function: Function, at: int, code: int, page: int) -> bytes:
    return ENCODERS[reader.machine](
        at,
        code + reader.places[function.target],
        len(function.parameters),
        None if function.pageless else page,
        function.constants,
    )


def _place(reader: ReaderCode, found: Sequence[Function]) -> tuple[list[_Placed], int]:
    """Each function's trampoline behind the reader code, and the size of both."""
    at = elf.align(len(reader.code), _TRAMPOLINE_ALIGN)
    placed = []
    for function in found:
        size = len(_trampoline(reader, function, 0, 0, 0))
        placed.append(_Placed(function, at, size))
        at = elf.align(at + size, _TRAMPOLINE_ALIGN)
    return placed, at


def _code(reader: ReaderCode, placed: Sequence[_Placed], text: Section, page: Section) -> bytes:
    code = bytearray(reader.code).ljust(text.size, PADDING[reader.machine])
    for one in placed:
        code[one.place : one.place + one.size] = _trampoline(
            reader, one.function, text.offset + one.place, text.offset, page.offset
        )
    return bytes(code)
