"""A process's mappings, and the vDSO's area among them."""

import os
from pathlib import Path

import pytest

from vdso.errors import SourceError
from vdso.kernel import auxv, maps

TEXT = rb"""
00400000-00452000 r-xp 00001000 08:02 173521      /usr/bin/with a  space \012 (deleted)
7ffff7fb9000-7ffff7fbd000 r--p 00000000 00:00 0                          [vvar_not_adjacent]
7ffff7fbe000-7ffff7fc2000 r--p 00000000 00:00 0                          [vvar]
7ffff7fc2000-7ffff7fc4000 r--p 00000000 00:00 0                          [vvar_vclock]
7ffff7fc4000-7ffff7fc6000 r-xp 00000000 00:00 0                          [vdso]
7ffff7fc6000-7ffff7fc7000 rw-p 00000000 00:00 0
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
""".lstrip()


def test_of_this_process() -> None:
    area = maps.area()
    assert area == maps.area(os.getpid())
    assert area.image is not None
    assert area.image.start == auxv.read()[auxv.AT_SYSINFO_EHDR]
    assert area.pages
    assert area.pages[-1].end == area.image.start
    assert maps.find(maps.read(), area.image.start + 1) == area.image


def test_lines() -> None:
    mappings = maps.decode(TEXT)
    assert mappings[0] == maps.Mapping(
        0x400000, 0x452000, "r-xp", 0x1000, "08:02", 173521, "/usr/bin/with a  space \\012 (deleted)"
    )
    assert mappings[0].size == 0x52000
    assert 0x400000 in mappings[0]
    assert 0x452000 not in mappings[0]
    assert mappings[5].name == ""
    assert maps.find(mappings, 0x1000) is None


def test_area() -> None:
    area = maps.area_of(maps.decode(TEXT))
    assert [page.name for page in area.pages] == ["[vvar]", "[vvar_vclock]"]
    assert area.image is not None
    assert area.image.name == "[vdso]"
    assert area.vsyscall is not None
    assert area.vsyscall.start == 0xFFFF_FFFF_FF60_0000
    assert maps.area_of([]) == maps.Area((), None, None)


@pytest.mark.parametrize(
    "line",
    [
        b"not a line of maps",
        b"1000-2000 r--\x98 00000000 00:00 0",  # found by fuzzing
        b"1000-2000 r--p 00000000 00:00 " + b"9" * 5000,
        b"1" * 5000 + b"-2000 r--p 00000000 00:00 0",
    ],
)
def test_no_maps(line: bytes) -> None:
    with pytest.raises(SourceError):
        maps.decode(line + b"\n")


def test_empty_maps() -> None:
    assert maps.decode(b"") == []


def test_agrees_with_the_kernel_on_every_mapping() -> None:
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    starts = {int(line.partition("-")[0], 16) for line in lines}
    # The second reading may have one more, or a larger heap.
    assert len({mapping.start for mapping in maps.read()} ^ starts) <= 2
