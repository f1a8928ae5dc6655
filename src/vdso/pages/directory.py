"""Where pages are, and how a name leads to a page.

In a directory, the page NAME is

    NAME.so             a symbolic link to the generation that has the name now
    NAME.<12 hex>.so    that generation: the page's file, an ELF shared object
    .NAME.lock          carries the publisher's lock, and nothing else; 0600

A change of layout makes a new generation and moves the link in one step, so a path that somebody has loaded
never changes its meaning. The old generation's page then says that it has been replaced, and its file goes.

The publisher's lock is on a file that nobody else opens: a process loses a POSIX lock by closing any
descriptor of the file, and the page's own file is also opened by readers and loaders in the publisher's
process.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from vdso import _core
from vdso.errors import BadPageName, DirectoryRefused, NoDirectory, NoSpace, PageUnreadable, WriterActive

SUFFIX = ".so"
NAME_MAX = 64
_TAG_BYTES = 6
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
# What is wrong with a place. Others, such as EMFILE, are wrong with the process.
_OF_THE_DIRECTORY = (
    *(errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL),
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EOPNOTSUPP, errno.ENODEV, errno.ENXIO, errno.ESTALE),
)


@dataclass(frozen=True, slots=True)
class Place:
    """A directory for pages. `noexec`: libraries cannot be loaded from it; `volatile`: it is in memory."""

    path: str
    noexec: bool
    volatile: bool


def check_page_name(name: str) -> None:
    """Raises BadPageName."""
    if not isinstance(name, str):
        raise BadPageName(f"a page's name is text, not {type(name).__name__}")
    good = name.replace("_", "").replace("-", "")
    if not (good.isascii() and good.isalnum() and name[0].isalpha() and len(name) <= NAME_MAX):
        raise BadPageName(f"{name!r} is no name for a page")


# ---- Which directories ----


def own_candidates() -> list[str]:
    """Where this user's pages may be, in order of preference."""
    uid = os.geteuid()
    found = []
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    # sudo may leave another user's.
    if runtime.startswith("/") and os.path.isdir(runtime) and os.stat(runtime).st_uid == uid:
        found.append(f"{runtime}/vdso")
    found.append("/run/vdso")
    found.append(f"/dev/shm/vdso-{uid}")
    return found


def reading_candidates() -> list[str]:
    """Where pages are looked for, in order: one's own, then root's."""
    found = own_candidates()
    if os.geteuid() != 0:
        found.append("/dev/shm/vdso-0")
    return found


def place_of(path: str) -> Place:
    noexec, volatile = _core.filesystem(path)
    return Place(path, noexec, volatile)


def named(directory: str | os.PathLike[str]) -> str:
    """The whole path of a directory that somebody names. Raises DirectoryRefused."""
    path = os.fsdecode(directory)
    if not path:  # a variable that was not set, say, and would mean the current directory
        raise DirectoryRefused("the directory's name is empty")
    if "\0" in path:
        raise DirectoryRefused(f"{path!r}: a zero character is in the directory's name", "")
    return os.path.abspath(path)


@contextlib.contextmanager
def refusing(path: str) -> Iterator[None]:
    """Makes what the system says against a directory, or a file in it, DirectoryRefused or NoSpace."""
    try:
        yield
    except OSError as error:
        said = f"{path}: {str(error.strerror).lower()}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(said) from None
        if error.errno in _OF_THE_DIRECTORY:
            raise DirectoryRefused(said, "") from None
        raise


def for_publishing(directory: str | os.PathLike[str] | None) -> Place:
    """The directory to publish in, made if need be. Raises DirectoryRefused, NoDirectory, NoSpace."""
    if directory is not None:
        path = named(directory)
        with refusing(path):
            os.makedirs(path, mode=0o755, exist_ok=True)
            os.close(open_directory(path, publishing=True))
            return place_of(path)
    second: Place | None = None
    refusals = []
    for path in own_candidates():
        try:
            place = place_of(os.path.dirname(path))
            if not place.volatile:
                continue
            try:
                os.mkdir(path)
                os.chmod(path, 0o755)  # whom a page is for, its own mode says
            except FileExistsError:
                place = place_of(path)
            os.close(open_directory(path, publishing=True))
        except DirectoryRefused as error:
            refusals.append(error.message)
            continue
        except OSError:
            continue
        if not place.noexec:
            return Place(path, False, True)
        second = second or Place(path, True, True)
    if second is None:
        said = "; ".join(["no directory in memory to publish in", *refusals])
        raise NoDirectory(said, "directory= names one that you have")
    return second


def open_directory(path: str, *, publishing: bool = False, owners: tuple[int, ...] | None = None) -> int:
    """A descriptor of a directory that only its owner can change. Raises OSError, DirectoryRefused.

    publishing: the owner is to be ourselves. owners: it is to be one of these users.
    """
    fd = os.open(path, _OPEN_DIRECTORY)
    try:
        found = os.fstat(fd)
        if publishing and found.st_uid != os.geteuid():
            raise DirectoryRefused(f"{path}: the directory is another user's")
        if owners is not None and found.st_uid not in owners:
            raise DirectoryRefused(f"{path}: the directory is neither yours nor root's")
        if found.st_mode & 0o022:
            raise DirectoryRefused(f"{path}: others can write in the directory")
    except BaseException:
        os.close(fd)
        raise
    return fd


# ---- A name's files ----


def target_of(directory_fd: int, name: str) -> str | None:
    """The generation that has the name, as a file name in the directory; None: there is none.

    Raises PageUnreadable.
    """
    try:
        target = os.readlink(name + SUFFIX, dir_fd=directory_fd)
    except FileNotFoundError:
        return None
    except OSError:
        raise PageUnreadable(f"{name}{SUFFIX} is not a page's link") from None
    if not is_generation(name, target):
        raise PageUnreadable(f"{name}{SUFFIX} leads elsewhere")
    return target


def is_generation(name: str, file_name: str) -> bool:
    head, dot, tag = file_name.removesuffix(SUFFIX).rpartition(".")
    return (
        head == name
        and dot == "."
        and file_name.endswith(SUFFIX)
        and len(tag) == 2 * _TAG_BYTES
        and set(tag) <= set("0123456789abcdef")
    )


def new_generation(name: str) -> str:
    return f"{name}.{os.urandom(_TAG_BYTES).hex()}{SUFFIX}"


def open_generation(directory_fd: int, file_name: str, flags: int = os.O_RDONLY) -> int:
    """A descriptor of a page's file: an ordinary file of the directory's owner or root's.

    Raises OSError, PageUnreadable.
    """
    try:
        fd = os.open(file_name, flags | _OPEN_FILE, dir_fd=directory_fd)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a symbolic link, a socket
            raise PageUnreadable(f"{file_name} is not an ordinary file") from None
        raise
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise PageUnreadable(f"{file_name} is not an ordinary file")
        if found.st_uid not in (os.fstat(directory_fd).st_uid, 0):
            raise PageUnreadable(f"{file_name} belongs to neither the directory's owner nor root")
        if found.st_mode & 0o022:
            raise PageUnreadable(f"others can write {file_name}")
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_named(directory_fd: int, name: str) -> tuple[int, str] | None:
    """A descriptor of the generation that has the name, and its file name; None: the name is not here.

    Raises OSError, PageUnreadable.
    """
    while True:
        target = target_of(directory_fd, name)
        if target is None:
            return None
        try:
            return open_generation(directory_fd, target), target
        except FileNotFoundError:
            if target_of(directory_fd, name) == target:
                raise PageUnreadable(f"{name} leads to a file that is gone") from None
            # else replaced in this moment


def generations(directory_fd: int, name: str) -> list[str]:
    return [file_name for file_name in os.listdir(directory_fd) if is_generation(name, file_name)]


def names(directory_fd: int) -> list[str]:
    """The names that have a page here."""
    found = []
    for file_name in sorted(os.listdir(directory_fd)):
        name = file_name.removesuffix(SUFFIX)
        if name != file_name and "." not in name:
            found.append(name)
    return found


def move_link(directory_fd: int, name: str, target: str) -> None:
    """The name leads to this generation from now on, in one step."""
    temporary = f".{name}.link"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=directory_fd)
    os.symlink(target, temporary, dir_fd=directory_fd)
    os.rename(temporary, name + SUFFIX, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)


# ---- The lock ----


def lock(directory_fd: int, name: str) -> int:
    """Takes the name's lock: a descriptor, which holds it until it is closed. Raises WriterActive.

    Not for a name that this process has locked already: closing the second descriptor would free the first
    one's lock.
    """
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(f".{name}.lock", flags, 0o600, dir_fd=directory_fd)
        try:
            _core.lock_file(fd)
        except BlockingIOError:
            pid = _core.lock_holder(fd)
            os.close(fd)
            if pid != 0:
                raise WriterActive(name, pid) from None
            continue  # it has gone in between
        except BaseException:
            os.close(fd)
            raise
        try:
            found = os.stat(f".{name}.lock", dir_fd=directory_fd, follow_symlinks=False)
        except FileNotFoundError:
            found = None
        if found is not None and os.path.samestat(found, os.fstat(fd)):
            return fd
        os.close(fd)  # `vdso rm` has taken the file away meanwhile


def name_locked(path: str, name: str) -> bool | None:
    """Whether somebody, in this process or another, has the lock of a name in a directory; None: it is not
    for us to know.
    """
    try:
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _core.name_locked(fd, name)
    finally:
        os.close(fd)
