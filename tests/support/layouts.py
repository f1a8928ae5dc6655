"""Records to test with, and any others by hypothesis."""

from hypothesis import strategies as st

import vdso
from vdso.pages import schema
from vdso.pages.schema import FieldType, Layout


@vdso.page
class Level:
    price: vdso.F64
    orders: vdso.U8


@vdso.page
class Quote:
    on: vdso.Bool
    bid: vdso.F64
    count: vdso.I16
    venue: vdso.Str[5]
    mark: vdso.Bytes[3]
    depth: vdso.Array[vdso.F32, 3]
    levels: vdso.Array[Level, 2, 2]
    best: Level
    plain: int
    real: float
    flag: bool


@vdso.page
class Pair:
    a: vdso.F64
    b: vdso.F64 = 7.0


@vdso.page
class Wide:
    a: vdso.F64
    b: vdso.F64
    c: vdso.F64 = 1.5


@vdso.page
class Flags:
    dark: bool
    rate: float = 1.5
    label: vdso.Str[8] = "x"


LEAVES = st.one_of(
    st.sampled_from(sorted(schema.SCALARS)).map(schema.scalar),
    st.builds(FieldType, st.sampled_from(["str", "bytes"]), st.integers(1, 9)),
)


def records(types: st.SearchStrategy[FieldType]) -> st.SearchStrategy[Layout]:
    names = st.from_regex(r"[a-z][a-z0-9_]{0,3}", fullmatch=True).filter(
        lambda name: name not in schema.RESERVED
    )
    fields = st.lists(st.tuples(names, types), min_size=1, max_size=5, unique_by=lambda field: field[0])
    return st.builds(schema.make, st.sampled_from(["R", "Record"]), fields)


def arrays(types: st.SearchStrategy[FieldType]) -> st.SearchStrategy[FieldType]:
    shapes = st.lists(st.integers(1, 3), max_size=2).map(tuple)
    return st.builds(
        lambda inner, shape: inner if len(inner.shape) + len(shape) > 4 else schema.arrayed(inner, shape, ""),
        types,
        shapes,
    )


LAYOUTS = records(
    st.recursive(arrays(LEAVES), lambda inner: arrays(records(inner).map(schema.nested)), max_leaves=6)
)
