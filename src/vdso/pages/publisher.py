"""Publishing a record under a name: `publish()`.

One publisher has a name at a time, by a lock that ends with its process and that the children it forks do
not have. The page's bytes are written by vdso._core; here is what decides.
"""

import contextlib
import operator
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, NoReturn, Self

from vdso import _core, errors
from vdso.pages import directory as places
from vdso.pages import fieldtable, library, records
from vdso.pages import schema as schemas
from vdso.pages.reader import reader_of_file
from vdso.pages.schema import Layout

# Taken by a publisher that goes away too, at any moment.
_guard = threading.RLock()


class Publisher(_core.RecordPublisher):
    """What publish() returns: the one who writes a page.

    `path` is the page's file, a library that other languages can load. `noexec` says that they cannot load
    it where it is. Usable from any thread; in a forked child every way of writing raises NotPublisher.
    """

    __slots__ = ("__weakref__", "_claim", "_lock", "layout", "name", "noexec", "path")

    path: str
    name: str
    layout: Layout
    noexec: bool
    _claim: int
    _lock: int

    @contextlib.contextmanager
    def edit(self) -> Iterator[Any]:
        """A draft of the record to be changed field by field, published as one version at the end of the
        block.

        Fields that the block did not change stay as others, meanwhile, have published them. An exception
        publishes nothing.
        """
        before = self._current()
        draft = _core.Draft(self._record, before)
        yield draft
        self._merge(before, bytes(memoryview(draft)))

    def close(self) -> None:
        """Signs off and frees the name for the next publisher; readers keep the last record."""
        with _guard:
            here = self._here
            self._close()
            if self._lock >= 0:
                lock, self._lock = self._lock, -1
                # Elsewhere it stays open: the child may have taken the name over by now, and would lose its
                # lock.
                if here:
                    _unlock(self._claim, lock)

    def _forked(self) -> None:
        """In the child: what came along is closed before the child can lock anything."""
        self._leave()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self, ending: Callable[[], bool] = sys.is_finalizing) -> None:
        # At the end of the process the kernel frees the lock, and there is no module left to help.
        if getattr(self, "_lock", -1) >= 0 and not ending():
            self.close()

    def __reduce__(self) -> NoReturn:
        raise errors.NotPublisher(
            "a publisher cannot be sent to another process", "open the page there by its name"
        )

    def __repr__(self) -> str:
        return f"<publisher of {self.name}>"


_publishers: weakref.WeakSet[Publisher] = weakref.WeakSet()


def _forget() -> None:
    """In a forked child, which holds nothing."""
    global _guard
    _guard = threading.RLock()
    for publisher in list(_publishers):
        publisher._forked()
    _publishers.clear()


os.register_at_fork(after_in_child=_forget)


def publish(
    name: str,
    schema: Any,
    *,
    initial: Any = None,
    slots: int = 4,
    notify: bool = True,
    directory: str | os.PathLike[str] | None = None,
    mode: int = 0o644,
) -> Publisher:
    """Publishes records of a schema under a name, until the publisher is closed or its process ends.

    name: letters, digits, _ and -, a letter first. schema: a page class, dataclass, msgspec.Struct,
    ctypes.Structure or numpy structured dtype. initial: the page's first record, as set() takes it; a page
    that has had one goes on from its newest, also with other slots. slots: versions that the page keeps, a
    power of two. notify: wake who waits, which costs a system call a version. directory: where, if not in the
    first place in memory that is this user's. mode: who may read, as for chmod.

    Raises WriterActive, BadSchema, BadPageName, BadValue, NoDirectory, DirectoryRefused, NoSpace, UsageError.
    """
    places.check_page_name(name)
    layout = schemas.layout_of(schema)
    slots = _whole_number("slots", slots)
    if slots < 2 or slots > _core.SLOTS_MAX or slots & (slots - 1):
        raise errors.UsageError(f"slots is a power of two from 2 to {_core.SLOTS_MAX}")
    mode = _whole_number("mode", mode)
    # The next publisher of the same user's has to be able to go on in it.
    if mode & ~0o777 or mode & 0o022 or mode & 0o600 != 0o600:
        raise errors.UsageError(f"a page of mode {mode:o} could not be published", "0644, 0640 or 0600")
    place = places.for_publishing(directory)
    with places.refusing(place.path):
        directory_fd = places.open_directory(place.path, publishing=True)
    try:
        with _guard, places.refusing(place.path):
            claim, lock = _lock(directory_fd, name)
            try:
                made = _begin(directory_fd, place, name, layout, slots, notify, mode, schema, initial)
                made._claim, made._lock = claim, lock
                _publishers.add(made)
            except BaseException:
                _unlock(claim, lock)
                raise
    finally:
        os.close(directory_fd)
    return made


def _whole_number(what: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        said = f"{what} is a whole number, not {type(value).__name__}"
        raise errors.UsageError(said, "such as 4" if what == "slots" else "such as 0o644") from None


def _lock(directory_fd: int, name: str) -> tuple[int, int]:
    """The claim in this process and the lock among all: a second lock in one process would be given, and
    closing it would free the first.
    """
    try:
        claim = _core.claim(directory_fd, name)
    except BlockingIOError:
        raise errors.WriterActive(name, os.getpid()) from None
    try:
        return claim, places.lock(directory_fd, name)
    except BaseException:
        _core.unclaim(claim)
        raise


def _unlock(claim: int, lock: int) -> None:
    os.close(lock)
    _core.unclaim(claim)


def _begin(
    directory_fd: int,
    place: places.Place,
    name: str,
    layout: Layout,
    slots: int,
    notify: bool,
    mode: int,
    schema: Any,
    initial: Any,
) -> Publisher:
    """With the name's lock held: goes on in the page that there is, or makes a new one."""
    try:
        target = places.target_of(directory_fd, name)
    except errors.PageUnreadable:
        target = None  # the directory is ours, and so is the name: whatever stands there gives way
    made = None if target is None else _go_on(directory_fd, target, layout, slots, notify, mode)
    if made is not None:
        assert target is not None
        _prepare(made, schema, initial)
    else:
        if target is not None:
            initial = _newest(directory_fd, target, name, layout) or initial
        target = places.new_generation(name)
        made = _new(directory_fd, name, target, layout, slots, notify, mode, schema, initial)
    _retire_others(directory_fd, name, target)
    made.path = f"{place.path}/{target}"
    made.name = name
    made.layout = layout
    made.noexec = place.noexec
    return made


def _prepare(made: Publisher, schema: Any, initial: Any) -> None:
    """What is in the page's first version. One that has had any keeps what it has."""
    if made.version != 0:
        return
    for field, value in schemas.defaults_of(schema).items():
        made._begin_with(field, value)
    if initial is not None:
        made.set(initial)


def _go_on(
    directory_fd: int, target: str, layout: Layout, slots: int, notify: bool, mode: int
) -> Publisher | None:
    """The page that has the name now, if its records are the same; else None."""
    try:
        fd = places.open_generation(directory_fd, target, os.O_RDWR)
    except (OSError, errors.PageUnreadable):
        return None
    try:
        try:
            offset, found_slots, _, fields_at, fields_size = _core.page_find(fd)
            if found_slots != slots or fields_size > fieldtable.BYTES_MAX:
                raise errors.PageUnreadable("it is another page")
            table = os.pread(fd, fields_size, fields_at)
            if fieldtable.decode(table) != layout:
                raise errors.PageUnreadable("it is another record")
        except errors.PageNotThere:
            os.close(fd)
            return None
        os.fchmod(fd, mode)
        return Publisher(fd, offset, records.record_of_table(table, layout), notify)
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(fd)
        raise


def _newest(directory_fd: int, target: str, name: str, layout: Layout) -> Any:
    """The last record of a page of the same fields that cannot be gone on in; None: there is none."""
    try:
        with reader_of_file(places.open_generation(directory_fd, target), name, target) as reader:
            found: Layout = reader._record.layout
            return reader.snapshot() if found == layout else None
    except (OSError, errors.PageError):
        return None


def _new(
    directory_fd: int,
    name: str,
    target: str,
    layout: Layout,
    slots: int,
    notify: bool,
    mode: int,
    schema: Any,
    initial: Any,
) -> Publisher:
    """A new generation, whole before the name leads to it."""
    built = library.build(layout, name, slots=slots)
    temporary = f".{target}"
    fd = os.open(
        temporary,
        os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC,
        0o600,
        dir_fd=directory_fd,
    )
    made: Publisher | None = None
    try:
        os.posix_fallocate(fd, 0, built.size)
        _write(fd, built.prefix)
        where = (built.fields_offset, built.fields_size)
        _core.page_create(fd, built.page_offset, layout.record_size, slots, layout.hash, *where)
        made = Publisher(fd, built.page_offset, records.record_of(layout), notify)
        made._lock = -1
        _prepare(made, schema, initial)
        os.fchmod(fd, mode)
        os.rename(temporary, target, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
        places.move_link(directory_fd, name, target)
    except BaseException:
        if made is None:
            os.close(fd)
        else:
            made._close()
        for left in (temporary, target):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(left, dir_fd=directory_fd)
        raise
    return made


def _write(fd: int, data: bytes) -> None:
    at = 0
    while at < len(data):
        at += os.pwrite(fd, data[at:], at)


def _retire_others(directory_fd: int, name: str, target: str | None) -> None:
    """Tells the readers of earlier generations that theirs is not the name's any more, and removes the files.

    Also those that a publisher left when it was killed in the middle of this.
    """
    for left in os.listdir(directory_fd):
        if left == target:
            continue
        if places.is_generation(name, left):
            with contextlib.suppress(OSError, errors.PageNotThere):
                fd = places.open_generation(directory_fd, left, os.O_RDWR)
                try:
                    _core.page_retire(fd, _core.page_find(fd)[0])
                finally:
                    os.close(fd)
        elif not (left.startswith(".") and places.is_generation(name, left[1:])):
            continue
        with contextlib.suppress(FileNotFoundError):
            os.unlink(left, dir_fd=directory_fd)


def remove(name: str, *, directory: str | os.PathLike[str] | None = None) -> None:
    """Takes a page and its name away; its readers keep the last record, and see `replaced`.

    Raises WriterActive while there is a publisher, PageNotThere, DirectoryRefused, BadPageName.
    """
    places.check_page_name(name)
    where = places.own_candidates() if directory is None else [places.named(directory)]
    for path in where:
        try:
            directory_fd = places.open_directory(path, publishing=True)
        except OSError:
            continue
        except errors.DirectoryRefused:
            if directory is not None:
                raise
            continue
        try:
            if not _has_name(directory_fd, name):
                continue
            with _guard:
                claim, lock = _lock(directory_fd, name)
                try:
                    _retire_others(directory_fd, name, None)
                    for left in (name + places.SUFFIX, f".{name}.lock"):
                        with contextlib.suppress(FileNotFoundError):
                            os.unlink(left, dir_fd=directory_fd)
                finally:
                    _unlock(claim, lock)
        finally:
            os.close(directory_fd)
        return
    raise errors.PageNotThere(f"no page of yours is called {name}", "`vdso pages` lists what there is")


def _has_name(directory_fd: int, name: str) -> bool:
    try:
        os.stat(name + places.SUFFIX, dir_fd=directory_fd, follow_symlinks=False)
    except FileNotFoundError:
        return bool(places.generations(directory_fd, name))
    return True
