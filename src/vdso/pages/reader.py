"""Reading what is published under a name: `open_page()`, which users know as vdso.open().

Executes nothing of the page's file and believes nothing that it says before it is checked against the
file's size.
"""

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from vdso import _core, errors
from vdso.pages import directory as places
from vdso.pages import records, schema
from vdso.pages.schema import Layout

if TYPE_CHECKING:
    import asyncio
    import queue

    # What the next version is handed to, and by when there has to be one.
    _Question = tuple[asyncio.Future[tuple["Reader", Any]], float | None]

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
    to another process it goes as its name. Once it is closed everything but reopen() and the way to another
    process raises PageClosed.
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
    def publisher_alive(self) -> bool:
        """Whether a publisher has the page."""
        if self._page_locked:
            return True
        if not self._writer_pid or self._state & _core.STATE_REPLACED:
            return False
        # The page's own lock is lost when the publisher's process reads the page's file. The name's is not,
        # and only its owner can ask for it; to others the pid is left.
        known = places.name_locked(os.path.dirname(self._path), self._name)
        return super().publisher_alive if known is None else known

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

        False: `timeout` seconds went by, or the page was replaced. Raises PageClosed, also when another
        thread closes the reader meanwhile.
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
        try:
            return f"<reader of {self._name}, version {self.version}>"
        except errors.PageClosed:
            return f"<reader of {self._name}, closed>"


class Watch:
    """What watch() returns. It can be gone through again, and then goes on where that ended."""

    __slots__ = ("_reader", "_seen", "_timeout")

    def __init__(self, reader: Reader, timeout: float | None) -> None:
        if timeout is not None and math.isnan(timeout):
            raise errors.UsageError("a timeout is a number of seconds, not nan")
        self._reader = reader
        self._seen = 0
        self._timeout = timeout

    def _end(self) -> float | None:
        """By when there has to be a version, by time.monotonic()."""
        return None if self._timeout is None else time.monotonic() + self._timeout

    def _next(
        self, end: float | None, slice_s: float, gone: Callable[[], bool] = lambda: False
    ) -> tuple[Reader, Any]:
        """A snapshot that has not been seen, and its reader; None: there was none in time, or it is `gone`.

        Whether it is asked after is looked up at least once a slice. Nothing counts as seen by this: what
        has been handed out is.
        """
        reader, seen = self._reader, self._seen
        while not gone():
            left = slice_s if end is None else min(slice_s, max(0.0, end - time.monotonic()))
            state = reader._wait(seen, round(left * 1e9))
            if state > 0:
                return reader, reader.snapshot()
            if state < 0 or reader.replaced:
                try:
                    reader, seen = reader.reopen(), 0
                    continue
                except errors.PageNotThere:
                    time.sleep(min(_LOOK_S, left))
            if end is not None and time.monotonic() >= end:
                break
        return reader, None

    def _handed_out(self, reader: Reader, snapshot: Any) -> None:
        self._reader = reader
        self._seen = snapshot.version

    def __iter__(self) -> Iterator[Any]:
        while True:
            reader, snapshot = self._next(self._end(), 1.0)
            if snapshot is None:
                return
            self._handed_out(reader, snapshot)
            yield snapshot

    def __aiter__(self) -> "AsyncWatch":
        return AsyncWatch(self)


class AsyncWatch:
    """A watch for `async for`. It waits in a thread of its own, which ends with it or with its event loop.

    A step that is called off loses nothing: the next one gives what it would have given.
    """

    __slots__ = ("_asked", "_loop", "_questions", "_watch")

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._loop: asyncio.AbstractEventLoop | None = None
        self._questions: queue.SimpleQueue[_Question | None] | None = None
        self._asked = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self._asked:
            raise RuntimeError("this watch is waited for already")
        import asyncio

        loop = asyncio.get_running_loop()
        # The thread of another loop is not ours, nor is that of the process that has forked this one.
        if self._questions is None or self._loop is not loop:
            self._stop()
            self._loop, self._questions = loop, _answering(self._watch, loop)
        answer: asyncio.Future[tuple[Reader, Any]] = loop.create_future()
        self._asked = True
        try:
            self._questions.put((answer, self._watch._end()))
            reader, snapshot = await answer
        finally:
            self._asked = False
        if snapshot is None:
            self._stop()
            raise StopAsyncIteration
        self._watch._handed_out(reader, snapshot)
        return snapshot

    async def aclose(self) -> None:
        """Lets the thread go, which happens also when nobody has the watch any more."""
        self._stop()

    def _stop(self) -> None:
        questions, self._questions = self._questions, None
        if questions is not None:
            questions.put(None)  # takes no lock that a thread may have had at a fork

    def __del__(self) -> None:
        self._stop()


def _answering(watch: Watch, loop: "asyncio.AbstractEventLoop") -> "queue.SimpleQueue[_Question | None]":
    """Starts a thread that answers questions for the next version, one at a time, until None is asked.

    Not one of the loop's own threads: those are few, and others need them, to look up a host's name, say.
    """
    import queue
    import threading

    questions: queue.SimpleQueue[_Question | None] = queue.SimpleQueue()
    work = (watch, loop, questions, queue.Empty)
    threading.Thread(target=_answer, args=work, name="vdso-watch", daemon=True).start()
    return questions


def _answer(
    watch: Watch,
    loop: "asyncio.AbstractEventLoop",
    questions: "queue.SimpleQueue[_Question | None]",
    empty: type[Exception],
) -> None:
    while not loop.is_closed():
        try:
            question = questions.get(timeout=1.0)
        except empty:
            continue
        if question is None:
            return
        answer, end = question

        def gone(answer: "asyncio.Future[Any]" = answer) -> bool:
            return answer.done() or loop.is_closed()

        found: tuple[Reader, Any] | BaseException
        try:
            # It cannot be woken but by a version, and looks up often enough to be gone when the loop is.
            found = watch._next(end, 0.1, gone)
        except BaseException as error:
            found = error
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(_give, answer, found)
        del question, answer, gone, found


def _give(answer: "asyncio.Future[tuple[Reader, Any]]", found: tuple[Reader, Any] | BaseException) -> None:
    if answer.done():
        return
    if isinstance(found, BaseException):
        answer.set_exception(found)
    else:
        answer.set_result(found)


def _reopened(name: str, expect: Layout | None, where: str | None) -> Reader:
    return open_page(name, expect=expect, directory=where)


def open_page(name: str, *, expect: Any = None, directory: str | os.PathLike[str] | None = None) -> Reader:
    """Opens the page that is published under a name.

    expect: a schema that the page's records must have. directory: where to look, if not in the usual places.

    Raises PageNotThere, PageUnreadable where the file is damaged or not to be trusted, PageDiffers,
    BadPageName, DirectoryRefused.
    """
    wanted = None if expect is None else schema.layout_of(expect)
    where = None if directory is None else places.named(directory)
    found = _find(name, where)
    layout: Layout = found._record.layout
    if wanted is not None and layout != wanted:
        raise errors.PageDiffers(name, schema.differences(layout, wanted))
    found._expect = wanted
    found._directory = where
    return found


def _find(name: str, where: str | None) -> Reader:
    """The first page of that name that is published now, else the first of them; one's own before root's.

    One that cannot be read is in no other's way, and is told of when there is no other.
    """
    places.check_page_name(name)
    refused: errors.VdsoError | None = None
    unreadable: errors.PageUnreadable | None = None
    first: Reader | None = None
    found: Reader | None = None
    with contextlib.ExitStack() as opened:
        directories = []
        for path, owners in _places(where):
            try:
                directory_fd = places.open_directory(path, owners=owners)
            except OSError:
                continue
            except errors.DirectoryRefused as error:
                refused = refused or error
                continue
            opened.callback(os.close, directory_fd)
            directories.append((path, directory_fd))
        # Whose a directory is, its path does not say: /run/vdso may be root's or one's own.
        uid = os.geteuid()
        directories.sort(key=lambda place: os.fstat(place[1]).st_uid != uid)
        for path, directory_fd in directories:
            try:
                found = _open_in(directory_fd, path, name)
            except PermissionError as error:
                said = f"{name}: {str(error.strerror).lower()}"
                hint = "its publisher's mode= says who may read it"
                unreadable = unreadable or errors.PageUnreadable(said, hint)
                continue
            except errors.PageUnreadable as error:
                unreadable = unreadable or error
                continue
            # One that was left in another place, by a session that has ended, say, is in no live one's way.
            if found is not None and found.publisher_alive:
                return found
            first = first or found
    if first is not None:
        return first
    if unreadable is not None:
        raise unreadable
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
    opened = places.open_named(directory_fd, name)
    return None if opened is None else reader_of_file(opened[0], name, f"{path}/{opened[1]}")


def reader_of_file(fd: int, name: str, path: str) -> Reader:
    """A reader of a file, whose descriptor it takes."""
    try:
        made = Reader(fd, *records.record_in(fd))
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
