"""From frame to frame: each way to find a caller, and each reason why there is none."""

from collections.abc import Sequence
from typing import Any

import pytest
from programs import BASE, TEXT, Function, Symbol, build, common

from vdso.errors import CannotUnwind
from vdso.measure.callers.chain import walk
from vdso.measure.callers.code import Code, Point
from vdso.measure.callers.objects import Object
from vdso.measure.callers.rules import RBP, RBX, RIP, RSP, Rules, Saved, Stack, caller

START = BASE + TEXT
STACK = 0x7000_0000_0000
# Return addresses behind the calls of CODE, by function.
INNER, OUTER, ENDLESS, VARIED = START + 5, START + 0x25, START + 0x45, START + 0x65
SYMBOLS = [
    Symbol("inner", START, 0x20),
    Symbol("outer", START + 0x20, 0x20),
    Symbol("endless", START + 0x40, 0x20),
    Symbol("varied", START + 0x60, 0x20),
    Symbol("jumps", START + 0x80, 0x20),
]


def code() -> bytes:
    text = bytearray(b"\xcc" * 0x100)

    def put(at: int, *pieces: str) -> None:
        data = bytes.fromhex(" ".join(pieces))
        text[at : at + len(data)] = data

    put(0x00, "e8 fb 1f 00 00", "48 83 c4 18 c3")  # call elsewhere; add $0x18,%rsp; ret
    put(0x20, "e8 db ff ff ff", "5b c3")  # call inner; pop %rbx; ret
    put(0x40, "e8 bb ff ff ff", "eb fe")  # call inner; jmp .
    # call jumps; test %eax,%eax; je 1f; add $0x18,%rsp; ret; 1: add $0x28,%rsp; ret
    put(0x60, "e8 1b 00 00 00", "85 c0 74 05", "48 83 c4 18 c3", "48 83 c4 28 c3")
    put(0x80, "e9 7b ff ff ff")  # jmp inner
    return bytes(text)


class Space:
    """As much of an address space as is walked in: one object."""

    def __init__(self, **more: Any) -> None:
        self.code = Code(Object("made", build(code(), symbols=SYMBOLS, **more).data), "/nowhere")

    def at(self, address: int) -> Point | None:
        return self.code.point(address) if START <= address < START + 0x100 else None


def frames(
    space: Space, words: Sequence[int], rip: int = INNER, rbp: int = 0
) -> tuple[list[tuple[str | None, bool]], str | None]:
    """The functions, whether by a jump, and why there are no more."""
    data = b"".join(word.to_bytes(8, "little") for word in words)
    found: list[tuple[str | None, bool]] = []
    registers = {"rip": rip, "rsp": STACK, "rbp": rbp, "rbx": 1, "r12": 2, "r13": 3, "r14": 4, "r15": 5}
    try:
        for point in walk(registers, Stack((STACK, data)), space):  # type: ignore[arg-type]
            found.append((point.function, point.tail))
    except CannotUnwind as error:
        return found, error.message
    return found, None


def on_the_stack(space: Space, words: Sequence[int], **more: int) -> list[str | None]:
    return [function for function, tail in frames(space, words, **more)[0] if not tail]


def described(start: int, instructions: bytes) -> Function:
    return Function(start, 0x20, instructions)


def test_by_unwind_information() -> None:
    # The outer function is the thread's first: its return address is undefined.
    space = Space(functions=[described(0, b"\x0e\x10"), described(0x20, b"\x07\x10")])
    assert frames(space, [0, OUTER]) == ([("inner", False), ("outer", False)], None)


def test_unwind_information_goes_before_what_the_code_says() -> None:
    # By its code the inner function's frame is larger.
    space = Space(functions=[described(0, b"\x0e\x10")])
    assert on_the_stack(space, [0, OUTER, 0, ENDLESS]) == ["inner", "outer", "endless"]
    assert on_the_stack(Space(), [0, OUTER, 0, ENDLESS]) == ["inner", "endless"]


def test_unwind_information_that_leads_astray() -> None:
    space = Space(functions=[described(0, b"\x0e\x10")])
    assert frames(space, [0, OUTER + 1]) == (
        [("inner", False)],
        "it leads to an address that follows no call",
    )
    assert frames(space, [0, 12345]) == (
        [("inner", False)],
        "it leads to a return address in no executable mapping",
    )
    assert frames(space, [0]) == (
        [("inner", False)],
        "the sample's 8 bytes of stack end before the caller's frame",
    )


def test_a_return_address_of_zero_is_the_end() -> None:
    assert frames(Space(functions=[described(0, b"\x0e\x10")]), [0, 0]) == ([("inner", False)], None)


def test_unwind_information_that_cannot_be_read() -> None:
    found, why = frames(Space(functions=[described(0, b"\x3f")]), [0, OUTER])
    assert found == [("inner", False)]
    assert why == "unwind information with the unknown instruction 0x3f"


def test_a_signals_handler_was_called_by_nobody() -> None:
    # Where a handler returns to follows no call, and its unwind information says what it is.
    cie = common(letters=b"zRS", augmentation=b"\x1b")
    space = Space(functions=[described(0, b"\x0e\x10"), described(0x20, b"")], cie=cie)
    assert frames(space, [0, START + 0x28]) == ([("inner", False)], None)


def test_by_the_code() -> None:
    assert on_the_stack(Space(), [0, 0, 0, OUTER, 77, ENDLESS]) == ["inner", "outer", "endless"]


def test_by_the_frame_pointer() -> None:
    # Which "endless" does not say that it has, as it never returns.
    words = [0, 0, 0, ENDLESS, 0, 0, 0, OUTER]
    assert on_the_stack(Space(), words, rbp=STACK + 0x30) == ["inner", "endless", "outer"]
    found, why = frames(Space(), words, rbp=STACK + 0x28)
    assert (found, why) == (
        [("inner", False), ("endless", False)],
        "no unwind information, and no frame pointer",
    )


def test_a_frame_pointer_that_leads_inwards() -> None:
    found, why = frames(Space(), [7, OUTER, 0, ENDLESS, 0, 0, 0, OUTER], rbp=STACK)
    assert (found, why) == (
        [("inner", False), ("endless", False)],
        "no unwind information, and no frame pointer",
    )


def test_code_that_leaves_in_several_ways() -> None:
    # Both lead behind a call: nothing tells which is right.
    words = [0, 0, 0, OUTER, 0, ENDLESS]
    assert (
        frames(Space(), words, rip=VARIED)[1] == "no unwind information, and its code leaves by several ways"
    )


def test_a_call_that_is_the_last_of_its_function() -> None:
    # Its return address is the next function's, which is another one, and has another frame.
    space = Space(
        functions=[described(0, b"\x0e\x10"), described(0x20, b"\x0e\x18"), Function(0x40, 5, b"\x0e\x10")]
    )
    assert space.code.point(START + 0x20).function == "inner"
    assert on_the_stack(space, [0, OUTER], rip=START + 0x20) == ["inner", "outer"]


def test_a_function_that_ended_in_a_jump() -> None:
    found, _ = frames(Space(), [0, 0, 0, VARIED])
    assert found == [("inner", False), ("jumps", True), ("varied", False)]


# ---- following rules ----

REGISTERS = {RIP: INNER, RSP: STACK, RBP: STACK + 16, RBX: 9}
MEMORY = Stack((STACK, bytes(range(64))))


def word(at: int) -> int:
    return int.from_bytes(bytes(range(at, at + 8)), "little")


def test_registers_of_the_caller() -> None:
    saved = (
        Saved(RIP, "offset", -8),
        Saved(RBP, "value", 4),
        Saved(RBX, "expression", b"\x23\x08"),
        Saved(12, "value expression", b"\x23\x08"),
        Saved(13, "register", RBX),
        Saved(14, "offset", 4096),  # not on the sample's stack: not known, and maybe not needed
    )
    assert caller(Rules((RSP, 32), saved, ""), {**REGISTERS, 14: 5, 15: 6}, MEMORY) == {
        RIP: word(24), RSP: STACK + 32, RBP: STACK + 36, RBX: word(40), 12: STACK + 40, 13: 9, 15: 6,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        (Rules((10, 8), (), ""), "its frame goes by register 10, which is not known here"),
        (Rules((RSP, 8), (), ""), "unwind information without a return address"),
        (
            Rules((RSP, 8), (Saved(RIP, "register", 11),), ""),
            "it is kept in register 11, which is not known here",
        ),
        (
            Rules((RSP, 80), (Saved(RIP, "offset", -8),), ""),
            "the sample's 64 bytes of stack end before the caller's frame",
        ),
        (
            Rules((RSP, 1 << 40), (Saved(RIP, "offset", -8),), ""),
            "the caller's frame is on a stack that the sample does not hold",
        ),
    ],
)
def test_rules_that_cannot_be_followed(rules: Rules, why: str) -> None:
    with pytest.raises(CannotUnwind) as raised:
        caller(rules, REGISTERS, MEMORY)
    assert raised.value.message == why
