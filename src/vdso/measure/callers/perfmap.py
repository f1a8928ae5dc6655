"""What a program says of the code that it generates: /tmp/perf-PID.map
(tools/perf/Documentation/jit-interface.txt in the kernel's sources).

A file that anybody could have put there: it counts when it belongs to the program's own user, and is read as
far as it can be.
"""

import os
import stat
from bisect import bisect_right

from vdso.errors import shown

FILE_BYTES_MAX = 64 << 20
LINES_MAX = 1 << 20


class PerfMap:
    """The functions of one map: a later line says what is there now."""

    def __init__(self, text: bytes) -> None:
        rows: dict[int, tuple[int, str]] = {}
        for line in text.splitlines()[:LINES_MAX]:
            words = line.split(None, 2)
            try:
                start, size, name = int(words[0], 16), int(words[1], 16), words[2]
            except (ValueError, IndexError):
                continue
            rows[start] = (size, name.decode("utf-8", "backslashreplace"))
        self._starts = sorted(rows)
        self._rows = rows

    def find(self, address: int) -> tuple[str, int] | None:
        """The function's name and start."""
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        start = self._starts[index]
        size, name = self._rows[start]
        return (shown(name), start) if address < start + size else None


def read(pid: int, user: int) -> PerfMap | None:
    """The map of a process that runs as `user`; None where there is none, or somebody else's."""
    root = f"/proc/{pid}/root"
    for name in (f"{root}/tmp/perf-{_own_number(pid)}.map", f"/tmp/perf-{pid}.map"):
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        with open(fd, "rb") as file:
            status = os.fstat(fd)
            if stat.S_ISREG(status.st_mode) and status.st_uid == user:
                return PerfMap(file.read(FILE_BYTES_MAX))
    return None


def _own_number(pid: int) -> int:
    """The process's number as it knows it itself, in the innermost pid namespace."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"NSpid:"):
                    return int(line.split()[-1])
    except (OSError, ValueError, IndexError):
        pass
    return pid
