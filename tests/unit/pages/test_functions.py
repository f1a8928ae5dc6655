"""What a live library exports for a layout."""

import keyword

import pytest

from vdso.errors import BadSchema
from vdso.pages import schema
from vdso.pages.functions import KEYWORDS, c_name, functions, unique_members
from vdso.pages.schema import Layout, arrayed, make, nested, parse_type


def layout(**fields: str | Layout) -> Layout:
    return make(
        "record",
        [
            (name, nested(kind) if isinstance(kind, Layout) else parse_type(kind, name))
            for name, kind in fields.items()
        ],
    )


def names(found: Layout) -> list[str]:
    return [function.name for function in functions(found, 4, 64)]


PAGES = ["snapshot", "snapshot_of", "version", "snapshot_schema", "wait", "replaced", "publisher_alive"]


def test_every_kind() -> None:
    found = layout(a="f64", b="str[4]", c="bytes[4]", d="u8[3]", e="str[4][2]", f="bytes[4][2]")
    assert names(found) == [
        *("a", "b", "c", "d_count", "d", "d_copy", "e_count", "e", "f_count", "f"),
        *PAGES,
    ]
    by_name = {function.name: function for function in functions(found, 4, 64)}
    assert (by_name["a"].returns, by_name["a"].parameters, by_name["a"].tag) == ("double", (), "f64")
    assert (by_name["b"].returns, by_name["b"].parameters) == ("size_t", ("char *out", "size_t size"))
    assert by_name["d"].parameters == ("size_t index",)
    assert by_name["d_copy"].parameters == ("uint8_t *out", "size_t count")
    assert by_name["e"].parameters == ("size_t index", "char *out", "size_t size")
    assert by_name["snapshot"].tag is None


def test_nested() -> None:
    """By the way to the field; an array of records makes each field an array."""
    point = layout(x="f64", y="f64")
    line = layout(a=point, name="str[8]")
    outer = make(
        "outer",
        [
            ("line", nested(line)),
            ("points", arrayed(nested(point), (3,), "points")),
            ("grid", arrayed(nested(layout(cells="u8[4]", p=point)), (2,), "grid")),
        ],
    )
    assert names(outer) == [
        *("line_a_x", "line_a_y", "line_name", "points_count", "points_x", "points_y"),
        # A row of rows is for the snapshot.
        *("grid_count", "grid_p_x", "grid_p_y"),
        *PAGES,
    ]
    by_name = {function.name: function for function in functions(outer, 4, 64)}
    assert [constant.value for constant in by_name["line_a_y"].constants] == [3, 64, 8]
    assert [constant.value for constant in by_name["points_y"].constants] == [24 + 8, 16, 3]
    assert [constant.value for constant in by_name["grid_p_y"].constants] == [72 + 16, 24, 2]


def test_an_array_of_arrays_is_one_row() -> None:
    found = layout(a="f64[2][3]")
    by_name = {function.name: function for function in functions(found, 4, 64)}
    assert [constant.value for constant in by_name["a"].constants] == [0, 8, 6]
    assert [constant.value for constant in by_name["a_count"].constants] == [6]


def test_two_fields_with_one_function() -> None:
    with pytest.raises(BadSchema, match="both be a_b"):
        functions(layout(a=layout(b="f64"), a_b="f64"), 4, 64)
    with pytest.raises(BadSchema, match="both be snapshot_of"):
        functions(layout(snapshot_of="f64"), 4, 64)
    with pytest.raises(BadSchema, match="both be snapshot_from"):
        functions(layout(snapshot_from="f64"), 4, 64)


def test_what_is_convenient_gives_way() -> None:
    found = layout(a="u8[3]", a_count="u32", a_copy="u32")
    assert names(found) == ["a", "a_count", "a_copy", *PAGES]
    assert {f.name: f.target for f in functions(found, 4, 64)}["a_count"] == "u32"


@pytest.mark.parametrize("name", sorted(schema.RESERVED))
def test_no_field_has_a_name_of_ours(name: str) -> None:
    with pytest.raises(BadSchema):
        layout(**{name: "f64"})


def test_every_library_function_is_reserved_or_found_out() -> None:
    for name in PAGES:
        with pytest.raises(BadSchema):
            functions(layout(**{name: "f64"}), 4, 64)


def test_c_names() -> None:
    assert c_name("quotes") == "quotes"
    assert c_name("web-flags") == "web_flags"
    assert c_name("2fa") == "page_2fa"
    assert c_name("sem") == "page_sem"  # or there would be a sem_wait() that is not the C library's
    assert c_name("clock") == "page_clock"
    assert c_name("") == "page_"


def test_members() -> None:
    assert unique_members(["bid", "double", "class", "errno"]) == {
        "bid": "bid",
        "double": "double_",
        "class": "class_",
        "errno": "errno_",
    }
    assert unique_members(["double", "double_"]) == {"double": "double__", "double_": "double_"}
    # What Python keeps to itself cannot be a field; what C keeps to itself can.
    assert [word for word in KEYWORDS if not keyword.iskeyword(word)]
