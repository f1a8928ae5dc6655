"""The vDSO images in a kernel image: bzImage, Image, EFI zboot, vmlinux, and whatever has packed data in
front.

Where the kernel is packed, a header says so, or else its first MiB is searched for what packed data begins
with, as the kernel's scripts/extract-vmlinux does. The unpacked kernel is looked through as it comes, a MiB
at a time: an image begins at a page's start (Documentation/arch/x86/boot.rst, arch/arm64/booting.rst,
drivers/firmware/efi/libstub/zboot).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vdso.errors import BadImage, SourceError, TooMuch
from vdso.kernel import elf, unpack
from vdso.kernel.file import File
from vdso.kernel.image import PAGE_BYTES, Image

IMAGE_BYTES_MAX = 1 << 20
# An x86 kernel has three. What only looks like one costs its reading, so that this bounds the time.
CANDIDATES_MAX = 64
SEARCHED_BYTES = 1 << 20
TRIES_MAX = 32
SCANNED_BYTES_MAX = 1 << 30


@dataclass(frozen=True, slots=True)
class Payload:
    """Where in the file the kernel itself is: `packing` None means that it is not packed."""

    start: int
    size: int
    packing: str | None


def images(file: File) -> tuple[Image, ...]:
    """The images in a kernel image that is no ELF file, in their order. Raises SourceError for none."""
    payload = find_payload(file)
    if payload is None:
        return _searched(file)
    found = _in_payload(file, payload)
    if not found:
        raise SourceError("there is no vDSO in this kernel image")
    return found


def release(file: File) -> str | None:
    """The release and build that an x86 bzImage names itself."""
    start = file[:0x264]
    if not _is_bzimage(start):
        return None
    at = int.from_bytes(start[0x20E:0x210], "little")
    text = file[at + 0x200 : at + 0x200 + 256].partition(b"\0")[0] if at else b""
    return elf.text(text) or None


def in_vmlinux(file: File) -> tuple[Image, ...]:
    """The images in an uncompressed vmlinux, by its segments. Raises SourceError."""
    end = 0
    for segment in elf.segments(file, elf.header(file)):
        if segment.type == elf.PT_LOAD:
            end = max(end, segment.offset + segment.file_size)
    return tuple(scan(file.chunks(0, min(end, len(file), SCANNED_BYTES_MAX))))


def find_payload(file: File) -> Payload | None:
    """Where the kernel is, by what the file's headers say; None: they say nothing."""
    start = file[:0x264]
    number = _number
    if _is_bzimage(start):
        at = ((start[0x1F1] or 4) + 1) * 512 + number(start, 0x248)
        size = number(start, 0x24C)
        if number(start, 0x206, 2) >= 0x208 and size:
            return _payload(file, at, size)
    elif start[:2] == b"MZ" and start[4:8] == b"zimg":
        return _payload(file, number(start, 8), number(start, 12))
    elif start[56:60] in (b"ARM\x64", b"RSC\x05"):
        return Payload(0, len(file), None)
    elif unpack.format_of(start) is not None:
        return _payload(file, 0, len(file))
    return None


def scan(chunks: Iterable[bytes]) -> Iterator[Image]:
    """The images in a stream of the kernel's bytes, whose start is a page's."""
    window = bytearray()
    tries = 0
    skip = 0  # how much of the window's start belongs to an image that was found

    def found(until: int) -> Iterator[Image]:
        nonlocal tries, skip
        for at in range(0, until, PAGE_BYTES):
            if at < skip or window[at : at + 4] != elf.MAGIC or tries >= CANDIDATES_MAX:
                continue
            size = _size(bytes(window[at : at + PAGE_BYTES]))
            if not size:
                continue
            tries += 1
            try:
                image = Image.from_bytes(window[at : at + size])
            except BadImage:
                continue
            if image.functions:
                skip = at + image.size_bytes
                yield image

    for chunk in chunks:
        window += chunk
        # What is left over is an image's length, so that none is cut in two.
        until = (len(window) - IMAGE_BYTES_MAX) // PAGE_BYTES * PAGE_BYTES
        if until >= unpack.CHUNK_BYTES:
            yield from found(until)
            del window[:until]
            skip = max(0, skip - until)
    yield from found(len(window))


def _size(page: bytes) -> int:
    """How many bytes, in whole pages, the image has that this page begins; 0: none does."""
    try:
        if elf.header(page).type != elf.ET_DYN:
            return 0
        size = -(-elf.extent(page) // PAGE_BYTES) * PAGE_BYTES
    except BadImage:
        return 0
    return size if size <= IMAGE_BYTES_MAX else 0


def _in_payload(file: File, payload: Payload, budget: unpack.Budget | None = None) -> tuple[Image, ...]:
    chunks = file.chunks(payload.start, payload.start + payload.size)
    if payload.packing is not None:
        chunks = unpack.unpack(payload.packing, chunks, budget)
    return tuple(scan(chunks))


def _searched(file: File) -> tuple[Image, ...]:
    """The images in whatever packed data the file's first MiB shows. Raises SourceError."""
    start = file[:SEARCHED_BYTES]
    places = sorted(
        (at, name) for magic, name in unpack.MAGICS.items() if name != "lzo" for at in _places(start, magic)
    )
    budget = unpack.Budget()
    for at, name in places[:TRIES_MAX]:
        try:
            found = _in_payload(file, Payload(at, len(file) - at, name), budget)
        except TooMuch:
            # What comes next would be the same again: as many times the budget as there are places.
            raise
        except SourceError:
            continue
        if found:
            return found
    if _is_bzimage(start):
        raise SourceError("there is no vDSO in this kernel image")
    raise SourceError("neither an ELF file nor a kernel image")


def _places(data: bytes, magic: bytes) -> Iterator[int]:
    at = data.find(magic)
    while at >= 0:
        yield at
        at = data.find(magic, at + 1)


def _payload(file: File, start: int, size: int) -> Payload:
    if start >= len(file):
        raise SourceError("the kernel image is cut off before what it unpacks")
    return Payload(start, size, unpack.format_of(file[start : start + unpack.MAGIC_BYTES_MAX]))


def _is_bzimage(start: bytes) -> bool:
    return start[0x202:0x206] == b"HdrS" and len(start) >= 0x250


def _number(data: bytes, at: int, size: int = 4) -> int:
    return int.from_bytes(data[at : at + size], "little")
