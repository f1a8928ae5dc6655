"""The places in an image that the kernel patches at boot, for the CPU that it finds.

The image's .altinstructions section lists them, and what each may become; in memory the image is patched
and in a file it is not. The section's entries have had three sizes on x86: struct alt_instr in
arch/x86/include/asm/alternative.h, 14 bytes since 6.3, 12 since 5.11, 13 with a padding length before;
arm64's have 12. Which it is they show themselves: by the wrong size they lead out of the image.
"""

import struct
from dataclasses import dataclass

from vdso.kernel.elf import Section
from vdso.kernel.image import Image

# Of one entry: struct's letters for feature, patched length, replacement's length, and more.
LAYOUTS = {14: "IBB", 12: "HBB", 13: "HBBB"}
MACHINES = ("x86-64", "x32", "i386", "arm64")


@dataclass(frozen=True, slots=True)
class Replacement:
    """What a place becomes on CPUs that have (or, by the kernel's flags, have not) the feature."""

    feature: int
    value: int
    size: int


@dataclass(frozen=True, slots=True)
class Site:
    """A place that is patched: `size` bytes from `value`."""

    value: int
    size: int
    replacements: tuple[Replacement, ...]


def sites(image: Image) -> dict[int, Site] | None:
    """The places by their value; None where the bytes hold no such list, or none that can be read."""
    if image.machine not in MACHINES:
        return None
    section = image.sections().get(".altinstructions")
    if section is None or section.offset + section.size > len(image.data):
        return None
    for entry_bytes, letters in LAYOUTS.items():
        if section.size % entry_bytes == 0:
            found = _read(image, section, entry_bytes, letters)
            if found is not None:
                return found
    return None


def _read(image: Image, section: Section, entry_bytes: int, letters: str) -> dict[int, Site] | None:
    order = "<"
    data = image.data[section.offset : section.offset + section.size]
    found: dict[int, Site] = {}
    for index, entry in enumerate(struct.iter_unpack(f"{order}ii{letters}", data)):
        at = section.address + index * entry_bytes
        value, replacement = at + entry[0], at + 4 + entry[1]
        feature, size, replacement_size = entry[2:5]
        if not size or replacement_size > size:
            return None
        if not (_inside(image, value, size) and _inside(image, replacement, replacement_size)):
            return None
        known = found.get(value)
        if known is not None and known.size != size:
            return None
        replacements = known.replacements if known else ()
        found[value] = Site(value, size, (*replacements, Replacement(feature, replacement, replacement_size)))
    return found


def _inside(image: Image, value: int, size: int) -> bool:
    return 0 <= value - image.load_address <= len(image.data) - size
