"""Live libraries of any layout: each function gives what stands in the record, and the header compiles."""

import _ctypes
import ctypes
import itertools
import os
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness import finish
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from layouts import LAYOUTS

from vdso import _core
from vdso.errors import BadSchema
from vdso.pages import library, schema
from vdso.pages.header import header
from vdso.pages.schema import Layout

SLOTS = 4
NUMBERS = {
    "i8": ctypes.c_int8,
    "i16": ctypes.c_int16,
    "i32": ctypes.c_int32,
    "i64": ctypes.c_int64,
    "u8": ctypes.c_uint8,
    "u16": ctypes.c_uint16,
    "u32": ctypes.c_uint32,
    "u64": ctypes.c_uint64,
    "f32": ctypes.c_float,
    "f64": ctypes.c_double,
    "bool": ctypes.c_bool,
}
# Name, indexes (none, or one), and where in the record a value of which kind and size is.
Value = tuple[str, tuple[int, ...], int, str, int]


def values(layout: Layout, prefix: str = "", at: int = 0, index: tuple[int, ...] = ()) -> Iterator[Value]:
    """Every value that has a function, by a walk of this test's own."""
    for field in layout.fields:
        if field.shape and index:
            continue
        for number in range(field.count or 1):
            own = (number,) if field.shape else index
            place = at + field.offset + number * field.item_size
            if field.record is not None:
                yield from values(field.record, f"{prefix}{field.name}_", place, own)
            else:
                yield f"{prefix}{field.name}", own, place, field.kind, field.item_size


def same(one: float, other: float) -> bool:
    return one == other or (one != one and other != other)  # a NaN is none of the numbers


def write(directory: Path, number: int, layout: Layout, record: bytes) -> Path:
    """A page with one version."""
    made = library.build(layout, "any", slots=SLOTS)
    path = directory / f"any-{number}.so"
    stride, _ = _core.page_shape(SLOTS, layout.record_size)
    slot = made.page_offset + _core.PAGE_HEADER_BYTES + stride
    with path.open("wb+") as file:
        file.write(made.prefix)
        file.truncate(made.size)
        file.flush()
        fields = (made.fields_offset, made.fields_size)
        _core.page_create(file.fileno(), made.page_offset, layout.record_size, SLOTS, layout.hash, *fields)
        os.pwrite(file.fileno(), record, slot)
        os.pwrite(file.fileno(), struct.pack("<Q", 1), slot + stride - 8)
        os.pwrite(file.fileno(), struct.pack("<Q", 1), made.page_offset + _core.PAGE_HEAD_OFFSET)
    return path


def check(found: ctypes.CDLL, record: bytes, value: Value) -> None:
    name, index, at, kind, size = value
    function = found[f"any_{name}.{kind}_at" if index else f"any_{name}.{kind}"]
    raw = record[at : at + size]
    if kind in NUMBERS:
        function.restype = NUMBERS[kind]
        wanted = struct.unpack("<" + schema.SCALARS[kind][3], raw)[0]
        assert same(function(*map(ctypes.c_size_t, index)), wanted), name
    else:
        out = ctypes.create_string_buffer(b"\xff" * (size + 2))
        function.restype = ctypes.c_size_t if kind == "str" else ctypes.c_int
        got = function(*map(ctypes.c_size_t, index), out, ctypes.c_size_t(size + 1))
        text = raw.split(b"\0")[0]
        assert got == (len(text) if kind == "str" else 0), name
        assert out.raw[: len(text) + 1] == text + b"\0" if kind == "str" else out.raw[:size] == raw, name
        assert out.raw[size + 1] == 0xFF, name


NUMBER = itertools.count()


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(layout=LAYOUTS, data=st.data())
def test_every_function_of_any_layout(layout: Layout, data: st.DataObject) -> None:
    record = data.draw(st.binary(min_size=layout.record_size, max_size=layout.record_size))
    with tempfile.TemporaryDirectory() as name:
        try:
            path = write(Path(name), next(NUMBER), layout, record)
        except BadSchema as error:
            assume("both be" not in error.message)
            raise
        found = ctypes.CDLL(str(path))
        try:
            for value in values(layout):
                check(found, record, value)
            out, version = ctypes.create_string_buffer(b"\xff" * (layout.size + 1)), ctypes.c_uint64()
            assert found.any_snapshot_of(out, ctypes.c_uint64(layout.hash), ctypes.byref(version)) == 0
            assert out.raw[: layout.size] == record[: layout.size]
            assert out.raw[layout.size] == 0xFF
            assert version.value == 1
            assert found.any_snapshot_of(out, ctypes.c_uint64(layout.hash ^ 1), None) == 3
        finally:
            _ctypes.dlclose(found._handle)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(layout=LAYOUTS)
def test_the_header_of_any_layout_compiles(layout: Layout) -> None:
    with tempfile.TemporaryDirectory() as name:
        try:
            text = header(layout, "any", "/any.so")
        except BadSchema as error:
            assume("both be" not in error.message)
            raise
        source = Path(name) / "any.c"
        source.write_text(
            text + "\nint main(void) { struct any_page p; return any_open(&p, NULL) == NULL; }\n"
        )
        done = finish(["gcc", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", source])
        assert (done.returncode, done.stderr) == (0, "")
        done = finish(["g++", "-x", "c++", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", source])
        assert (done.returncode, done.stderr) == (0, "")
