"""Images out of kernel images, packed in every way, whole and damaged."""

import io
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import elves
import kernels
import pytest

from vdso.errors import SourceError
from vdso.kernel import Image, source, unpack, vmlinuz
from vdso.kernel.file import File

IMAGES = [bytes(elves.build(machine, code=machine.encode() * 20)) for machine in ("x86-64", "x32", "i386")]
BODY = kernels.kernel(*IMAGES)
# More than a block of lz4's.
LENGTHS = {"lz4": 9 << 20}
PACKINGS = pytest.mark.parametrize("packing", kernels.PACK)


def padded(image: bytes) -> bytes:
    return image + bytes(-len(image) % 4096)


def read(path: Path, data: bytes) -> source.Source:
    path.write_bytes(data)
    return source.read(str(path))


def assert_found(found: source.Source) -> None:
    assert found.kind == "kernel"
    assert [image.machine for image in found.images] == ["x86-64", "x32", "i386"]
    assert [image.data for image in found.images] == [padded(image) for image in IMAGES]


@PACKINGS
def test_bzimage(tmp_path: Path, packing: str) -> None:
    found = read(tmp_path / "vmlinuz", kernels.bzimage(kernels.PACK[packing](kernels.vmlinux(BODY))))
    assert_found(found)
    assert found.release == "6.12.34-test (builder@host) #1 SMP"


@PACKINGS
def test_packed_image(tmp_path: Path, packing: str) -> None:
    """arm64's Image.gz and its like, with what a boot loader may put behind."""
    assert_found(
        read(tmp_path / "Image.gz", kernels.PACK[packing](kernels.arm64_image(BODY)) + b"\xff" * 100)
    )


@PACKINGS
def test_zboot(tmp_path: Path, packing: str) -> None:
    assert_found(read(tmp_path / "vmlinuz.efi", kernels.zboot(kernels.PACK[packing](BODY))))


@PACKINGS
def test_packed_somewhere_in_a_file_without_a_header(tmp_path: Path, packing: str) -> None:
    """As arm's zImage; what only looks packed comes before it."""
    lures = b"".join(magic + b"lure" * 50 for magic in unpack.MAGICS)
    packed = kernels.PACK[packing](BODY)
    assert_found(read(tmp_path / "zImage", b"\0\0\xa0\xe1" * 2000 + lures + packed + bytes(100)))
    assert_found(read(tmp_path / "old", kernels.bzimage(packed, version=0x204)))


def test_not_packed(tmp_path: Path) -> None:
    assert_found(read(tmp_path / "vmlinux", kernels.vmlinux(BODY)))
    assert_found(read(tmp_path / "Image", kernels.arm64_image(BODY)))
    assert_found(read(tmp_path / "bzImage", kernels.bzimage(kernels.vmlinux(BODY))))


def test_a_vmlinux_that_is_a_shared_object(tmp_path: Path) -> None:
    data = bytearray(kernels.vmlinux(BODY))
    data[16] = 3
    assert_found(read(tmp_path / "vmlinux", bytes(data)))


def test_an_image_between_two_chunks() -> None:
    """Wherever it lies in the stream, also where that is cut."""
    image = bytes(elves.build(read_only=bytes(10_000)))
    for first in (0, 0xFD000, 0xFE000, 0xFF000, 0x100000, 0x1FE000, 0x2FC000):
        data = kernels.kernel(image, size=0x320000, first=first)
        for step in (4096, 70_000, 1 << 20, len(data)):
            chunks = (data[at : at + step] for at in range(0, len(data), step))
            assert [found.data for found in vmlinuz.scan(chunks)] == [padded(image)]


def test_what_only_looks_like_an_image() -> None:
    cut_off = IMAGES[0][:200]
    lie = bytes(elves.build().put_word("tag DT_HASH", 1 << 40))
    without = bytes(elves.build(symbols=()))
    big = bytes(elves.build(pad_to=0).put("segment 0", "Q", 1 << 30, beyond=32))
    data = kernels.kernel(cut_off, lie, without, big, IMAGES[1])
    assert [image.machine for image in vmlinuz.scan([data])] == ["x32"]
    assert list(vmlinuz.scan([kernels.kernel(IMAGES[0], first=0x5010)])) == []


def test_pages_full_of_lures_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What looks like an image at every page: only so many are read."""
    read = 0

    class Counted:
        @staticmethod
        def from_bytes(data: bytes) -> Image:
            nonlocal read
            read += 1
            return Image.from_bytes(data)

    monkeypatch.setattr(vmlinuz, "Image", Counted)
    lie = padded(bytes(elves.build().put_word("tag DT_HASH", 1 << 40)))
    assert list(vmlinuz.scan([lie * 2000])) == []
    assert read == vmlinuz.CANDIDATES_MAX
    cut_off = IMAGES[0][:64].ljust(4096, b"\1")
    assert list(vmlinuz.scan([cut_off * 2000])) == []
    assert read == vmlinuz.CANDIDATES_MAX


def refused(path: Path, data: bytes) -> SourceError:
    path.write_bytes(data)
    with pytest.raises(SourceError) as caught:
        source.read(str(path))
    error = caught.value
    assert (error.exit_code, error.message.count(str(path)), error.message.count("\n")) == (1, 1, 0)
    return error


@PACKINGS
@pytest.mark.parametrize("left", [1, 10, 0.5, 0.99])
def test_cut_off(tmp_path: Path, packing: str, left: float) -> None:
    packed = kernels.PACK[packing](kernels.kernel(*IMAGES, size=LENGTHS.get(packing, 1 << 20)))
    size = left if isinstance(left, int) else int(len(packed) * left)
    whole = kernels.bzimage(packed, appended=b"")
    error = refused(tmp_path / "vmlinuz", whole[: whole.index(packed) + size])
    assert "cut off" in error.message or left == 1


@PACKINGS
def test_damaged(tmp_path: Path, packing: str) -> None:
    packed = bytearray(kernels.PACK[packing](BODY))
    for at in range(8, min(len(packed), 4000), 2):
        packed[at] ^= 0x5A
    error = refused(tmp_path / "vmlinuz", kernels.bzimage(bytes(packed)))
    assert "damaged" in error.message or "cut off" in error.message


def test_without_an_image(tmp_path: Path) -> None:
    body = kernels.kernel()
    for data in (kernels.bzimage(kernels.PACK["gzip"](body)), kernels.zboot(kernels.PACK["xz"](body))):
        assert "no vDSO in this kernel image" in refused(tmp_path / "vmlinuz", data).message
    assert "no vDSO image is in it" in refused(tmp_path / "vmlinux", kernels.vmlinux(body)).message
    assert "no vDSO" in refused(tmp_path / "bzImage", kernels.bzimage(b"nothing", version=0x204)).message


def test_a_way_that_is_not_read(tmp_path: Path) -> None:
    error = refused(tmp_path / "vmlinuz", kernels.bzimage(b"\x89LZO\0\r\n\x1a\n" + bytes(100)))
    assert "lzo" in error.message


def test_a_payload_outside_the_file(tmp_path: Path) -> None:
    data = bytearray(kernels.bzimage(b"\x1f\x8b\x08"))
    struct.pack_into("<I", data, 0x248, 0xFFFF_FFF0)
    assert "cut off" in refused(tmp_path / "vmlinuz", bytes(data)).message


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    for packing, module in (("zstd", "zstandard"), ("lz4", "lz4.block")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(SourceError) as caught:
            list(unpack.unpack(packing, iter([kernels.PACK[packing](BODY)])))
        assert (caught.value.hint or "").startswith("pip install")


# ---- bombs ----


def zeros(packing: str, size: int) -> bytes:
    """That many zero bytes, packed."""
    if packing == "lz4":
        block = kernels.PACK["lz4"](bytes(8 << 20))
        return block[:4] + block[4:] * (size >> 23)
    return kernels.PACK[packing](bytes(size))


def test_a_bomb_is_put_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "UNPACKED_BYTES_MAX", 20 << 20)
    for packing in kernels.PACK:
        seen = 0
        error = None
        try:
            for chunk in unpack.unpack(packing, iter([zeros(packing, 48 << 20)])):
                seen += len(chunk)
        except SourceError as caught:
            error = caught
        assert error is not None
        assert "no kernel" in error.message
        assert seen <= 20 << 20


@pytest.mark.parametrize("packing", ["gzip", "xz", "zstd"])
def test_a_bomb_at_each_of_many_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packing: str) -> None:
    """All tries have one limit together, and the first that exceeds it is the last."""
    monkeypatch.setattr(unpack, "UNPACKED_BYTES_MAX", 20 << 20)
    seen: list[int] = []
    whole = unpack.unpack

    def counted(*words: Any) -> Iterator[bytes]:
        seen.append(0)
        for chunk in whole(*words):
            seen[-1] += len(chunk)
            yield chunk

    monkeypatch.setattr(unpack, "unpack", counted)
    one = zeros(packing, 9 << 20)
    path = tmp_path / "bomb"
    path.write_bytes(b"\0" * 1000 + one * 30)
    with pytest.raises(SourceError, match="unpacks to more than 20 MiB, which is no kernel"):
        source.read(str(path))
    assert sum(seen) <= 20 << 20
    assert len(seen) < 10  # some formats have the beginning of another in them


def test_blocks_of_nothing_have_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros behind zstd's magic are blocks of no bytes, as many as there are zeros."""
    monkeypatch.setattr(unpack, "PACKED_BYTES_MAX", 4 << 20)
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.write(b"\0" * 100 + b"\x28\xb5\x2f\xfd\x00\x58" + bytes(3))
        file.truncate(2 << 30)
    with File(str(path)) as file, pytest.raises(SourceError, match="4 MiB of packed data"):
        vmlinuz.images(file)


MEMORY = """
import resource, sys
from vdso.errors import SourceError
from vdso.kernel import source
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    source.read(sys.argv[1])
except SourceError as error:
    print(error.message)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("packing", ["gzip", "zstd", "lz4"])
def test_a_bomb_takes_no_memory(tmp_path: Path, packing: str) -> None:
    """In a process of its own, which says by how many KiB it grew: the kernel of 200 MiB is never in
    memory.
    """
    path = tmp_path / "bomb"
    path.write_bytes(kernels.bzimage(zeros(packing, 200 << 20)))
    done = subprocess.run([sys.executable, "-c", MEMORY, path], capture_output=True, text=True, check=True)
    message, grown = done.stdout.splitlines()
    assert "no vDSO in this kernel image" in message
    assert int(grown) < 64 << 10


def test_the_reader_of_a_file_that_shrinks(tmp_path: Path) -> None:
    path = tmp_path / "shrinks"
    path.write_bytes(bytes(elves.build()))
    with File(str(path)) as file:
        os.truncate(path, 100)
        with pytest.raises(SourceError):
            vmlinuz.in_vmlinux(file)


def chunks_of(data: bytes) -> Iterator[bytes]:
    stream = io.BytesIO(data)
    while part := stream.read(1000):
        yield part


@PACKINGS
def test_unpacked_in_small_pieces(packing: str) -> None:
    """Where the packed stream is cut does not matter, nor what follows it."""
    body = kernels.kernel(*IMAGES, size=LENGTHS.get(packing, 1 << 20) + 123)
    packed = kernels.PACK[packing](body) + struct.pack("<I", len(body)) + bytes(50)
    assert b"".join(unpack.unpack(packing, chunks_of(packed))) == body
