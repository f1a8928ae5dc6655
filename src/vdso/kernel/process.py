"""A process's files under /proc, and what it means when one cannot be read.

The kernel's answers are few and the situations many: a process that is not there, has ended, is somebody
else's, or has no memory of its own. Each becomes one SourceError.
"""

import errno
import os

from vdso.errors import ProcNotMounted, SourceError

PF_KTHREAD = 0x00200000  # include/linux/sched.h

# Far more than the largest /proc/PID/maps that vm.max_map_count's default lets grow, some 10 MiB.
FILE_BYTES_MAX = 256 << 20


NOT_MOUNTED = "/proc is not mounted"


def proc_mounted() -> bool:
    """Whether there is a /proc: a chroot may be without."""
    return os.path.exists("/proc/self/stat")


def need_proc() -> None:
    """Raises ProcNotMounted."""
    if not proc_mounted():
        raise ProcNotMounted(NOT_MOUNTED)


def named(pid: int | None) -> str:
    """The process as messages call it."""
    return "this process" if pid is None else f"process {pid}"


def path(pid: int | None, name: str) -> str:
    return f"/proc/{'self' if pid is None else pid}/{name}"


def read(pid: int | None, name: str) -> bytes:
    """The whole of /proc/PID/NAME; None: of this process. Raises SourceError."""
    try:
        with open(path(pid, name), "rb", buffering=0) as file:
            parts: list[bytes] = []
            size = 0
            while part := file.read(1 << 16):
                parts.append(part)
                size += len(part)
                if size > FILE_BYTES_MAX:
                    raise SourceError(f"{named(pid)}: its {name} has no end")
    except OSError as error:
        raise refusal(pid, error) from None
    return b"".join(parts)


def read_memory(pid: int | None, address: int, size: int) -> bytes:
    """`size` bytes of the process's memory. Raises SourceError.

    The kernel's data pages cannot be read this way (EIO), its code can.
    """
    try:
        fd = os.open(path(pid, "mem"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise refusal(pid, error) from None
    try:
        data = bytearray()
        while len(data) < size:
            part = os.pread(fd, size - len(data), address + len(data))
            if not part:  # its address space has gone
                raise ended(pid)
            data += part
        return bytes(data)
    except OSError as error:
        raise refusal(pid, error) from None
    finally:
        os.close(fd)


def refusal(pid: int | None, error: OSError) -> SourceError:
    """Why a file of that process could not be read."""
    name = named(pid)
    if isinstance(error, FileNotFoundError | ProcessLookupError):
        if not proc_mounted():
            return SourceError(NOT_MOUNTED, "mount -t proc proc /proc")
        # ESRCH comes from a directory that is there: of a process without memory, or one that has just ended.
        if isinstance(error, ProcessLookupError):
            return why_empty(pid)
        return SourceError(f"there is no {name}" if pid is not None else "/proc/self cannot be read")
    if isinstance(error, PermissionError):
        return SourceError(
            f"{name} belongs to somebody else, or may not be looked into",
            "its owner and root may, unless it changed its user, or Yama or a container is in the way",
        )
    if error.errno == errno.EIO:
        return SourceError(f"{name}: its memory there cannot be read")
    return SourceError(f"{name}: {(error.strerror or str(error)).lower()}")


def ended(pid: int | None) -> SourceError:
    return SourceError(f"{named(pid)} ended while it was read")


def why_empty(pid: int | None) -> SourceError:
    """Why a process has no address space: a kernel thread, a zombie, or one that has just ended."""
    try:
        with open(path(pid, "stat"), "rb", buffering=0) as file:
            line = file.read(4096)
    except OSError:
        return ended(pid)
    # The name in parentheses may hold anything; state is the first word after it, flags the seventh.
    words = line.rpartition(b")")[2].split()
    if len(words) > 6:
        if words[0] in (b"Z", b"X"):
            return SourceError(f"{named(pid)} is a zombie: its memory has gone")
        if int(words[6]) & PF_KTHREAD:
            return SourceError(f"{named(pid)} is a kernel thread: it has no memory of its own, and no vDSO")
    return ended(pid)


def started(pid: int) -> bytes:
    """The 22nd field of its stat, b"" where it is gone or a zombie: proc_pid_stat(5)."""
    try:
        with open(path(pid, "stat"), "rb", buffering=0) as stream:
            words = stream.read(4096).rpartition(b")")[2].split()
    except OSError:
        return b""
    return b"" if len(words) < 20 or words[0] in (b"Z", b"X") else words[19]


def living(pid: int) -> int:
    """The first of its threads that has not ended, 0 where all have: what files in /proc tell of is gone with
    the thread that they are of."""
    if started(pid):
        return pid
    try:
        tasks = sorted(map(int, os.listdir(path(pid, "task"))))
    except OSError:
        return 0
    return next((task for task in tasks if started(task)), 0)
