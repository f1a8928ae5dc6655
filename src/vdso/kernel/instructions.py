"""An image's code as instructions, with what each refers to: by capstone, for every machine that it knows.

Everything here counts in the image's own values (as Function.value does), so that what lies before the
image, the kernel's data pages, has negative ones.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from vdso.errors import BadImage, ExtraMissing, SourceError
from vdso.kernel.image import Function, Image

# capstone's architecture and modes, by their names: importing it takes a tenth of a second.
ARCHITECTURES: dict[str, tuple[str, tuple[str, ...]]] = {
    "x86-64": ("X86", ("64",)),
    "x32": ("X86", ("64",)),
    "i386": ("X86", ("32",)),
    "arm64": ("ARM64", ()),
    "arm": ("ARM", ("V8",)),
    "riscv64": ("RISCV", ("RISCV64", "RISCVC")),
    "ppc64le": ("PPC", ("64", "LITTLE_ENDIAN")),
    "s390x": ("SYSZ", ("BIG_ENDIAN",)),
    "s390": ("SYSZ", ("BIG_ENDIAN",)),
}
# Bytes that fill up: what they decode to says nothing.
FILLERS = {"nop", "nopl", "nopw", "int3", "c.nop", "udf"}
WINDOW_BYTES = 8192
INSTRUCTION_BYTES_MAX = 16
TEXTS_MAX = 16
OVERLAP_MAX = 4


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction. `branch`: where it goes; `reference`: what it reads or takes the address of, where the
    instruction alone tells. Bytes that are none have the mnemonic ".byte".
    """

    value: int
    data: bytes
    mnemonic: str
    operands: str
    branch: int | None = None
    reference: int | None = None

    @property
    def end(self) -> int:
        return self.value + len(self.data)


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of code, `size` bytes from `value`, with the exported functions that it is: none for code
    that only the image itself calls.
    """

    value: int
    size: int
    functions: tuple[Function, ...]


def decode(image: Image, block: Block) -> Iterator[Instruction]:
    """The instructions of a block, one by one. Raises SourceError: capstone does not know the machine."""
    start = block.value - image.load_address
    thumb = image.machine == "arm" and any(function.value & 1 for function in block.functions)
    return _decode(image.machine, image.data[start : start + block.size], block.value, thumb)


def _decode(machine: str, data: bytes, value: int, thumb: bool) -> Iterator[Instruction]:
    try:
        import capstone
    except ImportError:
        raise ExtraMissing(
            "the assembly takes capstone, which is not installed", "pip install capstone"
        ) from None
    # Here and not with the first instruction: who asks is told at once.
    return _decoded(capstone, _engine(capstone, machine, thumb), machine, data, value)


def _decoded(capstone: Any, engine: Any, machine: str, data: bytes, value: int) -> Iterator[Instruction]:
    bits = 0xFFFFFFFF if machine in ("i386", "arm", "s390") else 0xFFFFFFFFFFFFFFFF
    at = 0
    while at < len(data):
        # capstone decodes all that it is given before it gives the first, in 1.5 KB for each: a window at a
        # time.
        window = data[at : at + WINDOW_BYTES]
        end = at + len(window)
        end -= INSTRUCTION_BYTES_MAX if end < len(data) else 0
        start = at
        for found in engine.disasm(window, value + at):
            code = bytes(found.bytes)
            at = found.address - value + len(code)
            if found.id == 0:
                yield _no_instruction(found.address, code)
            else:
                branch, reference = (_signed(one, bits) for one in _targets(capstone, machine, found))
                yield Instruction(found.address, code, found.mnemonic, found.op_str, branch, reference)
            if at >= end:
                break
        if at == start:
            # Less than an instruction's length, which capstone does not pass over either.
            yield _no_instruction(value + at, window)
            return


def _no_instruction(value: int, code: bytes) -> Instruction:
    return Instruction(value, code, ".byte", ", ".join(f"{byte:#04x}" for byte in code))


def _engine(capstone: Any, machine: str, thumb: bool) -> Any:
    if machine not in ARCHITECTURES:
        raise SourceError(
            f"no disassembly for {machine}", "vdso dump gives the bytes to a disassembler that knows it"
        )
    architecture, modes = ARCHITECTURES[machine]
    number = getattr(capstone, f"CS_ARCH_{architecture}", None)
    if number is None or not capstone.cs_support(number):
        raise SourceError(
            f"this build of capstone does not know {machine}", "pip install --force-reinstall capstone"
        )
    mode = 0
    for name in (*modes, *(("THUMB",) if thumb else ())):
        mode |= getattr(capstone, f"CS_MODE_{name}")
    engine = capstone.Cs(number, mode)
    engine.detail = True
    engine.skipdata = True
    return engine


def _targets(capstone: Any, machine: str, found: Any) -> tuple[int | None, int | None]:
    """Where the instruction goes, and what it refers to."""
    operands = found.operands
    # The last operand says where to. s390's `bcr 0, %r7`, which does nothing, has its number in front.
    last = operands[-1] if operands else None
    immediate = last.imm if last is not None and last.type == capstone.CS_OP_IMM else None
    jumps = capstone.CS_GRP_JUMP in found.groups or capstone.CS_GRP_CALL in found.groups
    if machine == "riscv64":
        if found.mnemonic == "auipc" and immediate is not None:
            high = immediate << 12
            return None, found.address + (high - (1 << 32) if high >= 1 << 31 else high)
        jumps = jumps or capstone.CS_GRP_BRANCH_RELATIVE in found.groups
        return (found.address + immediate if jumps and immediate is not None else None), None
    if jumps and immediate is not None:
        return immediate, None
    if machine in ("x86-64", "x32"):
        for operand in operands:
            if operand.type == capstone.CS_OP_MEM and operand.mem.base == capstone.x86.X86_REG_RIP:
                return None, found.address + found.size + operand.mem.disp
    elif found.mnemonic in ("adr", "adrp", "larl", "lgrl", "llgfrl", "lrl", "exrl") and machine != "arm":
        return None, immediate
    return None, None


def _signed(value: int | None, mask: int) -> int | None:
    """What wrapped around below 0 is before the image."""
    if value is None:
        return None
    value &= mask
    return value - mask - 1 if value > mask >> 1 else value


# ---- which code is whose ----


def blocks(image: Image) -> list[Block]:
    """All code of the image, in its order: the exported functions, and between them what has no name.

    Where the bytes hold no section headers, nothing tells where code without a name is, and it is left out.
    Raises BadImage where functions overlap so much that their code is many times the image.
    """
    by_value: dict[int, list[Function]] = {}
    for function in image.functions:
        by_value.setdefault(image.offset(function) + image.load_address, []).append(function)
    starts = sorted(by_value)
    text = [
        (section.address, section.address + section.size)
        for name, section in image.sections().items()
        if name.startswith(".text") and section.offset + section.size <= len(image.data)
    ][:TEXTS_MAX]
    result: list[Block] = []
    for index, value in enumerate(starts):
        functions = tuple(by_value[value])
        size = max(function.size for function in functions)
        following = starts[index + 1] if index + 1 < len(starts) else None
        if not size:
            # Written in assembly, and nobody said how long: up to what comes next.
            ends = [end for start, end in text if start <= value < end]
            size = (following if following is not None else ends[0] if ends else value) - value
        result.append(Block(value, size, functions))
    if sum(block.size for block in result) > OVERLAP_MAX * len(image.data):
        raise BadImage(f"{len(image.functions)} functions that overlap")
    for start, end in text:
        result += _gaps(image, start, end, result)
    return sorted(result, key=lambda block: block.value)


def _gaps(image: Image, start: int, end: int, known: list[Block]) -> Iterator[Block]:
    at = start
    for block in sorted(known, key=lambda block: block.value):
        if start <= block.value < end:
            if block.value > at and not _filler(image, at, block.value):
                yield Block(at, block.value - at, ())
            at = max(at, block.value + block.size)
    if at < end and not _filler(image, at, end):
        yield Block(at, end - at, ())


def _filler(image: Image, start: int, end: int) -> bool:
    """Whether these bytes only fill up."""
    if image.machine not in ARCHITECTURES:
        return False
    data = image.data[start - image.load_address : end - image.load_address]
    if not data.strip(b"\0"):
        return True
    return all(
        found.mnemonic in FILLERS
        or (found.mnemonic == "xchg" and found.operands == "ax, ax")
        or not found.data.strip(b"\xcc\x90")
        for found in _decode(image.machine, data, start, False)
    )


def names(image: Image) -> Callable[[int], str]:
    """What tells what stands at a value: "time", "time+0x10", or outside of functions "image-0x2000"."""
    by_start: dict[int, Function] = {}
    for function in image.functions:
        by_start.setdefault(image.offset(function), function)
    starts = sorted(by_start)

    def name(value: int) -> str:
        distance = value - image.load_address
        index = bisect_right(starts, distance) - 1
        if index >= 0:
            function, into = by_start[starts[index]], distance - starts[index]
            if into < max(function.size, 1):
                return f"{function.name}+{into:#x}" if into else function.name
        return f"image{'-' if distance < 0 else '+'}{abs(distance):#x}"

    return name
