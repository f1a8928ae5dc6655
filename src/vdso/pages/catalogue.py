"""What is published on this machine, as far as this user may see it."""

import glob
import os
import time
from dataclasses import dataclass

from vdso import errors
from vdso.pages import directory as places
from vdso.pages.reader import Reader, open_page

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
    found: list[tuple[str, str, int, bool, Reader | str]] = []
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
                reader: Reader | str
                try:
                    reader = open_page(name, directory=path)
                except errors.VdsoError as error:
                    reader = error.message
                found.append((name, path, user, noexec, reader))
        except PermissionError:
            continue
        finally:
            os.close(directory_fd)
    return _reports(found, rate_s)


def _reports(found: list[tuple[str, str, int, bool, Reader | str]], rate_s: float) -> list[Published]:
    readers = [reader for *_, reader in found if isinstance(reader, Reader)]
    start = time.monotonic()
    first = {id(reader): reader.version for reader in readers}
    if rate_s > 0 and any(reader.publisher_alive for reader in readers):
        time.sleep(rate_s)
    passed = time.monotonic() - start
    reports = []
    for name, path, user, noexec, reader in found:
        if isinstance(reader, str):
            link = f"{path}/{name}{places.SUFFIX}"
            reports.append(Published(name, link, user, None, False, None, 0, None, 0, 0, {}, noexec, reader))
            continue
        about, version, alive = reader.page, reader.version, reader.publisher_alive
        rate = (version - first[id(reader)]) / passed if passed >= rate_s > 0 else 0.0
        reports.append(
            Published(
                name,
                about.path,
                user,
                about.publisher_pid or None,
                alive,
                reader.age,
                version,
                None if rate_s <= 0 else rate,
                about.layout.size,
                about.slots,
                {field.name: field.type_name for field in about.layout.fields},
                noexec,
                None,
            )
        )
        reader.close()
    return reports
