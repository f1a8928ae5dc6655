"""Values into records and out of them: what is published is read, and what cannot be held changes nothing."""

import array
import copy
import ctypes
import dataclasses
import math
import pickle
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layouts import LAYOUTS, Level, Quote

import vdso
from vdso import _core, errors
from vdso.pages import schema
from vdso.pages.publisher import Publisher
from vdso.pages.reader import Reader
from vdso.pages.schema import Field, Layout

BEST = {"price": 1.0, "orders": 2}
ZERO: dict[str, Any] = {
    "on": False,
    "bid": 0.0,
    "count": 0,
    "venue": "",
    "mark": b"",
    "depth": [0, 0, 0],
    "levels": [[BEST, BEST], [BEST, BEST]],
    "best": BEST,
    "plain": 0,
    "real": 0,
    "flag": False,
}


@pytest.fixture
def page(tmp_path: Path) -> Iterator[tuple[Publisher, Reader]]:
    with vdso.publish("quotes", Quote, directory=tmp_path) as publisher:
        publisher.set(ZERO)
        with vdso.open("quotes", directory=tmp_path) as reader:
            yield publisher, reader


# ---- Whatever is published is read ----


def values(field: Field) -> st.SearchStrategy[Any]:
    if field.record is not None:
        item: st.SearchStrategy[Any] = record_values(field.record)
    elif field.kind in ("f32", "f64"):
        item = st.floats(width=32 if field.kind == "f32" else 64)
    elif field.kind == "bool":
        item = st.booleans()
    elif field.kind == "str":
        size = field.item_size
        texts = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=size)
        item = texts.filter(lambda text: len(text.encode()) <= size)
    elif field.kind == "bytes":
        item = st.binary(min_size=field.item_size, max_size=field.item_size)
    else:
        bits = field.item_size * 8
        low, high = (0, 2**bits - 1) if field.kind[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        item = st.integers(low, high)
    for length in reversed(field.shape):
        item = st.lists(item, min_size=length, max_size=length)
    return item


def record_values(layout: Layout) -> st.SearchStrategy[dict[str, Any]]:
    drawn = st.fixed_dictionaries({field.name: values(field) for field in layout.fields})
    return drawn.map(lambda record: {field.name: record[field.name] for field in layout.fields})


def listed(value: Any) -> Any:
    """Arrays and tuples as lists, NaN as a word."""
    if isinstance(value, dict):
        return {name: listed(item) for name, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [listed(item) for item in value]
    return "nan" if isinstance(value, float) and math.isnan(value) else value


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(st.data())
def test_any_record_comes_back(tmp_path: Path, data: st.DataObject) -> None:
    layout = data.draw(LAYOUTS)
    record = data.draw(record_values(layout))
    with vdso.publish("any", layout, directory=tmp_path) as publisher:
        publisher.set(record)
        with vdso.open("any", directory=tmp_path, expect=layout) as reader:
            snapshot = reader.snapshot()
            assert listed(snapshot.asdict()) == listed(record)
            assert listed(snapshot.astuple()) == listed([*positions(record)])
            for name, value in record.items():
                found = getattr(reader, name)
                assert listed(found.asdict() if hasattr(found, "asdict") else unfold(found)) == listed(value)
            # The same bytes are the same values to numpy.
            theirs = numpy.frombuffer(bytes(memoryview(snapshot)), layout.dtype)[0]
            assert_numpy(layout, theirs, record)
            # And by position, by attributes, by another snapshot, and from numpy.
            for form in (tuple(record.values()), snapshot, theirs):
                publisher.set(form)
                assert listed(reader.snapshot().asdict()) == listed(record)
        publisher.update(**record)


def unfold(value: Any) -> Any:
    if isinstance(value, tuple):
        return [unfold(item) for item in value]
    return value.asdict() if hasattr(value, "asdict") else value


def positions(value: Any) -> Iterator[Any]:
    for item in value.values():
        yield bare(item)


def bare(item: Any) -> Any:
    if isinstance(item, dict):
        return [*positions(item)]
    return [bare(inner) for inner in item] if isinstance(item, list) else item


def assert_numpy(layout: Layout, found: Any, record: dict[str, Any]) -> None:
    for field in layout.fields:
        if field.record is None and field.kind not in ("str", "bytes"):
            assert listed(found[field.name]) == listed(record[field.name])
        elif field.kind == "str" and not field.shape:
            assert bytes(found[field.name]) == record[field.name].encode()


# ---- What a field cannot hold ----


class Odd:
    """A number that runs code when it is asked for."""

    def __init__(self, run: Any) -> None:
        self.run = run

    def __index__(self) -> int:
        self.run()
        return 5


@pytest.mark.parametrize(
    ("field", "value", "names", "says"),
    [
        ("count", 32768, "count", "-32768 to 32767"),
        ("count", -32769, "count", "out of range"),
        ("count", 10**30, "count", "out of range"),
        ("count", 1.5, "count", "whole number, not float"),
        ("count", "1", "count", "not str"),
        ("count", None, "count", "not NoneType"),
        ("plain", 2**63, "plain", "out of range"),
        ("bid", "1", "bid", "number, not str"),
        ("bid", 10**400, "bid", "range"),
        ("bid", None, "bid", "not NoneType"),
        ("on", 2, "on", "True or False"),
        ("on", "yes", "on", "True or False"),
        ("venue", "XLONDO", "venue", "6 bytes is too long: str[5] holds 5"),
        ("venue", "ääa", "venue", None),
        ("venue", "äää", "venue", "6 bytes"),
        ("venue", b"x", "venue", "text, not bytes"),
        ("venue", "a\0b", "venue", "zero"),
        ("venue", "\udc80", "venue", "UTF-8"),
        ("mark", b"1234", "mark", "4 bytes are too many"),
        ("mark", "123", "mark", "not str"),
        ("depth", [1, 2], "depth", "2 items, and the array has 3"),
        ("depth", [1, 2, 3, 4], "depth", "4 items"),
        ("depth", numpy.zeros(4, "f4"), "depth", "4 items"),
        ("depth", 5, "depth", "not int"),
        ("depth", "123", "depth", "not str"),
        ("depth", {1, 2, 3}, "depth", "not set"),
        ("depth", [1, "x", 3], "depth[1]", "not str"),
        ("depth", [1, 1e300, 3], "depth[1]", "f32"),
        ("depth", array.array("f", [1, 2]), "depth", "2 items"),
        ("best", {"price": 1}, "best.orders", "no value"),
        ("best", {"price": 1, "orders": 2, "more": 3}, "best.more", "no such field"),
        ("best", {"price": 1, "orders": 256}, "best.orders", "0 to 255"),
        ("best", (1,), "best", "1 values, and Level has 2 fields"),
        ("best", 7, "best.price", "int has no such value"),
        ("levels", [[BEST, BEST], [BEST, {"price": 1, "orders": -1}]], "levels[1][1].orders", "out of range"),
        ("levels", [[BEST, BEST], [BEST]], "levels[1]", "1 items"),
        ("nothing", 1, "nothing", "no such field"),
    ],
)
def test_a_value_that_cannot_be(
    page: tuple[Publisher, Reader], field: str, value: Any, names: str, says: str | None
) -> None:
    publisher, reader = page
    before = reader.snapshot()
    given: dict[str, Any] = {"bid": 99.0, field: value} if field != "bid" else {"plain": 3, "bid": value}
    if says is None:
        publisher.update(**given)
        return
    with pytest.raises(errors.BadValue) as caught:
        publisher.update(**given)
    assert caught.value.field == names
    assert caught.value.message.startswith(f"{names}: ")
    assert says in caught.value.message
    assert isinstance(caught.value, ValueError)
    assert reader.snapshot() == before
    assert reader.version == before.version
    with pytest.raises(errors.BadValue):
        publisher.set({**ZERO, **given})
    with publisher.edit() as draft, pytest.raises(errors.BadValue):
        setattr(draft, field, value)
    # What was refused is not in the next version either.
    publisher.update(real=0.0)
    assert reader.snapshot() == before


def test_converting_a_value_may_publish(page: tuple[Publisher, Reader]) -> None:
    publisher, reader = page
    publisher.update(bid=1.0, plain=Odd(lambda: publisher.update(bid=2.0, real=3.0)))
    assert (reader.bid, reader.real, reader.plain, reader.version) == (1.0, 3.0, 5, 3)
    with pytest.raises(errors.PageClosed):
        publisher.update(bid=1.0, plain=Odd(publisher.close))
    items: list[Any] = [1, 2, 3]
    other = vdso.publish("other", Quote, directory=Path(publisher.path).parent)
    items[0] = Floating(items.clear)
    with other, pytest.raises(errors.BadValue, match="depth"):
        other.update(depth=items)


def raising(error: type[BaseException]) -> Any:
    def run() -> None:
        raise error

    return run


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError, MemoryError])
def test_what_a_value_raises_is_the_callers(
    page: tuple[Publisher, Reader], error: type[BaseException]
) -> None:
    publisher, reader = page
    for field, value in (("plain", Odd(raising(error))), ("real", Floating(raising(error)))):
        with pytest.raises(error):
            publisher.update(bid=1.0, **{field: value})
    with pytest.raises(errors.BadValue, match="plain"):
        publisher.update(bid=1.0, plain=Odd(raising(TypeError)))
    assert reader.version == 1


def test_a_value_that_cannot_be_shown(page: tuple[Publisher, Reader]) -> None:
    class Mute:
        def __index__(self) -> int:
            return 10**100

        def __float__(self) -> float:
            return 1e300

        def __repr__(self) -> str:
            raise error

    publisher, reader = page
    given = [("plain", Mute()), ("on", Mute()), ("depth", [1, Mute(), 3])]
    error: BaseException = ZeroDivisionError()
    for field, value in given:
        with pytest.raises(errors.BadValue, match=f"^{field}.*this Mute"):
            publisher.update(**{field: value})
    error = KeyboardInterrupt()
    for field, value in given:
        with pytest.raises(KeyboardInterrupt):
            publisher.update(**{field: value})
    # Python writes no number that long.
    for field, number in (("plain", 10**5000), ("plain", -(10**5000)), ("on", 10**5000)):
        with pytest.raises(errors.BadValue, match=f"^{field}: .*this int"):
            publisher.update(**{field: number})
    assert reader.version == 1


class Floating:
    def __init__(self, run: Any) -> None:
        self.run = run

    def __float__(self) -> float:
        self.run()
        return 5.0


def test_threads_publish_whole_versions(page: tuple[Publisher, Reader]) -> None:
    publisher, reader = page

    def work(number: int) -> None:
        for _ in range(500):
            publisher.update(bid=float(number), real=Floating(lambda: None), plain=number, count=number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        found = reader.snapshot()
        assert found.bid == found.plain == found.count
    for thread in threads:
        thread.join()
    assert reader.version == 1 + 4 * 500


# ---- What is taken for a value ----


def test_numbers_of_others(page: tuple[Publisher, Reader]) -> None:
    publisher, reader = page
    publisher.update(count=numpy.int64(7), bid=numpy.float32(0.5), on=numpy.bool_(True), plain=True, flag=1)
    assert reader.snapshot().astuple()[:3] == (True, 0.5, 7)
    assert (reader.plain, reader.flag) == (1, True)
    for depth in (
        numpy.array([1, 2, 3], "f4"),
        numpy.array([1, 2, 3], "i8"),
        numpy.arange(0, 7, dtype="f4")[1::2][:3] * 0 + numpy.array([1, 2, 3], "f4"),
        numpy.array([3, 2, 1], "f4")[::-1],
        array.array("f", [1, 2, 3]),
        (1, 2, 3),
        memoryview(array.array("f", [1, 2, 3])),
    ):
        publisher.update(depth=[0, 0, 0])
        publisher.update(depth=depth)
        assert reader.depth.tolist() == [1, 2, 3]
    publisher.update(mark=bytearray(b"ab"))
    assert reader.mark == b"ab\0"
    publisher.update(mark=memoryview(b"xyz"))
    assert reader.mark == b"xyz"


def test_a_flag_is_0_or_1(tmp_path: Path) -> None:
    flags = vdso.page(type("Flags", (), {"__annotations__": {"all": vdso.Array[vdso.Bool, 3]}}))
    with vdso.publish("flags", flags, directory=tmp_path) as publisher:
        publisher.update(all=memoryview(b"\0\1\7").cast("?"))
        snapshot = vdso.open("flags", directory=tmp_path).snapshot()
        assert bytes(memoryview(snapshot))[:3] == b"\0\1\1"


def test_numpy_arrays_are_copies(page: tuple[Publisher, Reader]) -> None:
    publisher, reader = page
    publisher.update(depth=[1, 2, 3])
    found = reader.depth
    assert (found.dtype, found.shape) == (numpy.dtype("f4"), (3,))
    found[0] = 99
    assert reader.depth.tolist() == [1, 2, 3]
    snapshot = reader.snapshot()
    snapshot.depth[1] = 99
    assert snapshot.depth.tolist() == [1, 2, 3]


def test_without_numpy_arrays_are_tuples(tmp_path: Path) -> None:
    script = f"""
    import sys
    sys.modules["numpy"] = None
    import vdso
    @vdso.page
    class R:
        a: vdso.Array[vdso.F64, 3]
        b: vdso.Array[vdso.U8, 2, 2]
    first = R([1, 2, 3], [[1, 2], [3, 4]])
    with vdso.publish("r", R, directory={str(tmp_path)!r}, initial=first) as publisher:
        reader = vdso.open("r", directory={str(tmp_path)!r})
        with publisher.edit() as draft:
            draft.a[1] = 9
            draft.b[1, 1] = 7
        assert (reader.a, reader.b) == ((1.0, 9.0, 3.0), ((1, 2), (3, 7))), reader.snapshot()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)


# ---- Snapshots ----


def test_a_snapshot_stays(page: tuple[Publisher, Reader]) -> None:
    publisher, reader = page
    first = reader.snapshot()
    publisher.update(bid=2.5, best=Level(3, 4))
    second = reader.snapshot()
    assert (first.bid, second.bid) == (0.0, 2.5)
    assert (first.version, second.version) == (1, 2)
    assert (second.best.price, second.best.version) == (3.0, 2)
    assert first != second
    assert first == copy.copy(first)
    assert {first, second, pickle.loads(pickle.dumps(first))} == {first, second}
    assert repr(second.best) == "Level(price=3.0, orders=4)"
    assert "best=Level(price=3.0, orders=4)" in repr(second)
    assert {"bid", "asdict", "version"} <= set(dir(second))
    with pytest.raises(AttributeError):
        second.bid = 3
    with pytest.raises(AttributeError):
        _ = second.nothing
    with pytest.raises(AttributeError):
        _ = reader.nothing
    with pytest.raises(AttributeError):
        reader.bid = 3
    name = "".join(["b", "id"])  # no literal, and not interned
    assert getattr(second, name) == getattr(reader, name) == 2.5
    del reader, publisher, page
    assert second.best.price == 3.0


def test_as_somebodys_class(tmp_path: Path) -> None:
    class CLevel(ctypes.Structure):
        _fields_: ClassVar = [("price", ctypes.c_double), ("orders", ctypes.c_uint8)]

    class CRecord(ctypes.Structure):
        _fields_: ClassVar = [
            ("a", ctypes.c_int32),
            ("best", CLevel),
            ("all", CLevel * 2),
            ("d", ctypes.c_float * 2),
        ]

    class Packed(ctypes.Structure):
        _pack_ = 1
        _layout_ = "ms"
        _fields_: ClassVar = [("a", ctypes.c_uint8), ("b", ctypes.c_double)]

    @dataclasses.dataclass
    class Plain:
        a: vdso.I32
        best: Level
        all: vdso.Array[Level, 2]
        d: vdso.Array[vdso.F32, 2]

    level = msgspec.defstruct("Level", [("price", float), ("orders", vdso.U8)])
    struct = msgspec.defstruct(
        "Struct",
        [("a", vdso.I32), ("best", level), ("all", vdso.Array[level, 2]), ("d", vdso.Array[vdso.F32, 2])],
    )
    mine = Plain(1, Level(2.0, 3), (Level(4.0, 5), Level(6.0, 7)), (8.0, 9.0))
    dtype = schema.layout_of(Plain).dtype
    with vdso.publish("r", CRecord, directory=tmp_path, initial=mine) as publisher:
        reader = vdso.open("r", directory=tmp_path, expect=dtype)
        for _ in range(3):
            snapshot = reader.snapshot()
            found = snapshot.as_(Plain)
            assert (found.a, found.best, found.all) == (mine.a, mine.best, mine.all)
            assert isinstance(found.all[1], Level)
            as_c = snapshot.as_(CRecord)
            assert (as_c.a, as_c.best.orders, as_c.all[1].price, as_c.d[1]) == (1, 3, 6.0, 9.0)
            as_struct = snapshot.as_(struct)
            assert (as_struct.best.price, as_struct.all[0].orders) == (2.0, 5)
            as_numpy = snapshot.as_(dtype)
            assert (as_numpy["a"], as_numpy["all"]["orders"].tolist()) == (1, [5, 7])
            for form in (as_c, as_struct, as_numpy):
                publisher.update(a=0, d=[0, 0])
                publisher.set(form)
        with pytest.raises(errors.PageDiffers, match="price is new"):
            reader.snapshot().best.as_(Odder)
    with vdso.publish("p", Packed, directory=tmp_path, initial=Packed(1, 2.0)):
        packed = vdso.open("p", directory=tmp_path).snapshot().as_(Packed)
        assert (packed.a, packed.b) == (1, 2.0)


def test_as_the_dtype_that_was_asked_for(tmp_path: Path) -> None:
    """Which may be another with the same fields: packed, big-endian, or of another class."""
    inner = [("x", ">u2"), ("y", "?")]
    odd = numpy.dtype((numpy.record, [("b", "?"), ("f", ">f8"), ("r", inner, (2,)), ("s", "S3")]))
    with vdso.publish("r", odd, directory=tmp_path) as publisher:
        publisher.set((True, 1.5, [(256, True), (2, False)], b"ab"))
        snapshot = vdso.open("r", directory=tmp_path).snapshot()
        found = snapshot.as_(odd)
        assert found.dtype == odd
        assert isinstance(found, numpy.record)
        assert found.tolist()[:2] == (True, 1.5)
        assert found.r["x"].tolist() == [256, 2]
        own = schema.layout_of(odd)
        assert snapshot.as_(own).dtype == own.dtype
        publisher.set(found)
        assert vdso.open("r", directory=tmp_path).snapshot() == snapshot


def test_a_field_called_dtype(tmp_path: Path) -> None:
    @dataclasses.dataclass
    class Names:
        names: vdso.Array[vdso.I64, 2]

    @dataclasses.dataclass
    class Plain:
        dtype: vdso.I64
        inner: Names

    @dataclasses.dataclass
    class Nested:
        dtype: Names

    class CPlain(ctypes.Structure):
        _fields_: ClassVar = [("dtype", ctypes.c_int64)]

    given: list[tuple[Any, Any]] = [
        (Plain, Plain(5, Names((1, 2)))),
        (Nested, Nested(Names((1, 2)))),
        (CPlain, CPlain(6)),
        (msgspec.defstruct("M", [("dtype", int), ("keys", int)]), None),
    ]
    for number, (kind, value) in enumerate(given):
        record = kind(7, 8) if value is None else value
        with vdso.publish(f"r{number}", kind, directory=tmp_path, initial=record) as publisher:
            before = vdso.open(f"r{number}", directory=tmp_path).snapshot()
            publisher.set(record)
            # As numpy has it: a scalar, one of the class with attributes, and an array without dimensions.
            scalar = before.as_(schema.layout_of(kind).dtype)
            for form in (scalar, numpy.rec.array(scalar)[()], numpy.asarray(scalar)):
                publisher.set(form)
            assert vdso.open(f"r{number}", directory=tmp_path).snapshot() == before


@dataclasses.dataclass
class Odder:
    cost: float


# ---- Drafts ----


def test_a_draft_is_published_as_one(page: tuple[Publisher, Reader]) -> None:
    publisher, reader = page
    with publisher.edit() as draft:
        draft.bid = 2.0
        draft.best.price = 3.0
        draft.levels[1][0].orders = 9
        draft.depth[2] = 7
        numpy.asarray(draft.depth)[0] = 8
        draft.venue = "XLON"
        draft.count += 4
        assert (draft.venue, draft.best.price, draft.bid) == ("XLON", 3.0, 2.0)
        assert reader.bid == 0.0
        publisher.update(real=6.0)  # what the block leaves alone stays as others have it
        assert set(dir(draft)) == set(ZERO)
    found = reader.snapshot()
    assert found.version == 3
    assert (found.bid, found.best.price, found.levels[1][0].orders, found.real) == (2.0, 3.0, 9, 6.0)
    assert (found.depth.tolist(), found.venue, found.count) == ([8, 0, 7], "XLON", 4)


def test_a_draft_whose_block_fails_is_not(page: tuple[Publisher, Reader]) -> None:
    publisher, reader = page
    edit = publisher.edit()
    edit.__enter__().bid = 2.0
    assert not edit.__exit__(KeyError, KeyError(), None)
    assert reader.version == 1
    with publisher.edit() as draft, pytest.raises(errors.BadValue):
        draft.nothing = 1
    with publisher.edit() as draft, pytest.raises(errors.BadValue):
        draft.depth = [1, 2, "x"]
    assert reader.snapshot().depth.tolist() == [0, 0, 0]
    with publisher.edit() as draft, pytest.raises(AttributeError):
        del draft.bid
    kept = draft.depth
    del draft
    kept[0] = 4  # nobody's any more
    assert reader.depth.tolist() == [0, 0, 0]


# ---- The C side believes nobody ----


@pytest.mark.parametrize(
    "field",
    [
        ("a", 9, 1, 8, (), None),
        ("a", 9, 16, 8, (), None),
        ("a", 9, 8, 8, (2,), None),
        ("a", 9, 0, 4, (), None),
        ("a", 99, 0, 8, (), None),
        ("a", 11, 0, 0, (), None),
        ("a", 11, 0, 1 << 31, (), None),
        ("a", 11, 0, 1, (1 << 20, 1 << 20), None),
        ("a", 11, 0, 1, (1, 1, 1, 1, 1), None),
        ("a", 11, 0, 1, (0,), None),
        ("a", 13, 0, 8, (), None),
        ("a", 9, 0, 8, (), "no record"),
        ("a", 9, -1, 8, (), None),
    ],
)
def test_a_field_outside_the_record_is_refused(field: Any) -> None:
    with pytest.raises((ValueError, TypeError, OverflowError)):
        _core.Record(None, "R", 16, (field,))
