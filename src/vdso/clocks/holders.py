"""Who holds sessions' clock pages open, as /proc shows it, and the page of a session by that way.

A session is found among the descriptors of those that hold its page, by the names of the processes and of the
memfds (vdso.clocks.session has what a session is). Imports nothing that takes time: `vdso run --session` pays
for it.
"""

import os

from vdso import _core
from vdso.errors import PageNotThere, SessionError, SessionNotThere, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MEMFD = "vdso-clock:"

# Whoever holds a session's page open on its behalf, by the name in /proc/PID/comm.
HOLDERS = ("vdso-follower", "vdso-guard", "vdso-keeper", "vdso-session", "vdso-run")
# These may hold a page that nobody is on any more: one ends a moment after the last process that has it
# mapped, detached ones among them, the others with the last process that has their filter.
LINGERER, ATTACHED = "vdso-session", b"--attached"

_LOOKS = 3  # at most, where a holder goes while it is looked at


NAME_LIMIT = 64
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def check_name(name: str) -> str:
    """The name, if a session may have it. Raises UsageError."""
    hint = (
        "letters, digits, dot, dash and underscore, 64 at most, and not digits alone: these are process ids"
    )
    if not name:
        raise UsageError("a session's name cannot be empty", hint)
    if not _NAME_CHARACTERS.issuperset(name) or len(name) > NAME_LIMIT or name[0] == "-" or name.isdigit():
        raise UsageError(f"not a session's name: {name}", hint)
    return name


class Holder:
    """A process that holds pages, and which: {inode: (the session's name, path of the descriptor)}."""

    __slots__ = ("comm", "pages", "pid")

    def __init__(self, pid: int, comm: str, pages: dict[int, tuple[str, str]]) -> None:
        self.pid = pid
        self.comm = comm
        self.pages = pages

    def is_sure(self) -> bool:
        """Whether what it holds is certain to be somebody's: a follower keeps what an inner command line
        brought to it until it needs the room, and who lingers what nobody runs on any more."""
        return len(self.pages) == 1 and self.comm != LINGERER and not self._is_attached()

    def _is_attached(self) -> bool:
        """Whether it follows a process that has been attached."""
        try:
            with open(f"/proc/{self.pid}/cmdline", "rb", buffering=0) as stream:
                return ATTACHED in stream.read(4096).split(b"\0")
        except OSError:
            return False


def held(lost: "list[int] | None" = None) -> "Iterator[Holder]":
    """The holders that can be looked into. In `lost`, the pids of those that went away meanwhile."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/comm", "rb", buffering=0) as stream:
                comm = stream.read(64).decode(errors="replace").rstrip("\n")
        except OSError:
            continue
        if comm not in HOLDERS:
            continue
        pages: dict[int, tuple[str, str]] = {}
        try:
            for fd in os.listdir(f"/proc/{entry}/fd"):
                path = f"/proc/{entry}/fd/{fd}"
                target = os.readlink(path)
                if target.startswith(f"/memfd:{MEMFD}"):
                    name = target.removeprefix(f"/memfd:{MEMFD}").removesuffix(" (deleted)")
                    pages[os.stat(path).st_ino] = (name, path)
        except PermissionError:
            continue  # another user's
        except OSError:
            if lost is not None:
                lost.append(int(entry))
            continue
        if pages:
            yield Holder(int(entry), comm, pages)


def pids_on(inodes: "set[int]") -> "dict[int, list[int]]":
    """{inode: pids of what runs on that page}."""
    return {inode: pids for inode, pids in running().items() if inode in inodes} if inodes else {}


def running() -> "dict[int, list[int]]":
    """The same of every page of ours, as far as this user may look. Not each of them is a session's."""
    found: dict[int, list[int]] = {}
    for pid in sorted(map(int, filter(str.isdigit, os.listdir("/proc")))):
        inode = inode_of(pid)
        if inode:
            found.setdefault(inode, []).append(pid)
    return found


def inode_of(pid: int) -> int:
    """Of the page that a process runs on; 0: none, or it cannot be seen."""
    try:
        return _core.clock_inode(pid)
    except OSError:
        return 0


def open_named(name: str) -> "_core.ClockPage | None":
    """The page of the session of that name, of this user before another's; None: there is none.

    For who holds the lock under which sessions begin: one that began before has been held ever since, by one
    that lives or by its successor. Raises SessionError.
    """
    for _ in range(_LOOKS):
        lost: list[int] = []
        named = [
            (holder, inode, path)
            for holder in held(lost)
            if holder.pid != os.getpid()
            for inode, (theirs, path) in holder.pages.items()
            if theirs == name
        ]
        unsure = {inode for holder, inode, _ in named if not holder.is_sure()}
        running = pids_on(unsure)
        found = [one for one in named if one[0].is_sure() or one[1] in running]
        found.sort(key=lambda one: _is_another_user_s(one[0].pid))
        for _, inode, path in found:
            try:
                return open_held(name, path, inode)
            except SessionNotThere:
                lost.append(0)
        if not lost:
            break
    return None


def _is_another_user_s(pid: int) -> bool:
    try:
        return os.stat(f"/proc/{pid}").st_uid != os.geteuid()
    except OSError:
        return True


def open_held(name: str, path: str, inode: int) -> "_core.ClockPage":
    """A session's page by a holder's descriptor, to read and to adjust.

    Raises SessionNotThere, SessionError.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        raise SessionNotThere(f"the session {name} has just ended") from None
    except OSError as error:
        raise SessionError(
            f"the session {name} cannot be opened: {error.strerror}", "it is its user's, and root's"
        ) from None
    try:
        if os.fstat(fd).st_ino != inode:  # the descriptor's number has come to something else
            raise SessionNotThere(f"the session {name} has just ended")
        return _core.ClockPage.from_fd(fd)
    except PageNotThere:
        raise SessionError(
            f"the session {name} is another version's", "the vdso that began it shows and adjusts it"
        ) from None
    finally:
        os.close(fd)
