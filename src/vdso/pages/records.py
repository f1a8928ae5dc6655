"""A layout made ready for the C side, once for each field table met in this process."""

import os

from vdso import _core
from vdso.errors import PageUnreadable
from vdso.pages import fieldtable
from vdso.pages.schema import KINDS, Layout

_BY_TABLE: dict[bytes, _core.Record] = {}
_KNOWN_MAX = 256


def record_of(layout: Layout) -> _core.Record:
    return record_of_table(fieldtable.encode(layout), layout)


def record_of_table(table: bytes, layout: Layout | None = None) -> _core.Record:
    """What reads such records. Raises PageUnreadable."""
    found = _BY_TABLE.get(table)
    if found is None:
        found = _make(fieldtable.decode(table) if layout is None else layout, {})
        if len(_BY_TABLE) >= _KNOWN_MAX:
            _BY_TABLE.clear()
        _BY_TABLE[table] = found
    return found


def record_in(fd: int) -> tuple[int, _core.Record]:
    """Where the page of a file is, and what reads its records. Raises PageNotThere, PageUnreadable."""
    offset, _, _, fields_at, fields_size = _core.page_find(fd)
    if fields_at == 0 or not 0 < fields_size <= fieldtable.BYTES_MAX:
        raise PageUnreadable("the page has no field table")
    return offset, record_of_table(os.pread(fd, fields_size, fields_at))


def _make(layout: Layout, made: dict[int, _core.Record]) -> _core.Record:
    if id(layout) not in made:
        made[id(layout)] = _core.Record(
            layout,
            layout.name,
            layout.size,
            tuple(
                (
                    field.name,
                    KINDS.index(field.kind),
                    field.offset,
                    field.item_size,
                    field.shape,
                    None if field.record is None else _make(field.record, made),
                )
                for field in layout.fields
            ),
        )
    return made[id(layout)]
