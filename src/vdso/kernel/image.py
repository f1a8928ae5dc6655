"""A vDSO image: a small ELF shared object, read as the programs that use it read it.

By its program headers, PT_DYNAMIC, the hash tables, symbol versions and notes, out of the bytes that are
mapped; section headers are a bonus. Of any machine, on any. Nothing in it is trusted: every count and
offset is checked before it is followed, and what lies is a BadImage, in bounded time.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby

from vdso.errors import BadImage
from vdso.kernel import elf
from vdso.kernel.hashes import GnuTable, SysvTable

PAGE_BYTES = 4096
# A kernel's image has under 100 KB; with debug information some 300. A library is read just as well.
IMAGE_BYTES_MAX = 64 << 20
SEGMENTS_MAX = 64
SYMBOLS_MAX = 100_000
NAMES_BYTES_MAX = 4 << 20
NOTES_BYTES_MAX = 64 << 10

# By e_machine, bits and byte order.
MACHINES = {
    (62, 64, "<"): "x86-64",
    (62, 32, "<"): "x32",
    (3, 32, "<"): "i386",
    (183, 64, "<"): "arm64",
    (40, 32, "<"): "arm",
    (243, 64, "<"): "riscv64",
    (21, 64, "<"): "ppc64le",
    (22, 64, ">"): "s390x",
    (22, 32, ">"): "s390",
}
EM_ALPHA, EM_S390 = 0x9026, 22

DT_NULL, DT_HASH, DT_STRTAB, DT_SYMTAB, DT_STRSZ, DT_SYMENT, DT_SONAME = 0, 4, 5, 6, 10, 11, 14
DT_GNU_HASH, DT_VERSYM, DT_VERDEF, DT_VERDEFNUM = 0x6FFFFEF5, 0x6FFFFFF0, 0x6FFFFFFC, 0x6FFFFFFD
VER_FLG_BASE = 1
SHN_UNDEF, SHN_ABS = 0, 0xFFF1
BINDINGS = {1: "global", 2: "weak"}
TYPES = {0: "notype", 2: "func", 10: "ifunc"}


@dataclass(frozen=True, slots=True)
class Function:
    """One name that the image exports.

    `value`: bytes from the image's start (ELF's st_value; on arm, bit 0 means Thumb code); `size` in bytes,
    0 where the image does not say; `binding` "global" or "weak"; `type` "func", "notype" or "ifunc".
    """

    name: str
    version: str | None
    value: int
    size: int
    binding: str
    type: str = "func"


@dataclass(frozen=True, slots=True)
class HashTable:
    """`kind`: "sysv" (DT_HASH) or "gnu" (DT_GNU_HASH).

    `symbols`: how many it covers; `missing`: the exported functions that a lookup by it does not find.
    """

    kind: str
    word_bytes: int
    buckets: int
    symbols: int
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Symbols:
    """What lookup() goes by: the functions by their symbol's number, those hidden, the tables; names by
    value.
    """

    functions: dict[int, Function]
    hidden: frozenset[int]
    names: dict[int, tuple[str, ...]]
    tables: tuple[SysvTable | GnuTable, ...]


@dataclass(frozen=True, slots=True)
class Image:
    """An image, with what it says of itself. Its fields are those of `vdso look --json`.

    `machine`: "x86-64", "x32", "i386", "arm64", "arm", "riscv64", "ppc64le", "s390x", "s390", or
    "machine-N" by ELF's number. `build_id` in hexadecimal. `version_note`: the LINUX_VERSION_CODE that each
    architecture's vdso/note.S puts into a note, from which `kernel_version` is made; its third number stops
    at 255. `address` and `pid` where it came out of a process or (the address alone) a core; `pid` None
    means this process, or none. `functions` by value, global before weak. `load_address` is what the values
    count from: 0 but in old i386 images.
    """

    machine: str
    bits: int
    soname: str | None
    build_id: str | None
    kernel_version: str | None
    version_note: int | None
    size_bytes: int
    size_pages: int
    address: int | None
    functions: tuple[Function, ...]
    hash_tables: tuple[HashTable, ...]
    pid: int | None = field(metadata={"json": False})
    load_address: int = field(metadata={"json": False})
    data: bytes = field(repr=False, metadata={"json": False})
    _symbols: _Symbols = field(repr=False, compare=False, metadata={"json": False})

    @classmethod
    def from_bytes(
        cls, data: bytes | bytearray | memoryview, *, address: int | None = None, pid: int | None = None
    ) -> "Image":
        """The image that these bytes are. Raises BadImage."""
        return _Reading(bytes(data)).image(address, pid)

    @classmethod
    def from_process(cls, pid: int | None = None) -> "Image":
        """The image that a process, or (None) this one, was given: AT_SYSINFO_EHDR's. Raises SourceError."""
        from vdso.kernel import source

        return source.from_process(pid)

    @classmethod
    def from_file(cls, path: str, number: int | None = None) -> "Image":
        """The image in an ELF file, a core file or a kernel image; `number`, from 1, where it holds several.

        Raises SourceError.
        """
        from vdso.kernel import source

        return source.pick(source.from_file(path), number)

    def lookup(self, name: str, version: str | None = None) -> Function | None:
        """What a C library's lookup of that name finds, or None.

        By the GNU hash table where there is one, else by DT_HASH, as glibc does; the symbol table itself is
        not searched. Without a version the default one is found.
        """
        hidden = None
        try:
            wanted = name.encode()
        except UnicodeEncodeError:  # no image has a name with half a character in it
            return None
        for index in self._symbols.tables[-1].chain(self.data, wanted) if self._symbols.tables else ():
            function = self._symbols.functions.get(index)
            if function is None or function.name != name:
                continue
            if version is not None:
                if function.version == version:
                    return function
            elif index not in self._symbols.hidden:
                return function
            else:
                hidden = hidden or function
        return hidden

    def aliases(self, function: Function) -> tuple[str, ...]:
        """The other names of the same code."""
        return tuple(name for name in self._symbols.names[function.value] if name != function.name)

    def code(self, function: Function) -> bytes:
        """The function's bytes."""
        start = self.offset(function)
        return self.data[start : start + function.size]

    def offset(self, function: Function) -> int:
        """Where in `data` the function begins."""
        value = function.value & ~1 if self.machine == "arm" else function.value
        return value - self.load_address

    def sections(self) -> dict[str, elf.Section]:
        """The sections by name: empty where the bytes hold no section headers."""
        return {section.name: section for section in elf.sections(self.data, elf.header(self.data))}


class _Reading:
    """One reading of an image's bytes: what its steps know from one another."""

    def __init__(self, data: bytes) -> None:
        if len(data) > IMAGE_BYTES_MAX:
            raise BadImage(f"{len(data)} bytes are no vDSO image: the largest are under 1 MiB")
        self.data = data
        self.head = head = elf.header(data)
        if head.type != elf.ET_DYN:
            raise BadImage(f"an ELF file of type {head.type}, and an image is a shared object ({elf.ET_DYN})")
        if head.program_count > SEGMENTS_MAX:
            raise BadImage(f"{head.program_count} segments, where an image has some five")
        self.segments = list(elf.segments(data, head))
        self.loads = [segment for segment in self.segments if segment.type == elf.PT_LOAD]
        if not self.loads:
            raise BadImage("no segment to load")
        self.base = self.loads[0].address - self.loads[0].offset
        self.dynamic = self._dynamic()
        self.names: dict[int, bytes] = {}
        self.raw_names: dict[int, bytes] = {}
        self.names_bytes = 0

    def image(self, address: int | None, pid: int | None) -> Image:
        head, size = self.head, len(self.data)
        note, build_id = self._notes()
        sysv = self._sysv() if DT_HASH in self.dynamic else None
        gnu = self._gnu() if DT_GNU_HASH in self.dynamic else None
        functions, hidden = self._functions(self._count(sysv, gnu))
        tables = tuple(table for table in (sysv, gnu) if table is not None)
        ordered = sorted(functions.values(), key=lambda f: (f.value, f.binding, f.name))
        names: dict[int, tuple[str, ...]] = {}
        for value, same in groupby(ordered, key=lambda f: f.value):
            names[value] = tuple(function.name for function in same)
        return Image(
            machine=MACHINES.get((head.machine, head.bits, head.order), f"machine-{head.machine}"),
            bits=head.bits,
            soname=elf.text(self.name(self.dynamic[DT_SONAME])) if DT_SONAME in self.dynamic else None,
            build_id=build_id,
            kernel_version=None if note is None else f"{note >> 16}.{note >> 8 & 255}.{note & 255}",
            version_note=note,
            size_bytes=size,
            size_pages=-(-size // PAGE_BYTES),
            address=address,
            functions=tuple(ordered),
            hash_tables=tuple(self._described(table, functions) for table in tables),
            pid=pid,
            load_address=self.base,
            data=self.data,
            _symbols=_Symbols(functions, hidden, names, tables),
        )

    def offset(self, address: int, size: int, what: str) -> int:
        """Where in the data an address of the image is, with `size` bytes behind it. Raises BadImage."""
        for load in self.loads:
            if load.address <= address < load.address + load.file_size:
                at = address - load.address + load.offset
                if at + size > len(self.data):
                    break
                return at
        raise BadImage(f"{what}: {size} bytes at address {address:#x}, which the image does not hold")

    def _dynamic(self) -> dict[int, int]:
        for segment in self.segments:
            if segment.type == elf.PT_DYNAMIC:
                entry = self.head.word * 2
                size = struct.calcsize(self.head.order + entry)
                table = elf.part(self.data, segment.offset, segment.file_size // size * size, "PT_DYNAMIC")
                tags: dict[int, int] = {}
                for tag, value in struct.iter_unpack(self.head.order + entry, table):
                    if tag == DT_NULL:
                        return tags
                    tags[tag] = value
                return tags
        raise BadImage("no PT_DYNAMIC, without which nothing in it is found")

    def _tag(self, tag: int, name: str) -> int:
        try:
            return self.dynamic[tag]
        except KeyError:
            raise BadImage(f"no {name} in PT_DYNAMIC") from None

    def name(self, offset: int) -> bytes:
        """A name of the string table. Raises BadImage where it has no end."""
        known = self.names.get(offset)
        if known is not None:
            return known
        size = self._tag(DT_STRSZ, "DT_STRSZ")
        table = self.offset(self._tag(DT_STRTAB, "DT_STRTAB"), size, "the string table")
        if offset >= size:
            raise BadImage(f"a name at {offset:#x} of a string table of {size} bytes")
        start = table + offset
        end = self.data.find(b"\0", start, min(table + size, start + elf.NAME_BYTES_MAX + 1))
        if end < 0:
            raise BadImage(f"the name at {offset:#x} of the string table has no end")
        self.names_bytes += end - start
        if self.names_bytes > NAMES_BYTES_MAX:
            raise BadImage(f"more than {NAMES_BYTES_MAX >> 20} MiB of names, which overlap")
        name = self.names[offset] = self.data[start:end]
        return name

    def _notes(self) -> tuple[int | None, str | None]:
        version = build_id = None
        for segment in self.segments:
            if segment.type != elf.PT_NOTE:
                continue
            for note in elf.notes(self.data, self.head, segment, NOTES_BYTES_MAX):
                if note.owner == b"Linux" and note.type == 0 and len(note.description) == 4:
                    (version,) = struct.unpack(self.head.order + "I", note.description)
                elif note.owner == b"GNU" and note.type == 3:
                    build_id = note.description.hex()
        return version, build_id

    # ---- the hash tables ----

    def _sysv(self) -> SysvTable:
        long = self.head.bits == 64 and self.head.machine in (EM_ALPHA, EM_S390)
        size, letter = (8, "Q") if long else (4, "I")
        address = self.dynamic[DT_HASH]
        start = self.offset(address, 2 * size, "DT_HASH")
        buckets, chains = struct.unpack_from(self.head.order + letter * 2, self.data, start)
        bounded(chains, "DT_HASH")
        bounded(buckets, "DT_HASH", "buckets")
        self.offset(address, (2 + buckets + chains) * size, f"DT_HASH's {buckets} + {chains} words")
        return SysvTable(self.head.order, start + 2 * size, size, buckets, chains)

    def _gnu(self) -> GnuTable:
        head, address = self.head, self.dynamic[DT_GNU_HASH]
        start = self.offset(address, 16, "DT_GNU_HASH")
        buckets, first, words, shift = struct.unpack_from(head.order + "IIII", self.data, start)
        bounded(first, "DT_GNU_HASH")
        bounded(buckets, "DT_GNU_HASH", "buckets")
        bloom_bytes = words * head.bits // 8
        self.offset(address, 16 + bloom_bytes + buckets * 4, f"DT_GNU_HASH's {words} + {buckets} words")
        offset = start + 16 + bloom_bytes
        symbols = self._gnu_count(offset, buckets, first)
        return GnuTable(head.order, head.bits, start + 16, words, shift, offset, buckets, first, symbols)

    def _gnu_count(self, offset: int, buckets: int, first: int) -> int:
        """How many symbols there are: the one that ends the last chain is the last."""
        last = max(struct.unpack_from(f"{self.head.order}{buckets}I", self.data, offset), default=0)
        if last < first:
            return first
        chains = offset + buckets * 4
        while True:
            bounded(last, "DT_GNU_HASH")
            link = elf.part(self.data, chains + (last - first) * 4, 4, "DT_GNU_HASH's chains")
            last += 1
            if link[0 if self.head.order == "<" else 3] & 1:
                return last

    def _count(self, sysv: SysvTable | None, gnu: GnuTable | None) -> int:
        """How many symbols there are. Without a table nobody finds any, but a section header may tell."""
        if sysv is not None or gnu is not None:
            return max(sysv.chains if sysv else 0, gnu.symbols if gnu else 0)
        for section in elf.sections(self.data, self.head):
            if section.type == elf.SHT_DYNSYM:
                bounded(section.size // self._symbol_bytes, "the section .dynsym")
                return section.size // self._symbol_bytes
        return 0

    def _described(self, table: SysvTable | GnuTable, functions: dict[int, Function]) -> HashTable:
        reached = table.reach(self.data)
        missing = {
            function.name
            for index, function in functions.items()
            if not table.leads_to(reached, index, self.data, self.raw_names[index])
        }
        if isinstance(table, SysvTable):
            return HashTable("sysv", table.word_bytes, table.buckets, len(reached), tuple(sorted(missing)))
        return HashTable("gnu", 4, table.buckets, len(reached), tuple(sorted(missing)))

    # ---- symbols and their versions ----

    @property
    def _symbol_bytes(self) -> int:
        return 24 if self.head.bits == 64 else 16

    def _functions(self, count: int) -> tuple[dict[int, Function], frozenset[int]]:
        """The exported functions by their symbol's number, and the numbers of hidden ones."""
        if not count:
            return {}, frozenset()
        size = self._symbol_bytes
        if self.dynamic.get(DT_SYMENT, size) != size:
            raise BadImage(f"symbols of {self.dynamic[DT_SYMENT]} bytes, where {size} is right")
        start = self.offset(self._tag(DT_SYMTAB, "DT_SYMTAB"), count * size, f"the table of {count} symbols")
        versions = self._versions()
        versym: tuple[int, ...] = ()
        if DT_VERSYM in self.dynamic:
            at = self.offset(self.dynamic[DT_VERSYM], count * 2, "the symbols' versions")
            versym = struct.unpack_from(f"{self.head.order}{count}H", self.data, at)
        functions: dict[int, Function] = {}
        hidden = set()
        for index, (name_at, info, shndx, value, length) in enumerate(self._rows(start, count)):
            binding, kind = BINDINGS.get(info >> 4), TYPES.get(info & 15)
            if binding is None or kind is None or shndx in (SHN_UNDEF, SHN_ABS) or not name_at:
                continue
            if kind == "notype" and not self._executable(value):
                continue
            raw = self.name(name_at)
            if not raw:
                # The kernel takes a function out by taking its name (arm without a usable counter).
                continue
            name, self.raw_names[index] = elf.text(raw), raw
            version = None
            if versym:
                version = versions.get(versym[index] & 0x7FFF)
                if versym[index] & 0x8000:
                    hidden.add(index)
            self._within(name, value, length)
            functions[index] = Function(name, version, value, length, binding, kind)
        return functions, frozenset(hidden)

    def _rows(self, start: int, count: int) -> Iterator[tuple[int, int, int, int, int]]:
        """st_name, st_info, st_shndx, st_value, st_size."""
        table = self.data[start : start + count * self._symbol_bytes]
        if self.head.bits == 64:
            for name, info, _, shndx, value, size in struct.iter_unpack(self.head.order + "IBBHQQ", table):
                yield name, info, shndx, value, size
        else:
            for name, value, size, info, _, shndx in struct.iter_unpack(self.head.order + "IIIBBH", table):
                yield name, info, shndx, value, size

    def _executable(self, value: int) -> bool:
        return any(
            load.flags & elf.PF_X and load.address <= value < load.address + load.file_size
            for load in self.loads
        )

    def _within(self, name: str, value: int, size: int) -> None:
        if value < self.base or value - self.base + size > len(self.data):
            raise BadImage(f"{name}: {size} bytes at {value:#x}, outside the image")

    def _versions(self) -> dict[int, str]:
        """Version names by their number; the base version, which names the file itself, left out."""
        if DT_VERDEF not in self.dynamic:
            return {}
        versions: dict[int, str] = {}
        address = self.dynamic[DT_VERDEF]
        count = self.dynamic.get(DT_VERDEFNUM, SYMBOLS_MAX)
        bounded(count, "DT_VERDEFNUM", "versions")
        # Offsets to the next are never negative, so that the walk ends with the data at the latest.
        for _ in range(count):
            at = self.offset(address, 20, "a version's definition")
            _, flags, number, names, _, aux, following = struct.unpack_from(
                self.head.order + "HHHHIII", self.data, at
            )
            if names and not flags & VER_FLG_BASE:
                at = self.offset(address + aux, 8, "a version's name")
                (name,) = struct.unpack_from(self.head.order + "I", self.data, at)
                versions[number & 0x7FFF] = elf.text(self.name(name))
            if not following:
                break
            address += following
        return versions


def bounded(count: int, what: str, of: str = "symbols") -> None:
    """Refuses a count that no image has. Raises BadImage."""
    if count > SYMBOLS_MAX:
        raise BadImage(f"{what} says {count} {of}, where an image has some ten")
