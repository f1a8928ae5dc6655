"""The reader code that was compiled when the package was built: c/reader, in vdso-reader.elf.

Code that works wherever it stands, with a symbol for each function, and its unwind information, which says
where it stands and so has to be moved along. Loaded once a process, when it first publishes.
"""

import functools
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from vdso.pages.elf import EHDR, LOCAL_FUNC, SHDR, SYM

PATH = os.path.join(os.path.dirname(os.path.dirname(__file__)), "vdso-reader.elf")

_FDE_BYTES = 24
_DW_PCREL_SDATA4, _DW_DATAREL_SDATA4, _DW_UDATA4 = 0x1B, 0x3B, 0x03


@dataclass(frozen=True, slots=True)
class Symbol:
    """A function of the reader code; `place` is within it."""

    name: str
    place: int
    size: int


@dataclass(frozen=True, slots=True)
class ReaderCode:
    """`machine` is the ELF machine; `places` has the functions that trampolines jump into, without
    `vdso_reader_`.

    `frames` says for each entry of `eh_frame` (an FDE) where it is in there and where its function is in
    `code`.
    """

    machine: int
    code: bytes
    symbols: tuple[Symbol, ...]
    places: dict[str, int]
    eh_frame: bytes
    frames: tuple[tuple[int, int], ...]

    @property
    def eh_frame_size(self) -> int:
        """Bytes of what moved_eh_frame() returns."""
        return len(self.eh_frame) + _FDE_BYTES + 4

    @property
    def eh_frame_header_size(self) -> int:
        return 12 + 8 * (len(self.frames) + 1)


@functools.cache
def load() -> ReaderCode:
    """Raises OSError where the package is not whole."""
    with open(PATH, "rb") as file:
        data = file.read()
    header = EHDR.unpack_from(data)
    sections = [SHDR.unpack_from(data, header[6] + number * SHDR.size) for number in range(header[12])]

    def text(table: tuple[int, ...], at: int) -> str:
        start = table[4] + at
        return data[start : data.index(b"\0", start)].decode()

    found = {text(sections[header[13]], section[0]): section for section in sections}
    content = {name: data[section[4] : section[4] + section[5]] for name, section in found.items()}
    base = found[".text"][3]
    strings = sections[found[".symtab"][6]]
    symbols = tuple(
        Symbol(text(strings, name), value - base, size)
        for name, info, _, _, value, size in SYM.iter_unpack(content[".symtab"])
        if info & 15 == LOCAL_FUNC
    )
    eh_frame = content[".eh_frame"]
    return ReaderCode(
        machine=header[2],
        code=content[".text"],
        symbols=symbols,
        places={symbol.name.removeprefix("vdso_reader_"): symbol.place for symbol in symbols},
        eh_frame=eh_frame,
        frames=tuple(_frames(eh_frame, found[".eh_frame"][3] - base)),
    )


def _frames(eh_frame: bytes, address: int) -> Iterator[tuple[int, int]]:
    """The first entry is a CIE, and the only one; an FDE's function is given from where that is written
    (pcrel)."""
    at = 0
    while at < len(eh_frame):
        size, cie = struct.unpack_from("<II", eh_frame, at)
        if size == 0:
            break
        if cie != 0:
            yield at, struct.unpack_from("<i", eh_frame, at + 8)[0] + address + at + 8
        at += 4 + size


def moved_eh_frame(
    reader: ReaderCode, address: int, code: int, trampolines: tuple[int, int]
) -> tuple[bytes, list[tuple[int, int]]]:
    """The unwind information for where it and the code stand now, and (function, entry) addresses in their
    order.

    One entry more covers all trampolines, `trampolines` being their address and bytes: nothing has been
    pushed there, and what the CIE says of a function's first instruction holds throughout.
    """
    data = bytearray(reader.eh_frame)
    table = []
    for at, place in reader.frames:
        struct.pack_into("<i", data, at + 8, code + place - (address + at + 8))
        table.append((code + place, address + at))
    at = len(data)
    start, size = trampolines
    data += struct.pack("<IIiIQ", _FDE_BYTES - 4, at + 4, start - (address + at + 8), size, 0)
    table.append((start, address + at))
    return bytes(data) + bytes(4), sorted(table)


def eh_frame_header(address: int, eh_frame: int, table: list[tuple[int, int]]) -> bytes:
    """The table by which unwinders find an entry."""
    form = struct.pack("<BBBB", 1, _DW_PCREL_SDATA4, _DW_UDATA4, _DW_DATAREL_SDATA4)
    words = [word - address for pair in table for word in pair]
    return form + struct.pack(f"<iI{len(words)}i", eh_frame - (address + 4), len(table), *words)
