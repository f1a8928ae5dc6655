"""A file that is only read, by offsets, and may be anything: never mapped, so that cutting it off kills
nobody.
"""

import os
import stat
from collections.abc import Iterator
from types import TracebackType

from vdso.errors import SourceError, shown

CHUNK_BYTES = 1 << 20
KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class File:
    """An open regular file: len() and slices, which are read when asked for and are short past the end.

    Raises SourceError where there is none, or it is something else, or may not be read.
    """

    def __init__(self, path: str) -> None:
        self.name = shown(path)
        self._fd = -1
        try:
            # Whatever it is, opening it waits for nobody.
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except ValueError:
            raise SourceError("a file's name has no zero byte in it") from None
        except OSError as error:
            raise self.refusal(error) from None
        self._fd = fd
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            self.close()
            what = KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")
            raise SourceError(f"{self.name} is {what}, and neither an ELF file nor a kernel image")
        self._size = status.st_size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, where: slice) -> bytes:
        start, stop, _ = where.indices(self._size)
        parts: list[bytes] = []
        while start < stop:
            try:
                part = os.pread(self._fd, stop - start, start)
            except OSError as error:
                raise self.refusal(error) from None
            if not part:
                break
            parts.append(part)
            start += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def chunks(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes of that range, a MiB at a time."""
        while start < stop and (part := self[start : min(stop, start + CHUNK_BYTES)]):
            yield part
            start += len(part)

    def refusal(self, error: OSError) -> SourceError:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return SourceError(f"there is no file or process {self.name}")
        return SourceError(f"{self.name}: {(error.strerror or str(error)).lower()}")

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> "File":
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()
