"""Reading what is published under a name: `open_page()`, which users know as vdso.open().

Executes nothing of the page's file and believes nothing that it says before it is checked against the
file's size.
"""

import contextlib
import os
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from vdso import _core, errors
from vdso.pages import directory as places
from vdso.pages import fieldtable, records, schema
from vdso.pages.schema import Layout

_YEARS_S = 1e9
_LOOK_S = 0.2  # how often a watcher looks whether a page that went away is there again


@dataclass(frozen=True, slots=True)
class PageInfo:
    """What a reader has open. `path` is the file; `slots` how many versions the page keeps."""

    name: str
    path: str
    layout: Layout
    slots: int
    publisher_pid: int
    notifies: bool


class Reader(_core.RecordReader):
    """A page, open for reading: an attribute a field, each read as of now.

    Fields that belong together are to be read in one snapshot(). Usable from any thread and after a fork;
    to another process it goes as its name.
    """

    __slots__ = ("__weakref__", "_directory", "_expect", "_name", "_path")

    _name: str
    _path: str
    _directory: str | None
    _expect: Layout | None

    @property
    def page(self) -> PageInfo:
        """Name, path, layout and more of what is open."""
        quiet = bool(self._state & _core.STATE_SILENT)
        layout: Layout = self._record.layout
        return PageInfo(self._name, self._path, layout, self._slots, self._writer_pid, not quiet)

    @property
    def replaced(self) -> bool:
        """Whether the name leads elsewhere by now: no version will follow here, and reopen() gives the new
        page.
        """
        if self._state & _core.STATE_REPLACED:
            return True
        try:
            found = os.stat(self._path)
        except OSError:
            return True
        return not os.path.samestat(found, os.fstat(self._fd))

    def reopen(self) -> "Reader":
        """A new reader of what the name leads to now. Raises as open() does."""
        return open_page(self._name, expect=self._expect, directory=self._directory)

    def wait(self, seen: int | None = None, *, timeout: float | None = None) -> bool:
        """Sleeps until there is a version other than `seen` (the newest one, if not given) and says
        whether there is.

        False: `timeout` seconds went by, or the page was replaced.
        """
        seen = self.version if seen is None else seen
        for_ever = timeout is None or timeout > _YEARS_S
        return self._wait(seen, -1 if for_ever else max(0, round(timeout * 1e9))) > 0  # type: ignore[operator]

    def watch(self, *, timeout: float | None = None) -> "Watch":
        """Each new version as a snapshot, for `for` and for `async for`, the present one first.

        A reader that is slower than the publisher gets the newest version and misses those between. When
        the page is replaced, it goes on with the one that has the name then. timeout: ends after so many
        seconds without a version.
        """
        return Watch(self, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self._name, self._expect, self._directory)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._record.names})

    def __repr__(self) -> str:
        return f"<reader of {self._name}, version {self.version}>"


class Watch:
    """What watch() returns."""

    __slots__ = ("_reader", "_seen", "_timeout")

    def __init__(self, reader: Reader, timeout: float | None) -> None:
        self._reader = reader
        self._seen = 0
        self._timeout = timeout

    def _step(self, slice_s: float) -> Any:
        """A snapshot that has not been seen, or None after a while."""
        state = self._reader._wait(self._seen, round(slice_s * 1e9))
        if state > 0:
            snapshot = self._reader.snapshot()
            self._seen = snapshot.version
            return snapshot
        if state < 0 or self._reader.replaced:
            try:
                self._reader = self._reader.reopen()
                self._seen = 0
            except errors.PageNotThere:
                time.sleep(min(_LOOK_S, slice_s))
        return None

    def __iter__(self) -> Iterator[Any]:
        while True:
            end = None if self._timeout is None else time.monotonic() + self._timeout
            found = None
            while found is None:
                left = 1.0 if end is None else min(1.0, end - time.monotonic())
                if left <= 0:
                    return
                found = self._step(left)
            yield found

    async def __aiter__(self) -> AsyncIterator[Any]:
        import asyncio

        while True:
            end = None if self._timeout is None else time.monotonic() + self._timeout
            found = None
            while found is None:
                # A thread cannot be called off: it looks up so often that nobody has to wait for it at the
                # end.
                left = 0.1 if end is None else min(0.1, end - time.monotonic())
                if left <= 0:
                    return
                found = await asyncio.to_thread(self._step, left)
            yield found


def _reopened(name: str, expect: Layout | None, where: str | None) -> Reader:
    return open_page(name, expect=expect, directory=where)


def open_page(name: str, *, expect: Any = None, directory: str | os.PathLike[str] | None = None) -> Reader:
    """Opens the page that is published under a name.

    expect: a schema that the page's records must have. directory: where to look, if not in the usual places.

    Raises PageNotThere, PageUnreadable where the file is damaged or not to be trusted, PageDiffers,
    BadPageName.
    """
    wanted = None if expect is None else schema.layout_of(expect)
    where = None if directory is None else os.path.abspath(os.fspath(directory))
    found = _find(name, where)
    layout: Layout = found._record.layout
    if wanted is not None and layout != wanted:
        raise errors.PageDiffers(name, schema.differences(layout, wanted))
    found._expect = wanted
    found._directory = where
    return found


def _find(name: str, where: str | None) -> Reader:
    """The first page of that name that is published now, else the first of them."""
    places.check_page_name(name)
    refused: errors.VdsoError | None = None
    first: Reader | None = None
    for path, owners in _places(where):
        try:
            directory_fd = places.open_directory(path, owners=owners)
        except OSError:
            continue
        except errors.DirectoryRefused as error:
            refused = refused or error
            continue
        try:
            found = _open_in(directory_fd, path, name)
        except PermissionError as error:
            said = f"{name}: {str(error.strerror).lower()}"
            raise errors.PageUnreadable(said, "its publisher's mode= says who may read it") from None
        finally:
            os.close(directory_fd)
        # One that was left in another place, by a session that has ended, say, is in no live one's way.
        if found is not None and found.publisher_alive:
            return found
        first = first or found
    if first is not None:
        return first
    if refused is not None:
        raise errors.PageNotThere(f"no page is called {name}; {refused.message}", refused.hint)
    raise errors.PageNotThere(f"no page is called {name}", "`vdso pages` lists what there is")


def _places(where: str | None) -> list[tuple[str, tuple[int, ...] | None]]:
    if where is not None:
        return [(where, None)]
    owners = (os.geteuid(), 0)
    return [(path, owners) for path in places.reading_candidates()]


def _open_in(directory_fd: int, path: str, name: str) -> Reader | None:
    """None: the name is not here."""
    while True:
        target = places.target_of(directory_fd, name)
        if target is None:
            return None
        try:
            fd = places.open_generation(directory_fd, target)
        except FileNotFoundError:
            if places.target_of(directory_fd, name) == target:
                raise errors.PageUnreadable(f"{name} leads to a file that is gone") from None
            continue  # replaced in this moment
        return reader_of_file(fd, name, f"{path}/{target}")


def reader_of_file(fd: int, name: str, path: str) -> Reader:
    """A reader of a file, whose descriptor it takes."""
    try:
        offset, _, _, fields_at, fields_size = _core.page_find(fd)
        if fields_at == 0 or not 0 < fields_size <= fieldtable.BYTES_MAX:
            raise errors.PageUnreadable("the page has no field table")
        table = os.pread(fd, fields_size, fields_at)
        made = Reader(fd, offset, records.record_of_table(table))
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.close(fd)
        if isinstance(error, errors.PageNotThere):
            raise errors.PageUnreadable(f"{name}: {error.message}", error.hint) from None
        raise
    made._name = name
    made._path = path
    made._directory = None
    made._expect = None
    return made
