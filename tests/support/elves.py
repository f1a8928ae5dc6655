"""Small vDSO images that the tests write themselves: of any machine, with either hash table, and with lies
in them.

Written from the specifications and not with the package's own reader, so that the two can be held against
each other.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

# e_machine, bits, byte order, the version of its functions.
MACHINES = {
    "x86-64": (62, 64, "<", "LINUX_2.6"),
    "x32": (62, 32, "<", "LINUX_2.6"),
    "i386": (3, 32, "<", "LINUX_2.6"),
    "arm64": (183, 64, "<", "LINUX_2.6.39"),
    "arm": (40, 32, "<", "LINUX_2.6"),
    "riscv64": (243, 64, "<", "LINUX_4.15"),
    "ppc64le": (21, 64, "<", "LINUX_2.6.15"),
    "s390x": (22, 64, ">", "LINUX_2.6.29"),
    "s390": (22, 32, ">", "LINUX_2.6.29"),
}
GLOBAL, WEAK, LOCAL = 1, 2, 0
NOTYPE, OBJECT, FUNC = 0, 1, 2
BASE_VERSION, FIRST_VERSION = 1, 2


@dataclass(frozen=True)
class Symbol:
    """`at`: where in the code it begins. Without a section it is absolute."""

    name: str
    at: int
    size: int
    binding: int = GLOBAL
    type: int = FUNC
    version: str | None = ""  # "": the machine's own; None: the base version
    section: bool = True


USUAL = (
    Symbol("__vdso_clock_gettime", 0, 48),
    Symbol("clock_gettime", 0, 48, WEAK),
    Symbol("__vdso_time", 48, 16),
    Symbol("time", 48, 16, WEAK),
    Symbol("__vdso_getcpu", 64, 32),
)


@dataclass
class Elf:
    """The image, and where in it each part begins: "dynsym", "hash", "tag DT_HASH" (the tag's value) and so
    on.
    """

    data: bytearray
    at: dict[str, int] = field(default_factory=dict)
    order: str = "<"
    bits: int = 64

    def put(self, place: str, letters: str, *values: int, beyond: int = 0) -> "Elf":
        """Overwrites what stands at a place, by struct's letters."""
        struct.pack_into(self.order + letters, self.data, self.at[place] + beyond, *values)
        return self

    def put_word(self, place: str, value: int, beyond: int = 0) -> "Elf":
        """The same with one number of an address's size."""
        return self.put(place, "Q" if self.bits == 64 else "I", value, beyond=beyond)

    def __bytes__(self) -> bytes:
        return bytes(self.data)


def sysv_hash(name: str) -> int:
    h = 0
    for c in name.encode():
        h = (h << 4) + c
        g = h & 0xF0000000
        if g:
            h ^= g >> 24
        h &= ~g & 0xFFFFFFFF
    return h


def gnu_hash(name: str) -> int:
    h = 5381
    for c in name.encode():
        h = (h * 33 + c) % (1 << 32)
    return h


def build(
    machine: str = "x86-64",
    symbols: Sequence[Symbol] = USUAL,
    *,
    hashes: Iterable[str] = ("sysv", "gnu"),
    code: bytes | None = None,
    read_only: bytes = b"",
    soname: str = "linux-vdso.so.1",
    note: int | None = 0x06_0C_22,
    build_id: bytes | None = bytes(range(20)),
    versions: bool = True,
    sections: bool = True,
    alternatives: bytes = b"",
    replacements: bytes = b"",
    pad_to: int = 0,
) -> Elf:
    """An image. `code` is filled up so that every symbol is in it."""
    number, bits, order, own_version = MACHINES[machine]
    word = "Q" if bits == 64 else "I"
    hashes = set(hashes)
    names = Strings()
    buckets = 3

    # The symbols that GNU hash covers come last, by their buckets.
    ordered = sorted(symbols, key=lambda s: gnu_hash(s.name) % buckets)
    own = [own_version if s.version == "" else s.version for s in ordered]
    known = sorted({version for version in own if version is not None} | {own_version})
    numbers = {version: FIRST_VERSION + index for index, version in enumerate(known)}
    for text in (soname, *known, *(s.name for s in ordered)):
        names.add(text)

    size = max((s.at + s.size for s in ordered), default=0)
    code = (code if code is not None else b"").ljust(size, b"\0")

    segments = 4 if note is not None or build_id is not None else 3
    elf = Elf(bytearray(), {}, order, bits)
    data = elf.data
    header_bytes, segment_bytes = (64, 56) if bits == 64 else (52, 32)
    data += bytes(header_bytes + segments * segment_bytes)
    spans: dict[str, tuple[int, int]] = {}

    def add(name: str, content: bytes, align: int = 8) -> int:
        data.extend(bytes(-len(data) % align))
        elf.at[name] = len(data)
        spans[name] = (len(data), len(content))
        data.extend(content)
        return elf.at[name]

    count = len(ordered) + 1
    hash_word = "Q" if machine == "s390x" else "I"
    if "sysv" in hashes:
        add("hash", _sysv(order + hash_word, [""] + [s.name for s in ordered], buckets))
    if "gnu" in hashes:
        add("gnu_hash", _gnu(order, bits, [s.name for s in ordered], buckets))
    dynsym = add("dynsym", bytes(count * (24 if bits == 64 else 16)))
    dynstr = add("dynstr", names.data)
    if versions:
        numbered = [0] + [BASE_VERSION if v is None else numbers[v] for v in own]
        add("versym", struct.pack(f"{order}{count}H", *numbered))
        add(
            "verdef", _verdef(order, names, [(soname, 1, BASE_VERSION)] + [(v, 0, numbers[v]) for v in known])
        )
    tags: list[tuple[str, int, int]] = [("DT_SONAME", 14, names.at(soname))]
    if "sysv" in hashes:
        tags.append(("DT_HASH", 4, elf.at["hash"]))
    if "gnu" in hashes:
        tags.append(("DT_GNU_HASH", 0x6FFFFEF5, elf.at["gnu_hash"]))
    tags += [("DT_STRTAB", 5, dynstr), ("DT_SYMTAB", 6, dynsym)]
    tags += [("DT_STRSZ", 10, len(names.data)), ("DT_SYMENT", 11, 24 if bits == 64 else 16)]
    if versions:
        tags += [("DT_VERSYM", 0x6FFFFFF0, elf.at["versym"]), ("DT_VERDEF", 0x6FFFFFFC, elf.at["verdef"])]
        tags.append(("DT_VERDEFNUM", 0x6FFFFFFD, len(known) + 1))
    tags.append(("DT_NULL", 0, 0))
    dynamic = add("dynamic", b"".join(struct.pack(order + word * 2, tag, value) for _, tag, value in tags))
    for index, (name, _, _) in enumerate(tags):
        elf.at[f"tag {name}"] = dynamic + (2 * index + 1) * (bits // 8)
    if read_only:
        add("rodata", read_only)
    if segments == 4:
        notes = b""
        if note is not None:
            notes += _note(order, b"Linux\0", 0, struct.pack(order + "I", note))
        if build_id is not None:
            notes += _note(order, b"GNU\0", 3, build_id)
        add("note", notes)
    text = add("text", code, 16)
    if alternatives:
        add("altinstructions", alternatives, 1)
        add("altinstr_replacement", replacements, 1)
    end = len(data)

    layout = order + ("IBBHQQ" if bits == 64 else "IIIBBH")
    for index, s in enumerate(ordered, 1):
        shndx = 1 if s.section else 0xFFF1
        value = text + s.at if s.section else s.at
        info = s.binding << 4 | s.type
        row = (
            (names.at(s.name), info, 0, shndx, value, s.size)
            if bits == 64
            else (names.at(s.name), value, s.size, info, 0, shndx)
        )
        place = dynsym + index * struct.calcsize(layout)
        elf.at[f"symbol {s.name}"] = place
        struct.pack_into(layout, data, place, *row)

    rows = [(1, 5, 0, end), (2, 4, dynamic, spans["dynamic"][1]), (0x6474E550, 4, text, 0)]
    if segments == 4:
        rows.insert(2, (4, 4, elf.at["note"], spans["note"][1]))
    for index, (kind, flags, offset, length) in enumerate(rows):
        place = header_bytes + index * segment_bytes
        elf.at[f"segment {index}"] = place
        if bits == 64:
            row = (kind, flags, offset, offset, offset, length, length, 4)
            struct.pack_into(order + "IIQQQQQQ", data, place, *row)
        else:
            struct.pack_into(
                order + "IIIIIIII", data, place, kind, offset, offset, offset, length, length, flags, 4
            )

    section_at = section_count = names_index = 0
    if sections:
        section_at, section_count = _sections(elf, spans, count)
        names_index = section_count - 1
    ident = b"\x7fELF" + bytes([2 if bits == 64 else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    entry_bytes = 64 if bits == 64 else 40
    fields = (3, number, 1, 0, header_bytes, section_at, 0, header_bytes, segment_bytes, segments)
    fields = (*fields, entry_bytes, section_count, names_index)
    data[:header_bytes] = ident + struct.pack(f"{order}HHI{word * 3}IHHHHHH", *fields)
    data.extend(bytes(max(0, pad_to - len(data))))
    return elf


class Strings:
    """A string table."""

    def __init__(self) -> None:
        self.data = b"\0"
        self.places: dict[str, int] = {}

    def add(self, text: str) -> None:
        if text not in self.places:
            self.places[text] = len(self.data)
            self.data += text.encode() + b"\0"

    def at(self, text: str) -> int:
        return self.places[text]


def _sysv(letter: str, names: list[str], buckets: int) -> bytes:
    heads, chains = [0] * buckets, [0] * len(names)
    for index, name in enumerate(names):
        if index:
            bucket = sysv_hash(name) % buckets
            chains[index], heads[bucket] = heads[bucket], index
    words = [buckets, len(names), *heads, *chains]
    return struct.pack(f"{letter[0]}{len(words)}{letter[1]}", *words)


def _gnu(order: str, bits: int, names: list[str], buckets: int) -> bytes:
    shift, bloom, heads, links = 6, 0, [0] * buckets, []
    for index, name in enumerate(names, 1):
        value = gnu_hash(name)
        bucket = value % buckets
        heads[bucket] = heads[bucket] or index
        last = index == len(names) or gnu_hash(names[index]) % buckets != bucket
        links.append(value & ~1 | last)
        bloom |= 1 << value % bits | 1 << (value >> shift) % bits
    table = struct.pack(order + "IIII" + ("Q" if bits == 64 else "I"), buckets, 1, 1, shift, bloom)
    return table + struct.pack(f"{order}{buckets}I{len(links)}I", *heads, *links)


def _verdef(order: str, names: Strings, versions: list[tuple[str, int, int]]) -> bytes:
    data = b""
    for index, (name, flags, number) in enumerate(versions):
        following = 0 if index == len(versions) - 1 else 28
        data += struct.pack(order + "HHHHIII", 1, flags, number, 1, sysv_hash(name), 20, following)
        data += struct.pack(order + "II", names.at(name), 0)
    return data


def _note(order: str, owner: bytes, kind: int, description: bytes) -> bytes:
    owner_padded = owner + bytes(-len(owner) % 4)
    head = struct.pack(order + "III", len(owner), len(description), kind)
    return head + owner_padded + description + bytes(-len(description) % 4)


SECTIONS = {
    # type, flags, entry size (0: none; -1: a symbol's)
    "text": (1, 6, 0),
    "hash": (5, 2, 4),
    "gnu_hash": (0x6FFFFFF6, 2, 0),
    "dynsym": (11, 2, -1),
    "dynstr": (3, 2, 0),
    "versym": (0x6FFFFFFF, 2, 2),
    "verdef": (0x6FFFFFFD, 2, 0),
    "dynamic": (6, 3, 0),
    "rodata": (1, 2, 0),
    "note": (7, 2, 0),
    "altinstructions": (1, 2, 0),
    "altinstr_replacement": (1, 6, 0),
}
SECTION_NAMES = {"gnu_hash": ".gnu.hash", "versym": ".gnu.version", "verdef": ".gnu.version_d"}


def _sections(elf: Elf, spans: dict[str, tuple[int, int]], symbols: int) -> tuple[int, int]:
    """Writes section headers behind everything; returns where, and how many."""
    # Symbols say that their section is number 1.
    listed = [name for name in SECTIONS if name in spans]
    index = {name: number for number, name in enumerate(listed, 1)}
    names = Strings()
    titles = {name: SECTION_NAMES.get(name, f".{name}") for name in listed}
    for title in (*titles.values(), ".shstrtab"):
        names.add(title)
    data, word = elf.data, "Q" if elf.bits == 64 else "I"
    names_at = len(data)
    data.extend(names.data)
    data.extend(bytes(-len(data) % 8))
    start = len(data)
    layout = f"{elf.order}II{word * 4}II{word * 2}"
    rows = [(0,) * 10]
    for name in listed:
        kind, flags, entry = SECTIONS[name]
        entry = (24 if elf.bits == 64 else 16) if entry < 0 else entry
        if name == "hash":
            entry = (spans["hash"][1]) // (2 + 3 + symbols)
        link = index["dynstr"] if name in ("dynsym", "verdef", "dynamic") else 0
        link = index["dynsym"] if name in ("hash", "gnu_hash", "versym") else link
        info = 1 if name == "dynsym" else spans["verdef"][1] // 28 if name == "verdef" else 0
        offset, size = spans[name]
        rows.append((names.at(titles[name]), kind, flags, offset, offset, size, link, info, 1, entry))
    rows.append((names.at(".shstrtab"), 3, 0, 0, names_at, len(names.data), 0, 0, 1, 0))
    for row in rows:
        data.extend(struct.pack(layout, *row))
    elf.at["sections"] = start
    return start, len(rows)


# ---- cores ----


def core(
    image: bytes,
    address: int = 0x7FFF_0000_1000,
    *,
    bits: int = 64,
    order: str = "<",
    vector: dict[int, int] | None = None,
    owner: bytes = b"CORE\0",
    held: int | None = None,
) -> bytes:
    """A core file of a process in whose memory the image was; `held`: how many bytes of it the core has."""
    word = "Q" if bits == 64 else "I"
    vector = {6: 4096, 33: address, 0: 0} if vector is None else vector
    pairs = b"".join(struct.pack(order + word * 2, key, value) for key, value in vector.items())
    notes = _note(order, owner, 1, b"status of no thread") + _note(order, owner, 6, pairs)
    header_bytes, segment_bytes = (64, 56) if bits == 64 else (52, 32)
    held = len(image) if held is None else held
    notes_at = header_bytes + 3 * segment_bytes
    image_at = -(-(notes_at + len(notes)) // 4096) * 4096
    rows = [(4, 0, notes_at, 0, len(notes), 0), (1, 4, 0, 0x1000, 0, 0x1000)]
    rows.append((1, 5, image_at, address, held, len(image)))
    ident = b"\x7fELF" + bytes([2 if bits == 64 else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    fields = (4, 62, 1, 0, header_bytes, 0, 0, header_bytes, segment_bytes, len(rows), 0, 0, 0)
    data = bytearray(ident + struct.pack(f"{order}HHI{word * 3}IHHHHHH", *fields))
    for kind, flags, offset, at, file_size, memory_size in rows:
        if bits == 64:
            data += struct.pack(order + "IIQQQQQQ", kind, flags, offset, at, 0, file_size, memory_size, 4)
        else:
            data += struct.pack(order + "IIIIIIII", kind, offset, at, 0, file_size, memory_size, flags, 4)
    data += notes
    data += bytes(image_at - len(data)) + image[:held]
    return bytes(data)
