"""The vDSO image in a core file: the kernel writes the image into it, and never the data pages before it.

Where it is the process's auxiliary vector says, which is one of the core's notes (core(5), fs/binfmt_elf.c).
"""

from vdso.errors import BadImage, SourceError
from vdso.kernel import auxv, elf
from vdso.kernel.image import IMAGE_BYTES_MAX, Image

NT_AUXV = 6
# The kernel and gdb write one. Each may point at the same bytes, so that all together have one limit too.
NOTE_SEGMENTS_MAX = 64


def image(data: elf.Bytes) -> Image:
    """The image of the process that the core is of. Raises SourceError."""
    head = elf.header(data)
    vector = auxiliary_vector(data, head)
    if vector is None:
        raise BadImage("a core without the process's auxiliary vector, which says where its vDSO was")
    address = auxv.decode(vector, bits=head.bits, little_endian=head.order == "<").get(auxv.AT_SYSINFO_EHDR)
    if not address:
        raise SourceError("a core of a process that had no vDSO")
    for segment in elf.segments(data, head):
        if segment.type == elf.PT_LOAD and segment.address <= address < segment.address + segment.memory_size:
            if address >= segment.address + segment.file_size:
                break
            start = segment.offset + address - segment.address
            size = segment.address + segment.file_size - address
            if size > IMAGE_BYTES_MAX:
                raise BadImage(f"a core with {size} bytes at the vDSO's address, which no image has")
            return Image.from_bytes(elf.part(data, start, size, "the vDSO"), address=address)
    raise SourceError(
        "the core does not hold the vDSO's bytes", "core(5) says what coredump_filter leaves out"
    )


def auxiliary_vector(data: elf.Bytes, head: elf.Header) -> bytes | None:
    """The bytes of the first NT_AUXV note, None without one. Raises BadImage."""
    count, left = 0, elf.NOTES_BYTES_MAX
    for segment in elf.segments(data, head):
        if segment.type != elf.PT_NOTE:
            continue
        count += 1
        if count > NOTE_SEGMENTS_MAX or left <= 0:
            raise BadImage("a core with more notes than any has, and no auxiliary vector among the first")
        for note in elf.notes(data, head, segment, left):
            if note.type == NT_AUXV and note.owner == b"CORE":
                return note.description
        left -= segment.file_size
    return None
