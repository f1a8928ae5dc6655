"""The machine code that is written at publish time: a few instructions a function, one encoder an
architecture.

A trampoline leaves its caller's arguments alone, loads what the function knows of its page into the
argument registers behind them, and jumps into the reader code. arm64's place is beside x86_64 below: adrp
and add for the page, movz and movk for the numbers, b.
"""

import struct
from collections.abc import Callable, Sequence

from vdso.pages.functions import Constant

EM_X86_64 = 62

# An encoder: at which address it will stand, what it jumps to, how many arguments its caller passes, the
# page's address (None: it wants none), and the constants. It returns as many bytes whatever the addresses
# are.
Encoder = Callable[[int, int, int, int | None, Sequence[Constant]], bytes]

ENDBR64 = b"\xf3\x0f\x1e\xfa"
# In the order of the System V calling convention: rdi, rsi, rdx, rcx, r8, r9.
_REGISTERS = (7, 6, 2, 1, 8, 9)


def x86_64(at: int, target: int, arguments: int, page: int | None, constants: Sequence[Constant]) -> bytes:
    """endbr64; lea page(%rip), reg; mov $constant, reg ...; jmp target."""
    code = bytearray(ENDBR64)
    registers = iter(_REGISTERS[arguments:])
    if page is not None:
        register = next(registers)
        code += bytes((0x48 | (register >> 3) << 2, 0x8D, (register & 7) << 3 | 5))
        code += struct.pack("<i", page - (at + len(code) + 4))
    for constant in constants:
        register = next(registers)
        if constant.wide:
            code += struct.pack("<BBQ", 0x48 | register >> 3, 0xB8 | register & 7, constant.value)
        else:
            code += (b"\x41" if register >= 8 else b"") + struct.pack(
                "<BI", 0xB8 | register & 7, constant.value
            )
    code += struct.pack("<Bi", 0xE9, target - (at + len(code) + 5))
    return bytes(code)


ENCODERS: dict[int, Encoder] = {EM_X86_64: x86_64}

# What stands between two trampolines: int3.
PADDING = {EM_X86_64: b"\xcc"}
