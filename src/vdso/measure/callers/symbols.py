"""Which function an object's address is in: by its symbol tables, those taken out of it, and Go's own table.

A symbol names what its size covers and nothing behind that: the nearest name before an address is, in a
stripped object, mostly another function's.
"""

import struct
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property

from vdso.errors import SourceError, shown
from vdso.kernel import elf
from vdso.measure.callers import debugfiles, gotable
from vdso.measure.callers.demangle import demangled
from vdso.measure.callers.objects import Object

NOTYPE, FUNCTION, INDIRECT_FUNCTION = 0, 2, 10
LOCAL = 0
RESERVED = 0xFF00
SHF_EXECINSTR = 4
# How many symbols may begin between a function's start and an address in it: labels, and parts of it.
NESTED_MAX = 32


@dataclass(frozen=True, slots=True)
class Symbol:
    """A function: its name as its programmer wrote it, where it starts, and which table said so."""

    name: str
    start: int
    source: str


class Symbols:
    """What an object's functions are called. `path` and `roots`: as in debugfiles.separate()."""

    def __init__(self, of: Object, path: str, roots: tuple[str, ...] = ("",)) -> None:
        self._object = of
        self._path = path
        self._roots = roots

    def find(self, address: int) -> Symbol | None:
        """The function that has this address; None: no table has it."""
        for table in (self._own, self._separate, self._packed):
            found = table.find(address) if table is not None else None
            if found is not None:
                return found
        if self.go is not None:
            function = self.go.find(address)
            if function is not None:
                return Symbol(shown(function[0]), function[1], ".gopclntab")
        return self._exported.find(address) if self._exported is not None else None

    @cached_property
    def go(self) -> gotable.GoTable | None:
        """Go's table of functions, where this is a Go program."""
        return gotable.read(self._object)

    @cached_property
    def _own(self) -> "_Table | None":
        return _table(self._object, ".symtab", ".strtab", ".symtab")

    @cached_property
    def _exported(self) -> "_Table | None":
        return _table(self._object, ".dynsym", ".dynstr", ".dynsym")

    @cached_property
    def _separate(self) -> "_Table | None":
        if self._own is not None:
            return None
        found = debugfiles.separate(self._object, self._path, self._roots)
        if found is None:
            return None
        return _table(found, ".symtab", ".strtab", found.name, self._object.base - found.base)

    @cached_property
    def _packed(self) -> "_Table | None":
        if self._own is not None:
            return None
        found = debugfiles.packed(self._object)
        return None if found is None else _table(found, ".symtab", ".strtab", ".gnu_debugdata")


class _Table:
    """A symbol table's functions. `moved`: what a prelinker added to the addresses that it was made with."""

    def __init__(self, of: Object, table: str, names: str, source: str, moved: int) -> None:
        self._object = of
        self._source = source
        self._moved = moved
        strings = of.sections[names]
        self._names_at, self._names_size = strings.offset, strings.size
        code = {index for index, section in enumerate(of.numbered) if section.flags & SHF_EXECINSTR}
        rows = of.contents(table)
        whole = rows[: len(rows) - len(rows) % 24]
        # Most of a large table are functions: a row as tuples sort, and nothing made twice.
        self._rows = sorted(
            (value, size, section, name, info)
            for name, info, _, section, value, size in struct.iter_unpack("<IBBHQQ", whole)
            if info & 15 in (FUNCTION, INDIRECT_FUNCTION, NOTYPE)
            and 0 < section < RESERVED
            and (info & 15 != NOTYPE or section in code)
        )
        self._starts = [row[0] for row in self._rows]

    def find(self, address: int) -> Symbol | None:
        wanted = address - self._moved
        index = bisect_right(self._starts, wanted) - 1
        following = self._starts[index + 1] if index + 1 < len(self._starts) else None
        start: int | None = None
        best: tuple[int, int, int, str] | None = None
        near = self._rows[max(0, index - NESTED_MAX + 1) : index + 1]
        for value, size, section, at, info in reversed(near):
            if start is not None and value != start:
                break
            if size:
                end = value + size
            else:
                # Assembly may be without one: then up to the next symbol, as far as its section goes.
                end = self._end(section) if value == self._starts[index] else value
                end = min(end, following) if following is not None else end
            if value <= wanted < end:
                start = value
                name = demangled(self._name(at))
                if name:
                    rank = (info & 15 != NOTYPE, info >> 4 != LOCAL, -len(name), name)
                    best = max(best, rank) if best is not None else rank
        if best is None or start is None:
            return None
        return Symbol(shown(best[3]), start + self._moved, self._source)

    def _end(self, number: int) -> int:
        """Where the section of that number ends."""
        sections = self._object.numbered
        return sections[number].address + sections[number].size if number < len(sections) else 0

    def _name(self, at: int) -> str:
        if at >= self._names_size:
            return ""
        start = self._names_at + at
        size = min(elf.NAME_BYTES_MAX, self._names_size - at)
        for wanted in (min(128, size), size):
            name, end, _ = self._object.data[start : start + wanted].partition(b"\0")
            if end:
                return name.decode("utf-8", "backslashreplace")
        return ""


def _table(of: Object, table: str, names: str, source: str, moved: int = 0) -> _Table | None:
    """The table of a section; None where there is none, or none that can be read."""
    if table not in of.sections or names not in of.sections:
        return None
    try:
        return _Table(of, table, names, source, moved)
    except SourceError:
        return None
