"""Small x86-64 ELF programs that the tests write themselves: code, unwind information, symbols, and lies.

Written from the specifications and not with the package's own readers.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

LOAD, NOTE, EH_FRAME = 1, 4, 0x6474E550
PROGBITS, SYMTAB, STRTAB, NOTES = 1, 2, 3, 7
READ, WRITE, EXECUTE = 4, 2, 1
ALLOC, CODE = 2, 4
FUNC, NOTYPE, IFUNC = 2, 0, 10
LOCAL, GLOBAL, WEAK = 0, 1, 2

BASE = 0x400000
TEXT = 0x1000  # of the file and, from BASE, of the memory
PC_RELATIVE_4 = 0x1B
TABLE_RELATIVE_4 = 0x3B


def uleb(value: int) -> bytes:
    out = bytearray()
    while True:
        value, low = value >> 7, value & 0x7F
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def sleb(value: int) -> bytes:
    out = bytearray()
    while True:
        low = value & 0x7F
        value >>= 7
        done = value == (-1 if low & 0x40 else 0)
        out.append(low | (0 if done else 0x80))
        if done:
            return bytes(out)


@dataclass(frozen=True)
class Function:
    """A function of the unwind information: its place in the code, and the instructions of its FDE."""

    start: int
    size: int
    instructions: bytes = b""


@dataclass(frozen=True)
class Symbol:
    """`start` is an address, in the code unless `section` says otherwise (1 is .text)."""

    name: str
    start: int
    size: int
    type: int = FUNC
    binding: int = GLOBAL
    section: int = 1


@dataclass
class Program:
    """What build() makes: `data`, and where in it things are: addresses and offsets by name."""

    data: bytes
    at: dict[str, int] = field(default_factory=dict)


# def_cfa rsp+8, the return address at CFA-8: how every function begins.
USUAL_CIE = b"\x0c\x07\x08" + b"\x90\x01"


def common(
    instructions: bytes = USUAL_CIE,
    *,
    letters: bytes = b"zR",
    augmentation: bytes = bytes([PC_RELATIVE_4]),
    version: int = 1,
    code_factor: int = 1,
    data_factor: int = -8,
    return_register: int = 16,
) -> bytes:
    """A CIE without its length."""
    body = struct.pack("<IB", 0, version) + letters + b"\0"
    if version == 4:
        body += b"\x08\0"
    body += uleb(code_factor) + sleb(data_factor)
    body += bytes([return_register]) if version == 1 else uleb(return_register)
    if letters[:1] == b"z":
        body += uleb(len(augmentation)) + augmentation
    return body + instructions


def entry(body: bytes) -> bytes:
    """With its length, filled up with nops."""
    body += bytes(-(len(body) + 4) % 8)
    return struct.pack("<I", len(body)) + body


def build(
    code: bytes = bytes(256),
    functions: Sequence[Function] = (),
    symbols: Sequence[Symbol] = (),
    *,
    cie: bytes | None = None,
    table: bool = True,
    build_id: bytes | None = None,
    extra: Sequence[tuple[str, bytes]] = (),
    position_independent: bool = False,
    names: tuple[str, str] = (".symtab", ".strtab"),
) -> Program:
    """A program. `functions` make .eh_frame, with `table` its .eh_frame_hdr too; `extra`: more sections."""
    base = 0 if position_independent else BASE
    at: dict[str, int] = {"text": base + TEXT}
    memory = bytearray(TEXT) + code
    memory += bytes(-len(memory) % 16)
    segments: list[tuple[int, int, int, int]] = []
    sections: list[tuple[str, int, int, int, int, int, int]] = [
        (".text", PROGBITS, ALLOC | CODE, base + TEXT, TEXT, len(code), 0)
    ]

    def place(name: str, data: bytes, kind: int, flags: int, entry_size: int = 0) -> int:
        memory.extend(bytes(-len(memory) % 16))
        offset = len(memory)
        memory.extend(data)
        address = base + offset if flags & ALLOC else 0
        sections.append((name, kind, flags, address, offset, len(data), entry_size))
        at[name] = offset
        return offset

    if functions:
        # The header comes first, as linkers have it, and its size is known.
        header_size = 12 + 8 * len(functions)
        header = place(".eh_frame_hdr", bytes(header_size), PROGBITS, ALLOC) if table else None
        start = (len(memory) + 15) & -16
        frames = bytearray(entry(cie if cie is not None else common()))
        rows = []
        for one in functions:
            here = start + len(frames)
            back = here + 4 - start
            location = base + TEXT + one.start - (base + here + 8)
            body = struct.pack("<IiI", back, location, one.size) + b"\0" + one.instructions
            rows.append((TEXT + one.start, here))
            frames += entry(body)
        frames += bytes(4)
        assert place(".eh_frame", bytes(frames), PROGBITS, ALLOC) == start
        if header is not None:
            packed = struct.pack(
                "<BBBBiI", 1, PC_RELATIVE_4, 3, TABLE_RELATIVE_4, start - header - 4, len(rows)
            )
            for function, description in sorted(rows):
                packed += struct.pack("<ii", function - header, description - header)
            memory[header : header + len(packed)] = packed
            segments.append((EH_FRAME, READ, header, len(packed)))
    if build_id is not None:
        note = struct.pack("<III4s", 4, len(build_id), 3, b"GNU\0") + build_id
        segments.append((NOTE, READ, place(".note.gnu.build-id", note, NOTES, ALLOC), len(note)))
    for name, data in extra:
        place(name, data, PROGBITS, ALLOC)
    loaded = len(memory)
    if symbols:
        strings = bytearray(b"\0")
        rows_ = bytearray(24)
        for symbol in symbols:
            info = symbol.binding << 4 | symbol.type
            rows_ += struct.pack("<IBBHQQ", len(strings), info, 0, symbol.section, symbol.start, symbol.size)
            strings += symbol.name.encode() + b"\0"
        place(names[0], bytes(rows_), SYMTAB, 0, 24)
        place(names[1], bytes(strings), STRTAB, 0)
    texts = bytearray(b"\0")
    numbers = []
    for name, *_ in [*sections, (".shstrtab",)]:
        numbers.append(len(texts))
        texts += name.encode() + b"\0"
    place(".shstrtab", bytes(texts), STRTAB, 0)
    memory.extend(bytes(-len(memory) % 8))
    section_table = len(memory)
    memory.extend(bytes(64))
    for number, (_, kind, flags, address, offset, size, entry_size) in zip(numbers, sections, strict=True):
        link = (
            next((i + 1 for i, one in enumerate(sections) if one[0] == names[1]), 0) if kind == SYMTAB else 0
        )
        memory.extend(
            struct.pack("<IIQQQQIIQQ", number, kind, flags, address, offset, size, link, 0, 1, entry_size)
        )
    headers = [struct.pack("<IIQQQQQQ", LOAD, READ | EXECUTE, 0, base, base, loaded, loaded, 0x1000)]
    for kind, flags, offset, size in segments:
        headers.append(
            struct.pack("<IIQQQQQQ", kind, flags, offset, base + offset, base + offset, size, size, 4)
        )
    kind = 3 if position_independent else 2
    memory[:64] = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01",
        kind,
        62,
        1,
        base + TEXT,
        64,
        section_table,
        0,
        64,
        56,
        len(headers),
        64,
        len(sections) + 1,
        len(sections),
    )
    at["program headers"] = 64
    memory[64 : 64 + 56 * len(headers)] = b"".join(headers)
    return Program(bytes(memory), at)
