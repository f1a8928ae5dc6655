"""One ELF file that a program's code comes from: its bytes by address, its sections, what builds it.

Knows nothing of processes: an address here is the file's own (p_vaddr).
"""

import struct
from functools import cached_property

from vdso.errors import BadImage, SourceError, shown
from vdso.kernel import elf

EM_X86_64 = 62
PT_GNU_EH_FRAME = 0x6474E550
NT_GNU_BUILD_ID = 3
R_X86_64_RELATIVE = 8
SHT_NOBITS = 8
# The largest sections that are read whole: Chrome's symbols with their strings take some hundred MiB.
SECTION_BYTES_MAX = 1 << 30

RELA = struct.Struct("<QQq")


class Object:
    """An ELF file of this architecture. `name` is how it is shown. Raises BadImage."""

    def __init__(self, name: str, data: elf.Bytes) -> None:
        self.name = shown(name)
        self.data = data
        self.head = elf.header(data)
        if (self.head.bits, self.head.machine) != (64, EM_X86_64) or self.head.order != "<":
            raise BadImage("an ELF file of another architecture")
        self._segments = list(elf.segments(data, self.head))
        self.loads = [segment for segment in self._segments if segment.type == elf.PT_LOAD]

    @cached_property
    def numbered(self) -> list[elf.Section]:
        """The sections by number; none where they were stripped off."""
        return elf.sections(self.data, self.head)

    @cached_property
    def sections(self) -> dict[str, elf.Section]:
        """The sections by name, the first of each."""
        return {section.name: section for section in reversed(self.numbered)}

    @cached_property
    def build_id(self) -> bytes | None:
        """What the linker called the build; None where it did not."""
        for segment in self._segments:
            if segment.type == elf.PT_NOTE:
                try:
                    for note in elf.notes(self.data, self.head, segment):
                        if note.type == NT_GNU_BUILD_ID and note.owner == b"GNU":
                            return note.description
                except BadImage:
                    continue
        return None

    @property
    def base(self) -> int:
        """The address of what is mapped first, which a prelinker may have moved."""
        return min((segment.address for segment in self.loads), default=0)

    @cached_property
    def unwind_header(self) -> elf.Segment | None:
        """The segment of .eh_frame_hdr."""
        return next((one for one in self._segments if one.type == PT_GNU_EH_FRAME), None)

    def address(self, offset: int) -> int | None:
        """The address at which that byte of the file is mapped, as code where it is mapped twice."""
        found = None
        for segment in self.loads:
            if segment.offset <= offset < segment.offset + segment.file_size:
                found = offset - segment.offset + segment.address
                if segment.flags & elf.PF_X:
                    break
        return found

    def at(self, address: int, size: int) -> bytes:
        """The file's bytes for these addresses: fewer, or none, where it has no more of them."""
        for segment in self.loads:
            into = address - segment.address
            if 0 <= into < segment.file_size:
                start = segment.offset + into
                return self.data[start : start + min(size, segment.file_size - into)]
        return b""

    def contents(self, name: str) -> bytes:
        """A section's bytes, none where it has none. Raises BadImage."""
        section = self.sections.get(name)
        if section is None or section.type == SHT_NOBITS:
            return b""
        if section.size > SECTION_BYTES_MAX:
            raise BadImage(f"{name}: {section.size} bytes, which no program has")
        return elf.part(self.data, section.offset, section.size, name)

    def pointer(self, address: int) -> int:
        """The pointer that stands there once the file is loaded, in the file's own addresses: what is moved
        at load time may be 0 in the file. Raises BadImage.
        """
        moved = self._relative.get(address)
        if moved is not None:
            return moved
        try:
            value: int = struct.unpack("<Q", self.at(address, 8))[0]
        except struct.error:
            raise BadImage(f"no pointer at {address:#x}") from None
        return value

    @cached_property
    def _relative(self) -> dict[int, int]:
        try:
            rows = self.contents(".rela.dyn")
        except SourceError:
            return {}
        whole = rows[: len(rows) - len(rows) % RELA.size]
        return {at: addend for at, kind, addend in RELA.iter_unpack(whole) if kind == R_X86_64_RELATIVE}
