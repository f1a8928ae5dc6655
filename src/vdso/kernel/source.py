"""SOURCE, wherever a command takes one: this process, another, an ELF file, a core file, a kernel image."""

import time
from dataclasses import dataclass, field

from vdso.errors import BadImage, SourceError
from vdso.kernel import auxv, elf, maps, process
from vdso.kernel.file import File
from vdso.kernel.image import IMAGE_BYTES_MAX, Image

SELF = "self"
# An exec takes some ms at most, unless its file is slow to be had.
EXEC_TRIES = 300
EXEC_PAUSE_S = 0.001


@dataclass(frozen=True, slots=True)
class Source:
    """What was named, and the images in it, at least one.

    `kind`: "process", "file", "core" or "kernel". `name`: "this process", "process 12", or the file's path.
    `pid`: of a process that is not this one; `mappings`: a process's, as they were when its image was read.
    `release`: what a kernel image says of itself, where it says so.
    """

    kind: str
    name: str
    images: tuple[Image, ...] = field(repr=False)
    pid: int | None = None
    release: str | None = None
    mappings: tuple[maps.Mapping, ...] = field(default=(), repr=False)


def read(word: str | None = None) -> Source:
    """What a word on a command line names: nothing or "self" is this process, digits are a process, else a
    file.

    Raises SourceError.
    """
    if word is None or word == SELF or is_pid(word):
        pid = None if word is None or word == SELF else int(word)
        return read_process(pid)
    return read_file(word)


def is_source(word: str) -> bool:
    """Whether a word can only be meant as a process or a file: digits, or a path."""
    return word == SELF or is_pid(word) or "/" in word


def is_pid(word: str) -> bool:
    """Whether a word names a process. A file of that name is ./NAME."""
    return word.isascii() and word.isdigit()


def from_process(pid: int | None = None) -> Image:
    """The image that AT_SYSINFO_EHDR leads to, as it is mapped. Raises SourceError."""
    return read_process(pid).images[0]


def read_process(pid: int | None = None) -> Source:
    """The same with the mappings that it was found by, of one program also where the process executes
    another meanwhile. Raises SourceError.
    """
    for _ in range(EXEC_TRIES):
        vector = auxv.read(pid)
        try:
            image, mappings = _from_process(pid, vector.get(auxv.AT_SYSINFO_EHDR))
            return Source("process", process.named(pid), (image,), pid, mappings=tuple(mappings))
        except SourceError:
            # In the middle of an exec the vector is empty, or by now another program's.
            if vector and auxv.read(pid) == vector:
                raise
            time.sleep(EXEC_PAUSE_S)
    raise SourceError(f"{process.named(pid)} executes one program after another")


def _from_process(pid: int | None, address: int | None) -> tuple[Image, list[maps.Mapping]]:
    name = process.named(pid)
    mappings = maps.read(pid)
    if address is None or maps.find(mappings, address) is None:
        # An address space that was put together by hand may still have it.
        image = maps.area_of(mappings).image
        if image is None:
            raise SourceError(f"{name} has no vDSO", "nor has any, if the kernel was started with vdso=0")
        address = image.start
    size = _mapped_from(mappings, address) - address
    if size > IMAGE_BYTES_MAX:
        raise SourceError(f"{name}: AT_SYSINFO_EHDR leads to {size} bytes, and no image has so many")
    data = process.read_memory(pid, address, size)
    try:
        return Image.from_bytes(data, address=address, pid=pid), mappings
    except BadImage as error:
        raise SourceError(f"{name}: {error.message}", error.hint) from None


def _mapped_from(mappings: list[maps.Mapping], address: int) -> int:
    """Where the mapping of that address ends, also when it has been split, as mprotect does."""
    first = maps.find(mappings, address)
    assert first is not None
    end = first.end
    for mapping in mappings:
        if mapping.start == end and (mapping.name, mapping.inode) == (first.name, first.inode) and first.name:
            end = mapping.end
    return end


def from_file(path: str) -> tuple[Image, ...]:
    """The images in an ELF file, a core file or a kernel image, at least one. Raises SourceError."""
    return read_file(path).images


def read_file(path: str) -> Source:
    """The same with what the file is. Raises SourceError."""
    with File(path) as file:
        try:
            return _read(file)
        except SourceError as error:
            if file.name in error.message:
                raise
            raise SourceError(f"{file.name}: {error.message}", error.hint) from None


def pick(images: tuple[Image, ...], number: int | None, name: str = "the file") -> Image:
    """One of the images, by its number from 1. Raises SourceError: no such, or none picked of several."""
    if number is None:
        if len(images) > 1:
            raise SourceError(f"{name} has {len(images)} images", f"pick one by --image: {listed(images)}")
        return images[0]
    if not 1 <= number <= len(images):
        raise SourceError(f"{name} has no image {number}", f"it has {listed(images)}")
    return images[number - 1]


def listed(images: tuple[Image, ...]) -> str:
    """The images by number and machine, for a hint."""
    return ", ".join(f"{number} {image.machine}" for number, image in enumerate(images, 1))


def _read(file: File) -> Source:
    from vdso.kernel import core, vmlinuz

    if not len(file):
        raise SourceError("an empty file")
    if file[:4] != elf.MAGIC:
        return Source("kernel", file.name, vmlinuz.images(file), None, vmlinuz.release(file))
    head = elf.header(file)
    if head.type == elf.ET_CORE:
        return Source("core", file.name, (core.image(file),))
    problem: BadImage | None = None
    if head.type == elf.ET_DYN and len(file) <= IMAGE_BYTES_MAX:
        try:
            image = Image.from_bytes(file[:])
            if image.functions:
                return Source("file", file.name, (image,))
            problem = BadImage("a shared object that exports no function")
        except BadImage as error:
            problem = error
    elif head.type not in (elf.ET_DYN, elf.ET_EXEC):
        raise BadImage("an object file, and an image is linked")
    # Some machines' vmlinux is a shared object too.
    images = vmlinuz.in_vmlinux(file)
    if images:
        return Source("kernel", file.name, images)
    raise problem or BadImage("an ELF program, and no vDSO image is in it")
