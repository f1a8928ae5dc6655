"""The image in a core file, of either width and byte order, and cores that have none."""

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path

import elves
import pytest
from elves import build, core

from vdso.errors import SourceError
from vdso.kernel import auxv, source

IMAGE = bytes(build())


@pytest.mark.parametrize("machine", elves.MACHINES)
def test_of_every_machine(tmp_path: Path, machine: str) -> None:
    _, bits, order, _ = elves.MACHINES[machine]
    image = bytes(build(machine))
    path = tmp_path / "core"
    address = 0xF7FC_0000
    path.write_bytes(core(image, address, bits=bits, order=order))
    found = source.read(str(path))
    assert (found.kind, found.pid) == ("core", None)
    assert [(one.machine, one.data, one.address) for one in found.images] == [(machine, image, address)]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (core(IMAGE, vector={6: 4096, 0: 0}), "had no vDSO"),
        (core(IMAGE, vector={33: 0, 0: 0}), "had no vDSO"),
        (core(IMAGE, vector={33: 0x5000, 0: 0}), "does not hold"),
        (core(IMAGE, held=0), "does not hold"),
        (core(IMAGE, owner=b"ZORE\0"), "without the process's auxiliary vector"),
        (core(IMAGE, held=100), "outside"),
        (core(b"no image at all" * 10), "not an ELF file"),
        (core(IMAGE)[:-600], "outside"),
        (core(IMAGE)[:100], "program headers"),
        (core(IMAGE)[:300], "the notes"),
        (core(IMAGE, vector={1 << 20: 1}), "auxiliary vector is none"),
    ],
)
def test_cores_without(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "core"
    path.write_bytes(data)
    with pytest.raises(SourceError) as caught:
        source.read(str(path))
    assert words in caught.value.message
    assert caught.value.message.startswith(str(path))


def test_more_segments_than_the_header_counts(tmp_path: Path) -> None:
    """PN_XNUM: the first section header has the number, which may lie as well."""
    data = bytearray(core(IMAGE))
    data[56:58] = b"\xff\xff"
    data[40:48] = len(data).to_bytes(8, "little")
    path = tmp_path / "core"
    for count, good in ((3, True), (1 << 20, False), (0xFFFF_FFFF, False)):
        section = bytearray(64)
        section[44:48] = count.to_bytes(4, "little")
        path.write_bytes(data + section)
        if good:
            assert source.read(str(path)).images[0].data == IMAGE
        else:
            with pytest.raises(SourceError, match="program headers"):
                source.read(str(path))


@pytest.mark.parametrize("count", [200, 65_000])
@pytest.mark.parametrize("note", [b"", b"\0\0\0\0\0\0\0\0\1\0\0\0"], ids=["zeros", "notes"])
def test_notes_that_are_all_the_same_bytes(tmp_path: Path, count: int, note: bytes) -> None:
    """Each header names the same 16 MiB: what is read is bounded over all of them, and so is the time."""
    size = 16 << 20
    head = b"\x7fELF\2\1\1" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 4, 62, 1, 0, 64, 0, 0, 64, 56, count, 0, 0, 0)
    path = tmp_path / "core"
    with path.open("wb") as file:
        file.write(head + struct.pack("<IIQQQQQQ", 4, 0, size, 0, 0, size, 0, 4) * count)
        if note:
            file.seek(size)
            file.write(note * (size // len(note)))
        file.truncate(2 * size)
    with count_of_bytes_read() as read, pytest.raises(SourceError, match="more notes than any has"):
        source.read(str(path))
    # The headers twice at most, and no segment's notes again.
    assert read[0] <= size + 4 * 56 * count + 4096


@contextlib.contextmanager
def count_of_bytes_read() -> Iterator[list[int]]:
    from vdso.kernel.file import File

    read = [0]
    whole = File.__getitem__

    def counted(self: File, where: slice) -> bytes:
        data = whole(self, where)
        read[0] += len(data)
        return data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(File, "__getitem__", counted)
        yield read


def test_its_vector_is_decoded_by_its_own_width() -> None:
    assert auxv.decode(b"\x21\0\0\0\0\x10\xfc\xf7", bits=32, little_endian=True) == {33: 0xF7FC1000}
