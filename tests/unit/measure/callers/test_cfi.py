"""Unwind information: hand-made FDEs, the objects of this machine against pyelftools, and damage."""

import contextlib
import io
import struct
from pathlib import Path

import pytest
from elftools.dwarf.callframe import FDE, RegisterRule
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import BASE, TEXT, USUAL_CIE, Function, build, common, entry, sleb

from vdso.errors import CannotUnwind, SourceError
from vdso.measure.callers.cfi import Frames
from vdso.measure.callers.objects import Object
from vdso.measure.callers.rules import RBP, RBX, RIP, RSP, Rules, Saved

START = BASE + TEXT
RETURN = Saved(RIP, "offset", -8)
# push %rbp; mov %rsp, %rbp: as compilers describe it.
PUSHED = b"\x41\x0e\x10\x86\x02" + b"\x43\x0d\x06"


def frames(*functions: Function, cie: bytes | None = None, table: bool = True) -> Frames:
    return Frames(Object("made", build(functions=functions, cie=cie, table=table).data))


def rules(instructions: bytes, into: int = 0, cie: bytes | None = None) -> Rules | None:
    return frames(Function(0, 64, instructions), cie=cie).rules(START + into)


@pytest.mark.parametrize("table", [True, False])
def test_finds_the_function(table: bool) -> None:
    made = frames(Function(0, 16), Function(16, 16, b"\x0e\x20"), Function(64, 8, b"\x0e\x30"), table=table)
    assert [made.function(START + at) for at in (0, 15, 16, 31, 64, 71)] == [
        (START, START + 16),
        (START, START + 16),
        (START + 16, START + 32),
        (START + 16, START + 32),
        (START + 64, START + 72),
        (START + 64, START + 72),
    ]
    for outside in (-1, 32, 63, 72, 10**6):
        assert made.function(START + outside) is None
        assert made.rules(START + outside) is None
    assert made.rules(START + 64) == Rules((RSP, 0x30), (RETURN,), ".eh_frame")


def test_no_unwind_information() -> None:
    assert Frames(Object("made", build().data)).rules(START) is None


def test_rows_follow_the_code() -> None:
    assert rules(PUSHED) == Rules((RSP, 8), (RETURN,), ".eh_frame")
    assert rules(PUSHED, 1) == Rules((RSP, 16), (RETURN, Saved(RBP, "offset", -16)), ".eh_frame")
    assert rules(PUSHED, 3) == Rules((RSP, 16), (RETURN, Saved(RBP, "offset", -16)), ".eh_frame")
    assert rules(PUSHED, 4) == Rules((RBP, 16), (RETURN, Saved(RBP, "offset", -16)), ".eh_frame")
    assert rules(PUSHED, 63) == rules(PUSHED, 4)


CASES: dict[str, tuple[bytes, tuple[int, int] | bytes, tuple[Saved, ...]]] = {
    "advance_loc1, 2, 4": (b"\x02\x01\x03\x01\0\x04\x01\0\0\0\x0e\x20", (RSP, 0x20), (RETURN,)),
    "def_cfa_sf": (b"\x12\x06" + sleb(-4), (RBP, 32), (RETURN,)),
    "def_cfa_offset_sf": (b"\x13" + sleb(-3), (RSP, 24), (RETURN,)),
    "def_cfa_expression": (b"\x0f\x02\x77\x10", b"\x77\x10", (RETURN,)),
    "undefined": (b"\x07\x10", (RSP, 8), (Saved(RIP, "undefined"),)),
    "same_value": (b"\x83\x02\x08\x03", (RSP, 8), (RETURN,)),
    "register": (b"\x09\x03\x0c", (RSP, 8), (RETURN, Saved(RBX, "register", 12))),
    "expression": (b"\x10\x03\x02\x77\x10", (RSP, 8), (RETURN, Saved(RBX, "expression", b"\x77\x10"))),
    "val_expression": (b"\x16\x03\x01\x30", (RSP, 8), (RETURN, Saved(RBX, "value expression", b"\x30"))),
    "val_offset": (b"\x14\x03\x02", (RSP, 8), (RETURN, Saved(RBX, "value", -16))),
    "val_offset_sf": (b"\x15\x03" + sleb(2), (RSP, 8), (RETURN, Saved(RBX, "value", -16))),
    "offset_extended": (b"\x05\x03\x04", (RSP, 8), (RETURN, Saved(RBX, "offset", -32))),
    "offset_extended_sf": (b"\x11\x03" + sleb(-1), (RSP, 8), (RETURN, Saved(RBX, "offset", 8))),
    "GNU_negative_offset_extended": (b"\x2f\x03\x02", (RSP, 8), (RETURN, Saved(RBX, "offset", 16))),
    "GNU_args_size": (b"\x2e\x10\x0e\x20", (RSP, 0x20), (RETURN,)),
    "restore": (b"\x83\x02\x90\x05\xd0\xc3", (RSP, 8), (RETURN,)),
    "restore_extended": (b"\x83\x02\x06\x03", (RSP, 8), (RETURN,)),
    "remember, restore state": (b"\x0a\x0e\x20\x83\x02\x0b", (RSP, 8), (RETURN,)),
}


@pytest.mark.parametrize("name", CASES)
def test_instructions(name: str) -> None:
    instructions, cfa, saved = CASES[name]
    found = rules(instructions, 63)
    assert found is not None
    assert (found.cfa, set(found.saved)) == (cfa, set(saved))


def test_set_loc_goes_to_an_address() -> None:
    cie = common(augmentation=b"\x0c")  # addresses are whole, and relative to nothing
    body = struct.pack("<qq", START, 64) + b"\0\x01" + struct.pack("<q", START + 32) + b"\x0e\x20"
    first = entry(cie)
    made = build(functions=[Function(0, 64)], cie=bytes(200), table=False)
    second = entry(struct.pack("<I", len(first) + 4) + body)
    at = made.at[".eh_frame"]
    data = made.data[:at] + (first + second).ljust(200, b"\0") + made.data[at + 200 :]
    found = Frames(Object("made", data))
    assert found.rules(START + 31) == Rules((RSP, 8), (RETURN,), ".eh_frame")
    assert found.rules(START + 32) == Rules((RSP, 0x20), (RETURN,), ".eh_frame")


@pytest.mark.parametrize(
    ("cie", "expected"),
    [
        (common(version=3), Rules((RSP, 8), (RETURN,), ".eh_frame")),
        (common(version=4), Rules((RSP, 8), (RETURN,), ".eh_frame")),
        (common(letters=b"zRS", augmentation=b"\x1b"), Rules((RSP, 8), (RETURN,), ".eh_frame", signal=True)),
        (
            common(letters=b"zPLR", augmentation=b"\x9b\0\0\0\0\x1b\x1b"),
            Rules((RSP, 8), (RETURN,), ".eh_frame"),
        ),
        (
            common(b"\x0c\x07\x08\x83\x01", return_register=3),
            Rules((RSP, 8), (RETURN,), ".eh_frame"),
        ),
        (common(USUAL_CIE, data_factor=8), Rules((RSP, 8), (Saved(RIP, "offset", 8),), ".eh_frame")),
    ],
)
def test_what_functions_have_in_common(cie: bytes, expected: Rules) -> None:
    assert rules(b"", cie=cie) == expected


@pytest.mark.parametrize(
    "instructions",
    [
        b"\x0b",  # restores what it has not remembered
        b"\x0a" * 80,
        b"\x0f\x7f",  # an expression that is cut off
        b"\x0f\x01\x30\x0e\x10",  # an offset for an expression
        b"\x3f\x00",  # no such instruction
        b"\x05" + b"\x80" * 20,  # a number without end
    ],
)
def test_what_cannot_be_read_is_an_error(instructions: bytes) -> None:
    with pytest.raises(CannotUnwind):
        rules(instructions, 63)


@pytest.mark.parametrize(
    "cie",
    [
        common(version=2),
        common(letters=b"eh", augmentation=b""),
        common(b""),  # no rule for the frame's end
        common(augmentation=b"\x7b"),  # an address of an unknown kind
        struct.pack("<I", 1) + b"\x01\0",
    ],
)
def test_common_parts_that_cannot_be_read(cie: bytes) -> None:
    with pytest.raises(CannotUnwind):
        rules(b"", cie=cie)


# ---- against pyelftools ----

KINDS = {
    RegisterRule.OFFSET: "offset",
    RegisterRule.VAL_OFFSET: "value",
    RegisterRule.UNDEFINED: "undefined",
    RegisterRule.REGISTER: "register",
    RegisterRule.EXPRESSION: "expression",
    RegisterRule.VAL_EXPRESSION: "value expression",
}


def _library(name: str) -> str | None:
    with open("/proc/self/maps", encoding="utf-8") as lines:
        return next((line.split()[-1] for line in lines if f"/{name}" in line), None)


@pytest.mark.parametrize("name", ["libc.so", "ld-linux", "_core"])
def test_agrees_with_pyelftools(name: str) -> None:
    import vdso._core

    path = vdso._core.__file__ if name == "_core" else _library(name)
    if path is None:
        pytest.skip(f"no {name} in this process")
    data = Path(path).read_bytes()
    ours = Frames(Object(path, data))
    compared = 0
    dwarf = ELFFile(io.BytesIO(data)).get_dwarf_info()
    for described in (one for one in dwarf.EH_CFI_entries() if isinstance(one, FDE)):
        try:
            table = described.get_decoded().table
        except Exception:  # it does not know DW_CFA_GNU_args_size
            continue
        for row, following in zip(table, [*table[1:], None], strict=True):
            end = following["pc"] if following else described["initial_location"] + described["address_range"]
            if row["pc"] >= end:
                continue
            found = ours.rules(row["pc"])
            assert found is not None
            assert found == ours.rules(end - 1)
            if row["cfa"].expr is None:
                assert found.cfa == (row["cfa"].reg, row["cfa"].offset)
            else:
                assert isinstance(found.cfa, bytes)
            theirs = {
                number: (KINDS[rule.type], None if isinstance(rule.arg, list) else rule.arg)
                for number, rule in row.items()
                if isinstance(number, int) and rule.type != RegisterRule.SAME_VALUE
            }
            assert {
                one.register: (
                    one.kind,
                    None if isinstance(one.argument, bytes) or one.kind == "undefined" else one.argument,
                )
                for one in found.saved
            } == theirs
            compared += 1
    assert compared > 20


# ---- damage ----

PROGRAM = build(
    functions=[Function(0, 64, PUSHED), Function(64, 64, b"\x0f\x03\x77\x08\x06"), Function(128, 9)]
)
PLACES = range(PROGRAM.at[".eh_frame_hdr"], PROGRAM.at[".shstrtab"])


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(PLACES), st.integers(0, 255)), min_size=1, max_size=12),
    st.integers(-8, 300),
)
def test_damage_is_one_kind_of_error(damage: list[tuple[int, int]], into: int) -> None:
    data = bytearray(PROGRAM.data)
    for place, value in damage:
        data[place] = value
    made = Frames(Object("made", bytes(data)))
    for ask in (made.rules, made.function):
        with contextlib.suppress(SourceError):
            ask(START + into)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=64), st.binary(max_size=64), st.integers(0, 63))
def test_any_instructions_end(cie: bytes, instructions: bytes, into: int) -> None:
    made = frames(Function(0, 64, instructions), cie=common(USUAL_CIE + cie))
    try:
        found = made.rules(START + into)
    except CannotUnwind:
        return
    assert found is None or found.cfa is not None
