"""What code says of its own frame: the shapes that compilers write, and whatever bytes there are."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vdso.measure.callers.assembly import FETCH_BYTES, Call, decoder
from vdso.measure.callers.rules import R12, RBP, RBX, RIP, RSP, Rules, Saved

START = 0x401000
RETURN = Saved(RIP, "offset", -8)


def fetch(code: bytes) -> Callable[[int, int], bytes]:
    return lambda address, size: code[address - START : address - START + size] if address >= START else b""


def exits(text: str) -> list[Rules]:
    return decoder().exits(fetch(bytes.fromhex(text)), START)


def only(text: str) -> Rules:
    (found,) = exits(text)
    return found


@pytest.mark.parametrize(
    ("before", "call"),
    [
        ("90 90 90 e8 00 00 00 00", Call(5, START)),
        ("90 90 90 e8 fb ff ff ff", Call(5, START - 5)),
        ("90 90 90 90 90 90 ff d0", Call(2, None)),
        ("90 90 90 90 90 41 ff d4", Call(3, None)),
        ("90 90 ff 15 00 10 00 00", Call(6, None)),
        ("90 90 90 90 90 ff 53 18", Call(3, None)),
        ("90 ff 94 24 00 01 00 00", Call(7, None)),
        ("41 ff 94 24 00 01 00 00", Call(8, None)),
        ("90 90 67 e8 00 00 00 00", Call(6, START)),
    ],
)
def test_calls(before: str, call: Call) -> None:
    assert decoder().call(bytes.fromhex(before), START) == call


@pytest.mark.parametrize(
    "before",
    [
        "90 90 90 90 90 90 90 90",
        "e8 00 00 00 00 90 90 90",
        "90 90 90 e9 00 00 00 00",
        "90 90 90 90 90 90 ff e0",
        "00 00 00 00 00 00 00 00",
        "ff",
        "",
    ],
)
def test_what_is_no_call(before: str) -> None:
    assert decoder().call(bytes.fromhex(before), START) is None


def test_a_frame_of_constant_size() -> None:
    # add $0x18,%rsp; ret
    assert only("48 83 c4 18 c3") == Rules((RSP, 0x20), (RETURN,), "its code")
    # lea 0x18(%rsp),%rsp; ret
    assert only("48 8d 64 24 18 c3") == Rules((RSP, 0x20), (RETURN,), "its code")


def test_registers_that_were_kept() -> None:
    # add $0x8,%rsp; pop %rbx; pop %rbp; pop %r12; ret
    assert only("48 83 c4 08 5b 5d 41 5c 48 83 c4 08 c3") == Rules(
        (RSP, 0x30),
        (RETURN, Saved(RBX, "offset", -40), Saved(RBP, "offset", -32), Saved(R12, "offset", -24)),
        "its code",
    )


def test_a_frame_pointer() -> None:
    # leave; ret
    assert only("c9 c3") == Rules((RBP, 16), (RETURN, Saved(RBP, "offset", -16)), "its code")
    # lea -0x10(%rbp),%rsp; pop %rbx; pop %r12; pop %rbp; ret
    assert only("48 8d 65 f0 5b 41 5c 5d c3") == Rules(
        (RBP, 16),
        (RETURN, Saved(RBX, "offset", -32), Saved(RBP, "offset", -16), Saved(R12, "offset", -24)),
        "its code",
    )


def test_both_ways_of_a_branch() -> None:
    # test %eax,%eax; je 1f; add $0x18,%rsp; ret; 1: mov $-1,%eax; add $0x18,%rsp; ret
    assert only("85 c0 74 05 48 83 c4 18 c3 b8 ff ff ff ff 48 83 c4 18 c3").cfa == (RSP, 0x20)


def test_what_follows_a_call_that_does_not_return() -> None:
    # test %eax,%eax; je 1f; call 0; endbr64; ret (another function); 1: add $0x18,%rsp; ret
    found = only("85 c0 74 0a e8 00 00 00 00 f3 0f 1e fa c3 48 83 c4 18 c3")
    assert found.cfa == (RSP, 0x20)
    # What the other function takes off the stack is not what this one has on it.
    assert only("85 c0 74 10 e8 00 00 00 00 f3 0f 1e fa 48 83 c4 08 c3 90 90 48 83 c4 18 c3").cfa == (
        RSP,
        0x20,
    )
    # The same without a mark: what the other function's return amounts to is not a frame of this one's.
    assert only("85 c0 74 06 e8 00 00 00 00 c3 48 83 c4 18 c3").cfa == (RSP, 0x20)


def test_a_call_in_the_place_of_the_return() -> None:
    # add $0x18,%rsp; jmp *0x2000(%rip)
    assert only("48 83 c4 18 ff 25 00 20 00 00").cfa == (RSP, 0x20)
    # add $0x18,%rsp; jmp 1f; nop; 1: push %rbx; pop %rbx; ret
    assert only("48 83 c4 18 eb 01 90 53 5b c3") == Rules((RSP, 0x20), (RETURN,), "its code")


def test_a_stack_that_is_switched_back() -> None:
    # mov (%rsp),%rax; mov %r12,%rsp; mov 0x10(%rsp),%rbp; add $0x18,%rsp; ret: as Go's runtime does
    found = only("48 8b 04 24 4c 89 e4 48 8b 6c 24 10 48 83 c4 18 c3")
    assert found == Rules((R12, 0x20), (RETURN, Saved(RBP, "offset", -16)), "its code")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "eb fe",  # jmp .
        "0f 0b",  # ud2
        "f4",
        "48 29 c4 c3",  # sub %rax,%rsp; ret
        "48 83 e4 f0 c3",  # and $-16,%rsp; ret
        "ff e0",  # jmp *%rax
        "48 83 c4 10 c3",  # no frame is so large
        "48 83 ec 08 c3",  # and none is smaller than nothing
        "48 8b 5c 24 10 48 83 c4 08 c3",  # mov 0x10(%rsp),%rbx: from the caller's frame
        "50 c3",  # push %rax; ret: goes elsewhere
        "06 06 06",  # no instruction
    ],
)
def test_what_does_not_tell(text: str) -> None:
    assert exits(text) == []


def test_a_changed_register_is_not_the_callers() -> None:
    # mov %eax,%ebx; add $0x18,%rsp; ret
    assert only("89 c3 48 83 c4 18 c3") == Rules((RSP, 0x20), (RETURN, Saved(RBX, "undefined")), "its code")


def test_long_code_is_read_piece_by_piece() -> None:
    # So many nops that the last piece ends in the middle of an instruction; then add $0x18,%rsp; ret
    code = b"\x0f\x1f\x00" * (FETCH_BYTES // 3 + 2) + bytes.fromhex("4883c418c3")
    (found,) = decoder().exits(fetch(code), START)
    assert found.cfa == (RSP, 0x20)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_end(code: bytes) -> None:
    for rules in decoder().exits(fetch(code), START):
        assert isinstance(rules.cfa, tuple)
    decoder().call(code[-8:], START)
