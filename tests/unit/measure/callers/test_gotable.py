"""Go's table of functions, in each of its forms, whole and damaged."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import BASE, TEXT, build

from vdso.measure.callers import gotable
from vdso.measure.callers.objects import Object
from vdso.measure.callers.symbols import Symbols

START = BASE + TEXT
FUNCTIONS = [("runtime.text", 0), ("main.main", 32), ("main.(*meter).read", 48)]
END = 96


def table(version: int, text: int = START) -> bytes:
    """As Go's linker writes it, without lines and files."""
    names, offsets = bytearray(), []
    for name, _ in FUNCTIONS:
        offsets.append(len(names))
        names += name.encode() + b"\0"
    wide = version < 18
    word, size = ("Q", 8) if wide else ("I", 4)
    magic = {2: 0xFFFFFFFB, 16: 0xFFFFFFFA, 18: 0xFFFFFFF0, 20: 0xFFFFFFF1}[version]
    head = struct.pack("<IBBBB", magic, 0, 0, 1, 8)
    count = len(FUNCTIONS)
    rows = (2 * count + 1) * size
    described = b""
    numbers: list[int] = []
    if version == 2:
        base = len(head) + 8 + rows
        names_at = base + count * 16
    else:
        base, names_at = rows, 0
    for index, (_, start) in enumerate(FUNCTIONS):
        numbers += [start + (START if wide else 0), base + len(described)]
        described += struct.pack(f"<{word}i", numbers[-2], names_at + offsets[index]).ljust(16, b"\0")
    numbers.append(END + (START if wide else 0))
    packed = struct.pack(f"<{len(numbers)}{word}", *numbers) + described
    if version == 2:
        return head + struct.pack("<Q", count) + packed + bytes(names)
    fields = 7 if version == 16 else 8
    after = len(head) + 8 * fields
    offsets_ = [after, after, after, after, after + len(names)]
    middle = [count, 0] + ([] if version == 16 else [text]) + offsets_
    return head + struct.pack(f"<{fields}Q", *middle) + bytes(names) + packed


def symbols(data: bytes, name: str = ".gopclntab", module: bytes = b"") -> Symbols:
    extra = [(name, data)] + ([(".go.module", module)] if module else [])
    return Symbols(Object("made", build(extra=extra).data), "")


@pytest.mark.parametrize("version", [2, 16, 18, 20])
@pytest.mark.parametrize("name", gotable.SECTIONS)
def test_functions(version: int, name: str) -> None:
    known = symbols(table(version), name)
    found = [known.find(START + at) for at in (0, 31, 32, 47, 48, 95)]
    assert [(one.name, one.start - START, one.source) for one in found if one is not None] == [
        ("runtime.text", 0, ".gopclntab"),
        ("runtime.text", 0, ".gopclntab"),
        ("main.main", 32, ".gopclntab"),
        ("main.main", 32, ".gopclntab"),
        ("main.(*meter).read", 48, ".gopclntab"),
        ("main.(*meter).read", 48, ".gopclntab"),
    ]
    assert known.find(START - 1) is None
    assert known.find(START + 96) is None


def test_where_the_code_begins_is_the_modules_to_say() -> None:
    module = bytes(8 * gotable.MODULE_TEXT) + struct.pack("<Q", START + 16)
    found = symbols(table(20, 0), module=module).find(START + 16 + 33)
    assert found is not None
    assert (found.name, found.start) == ("main.main", START + 16 + 32)
    # Without either Go's code is taken to be all of .text.
    found = symbols(table(20, 0)).find(START + 33)
    assert found is not None
    assert found.name == "main.main"


def test_where_the_code_begins_is_filled_in_at_load_time() -> None:
    made = build(extra=[(".gopclntab", table(20, 0))])
    place = BASE + made.at[".gopclntab"] + 24
    moved = struct.pack("<QQq", place, 8, START + 16)
    extra = [(".gopclntab", table(20, 0)), (".rela.dyn", moved)]
    known = Symbols(Object("made", build(extra=extra).data), "")
    assert known.find(START + 16 + 33) is not None
    assert known.find(START + 15) is None


def test_without_a_section_of_its_own() -> None:
    """As external linkers have it; and where the sections were stripped off."""
    inner = bytes(100) + b"\xf1\xff\xff\xff\0\0\x01\x08" + bytes(60) + table(20)
    for extra in ([(".data.rel.ro", inner), (".go.buildinfo", b"")], [(".data.rel.ro", inner)]):
        made = bytearray(build(extra=extra).data)
        if len(extra) == 1:
            struct.pack_into("<QIHHHHHH", made, 40, 0, 0, 64, 56, 1, 64, 0, 0)
        made[64 + 4] = 4  # read-only: this program's one segment
        found = Symbols(Object("made", bytes(made)), "").find(START + 33)
        assert found is not None
        assert (found.name, found.source) == ("main.main", ".gopclntab")


def test_other_objects_have_none() -> None:
    assert gotable.read(Object("made", build().data)) is None


@pytest.mark.parametrize(
    "data", [b"", bytes(100), table(20)[:40], table(20)[:-60], b"\xf1\xff\xff\xff\0\0\x02\x08"]
)
def test_what_is_no_table(data: bytes) -> None:
    assert symbols(data).go is None


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([2, 16, 18, 20]),
    st.lists(st.tuples(st.integers(0, 250), st.integers(0, 255)), max_size=6),
    st.integers(-8, 120),
)
def test_damage_gives_a_name_or_none(version: int, damage: list[tuple[int, int]], at: int) -> None:
    data = bytearray(table(version))
    for place, value in damage:
        data[place % len(data)] = value
    symbols(bytes(data)).find(START + at)
