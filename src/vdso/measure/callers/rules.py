"""How a caller's registers are found from those of the frame that it called: the rules, and following them.

Where rules come from, unwind information, a frame pointer or the code itself, is their makers' business.
Registers have DWARF's numbers (System V ABI for AMD64, figure 3.36).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from vdso.errors import CannotUnwind
from vdso.measure.callers.cursor import MASK
from vdso.measure.callers.expression import evaluate

RBX, RBP, RSP, R12, R13, R14, R15, RIP = 3, 6, 7, 12, 13, 14, 15, 16
NUMBERS = {"rbx": RBX, "rbp": RBP, "rsp": RSP, "r12": R12, "r13": R13, "r14": R14, "r15": R15, "rip": RIP}

# "offset": stands at the CFA and so much; "value": is that address; "register": is another register's value;
# "expression": stands at an expression's value, "value expression": is it; "undefined": nobody knows.
Kind = Literal["offset", "value", "register", "expression", "value expression", "undefined"]


@dataclass(frozen=True, slots=True)
class Saved:
    """Where the caller's value of a register is. `argument`: an offset, a register's number, or an
    expression.
    """

    register: int
    kind: Kind
    argument: int | bytes = 0


@dataclass(frozen=True, slots=True)
class Rules:
    """`cfa`: a register and what is added to it, or an expression: the caller's rsp. A register that `saved`
    does not name keeps its value. `signal`: the frame was entered by a signal, so that its address is no
    return address. `source`: what tells so, in words.
    """

    cfa: tuple[int, int] | bytes
    saved: tuple[Saved, ...]
    source: str
    signal: bool = False


RETURN = Saved(RIP, "offset", -8)
FRAME_POINTER = Rules((RBP, 16), (RETURN, Saved(RBP, "offset", -16)), "frame pointer")


class Stack:
    """What a sample has of a program's memory: pieces, each with the address of its first byte."""

    __slots__ = ("pieces",)

    def __init__(self, *pieces: tuple[int, bytes]) -> None:
        self.pieces = [(start, start + len(data), data) for start, data in pieces if data]

    def read(self, address: int, size: int = 8) -> int:
        """A little-endian number. Raises CannotUnwind where the sample does not have it."""
        for start, end, data in self.pieces:
            if start <= address and address + size <= end:
                return int.from_bytes(data[address - start : address - start + size], "little")
        held = sum(len(data) for _, _, data in self.pieces)
        for _start, end, _data in self.pieces:
            if 0 <= address - end < 1 << 16 or address < end < address + size:
                raise CannotUnwind(f"the sample's {held} bytes of stack end before the caller's frame")
        raise CannotUnwind("the caller's frame is on a stack that the sample does not hold")


def caller(rules: Rules, registers: Mapping[int, int], stack: Stack) -> dict[int, int] | None:
    """The caller's registers, of those that can be known; None where there is no caller: the frame is the
    thread's outermost. Raises CannotUnwind.
    """
    if isinstance(rules.cfa, bytes):
        cfa = evaluate(rules.cfa, registers, stack.read)
    else:
        number, offset = rules.cfa
        if number not in registers:
            raise CannotUnwind(f"its frame goes by register {number}, which is not known here")
        cfa = registers[number] + offset & MASK
    result = dict(registers)
    del result[RIP]
    result[RSP] = cfa
    for saved in rules.saved:
        register = saved.register
        result.pop(register, None)
        try:
            value = _value(saved, cfa, registers, stack)
        except CannotUnwind:
            # Another register than the return address may turn out not to be needed.
            if register == RIP:
                raise
            continue
        if value is None:
            if register == RIP:
                return None
            continue
        result[register] = value
    if RIP not in result:
        raise CannotUnwind("unwind information without a return address")
    return result if result[RIP] else None


def _value(saved: Saved, cfa: int, registers: Mapping[int, int], stack: Stack) -> int | None:
    argument = saved.argument
    if isinstance(argument, bytes):
        address = evaluate(argument, registers, stack.read, cfa)
        return address if saved.kind == "value expression" else stack.read(address)
    if saved.kind == "offset":
        return stack.read(cfa + argument & MASK)
    if saved.kind == "value":
        return cfa + argument & MASK
    if saved.kind == "undefined":
        return None
    if argument not in registers:
        raise CannotUnwind(f"it is kept in register {argument}, which is not known here")
    return registers[argument]
