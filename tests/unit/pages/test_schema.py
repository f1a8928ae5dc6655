"""Layouts: numpy's own, whatever says them; and what cannot be one."""

import ctypes
import dataclasses
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Annotated, Any, ClassVar

import msgspec
import numpy
import pytest
from hypothesis import given
from layouts import LAYOUTS, Level, Quote

import vdso
from vdso.errors import BadSchema
from vdso.pages import schema
from vdso.pages.schema import FieldType, Layout

DTYPE = numpy.dtype(
    [
        ("on", "?"),
        ("bid", "f8"),
        ("count", "i2"),
        ("venue", "S5"),
        ("mark", "S3"),
        ("depth", "f4", (3,)),
        ("levels", numpy.dtype([("price", "f8"), ("orders", "u1")], align=True), (2, 2)),
        ("best", numpy.dtype([("price", "f8"), ("orders", "u1")], align=True)),
        ("plain", "i8"),
        ("real", "f8"),
        ("flag", "?"),
    ],
    align=True,
)


def places(layout: Layout) -> list[tuple[str, int]]:
    return [(field.name, field.offset) for field in layout.fields]


def test_a_page_is_laid_out_as_numpy_does_it() -> None:
    layout = schema.layout_of(Quote)
    assert places(layout) == [(name, DTYPE.fields[name][1]) for name in DTYPE.names]
    assert (layout.size, layout.align) == (DTYPE.itemsize, DTYPE.alignment)
    assert layout.dtype == DTYPE
    assert layout.record_size % 8 == 0
    assert 0 <= layout.record_size - layout.size < 8


def test_arrays_say_their_shape() -> None:
    fields = {field.name: field for field in schema.layout_of(Quote).fields}
    assert (fields["depth"].count, fields["depth"].shape) == (3, (3,))
    assert (fields["levels"].count, fields["levels"].shape) == (4, (2, 2))
    assert fields["bid"].count is None
    assert fields["levels"].type_name == "Level[2][2]"
    assert schema.layout_of(Quote).total == 11 + 2 + 2


def test_every_way_to_say_it_is_the_same() -> None:
    class CLevel(ctypes.Structure):
        _fields_: ClassVar = [("price", ctypes.c_double), ("orders", ctypes.c_uint8)]

    class CRecord(ctypes.Structure):
        _fields_: ClassVar = [
            ("a", ctypes.c_int),
            ("b", ctypes.c_long),
            ("c", ctypes.c_char * 5),
            ("d", (ctypes.c_float * 3) * 2),
            ("e", CLevel * 2),
            ("f", ctypes.c_bool),
        ]

    @dataclasses.dataclass
    class Plain:
        a: vdso.I32
        b: int
        c: vdso.Bytes[5]
        d: vdso.Array[vdso.Array[vdso.F32, 3], 2]
        e: vdso.Array[Level, 2]
        f: bool

    struct = msgspec.defstruct(
        "Struct",
        [
            ("a", vdso.I32),
            ("b", int),
            ("c", vdso.Bytes[5]),
            ("d", vdso.Array[vdso.F32, 2, 3]),
            ("e", vdso.Array[CLevel, 2]),
            ("f", Annotated[bool, "other people's marks"]),
        ],
    )
    level = numpy.dtype([("price", "f8"), ("orders", "u1")])
    dtype = numpy.dtype(
        [("a", "i4"), ("b", ">i8"), ("c", "S5"), ("d", "f4", (2, 3)), ("e", level, 2), ("f", "?")]
    )
    layouts = [schema.layout_of(one) for one in (CRecord, Plain, struct, dtype)]
    assert all(layout == layouts[0] and layout.hash == layouts[0].hash for layout in layouts)
    assert places(layouts[0]) == [(name, getattr(CRecord, name).offset) for name, _ in CRecord._fields_]
    assert layouts[0].size == ctypes.sizeof(CRecord)


def test_a_hash_is_the_same_everywhere_and_sees_everything() -> None:
    f64 = schema.scalar("f64")
    assert schema.make("R", [("a", f64), ("b", f64)]).hash == 0xC6A966CE908CD682
    hashes = {
        schema.make(name, fields).hash
        for name, fields in [
            ("R", [("a", f64), ("b", f64)]),
            ("Other", [("a", f64), ("b", f64)]),
            ("R", [("b", f64), ("a", f64)]),
            ("R", [("a", f64), ("b", schema.scalar("i64"))]),
            ("R", [("a", f64), ("b", schema.nested(schema.make("I", [("x", f64)])))]),
            ("R", [("a", f64), ("b", schema.nested(schema.make("I", [("y", f64)])))]),
            ("R", [("a", schema.arrayed(f64, (2,), ""))]),
        ]
    }
    assert len(hashes) == 6


def strings_make_types(where: dict[str, Any]) -> type:
    source = """
    from __future__ import annotations
    from typing import Annotated
    import vdso
    @vdso.page
    class Late:
        a: vdso.U8
        b: vdso.Str[4]
        c: "vdso.Array[vdso.F64, 2]"
        d: Annotated[list[float], vdso.Array[vdso.F64, 3]]
        e: Annotated[str, vdso.Str[5]]
    """
    exec(textwrap.dedent(source), where)
    late: type = where["Late"]
    return late


def test_annotations_may_be_text() -> None:
    layout = schema.layout_of(strings_make_types({"__name__": "textwrap"}))
    assert [field.type_name for field in layout.fields] == ["u8", "str[4]", "f64[2]", "f64[3]", "str[5]"]


@pytest.mark.parametrize("name", sorted(schema.RESERVED))
def test_a_name_of_ours_is_refused(name: str) -> None:
    with pytest.raises(BadSchema, match=name):
        vdso.page(type("R", (), {"__annotations__": {name: vdso.F64}}))


@pytest.mark.parametrize("name", ["_a", "__class__", "a b", "ä", "", "1a", "a" * 65])
def test_no_name(name: str) -> None:
    with pytest.raises(BadSchema):
        schema.make("R", [(name, schema.scalar("f64"))])


class Big(ctypes.BigEndianStructure):
    _fields_: ClassVar = [("a", ctypes.c_int32)]


class Bits(ctypes.Structure):
    _fields_: ClassVar = [("a", ctypes.c_int32, 3)]


@pytest.mark.parametrize(
    ("annotation", "says"),
    [
        (str, "Str"),
        (bytes, "Bytes"),
        (list, "Array"),
        (list[int], "Array"),
        (complex, "complex"),
        (dict, "dict"),
        (int | None, "no field"),
        (ctypes.c_void_p, "c_void_p"),
        (ctypes.c_wchar, "c_wchar"),
        (Big, "no field"),
        (Bits, "bit field"),
        (numpy.dtype("U4"), "U4"),
        (numpy.dtype("f2"), "float16"),
        (numpy.dtype("M8[s]"), "datetime"),
        (FieldType("f64", 8, (1, 2, 3, 4)), None),
    ],
)
def test_no_type(annotation: Any, says: str | None) -> None:
    make = lambda: vdso.page(type("R", (), {"__annotations__": {"field": annotation}}))  # noqa: E731
    if says is None:
        make()
        return
    with pytest.raises(BadSchema) as caught:
        make()
    assert says in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(
    "make",
    [
        lambda: vdso.Str[0],
        lambda: vdso.Str["16"],
        lambda: vdso.Str[-1],
        lambda: vdso.Bytes[1 << 30],
        lambda: vdso.Array[vdso.F64],
        lambda: vdso.Array[vdso.F64, 0],
        lambda: vdso.Array[vdso.F64, 2.5],
        lambda: vdso.Array[vdso.F64, 1, 2, 3, 4, 5],
        lambda: schema.layout_of(int),
        lambda: schema.layout_of(numpy.dtype("f8")),
        lambda: schema.layout_of("Quote"),
        lambda: vdso.page(type("Empty", (), {})),
        lambda: schema.make("R", [("a", schema.scalar("f64"))] * 2),
        lambda: schema.make("R", [(f"a{i}", schema.scalar("u8")) for i in range(5000)]),
        lambda: schema.make("R", [("a", schema.arrayed(schema.scalar("f64"), (1 << 24,), ""))]),
    ],
)
def test_no_schema(make: Any) -> None:
    with pytest.raises(BadSchema):
        make()


def test_records_are_not_nested_for_ever() -> None:
    layout = schema.make("R", [("a", schema.scalar("u8"))])
    while layout.depth < schema.DEPTH_MAX:
        layout = schema.make("R", [("a", schema.nested(layout))])
    with pytest.raises(BadSchema, match="deep"):
        schema.make("R", [("a", schema.nested(layout))])


def test_differences_are_named() -> None:
    old = schema.layout_of(Quote)
    f64, u8 = schema.scalar("f64"), schema.scalar("u8")
    level = schema.make("Level", [("price", f64), ("size", u8)])
    new = schema.make("Q", [("bid", u8), ("best", schema.nested(level)), ("more", f64)])
    said = schema.differences(old, new)
    assert "bid is f64, not u8" in said
    assert "best.size is not there" in said
    assert "best.orders is new" in said
    assert "more is not there" in said
    assert "venue is new" in said
    assert schema.differences(old, old) == []
    swapped = schema.make("R", [("b", f64), ("a", f64)])
    assert schema.differences(schema.make("R", [("a", f64), ("b", f64)]), swapped) == ["the order is a, b"]


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("f64", "f64"),
        ("str[16]", "str[16]"),
        ("F64[10]", "f64[10]"),
        ("int", "i64"),
        ("bytes[2][3]", "bytes[2][3]"),
    ],
)
def test_types_by_name(text: str, means: str) -> None:
    layout = schema.make("R", [("a", schema.parse_type(text, "a"))])
    assert layout.fields[0].type_name == means


@pytest.mark.parametrize(
    "text", ["", "f65", "str", "str[]", "str[x]", "f64[", "f64]", "f64[0]", "f64[-1]", "str[²]"]
)
def test_no_type_by_name(text: str) -> None:
    with pytest.raises(BadSchema):
        schema.parse_type(text, "a")


# ---- Any layout ----


@given(LAYOUTS)
def test_any_layout_is_numpys(layout: Layout) -> None:
    formats = [(name, dtype.fields[name][0]) for dtype in [layout.dtype] for name in dtype.names]
    theirs = numpy.dtype(formats, align=True)
    assert places(layout) == [(name, theirs.fields[name][1]) for name in theirs.names]
    assert (layout.size, layout.align) == (theirs.itemsize, theirs.alignment)


# ---- Type checkers ----


def test_type_checkers_know_the_constructor(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""\
        from typing import Annotated
        import vdso

        @vdso.page
        class Quote:
            bid: vdso.F64
            count: vdso.U32
            venue: vdso.Str[16]
            place: Annotated[str, vdso.Str[8]]
            depth: vdso.Array[vdso.F64, 10]
            on: bool = True

        quote = Quote(99.5, 3, "XLON", "x", [0.0] * 10)
        reveal_type(quote.bid)
        with vdso.publish("quotes", Quote, initial=quote) as publisher:
            reveal_type(publisher.update(bid=1.0))
        reveal_type(vdso.open("quotes"))
        Quote("no", 3, "XLON", "x", [])
        Quote(1.0)
        """)
    )
    words = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--no-error-summary",
        "--cache-dir",
        str(tmp_path),
        str(program),
    ]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    lines = [line.partition("program.py:")[2] for line in done.stdout.splitlines()]
    said = dict(line.split(":", 1) for line in lines if line)
    assert "float" in said["14"]
    assert "int" in said["16"]
    assert "Reader" in said["17"]
    assert "arg-type" in said["18"]
    assert "Missing positional arguments" in said["19"]
    assert set(said) == {"14", "16", "17", "18", "19"}, done.stdout
