"""`vdso disasm`: the assembly of an image, with the names of what it calls, jumps to and reads."""

import os
import sys
from collections.abc import Callable, Iterator
from itertools import chain, islice

from vdso.commands.output import styled
from vdso.commands.parser import Parser
from vdso.errors import SourceError
from vdso.kernel.clocks import PREFIXES
from vdso.kernel.image import Image
from vdso.kernel.instructions import Block, Instruction
from vdso.kernel.maps import Mapping
from vdso.kernel.source import Source

HELP = """\
usage: vdso disasm [SOURCE] [FUNCTION] [--image N]

Shows the assembly of a vDSO image: one function's, or all of it. Calls and jumps show the name of where they
go; accesses to the kernel's data pages show which page, where SOURCE is a process, else how far before the
image.

  SOURCE      nothing or self: this process; a PID; an ELF file; a core file; a kernel image (vmlinuz,
              vmlinux)
  FUNCTION    such as __vdso_time, time or clock_gettime; any of its names
  --image N   the Nth image of a file that holds several

One word alone is SOURCE if it is all digits, has a slash in it or names an existing file, else FUNCTION.

example:
  vdso disasm time
  vdso disasm /boot/vmlinuz clock_gettime --image 2

exit status:
  0; 1 where SOURCE cannot be read, holds no image or no such function, or its machine has no disassembler
  here; 2 usage
"""

BYTES_COLUMN_MAX = 10
COLUMN_INSTRUCTIONS = 5000
NAMES_SHOWN = 12
NAMES_COMPARED = 5000


def main(words: list[str]) -> int:
    """Prints the assembly and returns the exit status."""
    parser = Parser("disasm", HELP)
    parser.add_argument("source", nargs="?")
    parser.add_argument("function", nargs="?")
    parser.add_argument("--image", type=int, metavar="N")
    options = parser.read(words)
    if options is None:
        return 0
    from vdso.kernel import instructions
    from vdso.kernel import source as sources

    word, function = told_apart(options.source, options.function)
    source = sources.read(word)
    image = sources.pick(source.images, options.image, source.name)
    blocks = instructions.blocks(image)
    if function is not None:
        blocks = [find(blocks, image, function)]
    elif not blocks:
        raise SourceError(f"{source.name}: no code that has a name")
    # As they were when the image was read: by now the process may execute another program, or have ended.
    mappings = list(source.mappings)
    name = instructions.names(image)
    # The first block is begun before anything is printed: the machine may have no disassembler.
    decoded = ((block, instructions.decode(image, block)) for block in blocks)
    first = next(decoded)
    sys.stdout.write(title(source, image) + "\n")
    for block, found in chain([first], decoded):
        sys.stdout.write("\n")
        for line in lines(image, block, found, name, mappings):
            sys.stdout.write(line + "\n")
    return 0


def told_apart(source: str | None, function: str | None) -> tuple[str | None, str | None]:
    """SOURCE and FUNCTION, where one word was given and may be either."""
    from vdso.kernel.source import is_source

    if source is not None and function is None and not (is_source(source) or os.path.exists(source)):
        return None, source
    return source, function


def find(blocks: list[Block], image: Image, name: str) -> Block:
    """The block of a function by one of its names. Raises SourceError, which lists the names that come
    close.
    """
    names = (name, *(prefix + name for prefix in PREFIXES))
    for wanted in names:
        for block in blocks:
            if any(function.name == wanted for function in block.functions):
                return block
    known = sorted({function.name for function in image.functions})
    from difflib import get_close_matches

    close = get_close_matches(name, known[:NAMES_COMPARED], cutoff=0.5) or known
    more = ", ..." if len(close) > NAMES_SHOWN else ""
    raise SourceError(
        f"the image has no function {name}",
        f"it has {', '.join(close[:NAMES_SHOWN])}{more}" if close else None,
    )


def title(source: Source, image: Image) -> str:
    where = f", at {image.address:#x}" if image.address is not None else ""
    what = image.soname or "an image"
    return f"{source.name}: {what}, {image.machine}{where}"


def lines(
    image: Image,
    block: Block,
    found: Iterator[Instruction],
    name: Callable[[int], str],
    mappings: list[Mapping],
) -> Iterator[str]:
    """A block's header and its instructions, a line each."""
    names = " = ".join(function.name for function in block.functions) or "code without a name"
    version = next((function.version for function in block.functions if function.version), None)
    yield (
        styled(names, "bold") + f"  {f'{version}, ' if version else ''}{block.size} bytes at {block.value:#x}"
    )
    # The column is as wide as a kernel's function asks for; a library's may go on for MiBs.
    start = list(islice(found, COLUMN_INSTRUCTIONS))
    width = min(BYTES_COLUMN_MAX, max((len(one.data) for one in start), default=1)) * 3
    found = chain(start, found)
    for one in found:
        code = one.data.hex(" ")
        remark = ""
        if one.branch is not None:
            remark = f"<{name(one.branch)}>"
        elif one.reference is not None:
            remark = f"# <{page_name(image, one.reference, mappings) or name(one.reference)}>"
        words = [styled(f"{code:<{width}}", "dim"), styled(f"{one.mnemonic:<9}", "cyan"), one.operands]
        line = f"{one.value:>6x}  {' '.join(words)}"
        yield (line + (f"  {styled(remark, 'green')}" if remark else "")).rstrip()


def page_name(image: Image, value: int, mappings: list[Mapping]) -> str | None:
    """The page before the image, by the name of its mapping in the process."""
    from vdso.kernel.maps import find

    distance = value - image.load_address
    if image.address is None or distance >= 0:
        return None
    mapping = find(mappings, image.address + distance)
    if mapping is None or not mapping.name:
        return None
    offset = image.address + distance - mapping.start
    return f"{mapping.name}{f'+{offset:#x}' if offset else ''}"
