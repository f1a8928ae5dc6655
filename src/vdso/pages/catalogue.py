"""What is published on this machine, as far as this user may see it."""

import contextlib
import glob
import os
import time
from dataclasses import dataclass

from vdso import _core, errors
from vdso.pages import directory as places
from vdso.pages import records
from vdso.pages.schema import Layout

RATE_S = 0.25


@dataclass(frozen=True, slots=True)
class Published:
    """A page. `error` says why it cannot be read, and then the rest is unknown.

    `age_s` is None for a page without a record, `versions_per_s` None where it was not measured. `noexec`:
    `dlopen` refuses the file where it is; vdso.open() does not mind.
    """

    name: str
    path: str
    user_id: int
    publisher_pid: int | None
    alive: bool
    age_s: float | None
    version: int
    versions_per_s: float | None
    record_bytes: int
    slots: int
    fields: dict[str, str]
    noexec: bool
    error: str | None


def all_directories() -> list[str]:
    """Every directory that pages may be in: one's own, root's, and other users'."""
    found = places.reading_candidates()
    found += sorted(glob.glob("/dev/shm/vdso-[0-9]*")) + sorted(glob.glob("/run/user/[0-9]*/vdso"))
    return list(dict.fromkeys(found))


def published(directory: str | os.PathLike[str] | None = None, *, rate_s: float = RATE_S) -> list[Published]:
    """All pages, in all directories or in one; their rates are counted over so many seconds (0: not at
    all).

    Raises DirectoryRefused.
    """
    where = all_directories() if directory is None else [places.named(directory)]
    with contextlib.ExitStack() as opened:
        found: list[_Entry] = []
        for path in where:
            try:
                with places.refusing(path):
                    directory_fd = places.open_directory(path)
            except errors.DirectoryRefused:
                if directory is not None:
                    raise
                continue
            try:
                user = os.fstat(directory_fd).st_uid
                noexec = places.place_of(path).noexec
                for name in places.names(directory_fd):
                    look = _look(directory_fd, name)
                    if isinstance(look, _Look):
                        opened.callback(os.close, look.fd)
                    found.append(_Entry(name, path, user, noexec, look))
            except PermissionError:
                continue
            finally:
                os.close(directory_fd)
        return _reports(found, rate_s)


@dataclass(frozen=True, slots=True)
class _Look:
    """A page's file. Read by system calls only: to map the file of another user, who may truncate it, is to
    be at that user's mercy.
    """

    fd: int
    file_name: str
    offset: int
    slots: int
    layout: Layout
    version: int
    alive: bool


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    directory: str
    user_id: int
    noexec: bool
    look: _Look | str  # what is wrong with it


def _look(directory_fd: int, name: str) -> _Look | str:
    try:
        places.check_page_name(name)
        opened = places.open_named(directory_fd, name)
        if opened is None:
            return "it has just been removed"
    except errors.VdsoError as error:
        return error.message
    except PermissionError as error:
        return str(error.strerror).lower()
    fd, file_name = opened
    try:
        offset, record = records.record_in(fd)
        version, _, _, _, alive = _core.page_state(fd, offset)
        return _Look(fd, file_name, offset, _core.page_find(fd)[1], record.layout, version, alive)
    except BaseException as error:
        os.close(fd)
        if isinstance(error, errors.VdsoError):
            return error.message
        raise


def _reports(found: list[_Entry], rate_s: float) -> list[Published]:
    start = time.monotonic()
    if rate_s > 0 and any(isinstance(entry.look, _Look) and entry.look.alive for entry in found):
        time.sleep(rate_s)
    passed = time.monotonic() - start
    return [_report(entry, rate_s, passed) for entry in found]


def _report(entry: _Entry, rate_s: float, passed_s: float) -> Published:
    said, look = entry.look, entry.look
    if isinstance(look, _Look):
        try:
            version, age_s, pid, _, alive = _core.page_state(look.fd, look.offset)
        except errors.PageNotThere as error:  # it has been truncated meanwhile
            said = error.message
        else:
            # As Reader.publisher_alive has it: the name's own lock knows best, where it is for us to ask.
            known = places.name_locked(entry.directory, entry.name) if pid else None
            alive = alive if known is None else known
            rate = (version - look.version) / passed_s if passed_s >= rate_s > 0 else 0.0
            return Published(
                entry.name,
                f"{entry.directory}/{look.file_name}",
                entry.user_id,
                pid or None,
                alive,
                age_s,
                version,
                None if rate_s <= 0 else rate,
                look.layout.size,
                look.slots,
                {field.name: field.type_name for field in look.layout.fields},
                entry.noexec,
                None,
            )
    link = f"{entry.directory}/{entry.name}{places.SUFFIX}"
    why = str(said)
    return Published(entry.name, link, entry.user_id, None, False, None, 0, None, 0, 0, {}, entry.noexec, why)
