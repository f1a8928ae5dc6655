"""What code says of its own frame, where nothing else does: musl, hand-written assembly, what was built
without unwind information. By capstone.

From a return address on, a function's code does what it takes to return: what it adds to rsp, and from where
it takes back the registers that it had to keep, is carried out symbolically, along each way to a `ret`. A way
may lead into code that is never reached (behind a call that does not return), so that what comes out is a
proposal: whoever follows it has to look whether it leads behind a call instruction.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from vdso.errors import ExtraMissing
from vdso.measure.callers.rules import NUMBERS, RBP, RIP, RSP, Rules, Saved

SOURCE = "its code"
KEPT = tuple(number for name, number in NUMBERS.items() if name not in ("rip", "rsp"))
NARROW = {
    "rbx": ("ebx", "bx", "bl", "bh"),
    "rbp": ("ebp", "bp", "bpl"),
    "rsp": ("esp", "sp", "spl"),
    **{f"r{n}": (f"r{n}d", f"r{n}w", f"r{n}b") for n in (12, 13, 14, 15)},
}
CALL_BYTES_MAX = 8
FETCH_BYTES = 256
INSTRUCTIONS_MAX = 400
WAYS_MAX = 24
# A frame in between would be another function's.
FRAME_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Call:
    """A call instruction; `target` where the instruction alone tells."""

    size: int
    target: int | None


# What a register or a word of the stack holds: a register's value at the start and what is added to it
# (("register", number, added)), the word at such an address (("word", number, added)), None: something else.
Value = tuple[str, int, int] | None


@dataclass(slots=True)
class _Way:
    """A way through the code. `stored`: what it has stored, by place relative to a register's first value."""

    at: int
    registers: dict[int, Value]
    stored: dict[tuple[int, int], Value] = field(default_factory=dict)
    left: int = INSTRUCTIONS_MAX

    def fork(self, at: int) -> "_Way":
        return _Way(at, dict(self.registers), dict(self.stored), self.left)

    def load(self, value: Value, added: int = 0) -> Value:
        if value is None or value[0] != "register":
            return None
        where = (value[1], value[2] + added)
        return self.stored.get(where, ("word", *where))

    def store(self, value: Value, added: int, what: Value) -> None:
        if value is not None and value[0] == "register":
            self.stored[value[1], value[2] + added] = what

    def push(self, what: Value) -> None:
        self.add(RSP, -8)
        self.store(self.registers[RSP], 0, what)

    def pop(self) -> Value:
        result = self.load(self.registers[RSP])
        self.add(RSP, 8)
        return result

    def add(self, register: int, by: int) -> None:
        value = self.registers[register]
        self.registers[register] = None if value is None else (value[0], value[1], value[2] + by)
        if value is not None and value[0] == "word" and by:
            self.registers[register] = None


class Assembly:
    """A decoder of x86-64 code. Raises ExtraMissing without capstone."""

    def __init__(self) -> None:
        try:
            import capstone
        except ImportError:
            raise ExtraMissing(
                "who called takes capstone, which is not installed", "pip install capstone"
            ) from None
        from capstone import x86

        self._x86: Any = x86
        self._engine: Any = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        self._engine.detail = True
        self._jump, self._ret, self._call = capstone.CS_GRP_JUMP, capstone.CS_GRP_RET, capstone.CS_GRP_CALL
        self._ends = (x86.X86_INS_HLT, x86.X86_INS_UD2, x86.X86_INS_INT3)
        # capstone's numbers for the registers that a call keeps, whole and in part.
        self._whole: dict[int, int] = {}
        self._part: dict[int, int] = {}
        for name, parts in NARROW.items():
            self._whole[getattr(x86, f"X86_REG_{name.upper()}")] = NUMBERS[name]
            for part in parts:
                self._part[getattr(x86, f"X86_REG_{part.upper()}")] = NUMBERS[name]

    # ---- does it follow a call? ----

    def call(self, before: bytes, address: int) -> Call | None:
        """The call instruction that ends at `address`; `before` are the bytes that end there. None: none
        does.

        Where several can be read out of the bytes, the longest: its end is what prefixes would be the middle
        of.
        """
        for size in range(min(CALL_BYTES_MAX, len(before)), 1, -1):
            found = next(self._engine.disasm(before[-size:], address - size, 1), None)
            if found is not None and found.size == size and found.id == self._x86.X86_INS_CALL:
                operand = found.operands[0]
                direct = operand.type == self._x86.X86_OP_IMM
                return Call(size, operand.imm & (1 << 64) - 1 if direct else None)
        return None

    # ---- how does it return? ----

    def exits(self, fetch: Callable[[int, int], bytes], address: int) -> list[Rules]:
        """The rules that the ways from `address` to a `ret` amount to, each once, the shortest way's first.

        `fetch(address, size)` gives code, less or none where there is no more.
        """
        start: dict[int, Value] = {number: ("register", number, 0) for number in (*KEPT, RSP)}
        ways = [_Way(address, start)]
        seen: set[int] = set()
        found: list[Rules] = []
        count = 0
        while ways and count < WAYS_MAX:
            way = ways.pop(0)
            count += 1
            rules = self._follow(way, ways, seen, fetch, address)
            if rules is not None and rules not in found:
                found.append(rules)
        return found

    def _follow(
        self,
        way: _Way,
        ways: list[_Way],
        seen: set[int],
        fetch: Callable[[int, int], bytes],
        address: int,
    ) -> Rules | None:
        going = True
        while going:
            going = False
            for one in self._engine.disasm(fetch(way.at, FETCH_BYTES), way.at):
                # An instruction that another way has been at leads where that one went.
                if way.left == 0 or one.address in seen:
                    return None
                if one.id == self._x86.X86_INS_ENDBR64 and one.address != address:
                    return None  # the next function, behind a call that does not return
                seen.add(one.address)
                going = True
                way.left -= 1
                way.at = one.address + one.size
                if self._ret in one.groups:
                    return _left(way)
                if one.id in self._ends:
                    return None
                if self._jump in one.groups:
                    operand = one.operands[0]
                    if operand.type != self._x86.X86_OP_IMM:
                        # Through a slot of the linker's: a call that takes the place of the return.
                        memory = operand.type == self._x86.X86_OP_MEM
                        return _left(way) if memory and operand.mem.base == self._x86.X86_REG_RIP else None
                    if one.id == self._x86.X86_INS_JMP:
                        way.at = operand.imm
                        break
                    ways.append(way.fork(operand.imm))
                else:
                    self._carry_out(one, way)
        return None

    def _carry_out(self, one: Any, way: _Way) -> None:
        x86, registers = self._x86, way.registers
        operands: list[Any] = one.operands
        if self._call in one.groups:
            return  # what a call has to keep it keeps
        first: Any = operands[0] if operands else None
        target = self._whole.get(first.reg) if first is not None and first.type == x86.X86_OP_REG else None
        if one.id == x86.X86_INS_PUSH:
            way.push(self._value(first, way))
            return
        if one.id == x86.X86_INS_POP and first.type == x86.X86_OP_REG:
            value = way.pop()
            if target is not None:
                registers[target] = value
            return
        if one.id == x86.X86_INS_LEAVE:
            registers[RSP] = registers[RBP]
            registers[RBP] = way.pop()
            return
        if target is not None:
            if one.id in (x86.X86_INS_ADD, x86.X86_INS_SUB) and operands[1].type == x86.X86_OP_IMM:
                way.add(target, operands[1].imm if one.id == x86.X86_INS_ADD else -operands[1].imm)
                return
            if one.id == x86.X86_INS_LEA:
                registers[target] = self._place(operands[1], way)
                return
            if one.id == x86.X86_INS_MOV:
                registers[target] = self._value(operands[1], way)
                return
        if one.id == x86.X86_INS_MOV and first.type == x86.X86_OP_MEM:
            if first.size == 8:
                way.store(self._place(first, way), 0, self._value(operands[1], way))
            return
        _, written = one.regs_access()
        for register in written:
            number = self._whole.get(register, self._part.get(register))
            if number is not None:
                registers[number] = None

    def _place(self, operand: Any, way: _Way) -> Value:
        """The address that a memory operand names."""
        memory = operand.mem
        number = self._whole.get(memory.base)
        if number is None or memory.index or memory.segment:
            return None
        value = way.registers[number]
        return None if value is None or value[0] != "register" else (*value[:2], value[2] + memory.disp)

    def _value(self, operand: Any, way: _Way) -> Value:
        if operand.type == self._x86.X86_OP_REG:
            number = self._whole.get(operand.reg)
            return None if number is None else way.registers[number]
        if operand.type == self._x86.X86_OP_MEM and operand.size == 8:
            return way.load(self._place(operand, way))
        return None


def _left(way: _Way) -> Rules | None:
    """The rules where the way stands at its `ret`; None where rsp, or what stands there, is not known."""
    rsp = way.registers[RSP]
    if rsp is None or rsp[0] != "register" or way.load(rsp) != ("word", rsp[1], rsp[2]):
        return None
    _, base, added = rsp
    cfa = added + 8
    # Where functions call each other rsp is a multiple of 16 (the ABI, 3.2.2): what adds up to something else
    # has run on into another function.
    if base == RSP and (not 0 < cfa < FRAME_BYTES_MAX or cfa % 16):
        return None
    saved = [Saved(RIP, "offset", -8)]
    for number in KEPT:
        value = way.registers[number]
        if value == ("register", number, 0):
            continue
        if value is not None and value[0] == "word" and value[1] == base:
            if value[2] - cfa > -16:
                return None  # it would have been kept in the caller's frame
            saved.append(Saved(number, "offset", value[2] - cfa))
        else:
            saved.append(Saved(number, "undefined"))
    return Rules((base, cfa), tuple(saved), SOURCE)


@lru_cache(maxsize=1)
def decoder() -> Assembly:
    """The one that everybody shares: capstone takes a tenth of a second to import. Raises ExtraMissing."""
    return Assembly()
