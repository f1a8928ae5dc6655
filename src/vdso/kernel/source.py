"""Where images come from: a process, an ELF file, a core file, a kernel image."""

from vdso.errors import SourceError
from vdso.kernel import auxv, maps, process
from vdso.kernel.image import IMAGE_BYTES_MAX, Image


def from_process(pid: int | None = None) -> Image:
    """The image that AT_SYSINFO_EHDR leads to, as mapped. Raises SourceError."""
    address = auxv.read(pid).get(auxv.AT_SYSINFO_EHDR)
    mappings = maps.read(pid)
    mapping = maps.find(mappings, address) if address else None
    if mapping is None:
        # An address space that was put together by hand, or vdso=0.
        mapping = maps.area_of(mappings).image
    if mapping is None:
        raise SourceError(f"{process.named(pid)} has no vDSO", "the kernel gives none with vdso=0")
    if mapping.size > IMAGE_BYTES_MAX:
        raise SourceError(f"{process.named(pid)}: {mapping.size} bytes are no vDSO image")
    data = process.read_memory(pid, mapping.start, mapping.size)
    return Image.from_bytes(data, address=mapping.start, pid=pid)


def from_file(path: str) -> tuple[Image, ...]:
    """The images in a file. Raises SourceError."""
    with open(path, "rb") as file:
        return (Image.from_bytes(file.read(IMAGE_BYTES_MAX + 1)),)


def pick(images: tuple[Image, ...], number: int | None) -> Image:
    """One of them, by its number from 1. Raises SourceError."""
    if number is None:
        number = 1
    if not 1 <= number <= len(images):
        raise SourceError(f"there is no image {number}")
    return images[number - 1]
