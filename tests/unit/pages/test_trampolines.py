"""The trampolines' machine code, as a disassembler reads it."""

import pytest
from capstone import CS_ARCH_X86, CS_MODE_64, Cs

from vdso.pages import trampolines
from vdso.pages.functions import Constant

REGISTERS = ("rdi", "rsi", "rdx", "rcx", "r8", "r9")
LOW = {"rdi": "edi", "rsi": "esi", "rdx": "edx", "rcx": "ecx", "r8": "r8d", "r9": "r9d"}


def read(code: bytes, at: int) -> list[tuple[str, str]]:
    found = [(one.mnemonic, one.op_str) for one in Cs(CS_ARCH_X86, CS_MODE_64).disasm(code, at)]
    assert sum(one.size for one in Cs(CS_ARCH_X86, CS_MODE_64).disasm(code, at)) == len(code)
    return found


@pytest.mark.parametrize("arguments", range(4))
def test_behind_the_callers_arguments(arguments: int) -> None:
    code = trampolines.x86_64(0x5000, 0x1000, arguments, 0x9000, [Constant(3), Constant(0xFFFFFFFF)])
    first, second, third = REGISTERS[arguments : arguments + 3]
    assert read(code, 0x5000) == [
        ("endbr64", ""),
        ("lea", f"{first}, [rip + {0x9000 - 0x500B:#x}]"),
        ("mov", f"{LOW[second]}, 3"),
        ("mov", f"{LOW[third]}, 0xffffffff"),
        ("jmp", "0x1000"),
    ]


def test_wide_constants_and_no_page() -> None:
    wide = 0xFEDCBA9876543210
    assert read(trampolines.x86_64(0, 0x40, 3, None, [Constant(wide, wide=True)] * 3), 0)[1:] == [
        ("movabs", f"rcx, {wide:#x}"),
        ("movabs", f"r8, {wide:#x}"),
        ("movabs", f"r9, {wide:#x}"),
        ("jmp", "0x40"),
    ]


def test_the_size_does_not_depend_on_the_place() -> None:
    constants = [Constant(0), Constant(1 << 40, wide=True)]
    sizes = {
        len(trampolines.x86_64(at, target, 1, page, constants))
        for at, target, page in ((0, 0, 0), (1 << 30, 5, 7), (5, 1 << 30, 1 << 30))
    }
    assert len(sizes) == 1
