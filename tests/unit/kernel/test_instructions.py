"""Instructions with what they refer to, and which code is whose."""

import elves
import pytest
from elves import Symbol

from vdso.errors import SourceError
from vdso.kernel import Image, instructions
from vdso.kernel.instructions import Block


def image(machine: str = "x86-64", code: str = "", **more: object) -> Image:
    return Image.from_bytes(bytes(elves.build(machine, code=bytes.fromhex(code.replace(" ", "")), **more)))
    # type: ignore[arg-type]


def first(one: Image) -> list[instructions.Instruction]:
    return list(instructions.decode(one, instructions.blocks(one)[0]))


def test_targets_on_x86() -> None:
    one = image(code="488b0500f0ffff e801000000 c3 7402 ffe0")
    start = one.functions[0].value
    read, call, ret, jump, indirect = first(one)[:5]
    assert read.reference == start + 7 - 0x1000 < 0
    assert (call.branch, jump.branch) == (start + 13, start + 17)
    assert [found.branch for found in (ret, indirect)] == [None, None]


@pytest.mark.parametrize(
    ("machine", "code", "reference", "branch"),
    [
        # From the code's start: adrp to the page of it less 0x1000, b +4.
        ("arm64", "f0ffff90 01000014", None, 4 + 4),
        ("riscv64", "97f7ffff 6f004000", -0x1000, 4 + 4),
        ("s390x", "c010fffff800 a7f40002", -0x1000, 6 + 4),
        ("ppc64le", "00000060 04000048", None, 4 + 4),
        ("arm", "00f020e3 000000ea", None, 4 + 8),
        ("i386", "90 eb02", None, 1 + 4),
    ],
)
def test_targets_elsewhere(machine: str, code: str, reference: int | None, branch: int) -> None:
    one = image(machine, code)
    start = one.functions[0].value
    read, jump = first(one)[:2]
    if reference is not None:
        assert read.reference == start + reference
    assert jump.branch == start + branch


def test_what_is_no_instruction() -> None:
    found = first(image(code="06 07 c3"))
    assert (found[0].mnemonic, found[0].operands) == (".byte", "0x06")
    assert b"".join(one.data for one in found) == bytes.fromhex("0607c3") + bytes(45)


def test_blocks_are_all_the_code_there_is() -> None:
    symbols = [Symbol("f", 16, 16), Symbol("g", 16, 16), Symbol("h", 48, 0, type=elves.NOTYPE)]
    code = "31c0c3".ljust(32, "9") + "31c0c3".ljust(32, "c") + "31c9c3".ljust(32, "9") + "31d2c3"
    one = image(symbols=symbols, code=code)
    start = one.functions[0].value - 16
    blocks = instructions.blocks(one)
    assert [(block.value - start, block.size, [f.name for f in block.functions]) for block in blocks] == [
        (0, 16, []),
        (16, 16, ["f", "g"]),
        (32, 16, []),
        (48, 3, ["h"]),
    ]
    # Without section headers nothing says where the rest begins, and how long the last is.
    blocks = instructions.blocks(image(symbols=symbols, code=code, sections=False))
    assert [block.size for block in blocks] == [16, 0]


def test_fillers_between_functions_are_no_code() -> None:
    symbols = [Symbol("f", 0, 4), Symbol("g", 16, 4)]
    for filler in ("cc" * 12, "90" * 12, "0f1f4000" * 3, "00" * 12):
        assert len(instructions.blocks(image(symbols=symbols, code="31c0c390" + filler + "31c0c390"))) == 2


def test_thumb() -> None:
    symbols = [Symbol("f", 1, 4)]
    one = image("arm", "7047 c046", symbols=symbols)
    assert [found.mnemonic for found in first(one)] == ["bx", "mov"]
    assert one.code(one.functions[0]) == bytes.fromhex("7047c046")


def test_names() -> None:
    one = image()
    start = one.functions[0].value
    name = instructions.names(one)
    assert name(start) == "__vdso_clock_gettime"
    assert name(start + 50) == "__vdso_time+0x2"
    assert name(start + 96) == f"image+{start + 96:#x}"
    assert name(0x10) == "image+0x10"
    assert name(-0x2000) == "image-0x2000"


@pytest.mark.parametrize("machine", elves.MACHINES)
def test_long_code_is_decoded_as_in_one_piece(machine: str) -> None:
    """Piece by piece, and no instruction cut in two: each of a different length on x86."""
    one = {"arm": "00f020e3", "arm64": "1f2003d5", "riscv64": "13000000 0100", "ppc64le": "00000060"}
    code = one.get(
        machine, "a7f40002 07fe" if machine.startswith("s390") else "48b8 8877665544332211 c3 0f1f00"
    )
    size = len(bytes.fromhex(code))
    read = image(machine, code * 5000, symbols=[Symbol("f", 0, size * 5000)])
    found = first(read)
    assert {instruction.mnemonic for instruction in found[:1000]} == {
        instruction.mnemonic for instruction in found
    }
    assert len(found) % 5000 == 0
    assert b"".join(instruction.data for instruction in found) == read.code(read.functions[0])
    assert [a.end for a in found[:-1]] == [b.value for b in found[1:]]


@pytest.mark.parametrize("machine", elves.MACHINES)
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_code_that_ends_within_an_instruction(machine: str, size: int) -> None:
    """Found by fuzzing: what is left is too short for anything, and was asked for for ever."""
    read = image(machine, "ff" * size, symbols=[Symbol("f", 0, size)])
    assert b"".join(one.data for one in first(read)) == b"\xff" * size


def test_functions_that_overlap() -> None:
    """Each of them the whole code: as much to show as there are functions."""
    symbols = [Symbol(f"f{index}", index, 4000 - index) for index in range(300)]
    one = image(symbols=symbols)
    assert len(one.functions) == 300
    with pytest.raises(SourceError, match="300 functions that overlap"):
        instructions.blocks(one)


def test_a_machine_without() -> None:
    elf = elves.build()
    elf.data[18:20] = b"\x02\x01"
    one = Image.from_bytes(bytes(elf))
    with pytest.raises(SourceError, match="machine-258"):
        instructions.decode(one, Block(0, 4, ()))
    assert len(instructions.blocks(one)) == 3
