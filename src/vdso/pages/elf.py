"""ELF files in the making: sections laid one behind another, and filled when each has its place.

As in System V gABI, chapters 4 and 5; DT_GNU_HASH as glibc's elf/dl-lookup.c reads it. Only writes, and
only what a shared object of ours consists of: publishing takes this path, and a library that reads ELF
takes longer to import than the whole of it.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PT_LOAD, PT_DYNAMIC, PT_NOTE = 1, 2, 4
PT_GNU_EH_FRAME, PT_GNU_STACK, PT_GNU_PROPERTY = 0x6474E550, 0x6474E551, 0x6474E553
PF_X, PF_W, PF_R = 1, 2, 4
SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_HASH, SHT_DYNAMIC, SHT_NOTE = 1, 2, 3, 5, 6, 7
SHT_DYNSYM, SHT_GNU_HASH = 11, 0x6FFFFFF6
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR = 1, 2, 4
DT_NULL, DT_HASH, DT_STRTAB, DT_SYMTAB, DT_STRSZ, DT_SYMENT, DT_SONAME = 0, 4, 5, 6, 10, 11, 14
DT_GNU_HASH = 0x6FFFFEF5
LOCAL_OBJECT, LOCAL_FUNC, GLOBAL_FUNC = 0x01, 0x02, 0x12
NT_GNU_BUILD_ID, NT_GNU_PROPERTY_TYPE_0 = 3, 5
ET_DYN = 3

EHDR = struct.Struct("<16sHHIQQQIHHHHHH")
PHDR = struct.Struct("<IIQQQQQQ")
SHDR = struct.Struct("<IIQQQQIIQQ")
SYM = struct.Struct("<IBBHQQ")
DYN = struct.Struct("<qQ")

_BLOOM_SHIFT = 6


def align(value: int, to: int) -> int:
    return -(-value // to) * to


class Strings:
    """A string table."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self.data = bytearray(b"\0")
        self.places: dict[str, int] = {}
        for text in texts:
            if text not in self.places:
                self.places[text] = len(self.data)
                self.data += text.encode() + b"\0"


@dataclass(slots=True)
class Section:
    """One section; `content` may come later than its size and place."""

    name: str
    kind: int
    flags: int
    align: int
    size: int
    offset: int
    index: int
    link: str
    info: int
    entry_size: int
    content: bytes = b""

    @property
    def end(self) -> int:
        return self.offset + self.size


@dataclass(frozen=True, slots=True)
class Segment:
    """A program header over whole sections, from `first` to `last`. Addresses are offsets in the file."""

    kind: int
    flags: int
    offset: int
    size: int
    align: int


def over(kind: int, flags: int, first: Section, last: Section, alignment: int) -> Segment:
    return Segment(kind, flags, first.offset, last.end - first.offset, alignment)


class Image:
    """A shared object: headers for `segments` segments, then what is added."""

    def __init__(self, machine: int, segments: int) -> None:
        self.machine = machine
        self.end = EHDR.size + segments * PHDR.size
        self.sections: list[Section] = []
        self.headers_at = 0

    def add(
        self,
        name: str,
        kind: int,
        flags: int,
        alignment: int,
        content: bytes | int,
        *,
        link: str = "",
        info: int = 0,
        entry_size: int = 0,
    ) -> Section:
        """Places a section behind the others: with its content, or with a size, to be filled before
        write()."""
        data, size = (b"", content) if isinstance(content, int) else (content, len(content))
        offset, index = align(self.end, alignment), len(self.sections) + 1
        section = Section(name, kind, flags, alignment, size, offset, index, link, info, entry_size, data)
        self.sections.append(section)
        self.end = section.end
        return section

    def add_headers(self, *behind: str) -> None:
        """Places the section headers, also those of sections that are to be added yet, whose names are
        `behind`."""
        names = Strings([*(section.name for section in self.sections), ".shstrtab", *behind])
        self.add(".shstrtab", SHT_STRTAB, 0, 1, bytes(names.data))
        self.headers_at = align(self.end, 8)
        self.end = self.headers_at + (len(self.sections) + len(behind) + 1) * SHDR.size

    def write(self, size: int, segments: Sequence[Segment]) -> bytes:
        """The file's first `size` bytes; sections behind that are the caller's to fill."""
        data = bytearray(size)
        indexes = {section.name: section.index for section in self.sections}
        names = Strings(indexes)
        data[: EHDR.size] = EHDR.pack(
            b"\x7fELF\x02\x01\x01", ET_DYN, self.machine, 1, 0, EHDR.size, self.headers_at, 0, EHDR.size,
            PHDR.size, len(segments), SHDR.size, len(self.sections) + 1, indexes[".shstrtab"],
        )  # fmt: skip
        for number, s in enumerate(segments):
            PHDR.pack_into(
                data, EHDR.size + number * PHDR.size, s.kind, s.flags, s.offset, s.offset, s.offset,
                s.size, s.size, s.align,
            )  # fmt: skip
        for section in self.sections:
            if section.offset < size:
                assert len(section.content) == section.size, section.name
                data[section.offset : section.end] = section.content
            address = section.offset if section.flags & SHF_ALLOC else 0
            SHDR.pack_into(
                data, self.headers_at + section.index * SHDR.size, names.places[section.name], section.kind,
                section.flags, address, section.offset, section.size, indexes.get(section.link, 0),
                section.info, section.align, section.entry_size,
            )  # fmt: skip
        return bytes(data)


def note(kind: int, content: bytes) -> bytes:
    """A note of GNU's."""
    return struct.pack("<III4s", 4, len(content), kind, b"GNU") + content


# ---- Symbols ----


def buckets(symbols: int) -> int:
    """How many buckets a hash table of so many symbols has."""
    return symbols // 2 | 1


def hash_size(symbols: int) -> int:
    """Bytes of sysv_hash()."""
    return 4 * (2 + buckets(symbols) + symbols + 1)


def sysv_hash(names: Sequence[str]) -> bytes:
    """DT_HASH for symbols 1 to n."""
    count = buckets(len(names))
    heads, chains = [0] * count, [0] * (len(names) + 1)
    for index, name in enumerate(names, 1):
        value = 0
        for byte in name.encode():
            value = (value << 4) + byte
            value = (value ^ (value & 0xF0000000) >> 24) & 0x0FFFFFFF
        bucket = value % count
        chains[index], heads[bucket] = heads[bucket], index
    words = [count, len(chains), *heads, *chains]
    return struct.pack(f"<{len(words)}I", *words)


def gnu_hash(names: Iterable[str]) -> tuple[list[str], bytes]:
    """The names in the order that the table asks for (by bucket), and DT_GNU_HASH for them as symbols 1 to
    n."""
    hashed = []
    for name in names:
        value = 5381
        for byte in name.encode():
            value = value * 33 + byte & 0xFFFFFFFF
        hashed.append((value, name))
    count = buckets(len(hashed))
    hashed.sort(key=lambda pair: pair[0] % count)
    words = 1 << max(0, (len(hashed) // 4).bit_length() - 1)
    bloom, heads, chain = [0] * words, [0] * count, []
    for index, (value, _) in enumerate(hashed, 1):
        bloom[value // 64 % words] |= 1 << value % 64 | 1 << (value >> _BLOOM_SHIFT) % 64
        bucket = value % count
        heads[bucket] = heads[bucket] or index
        last = index == len(hashed) or hashed[index][0] % count != bucket
        chain.append(value & ~1 | last)
    table = struct.pack("<IIII", count, 1, words, _BLOOM_SHIFT)
    table += struct.pack(f"<{words}Q{count}I{len(chain)}I", *bloom, *heads, *chain)
    return [name for _, name in hashed], table
