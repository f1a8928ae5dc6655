"""What the kernel's own code says about its data page: x86-64's `__vdso_time` and its neighbours, read and
never run.

time() compares the clock's mode with that of a time namespace and loads REALTIME's seconds, some ten
instructions. They are followed twice, in and out of a time namespace, with NULL for the argument, and
whatever is not understood ends it. Addresses are relative to the image's first byte, so that those of the
pages before it are negative.
"""

from dataclasses import dataclass
from typing import Any

from vdso.errors import VvarUnproven

INT_MAX = 0x7FFFFFFF
MODE_BYTES, SEC_BYTES = 4, 8
STEPS_MAX = 64
CODE_BYTES_MAX = 1 << 16
NOTHING = ("endbr64", "nop", "lfence", "leave")
TAKEN = {"je": True, "jne": False, "jmp": None, "cmove": True, "cmovne": False}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A value of so many bytes that was read from this address, and is not known."""

    address: int
    size: int


@dataclass(frozen=True, slots=True)
class Times:
    """Where time() looks: for the mode (None where it does not care), and for REALTIME's seconds outside of a
    time namespace and inside one."""

    mode: int | None
    sec: int
    sec_in_namespace: int | None


@dataclass(frozen=True, slots=True)
class References:
    """What a function's instructions name: addresses relative to where they stand, and plain numbers."""

    addresses: frozenset[int]
    numbers: frozenset[int]


def read_time(code: bytes, start: int) -> Times:
    """Follows the code of `__vdso_time`, which begins at `start`. Raises VvarUnproven."""
    mode, sec = _Walk(code, start, in_namespace=False).run()
    if mode is None:
        return Times(None, sec, None)
    _, sec_in_namespace = _Walk(code, start, in_namespace=True).run()
    return Times(mode, sec, sec_in_namespace)


def references(code: bytes, start: int) -> References:
    """All that a function names. Bytes that are no instruction end it."""
    instructions = _instructions(code[:CODE_BYTES_MAX], start)
    from capstone import x86

    addresses, numbers = set(), set()
    for instruction in instructions:
        for operand in instruction.operands:
            if operand.type == x86.X86_OP_IMM:
                numbers.add(operand.imm)
            elif operand.type == x86.X86_OP_MEM and operand.mem.base == x86.X86_REG_RIP:
                addresses.add(instruction.address + instruction.size + operand.mem.disp)
            elif operand.type == x86.X86_OP_MEM:
                numbers.add(operand.mem.disp)
    return References(frozenset(addresses), frozenset(numbers))


def _instructions(code: bytes, start: int) -> Any:
    try:
        import capstone
    except ImportError:
        raise VvarUnproven(
            "reading code takes capstone, which is not installed", "pip install capstone"
        ) from None
    engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    engine.detail = True
    return engine.disasm(code, start)


def _lost(why: str) -> VvarUnproven:
    return VvarUnproven(f"the code of __vdso_time is not understood: {why}")


class _Walk:
    """One way through the code. Registers hold numbers, values loaded, or (absent) what is not known."""

    def __init__(self, code: bytes, start: int, *, in_namespace: bool) -> None:
        instructions = _instructions(code[:CODE_BYTES_MAX], start)
        from capstone import x86

        self.x86 = x86
        self.code = {instruction.address: instruction for instruction in instructions}
        self.at = start
        self.in_namespace = in_namespace
        self.registers: dict[str, int | Loaded] = {"rdi": 0}
        self.equal: bool | None = None
        self.mode: int | None = None

    def run(self) -> tuple[int | None, int]:
        """Where the mode was looked for, if it was, and where what it returns was loaded from."""
        for _ in range(STEPS_MAX):
            instruction = self.code.get(self.at)
            if instruction is None:
                raise _lost("it leads out of itself")
            self.at += instruction.size
            if instruction.mnemonic.split()[-1] == "ret":
                result = self.registers.get("rax")
                if not isinstance(result, Loaded) or result.size != SEC_BYTES:
                    raise _lost("it does not return what it has loaded")
                return self.mode, result.address
            self.step(instruction)
        raise _lost("it has no end")

    def step(self, instruction: Any) -> None:
        name, operands = instruction.mnemonic, instruction.operands
        if name in NOTHING or name == "push":
            return
        if name == "pop":
            self.put(instruction, operands[0], None)
        elif name in TAKEN:
            if name != "jmp" and self.equal is None:
                raise _lost(f"{name} after no comparison")
            if TAKEN[name] in (None, self.equal):
                if name.startswith("cmov"):
                    self.put(instruction, operands[0], self.get(instruction, operands[1]))
                else:
                    self.at = operands[0].imm
        elif name in ("mov", "movabs"):
            self.put(instruction, operands[0], self.get(instruction, operands[1]))
        elif name == "lea":
            self.put(instruction, operands[0], self.address(instruction, operands[1]))
        elif name in ("cmp", "test"):
            self.compare(name, *(self.get(instruction, operand) for operand in operands))
        elif name in ("add", "sub", "xor"):
            self.put(instruction, operands[0], self.compute(instruction, name, operands))
        else:
            raise _lost(f"{name} {instruction.op_str}")

    def compute(self, instruction: Any, name: str, operands: Any) -> int | None:
        self.equal = None
        first, second = (self.get(instruction, operand) for operand in operands)
        if name == "xor":
            same = operands[0].type == operands[1].type == self.x86.X86_OP_REG
            return 0 if same and operands[0].reg == operands[1].reg else None
        if not isinstance(first, int) or not isinstance(second, int):
            return None
        return first + second if name == "add" else first - second

    def compare(self, name: str, first: int | Loaded | None, second: int | Loaded | None) -> None:
        if isinstance(second, Loaded):
            first, second = second, first
        if name == "cmp" and isinstance(first, Loaded) and first.size == MODE_BYTES and second == INT_MAX:
            if self.mode not in (None, first.address):
                raise _lost("it looks for the mode in two places")
            self.mode = first.address
            self.equal = self.in_namespace
        elif isinstance(first, int) and isinstance(second, int):
            self.equal = first == second if name == "cmp" else first & second == 0
        else:
            self.equal = None

    def address(self, instruction: Any, operand: Any) -> int | None:
        memory = operand.mem
        if memory.index or memory.segment:
            return None
        if memory.base == self.x86.X86_REG_RIP:
            return int(instruction.address + instruction.size + memory.disp)
        base = self.registers.get(self.full(instruction, memory.base))
        return base + int(memory.disp) if isinstance(base, int) else None

    def get(self, instruction: Any, operand: Any) -> int | Loaded | None:
        if operand.type == self.x86.X86_OP_IMM:
            return int(operand.imm)
        if operand.type == self.x86.X86_OP_REG:
            return self.registers.get(self.full(instruction, operand.reg))
        address = self.address(instruction, operand)
        return Loaded(address, operand.size) if address is not None and address < 0 else None

    def put(self, instruction: Any, operand: Any, value: int | Loaded | None) -> None:
        if operand.type != self.x86.X86_OP_REG:
            return  # into memory, which is never read back
        if operand.size < MODE_BYTES:
            raise _lost(f"{instruction.mnemonic} {instruction.op_str}")
        name = self.full(instruction, operand.reg)
        if value is None:
            self.registers.pop(name, None)
        else:
            self.registers[name] = value

    def full(self, instruction: Any, register: int) -> str:
        """The 64-bit register's name; narrower parts than 32 bits are nobody's."""
        name = str(instruction.reg_name(register)) if register else ""
        if name.startswith("e") and len(name) == 3:
            return "r" + name[1:]
        return name.removesuffix("d") if name[:1] == "r" and name[1:2].isdigit() else name
