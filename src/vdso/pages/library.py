"""The file of a published page: an ELF shared object whose functions read the page that it ends with.

    headers, hashes, symbols, field table, unwind information      read-only
    reader code, and a trampoline for each function                 executable
    .dynamic, which glibc writes to                                 writable, private to who loads it
    symbols and section headers for debuggers                       not mapped
    the page                                                        read-only

Nothing is compiled and nothing needs a relocation: the reader code was compiled when the package was built
(c/reader), the trampolines are trampolines.py's. Addresses are offsets in the file. Publishing takes this path, so it
imports no ELF library; ELF is as in System V gABI chapters 4 and 5, DT_GNU_HASH as in glibc's elf/dl-lookup.c.
"""

import functools
import mmap
import os
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from vdso import _core
from vdso.pages import fieldtable
from vdso.pages.functions import Function, c_name, functions
from vdso.pages.schema import Layout
from vdso.pages.trampolines import ENCODERS, PADDING

READER = os.path.join(os.path.dirname(__file__), os.pardir, "vdso-reader.elf")

PT_LOAD, PT_DYNAMIC, PT_NOTE = 1, 2, 4
PT_GNU_EH_FRAME, PT_GNU_STACK, PT_GNU_PROPERTY = 0x6474E550, 0x6474E551, 0x6474E553
PF_X, PF_W, PF_R = 1, 2, 4
SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_HASH, SHT_DYNAMIC, SHT_NOTE = 1, 2, 3, 5, 6, 7
SHT_DYNSYM, SHT_GNU_HASH = 11, 0x6FFFFFF6
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR = 1, 2, 4
DT_NULL, DT_HASH, DT_STRTAB, DT_SYMTAB, DT_STRSZ, DT_SYMENT, DT_SONAME = 0, 4, 5, 6, 10, 11, 14
DT_GNU_HASH = 0x6FFFFEF5
LOCAL_OBJECT, LOCAL_FUNC, GLOBAL_FUNC = 0x01, 0x02, 0x12
DW_PCREL_SDATA4, DW_DATAREL_SDATA4, DW_UDATA4 = 0x1B, 0x3B, 0x03

EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
PHDR = struct.Struct("<IIQQQQQQ")
SHDR = struct.Struct("<IIQQQQIIQQ")
SYM = struct.Struct("<IBBHQQ")
DYN = struct.Struct("<qQ")

TRAMPOLINE_ALIGN = 16
SEGMENTS = 10


@dataclass(frozen=True, slots=True)
class Library:
    """A live library without its page: `prefix` is all that stands in front of it. Offsets and sizes in bytes.

    `size` is the whole file's, `fields_offset` and `fields_size` say where in the prefix the encoded field table is.
    """

    prefix: bytes = field(repr=False)
    page_offset: int
    fields_offset: int
    fields_size: int
    size: int


@dataclass(frozen=True, slots=True)
class _Reader:
    """The compiled reader code. Addresses are within `code`; `frames` are the places of FDEs in eh_frame."""

    machine: int
    code: bytes
    address: int
    eh_frame: bytes
    eh_frame_address: int
    symbols: tuple[tuple[str, int, int], ...]  # name, place in the code, size
    places: dict[str, int]
    frames: tuple[int, ...]


@functools.cache
def _reader() -> _Reader:
    with open(READER, "rb") as file:
        data = file.read()
    header = EHDR.unpack_from(data)
    sections = [SHDR.unpack_from(data, header[6] + i * SHDR.size) for i in range(header[12])]
    names = sections[header[13]]

    def text(table: tuple[int, ...], at: int) -> str:
        start = table[4] + at
        return data[start : data.index(b"\0", start)].decode()

    found = {text(names, section[0]): section for section in sections}

    def content(name: str) -> bytes:
        return data[found[name][4] : found[name][4] + found[name][5]]

    code, base = content(".text"), found[".text"][3]
    strings = sections[found[".symtab"][6]]
    symbols = tuple(
        (text(strings, name), value - base, size)
        for name, info, _, _, value, size in SYM.iter_unpack(content(".symtab"))
        if info & 15 == LOCAL_FUNC
    )
    eh_frame = content(".eh_frame")
    return _Reader(
        machine=header[2],
        code=code,
        address=base,
        eh_frame=eh_frame,
        eh_frame_address=found[".eh_frame"][3],
        symbols=symbols,
        places={name.removeprefix("vdso_reader_"): place for name, place, _ in symbols},
        frames=tuple(_frames(eh_frame)),
    )


def _frames(eh_frame: bytes) -> Iterable[int]:
    """Where the FDEs begin. The first entry is a CIE, the only one."""
    at = 0
    while at < len(eh_frame):
        size, cie = struct.unpack_from("<II", eh_frame, at)
        if size == 0:
            break
        if cie != 0:
            yield at
        at += 4 + size


def build(layout: Layout, name: str, *, slots: int) -> Library:
    """Makes the library for a page of this layout under this name. Takes well under a millisecond.

    `slots` is the page's K. Raises BadSchema where two functions would have one name.
    """
    return _Builder(layout, name, slots).build()


def _align(value: int, to: int) -> int:
    return -(-value // to) * to


class _Strings:
    """A string table in the making."""

    def __init__(self) -> None:
        self.data = bytearray(b"\0")
        self.places: dict[str, int] = {}

    def add(self, text: str) -> int:
        if text not in self.places:
            self.places[text] = len(self.data)
            self.data += text.encode() + b"\0"
        return self.places[text]


@dataclass(slots=True)
class _Section:
    name: str
    kind: int
    flags: int
    align: int
    size: int
    link: str = ""
    info: int = 0
    entry_size: int = 0
    offset: int = 0
    content: bytes = b""


class _Builder:
    """Lays the sections one behind another first, since code and tables hold each other's addresses, then fills them."""

    def __init__(self, layout: Layout, name: str, slots: int) -> None:
        self.layout = layout
        self.prefix_name = c_name(name)
        self.soname = f"{name}.so"  # the link by which a linked program finds it
        self.slots = slots
        self.reader = _reader()
        self.encode = ENCODERS[self.reader.machine]
        stride, page_bytes = _core.page_shape(slots, layout.record_size)
        self.page_bytes = _align(page_bytes, mmap.PAGESIZE)
        self.functions = functions(layout, slots, stride)
        self.sections: list[_Section] = []
        self.by_name: dict[str, _Section] = {}

    def add(self, section: _Section, at: int) -> int:
        """Places a section at or behind `at` and returns where it ends."""
        section.offset = _align(at, section.align)
        self.sections.append(section)
        self.by_name[section.name] = section
        return section.offset + section.size

    def build(self) -> Library:
        fields = fieldtable.encode(self.layout)
        trampolines, code_size = self.measure()
        exports = self.exports(trampolines)
        strings = _Strings()
        soname = strings.add(self.soname)
        exports, gnu_hash = _gnu_hash(exports)
        for symbol in exports:
            strings.add(symbol[0])

        # ---- where everything is ----
        notes = _notes(self.reader, self.layout, self.slots)
        symbols = len(exports) + 1
        frames = len(self.reader.frames) + 1
        eh_frame_size = len(self.reader.eh_frame) + FDE_BYTES + 4
        at = EHDR.size + SEGMENTS * PHDR.size
        for note_name, note in notes:
            at = self.add(_Section(note_name, SHT_NOTE, SHF_ALLOC, 8 if "property" in note_name else 4, len(note), content=note), at)
        hash_size = 4 * (2 + _buckets(symbols) + symbols)
        at = self.add(_Section(".hash", SHT_HASH, SHF_ALLOC, 8, hash_size, ".dynsym", entry_size=4), at)
        at = self.add(_Section(".gnu.hash", SHT_GNU_HASH, SHF_ALLOC, 8, len(gnu_hash), ".dynsym", content=gnu_hash), at)
        at = self.add(_Section(".dynsym", SHT_DYNSYM, SHF_ALLOC, 8, symbols * SYM.size, ".dynstr", 1, SYM.size), at)
        at = self.add(_Section(".dynstr", SHT_STRTAB, SHF_ALLOC, 1, len(strings.data), content=bytes(strings.data)), at)
        at = self.add(_Section(".vdso.fields", SHT_PROGBITS, SHF_ALLOC, 8, len(fields), content=fields), at)
        at = self.add(_Section(".eh_frame_hdr", SHT_PROGBITS, SHF_ALLOC, 4, 12 + 8 * frames), at)
        headers_end = at = self.add(_Section(".eh_frame", SHT_PROGBITS, SHF_ALLOC, 8, eh_frame_size), at)
        at = self.add(_Section(".text", SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, mmap.PAGESIZE, code_size), at)
        at = _align(at, mmap.PAGESIZE)
        dynamic_entries = 8
        at = self.add(
            _Section(".dynamic", SHT_DYNAMIC, SHF_ALLOC | SHF_WRITE, 8, dynamic_entries * DYN.size, ".dynstr", entry_size=DYN.size),
            at,
        )
        names = _Strings()
        locals_ = [(f"{self.prefix_name}_page", LOCAL_OBJECT, ".vdso.page", 0, self.page_bytes), ("_DYNAMIC", LOCAL_OBJECT, ".dynamic", 0, 0)]
        locals_ += [(text, LOCAL_FUNC, ".text", place, size) for text, place, size in self.reader.symbols]
        # Debuggers show one name of an address: the plain one.
        plain = [export for export in exports if "." not in export[0]]
        all_symbols = [*locals_, *((s[0], GLOBAL_FUNC, ".text", s[1], s[2]) for s in plain)]
        for entry in all_symbols:
            names.add(entry[0])
        at = self.add(_Section(".symtab", SHT_SYMTAB, 0, 8, (1 + len(all_symbols)) * SYM.size, ".strtab", 1 + len(locals_), SYM.size), at)
        at = self.add(_Section(".strtab", SHT_STRTAB, 0, 1, len(names.data), content=bytes(names.data)), at)
        section_names = _Strings()
        for text in [*self.by_name, ".shstrtab", ".vdso.page"]:
            section_names.add(text)
        at = self.add(_Section(".shstrtab", SHT_STRTAB, 0, 1, len(section_names.data), content=bytes(section_names.data)), at)
        headers_at = _align(at, 8)
        at = headers_at + (len(self.sections) + 2) * SHDR.size
        end = self.add(_Section(".vdso.page", SHT_PROGBITS, SHF_ALLOC, mmap.PAGESIZE, self.page_bytes), at)

        # ---- what is in it ----
        place = self.by_name
        text, page = place[".text"].offset, place[".vdso.page"].offset
        place[".text"].content = self.code(trampolines, text, page)
        place[".hash"].content = _sysv_hash([symbol[0] for symbol in exports])
        place[".dynsym"].content = bytes(SYM.size) + b"".join(
            SYM.pack(strings.add(s[0]), GLOBAL_FUNC, 0, self.index(".text"), text + s[1], s[2]) for s in exports
        )
        place[".symtab"].content = bytes(SYM.size) + b"".join(
            SYM.pack(names.add(n), info, 0, self.index(section), place[section].offset + value, size or place[section].size)
            for n, info, section, value, size in all_symbols
        )
        start = _align(len(self.reader.code), TRAMPOLINE_ALIGN)
        place[".eh_frame"].content, table = _eh_frame(
            self.reader, place[".eh_frame"].offset, text, (text + start, code_size - start)
        )
        place[".eh_frame_hdr"].content = _eh_frame_header(place[".eh_frame_hdr"].offset, place[".eh_frame"].offset, table)
        place[".dynamic"].content = b"".join(
            DYN.pack(tag, value)
            for tag, value in (
                (DT_SONAME, soname),
                (DT_HASH, place[".hash"].offset),
                (DT_GNU_HASH, place[".gnu.hash"].offset),
                (DT_STRTAB, place[".dynstr"].offset),
                (DT_SYMTAB, place[".dynsym"].offset),
                (DT_STRSZ, len(strings.data)),
                (DT_SYMENT, SYM.size),
                (DT_NULL, 0),
            )
        )
        data = bytearray(page)
        data[: EHDR.size] = EHDR.pack(
            b"\x7fELF\x02\x01\x01", 3, self.reader.machine, 1, 0, EHDR.size, headers_at, 0, EHDR.size, PHDR.size, SEGMENTS,
            SHDR.size, len(self.sections) + 1, self.index(".shstrtab"),
        )  # fmt: skip
        segments = self.segments(headers_end)
        data[EHDR.size : EHDR.size + len(segments)] = segments
        for section in self.sections:
            if section.name != ".vdso.page":
                assert len(section.content) == section.size, section.name
                data[section.offset : section.offset + section.size] = section.content
        headers = bytes(SHDR.size) + b"".join(self.section_header(s, section_names) for s in self.sections)
        data[headers_at : headers_at + len(headers)] = headers
        return Library(bytes(data), page, place[".vdso.fields"].offset, len(fields), end)

    def index(self, name: str) -> int:
        return self.sections.index(self.by_name[name]) + 1

    def section_header(self, section: _Section, names: _Strings) -> bytes:
        return SHDR.pack(
            names.add(section.name),
            section.kind,
            section.flags,
            section.offset if section.flags & SHF_ALLOC else 0,
            section.offset,
            section.size,
            self.index(section.link) if section.link else 0,
            section.info,
            section.align,
            section.entry_size,
        )

    def segments(self, headers_end: int) -> bytes:
        def segment(kind: int, flags: int, start: int, size: int, align: int) -> bytes:
            return PHDR.pack(kind, flags, start, start, start, size, size, align)

        def over(kind: int, flags: int, first: str, last: str, align: int) -> bytes:
            begin, end = self.by_name[first], self.by_name[last]
            return segment(kind, flags, begin.offset, end.offset + end.size - begin.offset, align)

        page = mmap.PAGESIZE
        return b"".join(
            (
                segment(PT_LOAD, PF_R, 0, headers_end, page),
                over(PT_LOAD, PF_R | PF_X, ".text", ".text", page),
                over(PT_LOAD, PF_R | PF_W, ".dynamic", ".dynamic", page),
                over(PT_LOAD, PF_R, ".vdso.page", ".vdso.page", page),
                over(PT_DYNAMIC, PF_R | PF_W, ".dynamic", ".dynamic", 8),
                over(PT_NOTE, PF_R, ".note.gnu.property", ".note.gnu.property", 8),
                over(PT_NOTE, PF_R, ".note.gnu.build-id", ".note.gnu.build-id", 4),
                over(PT_GNU_PROPERTY, PF_R, ".note.gnu.property", ".note.gnu.property", 8),
                over(PT_GNU_EH_FRAME, PF_R, ".eh_frame_hdr", ".eh_frame_hdr", 4),
                PHDR.pack(PT_GNU_STACK, PF_R | PF_W, 0, 0, 0, 0, 0, 16),
            )
        )

    # ---- the code ----

    def trampoline(self, function: Function, at: int, text: int, page: int) -> bytes:
        return self.encode(
            at,
            text + self.reader.places[function.target],
            len(function.parameters),
            None if function.pageless else page,
            function.constants,
        )

    def measure(self) -> tuple[list[tuple[Function, int, int]], int]:
        """Each function with its place and size in .text, and how big that is."""
        at = _align(len(self.reader.code), TRAMPOLINE_ALIGN)
        placed = []
        for function in self.functions:
            size = len(self.trampoline(function, 0, 0, 0))
            placed.append((function, at, size))
            at = _align(at + size, TRAMPOLINE_ALIGN)
        return placed, at

    def code(self, trampolines: Sequence[tuple[Function, int, int]], text: int, page: int) -> bytes:
        code = bytearray(self.reader.code)
        for function, at, _ in trampolines:
            code += PADDING[self.reader.machine] * (at - len(code))
            code += self.trampoline(function, text + at, text, page)
        size = _align(len(code), TRAMPOLINE_ALIGN)
        return bytes(code) + PADDING[self.reader.machine] * (size - len(code))

    def exports(self, trampolines: Sequence[tuple[Function, int, int]]) -> list[tuple[str, int, int]]:
        """Each exported name with its place and size."""
        found = []
        for function, at, size in trampolines:
            name = f"{self.prefix_name}_{function.name}"
            found.append((name, at, size))
            if function.tag is not None:
                found.append((f"{name}.{function.tag}", at, size))
        return found


# ---- notes ----


def _note(owner: bytes, kind: int, content: bytes) -> bytes:
    return struct.pack("<III", len(owner), len(content), kind) + owner + content


def _notes(reader: _Reader, layout: Layout, slots: int) -> list[tuple[str, bytes]]:
    # GNU_PROPERTY_X86_FEATURE_1_AND: IBT and SHSTK. A process that runs on a shadow stack loads nothing without.
    property_ = struct.pack("<IIII", 0xC0000002, 4, 3, 0)
    identity = struct.pack("<QIII", layout.hash, slots, zlib.crc32(reader.code), layout.record_size)
    return [
        (".note.gnu.property", _note(b"GNU\0", 5, property_)),
        (".note.gnu.build-id", _note(b"GNU\0", 3, identity)),
    ]


# ---- hashes ----


def _buckets(symbols: int) -> int:
    return max(1, symbols // 2) | 1


def _sysv_hash(names: Sequence[str]) -> bytes:
    """DT_HASH for symbols 1 to n."""
    symbols = len(names) + 1
    buckets, chains = [0] * _buckets(symbols), [0] * symbols
    for index, name in enumerate(names, 1):
        value = 0
        for byte in name.encode():
            value = (value << 4) + byte
            high = value & 0xF0000000
            value = (value ^ high >> 24) & ~high & 0xFFFFFFFF
        bucket = value % len(buckets)
        chains[index], buckets[bucket] = buckets[bucket], index
    words = [len(buckets), symbols, *buckets, *chains]
    return struct.pack(f"<{len(words)}I", *words)


BLOOM_SHIFT = 6


def _gnu_hash(exports: Iterable[tuple[str, int, int]]) -> tuple[list[tuple[str, int, int]], bytes]:
    """The exports in the order that the table asks for (by bucket), and the table."""
    hashed = []
    for export in exports:
        value = 5381
        for byte in export[0].encode():
            value = (value * 33 + byte) & 0xFFFFFFFF
        hashed.append((value, export))
    count = _buckets(len(hashed))
    hashed.sort(key=lambda pair: pair[0] % count)
    words = 1 << max(0, (len(hashed) // 4).bit_length() - 1)
    bloom = [0] * words
    buckets, chain = [0] * count, []
    for index, (value, _) in enumerate(hashed, 1):
        bloom[value // 64 % words] |= 1 << value % 64 | 1 << (value >> BLOOM_SHIFT) % 64
        bucket = value % count
        buckets[bucket] = buckets[bucket] or index
        last = index == len(hashed) or hashed[index][0] % count != bucket
        chain.append(value & ~1 | last)
    table = struct.pack("<IIII", count, 1, words, BLOOM_SHIFT)
    table += struct.pack(f"<{words}Q{count}I{len(chain)}I", *bloom, *buckets, *chain)
    return [export for _, export in hashed], table


# ---- unwind information ----

FDE_BYTES = 24


def _eh_frame(
    reader: _Reader, address: int, text: int, trampolines: tuple[int, int]
) -> tuple[bytes, list[tuple[int, int]]]:
    """The section, moved to its place, with one more entry for all trampolines, and (code, entry) addresses.

    In a trampoline nothing has been pushed: what the reader code's CIE says of a function's first instruction holds
    throughout.
    """
    data = bytearray(reader.eh_frame)
    table = []
    for at in reader.frames:
        start: int = struct.unpack_from("<i", data, at + 8)[0] + reader.eh_frame_address + at + 8 - reader.address + text
        struct.pack_into("<i", data, at + 8, start - (address + at + 8))
        table.append((start, address + at))
    at = len(data)
    start, size = trampolines
    data += struct.pack("<IIiIQ", FDE_BYTES - 4, at + 4, start - (address + at + 8), size, 0)
    table.append((start, address + at))
    return bytes(data) + bytes(4), sorted(table)


def _eh_frame_header(address: int, eh_frame: int, table: Sequence[tuple[int, int]]) -> bytes:
    data = struct.pack(
        "<BBBBiI", 1, DW_PCREL_SDATA4, DW_UDATA4, DW_DATAREL_SDATA4, eh_frame - (address + 4), len(table)
    )
    return data + b"".join(struct.pack("<ii", start - address, entry - address) for start, entry in table)
