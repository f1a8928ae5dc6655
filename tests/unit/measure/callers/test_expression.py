"""DWARF expressions: each operation, what real unwind information has, and any bytes at all."""

import contextlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vdso.errors import CannotUnwind
from vdso.measure.callers.expression import evaluate

REGISTERS = {6: 0x7000, 7: 0x1000, 16: 0x40100B}
MASK = (1 << 64) - 1


def read(address: int, size: int) -> int:
    if address < 0x1000:
        raise CannotUnwind("not on the stack")
    return address * 0x0101010101010101 & (1 << 8 * size) - 1


@pytest.mark.parametrize(
    ("code", "value"),
    [
        (b"\x30", 0),
        (b"\x4f", 31),
        (b"\x08\xff", 255),
        (b"\x09\xff", MASK),
        (b"\x0a\x34\x12", 0x1234),
        (b"\x0b\xff\xff", MASK),
        (b"\x0c\x78\x56\x34\x12", 0x12345678),
        (b"\x0d\xfe\xff\xff\xff", MASK - 1),
        (b"\x0e" + struct.pack("<Q", MASK), MASK),
        (b"\x03" + struct.pack("<Q", 77), 77),
        (b"\x10\xe5\x8e\x26", 624485),
        (b"\x11\x7e", MASK - 1),
        (b"\x77\x08", 0x1008),
        (b"\x76\x78", 0x6FF8),
        (b"\x92\x10\x01", 0x40100C),
        (b"\x32\x31\x12\x22", 2),  # dup
        (b"\x35\x32\x14", 5),  # over
        (b"\x35\x32\x31\x15\x02", 5),  # pick
        (b"\x35\x32\x13", 5),  # drop
        (b"\x35\x32\x16", 5),  # swap
        (b"\x31\x32\x33\x17", 2),  # rot
        (b"\x11\x7b\x19", 5),  # abs
        (b"\x11\x79\x33\x1b", MASK - 1),  # -7 / 3, towards zero
        (b"\x35\x33\x1c", 2),
        (b"\x33\x35\x1c", MASK - 1),
        (b"\x37\x33\x1d", 1),
        (b"\x37\x33\x1e", 21),
        (b"\x31\x1f", MASK),
        (b"\x30\x20", MASK),
        (b"\x34\x31\x21", 5),
        (b"\x34\x23\x80\x01", 132),
        (b"\x31\x33\x24", 8),
        (b"\x31\x08\x40\x24", 0),
        (b"\x38\x32\x25", 2),
        (b"\x11\x78\x32\x26", MASK - 1),
        (b"\x35\x36\x27", 3),
        (b"\x35\x36\x1a", 4),
        (b"\x11\x7f\x30\x2d", 1),  # -1 < 0
        (b"\x11\x7f\x30\x2b", 0),
        (b"\x30\x30\x2a\x30\x30\x2c\x1a", 1),
        (b"\x31\x31\x29\x31\x32\x2e\x1a", 1),
        (b"\x77\x00\x06", read(0x1000, 8)),
        (b"\x77\x00\x94\x02", read(0x1000, 2)),
        (b"\x31\x28\x01\x00\x35\x37", 7),  # a branch over one
        (b"\x2f\x01\x00\x35\x37\x96", 7),
    ],
)
def test_operations(code: bytes, value: int) -> None:
    assert evaluate(code, REGISTERS, read) == value


def test_the_linkers_table_of_calls() -> None:
    # What GNU ld writes for .plt: rsp + 8, and 8 more where the first push of an entry has been done.
    plt = b"\x77\x08\x80\x00\x3f\x1a\x3b\x2a\x33\x24\x22"
    assert evaluate(plt, {7: 0x1000, 16: 0x401020}, read) == 0x1008
    assert evaluate(plt, {7: 0x1000, 16: 0x40102B}, read) == 0x1010


def test_begins_with_the_frames_end() -> None:
    assert evaluate(b"\x23\x10", REGISTERS, read, 0x2000) == 0x2010


@pytest.mark.parametrize(
    "code",
    [
        b"",
        b"\x13",
        b"\x22",
        b"\x31\x22",
        b"\x31\x16",
        b"\x31\x32\x17",
        b"\x31\x30\x1b",
        b"\x31\x30\x1d",
        b"\x08",
        b"\x2f\xfd\xff",  # jumps to itself
        b"\x2f\x10\x00",
        b"\x2f\xf0\xff",
        b"\x50\x30",  # a register as a place
        b"\x9c",  # the frame's end, of which this is the rule
        b"\x70\x00",  # a register that a call does not keep
        b"\x30\x06",
        b"\x77\x00\x94\x03",
        b"\x31" * 200,
    ],
)
def test_what_has_no_value(code: bytes) -> None:
    with pytest.raises(CannotUnwind):
        evaluate(code, REGISTERS, read)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_end(code: bytes) -> None:
    with contextlib.suppress(CannotUnwind):
        assert 0 <= evaluate(code, REGISTERS, read) <= MASK
