"""The reader of the kernel's types: what it finds, and what it makes of files that lie."""

import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vdso.errors import BadBtf
from vdso.kernel import btf

NAMES = ("vdso_time_data", "vdso_clock", "vdso_rng_data", "vdso_data", "vdso_timestamp")
ENUMS = ("vdso_clock_mode", "vdso_pages")


def test_a_struct(types: Any) -> None:
    made = types()
    byte, word = made.integer("u8", 1), made.integer("u64", 8)
    alias = made.add(8, "u64_alias", made.add(10, "", word))  # typedef of const
    pair = made.array(alias, 2)
    grid = made.array(made.array(byte, 3), 4)
    pointer = made.add(2, "", word)
    inner = made.union([("left", pair, 0), ("right", byte, 8)], 16)
    outer = made.struct("", 24, [("before", alias, 0), ("", inner, 8)])
    made.struct("thing", 64, [("one", byte, 0), ("", outer, 8), ("grid", grid, 32), ("to", pointer, 48)])
    found = btf.Btf(made.encode()).struct("thing")
    assert found is not None
    assert (found.name, found.size) == ("thing", 64)
    assert {(m.name, m.offset, m.size, m.count, m.type_name) for m in found.members.values()} == {
        ("one", 0, 1, 1, "u8"),
        ("before", 8, 8, 1, "u64"),
        ("left", 16, 16, 2, "u64"),
        ("right", 24, 1, 1, "u8"),
        ("grid", 32, 12, 12, "u8"),
        ("to", 48, 8, 1, ""),
    }


def test_bit_fields_are_left_out(types: Any) -> None:
    made = types()
    word = made.integer("u32", 4)
    struct = [made.name("whole"), word, 0, made.name("part"), word, 3 << 24 | 32, made.name("next"), word, 64]
    made.add(4, "thing", 12, *struct, members=3, flag=1)
    found = btf.Btf(made.encode()).struct("thing")
    assert found is not None
    assert {name: member.offset for name, member in found.members.items()} == {"whole": 0, "next": 8}


def test_enums(types: Any) -> None:
    made = types()
    made.enum("plain", {"A": 0, "B": 0x7FFFFFFF, "C": 0xFFFFFFFF})
    made.enum("signed", {"D": -1}, signed=True)
    read = btf.Btf(made.encode())
    assert read.enum("plain") == {"A": 0, "B": 0x7FFFFFFF, "C": 0xFFFFFFFF}
    assert read.enum("signed") == {"D": -1}
    assert read.enum("none") is None


def test_names(types: Any) -> None:
    """A tail of another name is a name too; a declaration is no struct; the same struct twice is one."""
    made = types()
    word = made.integer("u32", 4)
    made.add(7, "later", 0)
    made.struct("my_clock", 4, [("a", word, 0)])
    made.struct("clock", 8, [("b", word, 4)])
    made.struct("twice", 4, [("c", word, 0)])
    made.struct("twice", 4, [("c", word, 0)])
    made.struct("two", 4, [("c", word, 0)])
    made.struct("two", 8, [("c", word, 4)])
    read = btf.Btf(made.encode())
    assert read.struct("later") is None
    assert read.struct("nowhere") is None
    assert read.struct("ock") is None
    clock, twice = read.struct("clock"), read.struct("twice")
    assert clock is not None
    assert clock.size == 8
    assert twice is not None
    with pytest.raises(BadBtf, match="two structs two that differ"):
        read.struct("two")
    # As a writer that shares tails would have it: "clock" is the end of "my_clock".
    whole, own = made.names.find(b"my_clock\0"), made.name("clock")
    made.words = [whole + 3 if word == own else word for word in made.words]
    clock = btf.Btf(made.encode()).struct("clock")
    assert clock is not None
    assert clock.size == 8


# ---- files that lie ----


def test_headers(types: Any) -> None:
    made = types()
    made.integer("u32", 4)
    data = made.encode()
    btf.Btf(data)
    for wrong, why in {
        b"": "less than a header",
        b"\xeb\x9f" + data[2:]: "other byte order",
        b"\x7fE" + data[2:]: "no BTF",
        data[:2] + b"\2" + data[3:]: "no BTF",
        data[:4] + b"\x04" + data[5:]: "not aligned",
        data[:12] + b"\x0f" + data[13:]: "not aligned",
        data[:-1] + b"x": "empty string",
    }.items():
        with pytest.raises(BadBtf, match=why):
            btf.Btf(wrong)
    for size in range(len(data)):
        with pytest.raises(BadBtf):
            btf.Btf(data[:size])


def test_types_that_lie(types: Any) -> None:
    def build(*members: int, size: int = 8, more: int = 0) -> btf.Btf:
        made = types()
        made.add(8, "itself", 1)  # 1: a typedef of itself
        made.array(3, 4)  # 2 and 3: arrays of each other
        made.array(2, 4)
        made.struct("", 8, [("", 4, 0)])  # 4: in itself, without a name
        made.struct("", 8, [("", 6, 0), ("", 6, 0)])  # 5 and 6: in each other, twice
        made.struct("", 8, [("", 5, 0), ("", 5, 0)])
        made.add(12, "function", 1)  # 7
        made.integer("u64", 8)  # 8
        entries = [word for of in members for word in (made.name("m"), of, 0)]
        made.add(4, "thing", size, *entries, members=len(members) + more)
        return btf.Btf(made.encode())

    for members, why in {
        (1,): "without an end",
        (2,): "without an end",
        (7,): "has no size",
        (0,): "type 0",
        (1000,): "type 1000",
        (8, 8): "two members of one name",
    }.items():
        with pytest.raises(BadBtf, match=why):
            build(*members).struct("thing")
    with pytest.raises(BadBtf, match="lies outside"):
        build(8, size=7).struct("thing")
    with pytest.raises(BadBtf, match="cut short"):
        build(8, more=1)
    for nested in (4, 5):
        made = types()
        for _ in range(3):
            made.integer("u64", 8)
        made.struct("", 8, [("", 4, 0)])
        made.struct("", 8, [("", 6, 0), ("", 6, 0)])
        made.struct("", 8, [("", 5, 0), ("", 5, 0)])
        made.struct("thing", 8, [("", nested, 0)])
        with pytest.raises(BadBtf, match="more than"):
            btf.Btf(made.encode()).struct("thing")


def test_an_unknown_kind(types: Any) -> None:
    made = types()
    made.add(25, "new", 0)
    with pytest.raises(BadBtf, match="unknown kind"):
        btf.Btf(made.encode())


def test_names_without_an_end(types: Any) -> None:
    made = types()
    word = made.integer("u32", 4)
    made.add(4, "thing", 4, 0xFFFFFF, word, 0, members=1)
    with pytest.raises(BadBtf, match="outside the string table"):
        btf.Btf(made.encode()).struct("thing")
    made = types()
    word = made.integer("u32", 4)
    made.struct("thing", 4, [("x" * 5000, word, 0)])
    with pytest.raises(BadBtf, match="no end"):
        btf.Btf(made.encode()).struct("thing")


def test_very_many_of_one_name(types: Any) -> None:
    made = types()
    for size in range(1, 1000):
        made.struct("thing", size, [])
    with pytest.raises(BadBtf, match="more than"):
        btf.Btf(made.encode()).struct("thing")


def test_no_file(tmp_path: Any) -> None:
    with pytest.raises(BadBtf, match=r"/none: no such file"):
        btf.read(f"{tmp_path}/none")
    with pytest.raises(BadBtf, match="is a directory"):
        btf.read(str(tmp_path))
    path = tmp_path / "short"
    path.write_bytes(b"\x9f\xeb")
    with pytest.raises(BadBtf, match=r"/short: 2 bytes"):
        btf.read(str(path))


def ask(data: bytes) -> None:
    """All that a layout asks of the types: an answer or BadBtf."""
    try:
        read = btf.Btf(data)
    except BadBtf:
        return
    for name in NAMES:
        try:
            found = read.struct(name)
        except BadBtf:
            continue
        assert found is None or all(m.offset + m.size <= found.size for m in found.members.values())
    for name in ENUMS:
        try:
            read.enum(name)
        except BadBtf:
            continue


@settings(max_examples=400, deadline=2000)
@given(data=st.data())
def test_mutated(kernels: Any, data: st.DataObject) -> None:
    mutated = bytearray(kernels[data.draw(st.sampled_from(sorted(kernels)))].types())
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(mutated) - 1))
        if data.draw(st.booleans()):
            mutated[at] = data.draw(st.integers(0, 255))
        else:
            value = data.draw(st.sampled_from([0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, len(mutated)]))
            mutated[at : at + 4] = value.to_bytes(4, "little")[: len(mutated) - at]
    size = data.draw(st.integers(0, len(mutated)))
    ask(bytes(mutated if data.draw(st.booleans()) else mutated[:size]))


@settings(max_examples=200, deadline=2000)
@given(st.binary(max_size=400))
def test_any_bytes_for_types(tail: bytes) -> None:
    types = tail[: len(tail) // 4 * 4]
    names = b"\0vdso_clock\0vdso_pages\0"
    header = b"".join(n.to_bytes(4, "little") for n in (24, 0, len(types), len(types), len(names)))
    ask(b"\x9f\xeb\1\0" + header + types + names)


@pytest.mark.skipif(not os.path.exists(btf.VMLINUX), reason="this kernel does not describe its types")
def test_this_kernels_own() -> None:
    read = btf.read()
    modes = read.enum("vdso_clock_mode")
    assert modes is not None
    assert modes["VDSO_CLOCKMODE_NONE"] == 0
    task = read.struct("task_struct")
    assert task is not None
    assert {"pid", "comm", "mm"} < set(task.members)
    assert task.members["comm"].size == task.members["comm"].count == 16
