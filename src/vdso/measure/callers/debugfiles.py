"""Symbols that a distribution took out of an object: into a file of its own, or packed into the object.

gdb's manual, "Separate Debug Files" and "MiniDebugInfo". A file counts only where the object says that it is
the one: by the build's id, or by the file's checksum.
"""

import os
import zlib
from collections.abc import Iterator

from vdso.errors import SourceError
from vdso.kernel.file import File
from vdso.measure.callers.objects import Object

DIRECTORY = "/usr/lib/debug"
# Fedora's are some 100 KB; what unpacks to more is none.
PACKED_BYTES_MAX = 64 << 20
UNPACKED_BYTES_MAX = 256 << 20


def separate(of: Object, path: str, roots: tuple[str, ...] = ("",)) -> Object | None:
    """The file of its symbols: of the object mapped from `path`, below one of `roots` (a process's
    /proc/PID/root). None: there is none.
    """
    for root in roots:
        for name, checksum in _names(of, path):
            if not os.path.isfile(root + name):  # a device may do something when it is opened
                continue
            try:
                file = File(root + name)
            except SourceError:
                continue
            try:
                if checksum is None or _checksum(file) == checksum:
                    found = Object(name, file)
                    # By its checksum it may be somebody's own; by its path, a stale one.
                    if of.build_id is None or found.build_id is None or found.build_id == of.build_id:
                        return found
            except SourceError:
                pass
            file.close()
    return None


def _names(of: Object, path: str) -> Iterator[tuple[str, int | None]]:
    """Where the file may be, with the checksum that it must have."""
    if of.build_id is not None and len(of.build_id) > 1:
        digits = of.build_id.hex()
        yield f"{DIRECTORY}/.build-id/{digits[:2]}/{digits[2:]}.debug", None
    try:
        link = of.contents(".gnu_debuglink")
    except SourceError:
        return
    name, end, _ = link.partition(b"\0")
    at = (len(name) + 4) & -4
    if not end or b"/" in name or name in (b"", b".", b"..") or at + 4 > len(link):
        return
    checksum = int.from_bytes(link[at : at + 4], "little")
    directory, linked = os.path.dirname(path), os.fsdecode(name)
    for where in (directory, f"{directory}/.debug", f"{DIRECTORY}{directory}"):
        if f"{where}/{linked}" != path:
            yield f"{where}/{linked}", checksum


def _checksum(file: File) -> int:
    value = 0
    for chunk in file.chunks(0, len(file)):
        value = zlib.crc32(chunk, value)
    return value


def packed(of: Object) -> Object | None:
    """The object that is packed into its section .gnu_debugdata; None: there is none that can be read."""
    import lzma

    try:
        data = of.contents(".gnu_debugdata")
        if not 0 < len(data) <= PACKED_BYTES_MAX:
            return None
        unpacked = lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(data, UNPACKED_BYTES_MAX)
        return Object(of.name, unpacked)
    except (SourceError, lzma.LZMAError):
        return None
