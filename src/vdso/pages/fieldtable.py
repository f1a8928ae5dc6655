"""A layout as bytes, so that a page describes itself to whoever opens it.

All numbers are little-endian. Four parts, without gaps:

    header        magic "VFLD", u16 format (1), u16 records, u32 fields, u32 bytes of the whole table
    records       24 bytes each: u32 name_at, u16 name_size, u16 align, u32 size, u32 first, u32 count,
                  u32 total
    fields        36 bytes each: u32 name_at, u16 name_size, u8 kind, u8 dimensions, u32 offset,
                  u32 item_size, u32 record, 4 x u32 shape
    names         UTF-8, without separators

Record 0 is the page's. A field of kind `record` (schema.KINDS' last) names a record that comes later, so
nothing can contain itself; for other kinds `record` is 0. `first` and `count` say which fields are a
record's, `total` how many there are with those of nested records; unused lengths of `shape` are 0. name_at
counts from the beginning of the names.

There is exactly one table for a layout, and decode() takes no other: what it returns was laid out by
schema.make() from the names and types alone, and the bytes given are what encode() makes of it.
"""

import struct

from vdso.errors import BadSchema, PageUnreadable
from vdso.pages import schema
from vdso.pages.schema import DIMENSIONS_MAX, FIELDS_MAX, KINDS, SCALARS, FieldType, Layout

MAGIC = b"VFLD"
FORMAT = 1
BYTES_MAX = 1 << 20

_HEADER = struct.Struct("<4sHHII")
_RECORD = struct.Struct("<IHHIIII")
_FIELD = struct.Struct("<IHBBIII4I")
_NUMBERS = {kind: number for number, kind in enumerate(KINDS)}


def encode(layout: Layout) -> bytes:
    """The table of a layout."""
    order = _records(layout)
    numbers = {id(record): number for number, record in enumerate(order)}
    names = bytearray()
    places: dict[bytes, int] = {}

    def name(text: str) -> tuple[int, int]:
        data = text.encode()[:0xFFFF]
        if data not in places:
            places[data] = len(names)
            names.extend(data)
        return places[data], len(data)

    records, fields = bytearray(), bytearray()
    first = 0
    for record in order:
        entry = (record.align, record.size, first, len(record.fields), record.total)
        records += _RECORD.pack(*name(record.name), *entry)
        first += len(record.fields)
        for field in record.fields:
            inner = 0 if field.record is None else numbers[id(field.record)]
            shape = field.shape + (0,) * (DIMENSIONS_MAX - len(field.shape))
            place = (_NUMBERS[field.kind], len(field.shape), field.offset, field.item_size, inner)
            fields += _FIELD.pack(*name(field.name), *place, *shape)
    size = _HEADER.size + len(records) + len(fields) + len(names)
    return _HEADER.pack(MAGIC, FORMAT, len(order), first, size) + bytes(records + fields + names)


def _records(layout: Layout) -> list[Layout]:
    """The layout and its nested ones, each once, none before one that contains it."""
    found: dict[int, Layout] = {}

    def visit(record: Layout) -> None:
        if id(record) in found:
            return
        for field in reversed(record.fields):
            if field.record is not None:
                visit(field.record)
        found[id(record)] = record

    visit(layout)
    return list(reversed(found.values()))


def decode(data: bytes) -> Layout:
    """The layout that a table says. Raises PageUnreadable for anything but what encode() makes."""
    try:
        layout = _decode(data)
    except (BadSchema, struct.error, UnicodeDecodeError) as error:
        raise PageUnreadable(f"the page's field table is damaged: {error}") from None
    if encode(layout) != data:
        raise PageUnreadable("the page's field table is damaged")
    return layout


def _decode(data: bytes) -> Layout:
    if not _HEADER.size <= len(data) <= BYTES_MAX:
        raise BadSchema(f"{len(data)} bytes")
    magic, form, record_count, field_count, size = _HEADER.unpack_from(data)
    if magic != MAGIC or form != FORMAT:
        raise BadSchema("it is of another format")
    names_at = _HEADER.size + record_count * _RECORD.size + field_count * _FIELD.size
    if not 1 <= record_count <= field_count <= FIELDS_MAX or size != len(data) or names_at > size:
        raise BadSchema("its counts and its size disagree")

    def name(at: int, length: int) -> str:
        if at + length > size - names_at:
            raise BadSchema("a name lies beyond its end")
        return data[names_at + at : names_at + at + length].decode()

    layouts: dict[int, Layout] = {}
    # From the last to the first, so that a nested record is there when it is asked for.
    for number in reversed(range(record_count)):
        entry = _RECORD.unpack_from(data, _HEADER.size + number * _RECORD.size)
        name_at, name_size, _, _, first, count, _ = entry
        if first + count > field_count:
            raise BadSchema("a record's fields lie beyond its end")
        fields = []
        for index in range(first, first + count):
            at = _HEADER.size + record_count * _RECORD.size + index * _FIELD.size
            field_name_at, field_name_size, kind, dimensions, _, item_size, inner, *shape = (
                _FIELD.unpack_from(data, at)
            )
            if kind >= len(KINDS) or dimensions > DIMENSIONS_MAX or 0 in shape[:dimensions]:
                raise BadSchema("a field is of no type")
            if KINDS[kind] == "record":
                if inner <= number or inner >= record_count:
                    raise BadSchema("a record contains itself")
                found = schema.nested(layouts[inner])
            elif KINDS[kind] in SCALARS:
                found = schema.scalar(KINDS[kind])
            else:
                found = FieldType(KINDS[kind], schema.length_of(KINDS[kind], item_size))
            if dimensions:
                found = schema.arrayed(found, tuple(shape[:dimensions]), "array")
            fields.append((name(field_name_at, field_name_size), found))
        layouts[number] = schema.make(name(name_at, name_size), fields)
    return layouts[0]
