"""Bytes read one after another, as DWARF writes its numbers; past the end is an error and not a guess."""

import struct

from vdso.errors import CannotUnwind

MASK = (1 << 64) - 1
# What a pointer is relative to, and that it stands elsewhere (the Linux Standard Base's DW_EH_PE_*).
ABSOLUTE, TO_ITSELF, TO_TABLE = 0x00, 0x10, 0x30
INDIRECT, OMITTED = 0x80, 0xFF
# 64 bits take ten bytes of seven; assemblers pad.
LEB_BYTES_MAX = 16
FIXED = {0x00: "<Q", 0x02: "<H", 0x03: "<I", 0x04: "<Q", 0x0A: "<h", 0x0B: "<i", 0x0C: "<q"}


class Cursor:
    """A place in `data`, whose first byte has the address `address`. Everything raises CannotUnwind."""

    __slots__ = ("address", "at", "data")

    def __init__(self, data: bytes, address: int = 0, at: int = 0) -> None:
        self.data = data
        self.address = address
        self.at = at

    def more(self) -> bool:
        return self.at < len(self.data)

    def number(self, layout: str) -> int:
        """A number by struct's letters."""
        size = struct.calcsize(layout)
        if self.at + size > len(self.data):
            raise CannotUnwind("unwind information that is cut off")
        (value,) = struct.unpack_from(layout, self.data, self.at)
        self.at += size
        return int(value)

    def byte(self) -> int:
        if self.at >= len(self.data):
            raise CannotUnwind("unwind information that is cut off")
        self.at += 1
        return self.data[self.at - 1]

    def uleb(self) -> int:
        value = shift = 0
        for _ in range(LEB_BYTES_MAX):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & MASK
            shift += 7
        raise CannotUnwind("unwind information with a number that has no end")

    def sleb(self) -> int:
        start = self.at
        value = self.uleb()
        if self.data[self.at - 1] & 0x40:
            value -= 1 << min(64, 7 * (self.at - start))
        return value

    def block(self) -> bytes:
        """As many bytes as the number in front says."""
        return self.take(self.uleb())

    def take(self, size: int) -> bytes:
        result = self.data[self.at : self.at + size]
        if len(result) < size:
            raise CannotUnwind("unwind information that is cut off")
        self.at += size
        return result

    def string(self) -> bytes:
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise CannotUnwind("unwind information that is cut off")
        result = self.data[self.at : end]
        self.at = end + 1
        return result

    def pointer(self, encoding: int, table: int = 0) -> int:
        """An address; `table` is what those that are relative to a table are."""
        here = self.address + self.at
        kind = encoding & 0x0F
        if kind == 0x01:
            value = self.uleb()
        elif kind == 0x09:
            value = self.sleb()
        elif kind in FIXED:
            value = self.number(FIXED[kind])
        else:
            raise CannotUnwind(f"unwind information with pointers of the unknown kind {encoding:#x}")
        relative = encoding & 0xF0
        if relative == TO_ITSELF:
            value += here
        elif relative == TO_TABLE:
            value += table
        elif relative != ABSOLUTE:
            raise CannotUnwind(f"unwind information with pointers of the unknown kind {encoding:#x}")
        return value & MASK
