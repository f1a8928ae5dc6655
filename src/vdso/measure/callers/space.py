"""A process's address space as samples need it: which file's code an address is, and at which address of that
file.

The files are opened when the process is seen, while it lives: later it may have gone, and its files have been
replaced. A file counts only when it is the one that is mapped.
"""

import os
import stat
import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from vdso.errors import BadImage, SourceError, shown
from vdso.kernel import maps, process
from vdso.kernel.file import File
from vdso.kernel.maps import Mapping
from vdso.measure.callers import perfmap
from vdso.measure.callers.assembly import CALL_BYTES_MAX
from vdso.measure.callers.code import Code, Point
from vdso.measure.callers.objects import Object
from vdso.measure.callers.symbols import Symbol

DELETED = " (deleted)"
FIRST_BYTES = 4096
LOOK_AGAIN_S = 0.25


@dataclass(frozen=True, slots=True)
class Absent:
    """Code of which nothing can be read, and why: `generated` by the program, or a file that is not to be
    had.
    """

    why: str
    generated: bool = False


class Library:
    """The objects that processes have mapped, each opened once; `close()` when all is resolved."""

    def __init__(self) -> None:
        self._codes: dict[tuple[str, int], Code | Absent] = {}
        self._files: list[File] = []

    def space(self, pid: int, mappings: Sequence[Mapping] | None = None) -> "Space":
        """The address space of a process, whose mappings may be given. Raises SourceError."""
        return Space(self, pid, maps.read(pid) if mappings is None else mappings)

    def code(self, pid: int, mapping: Mapping, mappings: Sequence[Mapping]) -> Code | Absent:
        """The object that is mapped there. One that could not be had is tried again with the next process."""
        key = (mapping.device, mapping.inode)
        found = self._codes.get(key)
        if not isinstance(found, Code):
            found = self._codes[key] = self._open(pid, mapping, mappings)
        return found

    def _open(self, pid: int, mapping: Mapping, mappings: Sequence[Mapping]) -> Code | Absent:
        name = mapping.name.removesuffix(DELETED)
        # Compilers put their code into files without names too.
        nameless = name.startswith(("/memfd:", "/dev/shm/", "/dev/zero", "/SYSV"))
        try:
            file = _file(pid, mapping, mappings)
            if file is None:
                return Absent(_why_not(mapping), nameless)
            self._files.append(file)
            return Code(Object(name, file), name, ("", f"/proc/{pid}/root"))
        except BadImage as error:
            return Absent(error.message, nameless)
        except SourceError as error:
            return Absent(error.message)

    def close(self) -> None:
        for file in self._files:
            file.close()
        self._files.clear()

    def __enter__(self) -> "Library":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Space:
    """What one process has mapped. Ask `at()`."""

    def __init__(self, library: Library, pid: int, mappings: Sequence[Mapping]) -> None:
        self.pid = pid
        self._library = library
        self._user = _user(pid)
        self._points: dict[int, Point | None] = {}
        self._perf: perfmap.PerfMap | None = None
        self._perf_read = False
        self._looked_s = time.monotonic()
        self._map(mappings)

    def _map(self, mappings: Sequence[Mapping]) -> None:
        self._mappings = [mapping for mapping in mappings if "x" in mapping.permissions]
        self._starts = [mapping.start for mapping in self._mappings]
        self._codes: list[Code | Absent] = []
        for mapping in self._mappings:
            if mapping.inode:
                self._codes.append(self._library.code(self.pid, mapping, mappings))
            elif mapping.name in ("[vdso]", "[vsyscall]"):
                self._codes.append(Absent("the kernel's own code"))
            else:
                self._codes.append(Absent("generated code", generated=True))

    def at(self, address: int) -> Point | None:
        """The code of an address; None: nothing executable is mapped there."""
        try:
            return self._points[address]
        except KeyError:
            point = self._find(address)
            if point is None and self._look_again():
                point = self._find(address)
            self._points[address] = point
            return point

    def _look_again(self) -> bool:
        """What is mapped by now: programs load code while they run. Not often: a wrong way leads anywhere."""
        now_s = time.monotonic()
        if now_s - self._looked_s < LOOK_AGAIN_S:
            return False
        self._looked_s = now_s
        try:
            self._map(maps.read(self.pid))
        except SourceError:
            return False
        self._points.clear()
        return True

    def _find(self, address: int) -> Point | None:
        index = bisect_right(self._starts, address) - 1
        if index < 0 or address >= self._mappings[index].end:
            return None
        mapping, code = self._mappings[index], self._codes[index]
        if isinstance(code, Code):
            own = code.object.address(address - mapping.start + mapping.offset)
            if own is not None:
                return code.point(own)
            code = Absent("a part of the file that is no code")
        name = shown(mapping.name.removesuffix(DELETED)) or "[anon]"
        if code.generated:
            symbol, before = self._generated(address), self._before(address)
            return Point(f"generated code {name}", address, None, "generated code", symbol, before)
        return Point(name, address - mapping.start + mapping.offset, None, code.why)

    def _before(self, address: int) -> bytes:
        """The code before an address as it is now, none where the process has gone."""
        try:
            return process.read_memory(self.pid, address - CALL_BYTES_MAX, CALL_BYTES_MAX)
        except SourceError:
            return b""

    def _generated(self, address: int) -> Symbol | None:
        if not self._perf_read:
            self._perf, self._perf_read = perfmap.read(self.pid, self._user), True
        found = self._perf.find(address - 1) if self._perf is not None else None
        return Symbol(*found, "perf map") if found is not None else None


def _user(pid: int) -> int:
    """As whom the process runs; -1 when it has gone."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return -1


def _file(pid: int, mapping: Mapping, mappings: Sequence[Mapping]) -> File | None:
    """The file that is mapped: by the kernel's link to it, which only privilege may follow, else by its name,
    where that still leads to it.
    """
    name = mapping.name.removesuffix(DELETED)
    exact = [f"/proc/{pid}/map_files/{mapping.start:x}-{mapping.end:x}"]
    for path in (*exact, f"/proc/{pid}/exe", f"/proc/{pid}/root{name}", name):
        try:
            status = os.stat(path)
        except (OSError, ValueError):
            continue
        if not stat.S_ISREG(status.st_mode):
            continue
        try:
            file = File(path)
        except SourceError:
            continue
        if path in exact or _is_mapped(file, status, pid, mapping, mappings):
            return file
        file.close()
    return None


def _is_mapped(
    file: File, status: os.stat_result, pid: int, mapping: Mapping, mappings: Sequence[Mapping]
) -> bool:
    """Whether the file is the mapping's: of the same number and device.

    Some filesystems (btrfs, overlayfs) give a file another device than its mapping: then, of the same number,
    it is the one if it begins as what the process has mapped of the mapping's file begins.
    """
    if status.st_ino != mapping.inode:
        return False
    major, _, minor = mapping.device.partition(":")
    if (os.major(status.st_dev), os.minor(status.st_dev)) == (int(major, 16), int(minor, 16)):
        return True
    same = (mapping.device, mapping.inode)
    first = next((one for one in mappings if (one.device, one.inode) == same and one.offset == 0), None)
    if first is None:
        return False
    try:
        mapped = process.read_memory(pid, first.start, FIRST_BYTES)
    except SourceError:
        return False
    return mapped == file[:FIRST_BYTES].ljust(FIRST_BYTES, b"\0")


def _why_not(mapping: Mapping) -> str:
    if mapping.name.endswith(DELETED):
        return "its file has been deleted or replaced, and only privilege can read it as it was"
    return "its file cannot be read, or is another one by now"
