"""Everything that is done with bytes from outside, done with whatever bytes: for the mutation tests and the
fuzzer.

What may be raised is SourceError. Anything else is a bug, and so is a property below that does not hold.
"""

import contextlib
import os

from vdso.commands.output import plain
from vdso.errors import SourceError
from vdso.kernel import alternatives, auxv, instructions, maps, source, vmlinuz
from vdso.kernel.comparison import compare
from vdso.kernel.image import Image


def image(data: bytes, *, code: bool = True) -> Image | None:
    """Reads an image and uses all of it, its code if wanted; None where it is none."""
    try:
        read = Image.from_bytes(data)
    except SourceError as error:
        one_line(error)
        return None
    use(read, code=code)
    return read


def one_line(error: SourceError) -> None:
    assert error.message
    assert "\n" not in error.message + error.hint


def use(read: Image, *, code: bool = True) -> None:
    for function in read.functions:
        assert len(read.code(function)) == function.size
        assert function.name.isprintable()
        assert function.name not in read.aliases(function)
        read.lookup(function.name)
        found = read.lookup(function.name, function.version)
        if read.hash_tables and function.name not in read.hash_tables[-1].missing and function.name.isascii():
            escaped = "\\" in function.name
            assert escaped or (found is not None and found.name == function.name)
    assert read.lookup("no such function") is None
    plain(read)
    read.sections()
    if not code:
        return
    alternatives.sites(read)
    with contextlib.suppress(SourceError):
        for block in instructions.blocks(read):
            for one in instructions.decode(read, block):
                assert one.data
        assert compare(read, read).same


def file(data: bytes) -> source.Source | None:
    """Reads a file of these bytes, whatever it is."""
    fd = os.memfd_create("exercise", os.MFD_CLOEXEC)
    try:
        os.write(fd, data)
        found = source.read_file(f"/proc/self/fd/{fd}")
    except SourceError as error:
        one_line(error)
        return None
    finally:
        os.close(fd)
    assert found.images
    for one in found.images:
        use(one)
    return found


def texts(data: bytes) -> None:
    """What /proc/PID/auxv and maps may hold, and a kernel's unpacked bytes."""
    for bits in (None, 32, 64):
        with contextlib.suppress(SourceError):
            auxv.decode(data, bits=bits)
    with contextlib.suppress(SourceError):
        maps.area_of(maps.decode(data))
    for found in vmlinuz.scan([data]):
        use(found)
