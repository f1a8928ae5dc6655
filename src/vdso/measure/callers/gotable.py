"""Go's own table of functions, .gopclntab: it is in every Go program, stripped or not.

The formats of Go 1.2, 1.16, 1.18 and 1.20 (debug/gosym/pclntab.go, runtime/symtab.go), in which 1.26 leaves
out where the code begins.
"""

import struct
from bisect import bisect_right
from collections.abc import Iterator

from vdso.errors import BadImage, SourceError
from vdso.kernel import elf
from vdso.measure.callers.objects import Object

SECTIONS = (".gopclntab", ".data.rel.ro.gopclntab")
MAGICS = {0xFFFFFFFB: 2, 0xFFFFFFFA: 16, 0xFFFFFFF0: 18, 0xFFFFFFF1: 20}
# Behind the magic: two zeros, the size of an instruction's unit, and of a pointer.
REST = b"\0\0\x01\x08"
# runtime.moduledata's field "text", counted in pointers: the same from 1.16 to 1.27.
MODULE_TEXT = 22
FUNCTIONS_MAX = 1 << 22
# What else Go's linker leaves in a program.
MARKS = (".go.", ".note.go.")
SEARCHED_BYTES_MAX = 512 << 20
NAME_BYTES_MAX = 4096


class GoTable:
    """The functions of a Go program. Raises BadImage."""

    def __init__(self, of: Object, address: int, data: bytes) -> None:
        magic, rest = struct.unpack_from("<I4s", data)
        if magic not in MAGICS or rest != REST:
            raise BadImage("a table of Go's functions in a form that is not known")
        self.version = MAGICS[magic]
        self._data = data
        self._text = 0
        try:
            if self.version == 2:
                (count,) = struct.unpack_from("<Q", data, 8)
                self._names, self._functions, table = 0, 0, 16
            elif self.version == 16:
                count, _, self._names, _, _, _, table = struct.unpack_from("<7Q", data, 8)
                self._functions = table
            else:
                count, _, _, self._names, _, _, _, table = struct.unpack_from("<8Q", data, 8)
                self._functions = table
                self._text = text_start(of, address)
            if count > FUNCTIONS_MAX or table > len(data):
                raise BadImage("a table of Go's functions that no program has")
            # Starts and where each is described in turns, and at the end where the last one ends.
            self._wide = self.version < 18
            numbers = struct.unpack_from(f"<{2 * count + 1}{'Q' if self._wide else 'I'}", data, table)
        except struct.error:
            raise BadImage("a table of Go's functions that is cut off") from None
        self._starts = [start + self._text for start in numbers[::2]]
        self._described = numbers[1::2]
        if not count or self._starts[0] >= self._starts[-1] or not of.at(self._starts[0], 1):
            raise BadImage("a table of Go's functions whose functions are not there")

    def find(self, address: int) -> tuple[str, int, int] | None:
        """Name, start and end of the function that has the address."""
        index = bisect_right(self._starts, address) - 1
        if not 0 <= index < len(self._described):
            return None
        at = self._functions + self._described[index] + (8 if self._wide else 4)
        if at + 4 > len(self._data):
            return None
        start = self._names + int.from_bytes(self._data[at : at + 4], "little")
        end = self._data.find(b"\0", start, start + NAME_BYTES_MAX)
        if end <= start:
            return None
        name = self._data[start:end].decode("utf-8", "backslashreplace")
        return name, self._starts[index], self._starts[index + 1]


def read(of: Object) -> GoTable | None:
    """The object's table of Go functions; None where it has none, or one that cannot be read."""
    for address, data in _places(of):
        try:
            return GoTable(of, address, data)
        except (SourceError, struct.error):
            continue
    return None


def _places(of: Object) -> Iterator[tuple[int, bytes]]:
    """Where the table may be: in its section; where a linker has put that into another, or the sections were
    stripped off, wherever a segment has its magic.
    """
    named = [of.sections[name] for name in SECTIONS if name in of.sections]
    for section in named:
        yield section.address, of.contents(section.name)
    if named or (of.sections and not any(name.startswith(MARKS) for name in of.sections)):
        return
    for segment in of.loads:
        if not segment.flags & elf.PF_X and segment.file_size <= SEARCHED_BYTES_MAX:
            data = of.at(segment.address, segment.file_size)
            for magic in MAGICS:
                at = -1
                while (at := data.find(struct.pack("<I4s", magic, REST), at + 1)) >= 0:
                    yield segment.address + at, data[at:]


def text_start(of: Object, table: int) -> int:
    """What the table's starts are relative to: the address of runtime.text. Raises BadImage.

    Its header has it up to Go 1.25; then runtime.moduledata alone, which has a section of its own. (.text
    begins with the C start code where C is linked in.)
    """
    start = of.pointer(table + 24)
    if start:
        return start
    module = of.sections.get(".go.module")
    if module is not None:
        return of.pointer(module.address + 8 * MODULE_TEXT)
    text = of.sections.get(".text")
    if text is None:
        raise BadImage("a table of Go's functions that does not say where the code is")
    return text.address
