"""A process's mappings, and where among them the kernel's vDSO and its data pages are.

From /proc/PID/maps: proc_pid_maps(5).
"""

import re
from dataclasses import dataclass

from vdso.errors import SourceError
from vdso.kernel import process

LINE = re.compile(
    rb"([0-9a-f]{1,16})-([0-9a-f]{1,16}) ([a-z-]{4,8}) ([0-9a-f]{1,16}) "
    rb"([0-9a-f]{1,8}:[0-9a-f]{1,8}) ([0-9]{1,20})(?: +(.*))?"
)


@dataclass(frozen=True, slots=True)
class Mapping:
    """One mapping, of addresses [start, end). `permissions` are such as "r-xp"; `name` may be empty."""

    start: int
    end: int
    permissions: str
    offset: int
    device: str
    inode: int
    name: str

    @property
    def size(self) -> int:
        """In bytes."""
        return self.end - self.start

    def __contains__(self, address: int) -> bool:
        return self.start <= address < self.end


@dataclass(frozen=True, slots=True)
class Area:
    """What the kernel maps for the vDSO: None what it does not.

    `pages`: the mappings named [vvar...] that lead up to `image` without a gap, lowest first; `vsyscall`:
    the page at its fixed address.
    """

    pages: tuple[Mapping, ...]
    image: Mapping | None
    vsyscall: Mapping | None


def read(pid: int | None = None) -> list[Mapping]:
    """All mappings of a process, or (None) of this one, by address.

    Raises SourceError: no such process, not ours to look into, a kernel thread, a zombie.
    """
    data = process.read(pid, "maps")
    if not data:
        raise process.why_empty(pid)
    return decode(data)


def decode(data: bytes) -> list[Mapping]:
    """The mappings that the text of a maps file lists. Raises SourceError for what is no such text."""
    mappings = []
    for line in data.splitlines():
        match = LINE.fullmatch(line)
        if match is None:
            raise SourceError(
                "a line of the process's maps cannot be read", line.decode(errors="backslashreplace")
            )
        start, end, permissions, offset, device, inode, name = match.groups()
        mappings.append(
            Mapping(
                int(start, 16),
                int(end, 16),
                permissions.decode(),
                int(offset, 16),
                device.decode(),
                int(inode),
                (name or b"").decode(errors="backslashreplace"),
            )
        )
    return mappings


def find(mappings: list[Mapping], address: int) -> Mapping | None:
    """The mapping that the address lies in."""
    return next((mapping for mapping in mappings if address in mapping), None)


def area(pid: int | None = None) -> Area:
    """The vDSO's area of a process, or (None) of this one. Raises SourceError as read() does."""
    return area_of(read(pid))


def area_of(mappings: list[Mapping]) -> Area:
    """The vDSO's area among these mappings, in the order of their addresses."""
    image = next((mapping for mapping in mappings if mapping.name == "[vdso]"), None)
    vsyscall = next((mapping for mapping in mappings if mapping.name == "[vsyscall]"), None)
    return Area(pages_before(mappings, image) if image else (), image, vsyscall)


def pages_before(mappings: list[Mapping], image: Mapping) -> tuple[Mapping, ...]:
    """The mappings named [vvar...] that lead up to the image without a gap, lowest first."""
    pages: list[Mapping] = []
    end = image.start
    for mapping in reversed(mappings):
        if mapping.end == end and mapping.name.startswith("[vvar"):
            pages.insert(0, mapping)
            end = mapping.start
    return tuple(pages)
