"""ELF as bytes that may lie: headers, segments, sections, notes, strings, each checked before it is followed.

Knows both classes and both byte orders, and nothing of what a vDSO is. elf(5) has the structures. Written
here and not asked of pyelftools, which takes 2 ms for the symbols alone of an image, trusts counts and
offsets, and does not say what a damaged file can make it raise; the tests hold the two against each other.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from vdso.errors import BadImage, shown

MAGIC = b"\x7fELF"

ET_EXEC, ET_DYN, ET_CORE = 2, 3, 4
PT_LOAD, PT_DYNAMIC, PT_NOTE = 1, 2, 4
PF_X = 1
PN_XNUM = 0xFFFF
SHT_DYNSYM = 11

# A name is read up to here: what is longer has no end.
NAME_BYTES_MAX = 4096
# A core has one for each mapping: 65,530 at most, unless vm.max_map_count was raised.
SEGMENTS_MAX = 1 << 20
# A core with many threads, or with the names of many mapped files, has MiBs; what is wanted stands before.
NOTES_BYTES_MAX = 16 << 20


@dataclass(frozen=True, slots=True)
class Header:
    """What the ELF header says; offsets and sizes in bytes."""

    bits: int
    order: str  # struct's: "<" or ">"
    type: int
    machine: int
    program_offset: int
    program_count: int
    section_offset: int
    section_count: int
    section_names: int

    @property
    def segment_bytes(self) -> int:
        return 56 if self.bits == 64 else 32

    @property
    def section_bytes(self) -> int:
        return 64 if self.bits == 64 else 40

    @property
    def word(self) -> str:
        """struct's letter for an address."""
        return "Q" if self.bits == 64 else "I"


@dataclass(frozen=True, slots=True)
class Segment:
    """A program header; offsets, addresses and sizes in bytes."""

    type: int
    flags: int
    offset: int
    address: int
    file_size: int
    memory_size: int
    align: int


@dataclass(frozen=True, slots=True)
class Section:
    """A section header; offsets, addresses and sizes in bytes."""

    name: str
    type: int
    flags: int
    address: int
    offset: int
    size: int
    entry_size: int


@dataclass(frozen=True, slots=True)
class Note:
    owner: bytes
    type: int
    description: bytes


class Bytes(Protocol):
    """Bytes, or a file that is read by slices: short past the end, as a slice of bytes is."""

    def __len__(self) -> int: ...
    def __getitem__(self, where: slice, /) -> bytes: ...


def header(data: Bytes) -> Header:
    """The ELF header at the start of the data. Raises BadImage."""
    start = data[:64]
    if start[:4] != MAGIC:
        raise BadImage("not an ELF file")
    bits = {1: 32, 2: 64}.get(start[4]) if len(start) > 4 else None
    order = {1: "<", 2: ">"}.get(start[5]) if len(start) > 5 else None
    if len(start) < (64 if bits == 64 else 52):
        raise BadImage("the ELF header is cut off")
    if bits is None or order is None:
        raise BadImage(f"an ELF header of class {start[4]} and byte order {start[5]}, which do not exist")
    layout = order + ("HHIQQQIHHHHHH" if bits == 64 else "HHIIIIIHHHHHH")
    kind, machine, _, _, phoff, shoff, _, _, phentsize, phnum, shentsize, shnum, shstrndx = (
        struct.unpack_from(layout, start, 16)
    )
    result = Header(bits, order, kind, machine, phoff, phnum, shoff, shnum, shstrndx)
    if phnum and phentsize != result.segment_bytes:
        raise BadImage(f"program headers of {phentsize} bytes, where {result.segment_bytes} is right")
    if shnum and shentsize != result.section_bytes:
        # They are a bonus: without them, rather than by a wrong measure.
        result = Header(bits, order, kind, machine, phoff, phnum, 0, 0, 0)
    return result


def segments(data: Bytes, head: Header) -> Iterator[Segment]:
    """The program headers. Raises BadImage where they are not all in the data."""
    count = head.program_count
    if count == PN_XNUM and head.section_offset:
        # More than the field holds: the first section header's sh_info has the count.
        at = head.section_offset + (44 if head.bits == 64 else 28)
        (count,) = struct.unpack(head.order + "I", part(data, at, 4, "the first section header"))
    if count > SEGMENTS_MAX:
        raise BadImage(f"{count} program headers, which no process and no kernel has")
    table = part(data, head.program_offset, count * head.segment_bytes, "the program headers")
    # A core may have a million: made one by one, for who keeps one.
    if head.bits == 64:
        for row in struct.iter_unpack(head.order + "IIQQQQQQ", table):
            kind, flags, offset, address, _, file_size, memory_size, align = row
            yield Segment(kind, flags, offset, address, file_size, memory_size, align)
    else:
        for row in struct.iter_unpack(head.order + "IIIIIIII", table):
            kind, offset, address, _, file_size, memory_size, flags, align = row
            yield Segment(kind, flags, offset, address, file_size, memory_size, align)


def sections(data: Bytes, head: Header) -> list[Section]:
    """The section headers, where the data holds them: memory need not, and nothing depends on them."""
    size = head.section_count * head.section_bytes
    if not head.section_count or head.section_offset + size > len(data):
        return []
    table = part(data, head.section_offset, size, "the section headers")
    rows = list(struct.iter_unpack(head.order + ("IIQQQQIIQQ" if head.bits == 64 else "IIIIIIIIII"), table))
    names = b""
    if head.section_names < len(rows):
        names = data[rows[head.section_names][4] : rows[head.section_names][4] + rows[head.section_names][5]]
    result = []
    for name, kind, flags, address, offset, length, _link, _info, _align, entry_size in rows:
        result.append(Section(_short_name(names, name), kind, flags, address, offset, length, entry_size))
    return result


def _short_name(names: bytes, offset: int) -> str:
    return text(names[offset : offset + 64].partition(b"\0")[0])


def notes(data: Bytes, head: Header, segment: Segment, limit: int = NOTES_BYTES_MAX) -> Iterator[Note]:
    """The notes of a PT_NOTE segment, up to the first that is empty or does not fit in, or to `limit`
    bytes. Raises BadImage.
    """
    size = min(segment.file_size, limit)
    table = part(data, segment.offset, size, "the notes")
    align = 8 if segment.align == 8 else 4
    at = 0
    while at + 12 <= size:
        name_size, length, kind = struct.unpack_from(head.order + "III", table, at)
        if not (name_size or length or kind):  # zeros: what follows is no note
            return
        start = at + 12
        description = _up(start + name_size, align)
        if description + length > size:
            return
        yield Note(
            table[start : start + name_size].rstrip(b"\0"), kind, table[description : description + length]
        )
        at = _up(description + length, align)


def part(data: Bytes, offset: int, size: int, what: str) -> bytes:
    """data[offset : offset + size], all of it. Raises BadImage."""
    if offset < 0 or offset + size > len(data):
        raise BadImage(f"{what}: {size} bytes at {offset:#x}, outside the {len(data)} that there are")
    result = data[offset : offset + size]
    if len(result) < size:
        raise BadImage(f"{what}: the file was cut off while it was read")
    return result


def text(name: bytes) -> str:
    """A name as text that can be printed anywhere: what a terminal would obey becomes an escape."""
    return shown(name.decode("ascii", "backslashreplace"))


def extent(data: Bytes) -> int:
    """How many bytes the ELF file that starts here takes: its headers, segments and section headers.

    May be more than the data holds. Raises BadImage.
    """
    head = header(data)
    end = head.program_offset + head.program_count * head.segment_bytes
    for segment in segments(data, head):
        end = max(end, segment.offset + segment.file_size)
    if head.section_count:
        end = max(end, head.section_offset + head.section_count * head.section_bytes)
    return end


def _up(value: int, align: int) -> int:
    return (value + align - 1) & -align
