"""The field table: one for each layout, and no other is taken."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import LAYOUTS, Quote

from vdso.errors import PageUnreadable
from vdso.pages import fieldtable, schema
from vdso.pages.schema import Layout


@given(LAYOUTS)
def test_there_and_back(layout: Layout) -> None:
    found = fieldtable.decode(fieldtable.encode(layout))
    assert found == layout
    assert found.name == layout.name
    assert found.hash == layout.hash


@given(st.data())
def test_a_damaged_table_is_refused_or_another_layouts(data: st.DataObject) -> None:
    table = bytearray(fieldtable.encode(schema.layout_of(Quote)))
    for _ in range(data.draw(st.integers(1, 4))):
        table[data.draw(st.integers(0, len(table) - 1))] = data.draw(st.integers(0, 255))
    try:
        layout = fieldtable.decode(bytes(table))
    except PageUnreadable:
        return
    assert fieldtable.encode(layout) == table


@given(st.binary(max_size=400))
def test_no_table(data: bytes) -> None:
    for table in (data, b"VFLD" + data, b"VFLD\1\0\1\0\1\0\0\0" + struct.pack("<I", len(data) + 16) + data):
        try:
            assert fieldtable.encode(fieldtable.decode(table)) == table
        except PageUnreadable:
            continue


def test_every_cut_is_refused() -> None:
    table = fieldtable.encode(schema.layout_of(Quote))
    for size in range(len(table)):
        with pytest.raises(PageUnreadable):
            fieldtable.decode(table[:size])
    with pytest.raises(PageUnreadable):
        fieldtable.decode(table + b"\0")


def test_a_record_that_contains_itself_is_refused() -> None:
    inner = schema.make("I", [("x", schema.scalar("u8"))])
    table = bytearray(fieldtable.encode(schema.make("R", [("a", schema.nested(inner))])))
    at = fieldtable._HEADER.size + 2 * fieldtable._RECORD.size + 16
    assert struct.unpack_from("<I", table, at) == (1,)
    struct.pack_into("<I", table, at, 0)
    with pytest.raises(PageUnreadable, match="contains itself"):
        fieldtable.decode(bytes(table))


def test_many_records_within_records_take_no_time() -> None:
    """2 to the 15th fields, if they were not counted: the counting must not count them one by one."""
    layout = schema.make("R", [("a", schema.scalar("u8"))])
    while 2 * layout.total + 2 <= schema.FIELDS_MAX:
        layout = schema.make("R", [("a", schema.nested(layout)), ("b", schema.nested(layout))])
    with pytest.raises(schema.BadSchema, match="fields"):
        schema.make("R", [("a", schema.nested(layout)), ("b", schema.nested(layout))])
    assert fieldtable.decode(fieldtable.encode(layout)) == layout
