"""Kernel images: small ones that the tests pack themselves, and one of Debian's."""

import bz2
import gzip
import lzma
import re
import shutil
import struct
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import lz4.block
import zstandard

LZ4_BLOCK_BYTES = 8 << 20


def lz4_legacy(data: bytes) -> bytes:
    """What `lz4 -l` writes, and the kernel reads."""
    packed = b"\x02\x21\x4c\x18"
    for at in range(0, len(data), LZ4_BLOCK_BYTES):
        block = lz4.block.compress(data[at : at + LZ4_BLOCK_BYTES], store_size=False)
        packed += struct.pack("<I", len(block)) + block
    return packed


def xz_of_the_kernel(data: bytes) -> bytes:
    """As scripts/xz_wrap.sh does: a filter for x86's jumps, and CRC32."""
    filters = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 1}]
    return lzma.compress(data, check=lzma.CHECK_CRC32, filters=filters)


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, 1),
    "xz": xz_of_the_kernel,
    "lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE, preset=1),
    "bzip2": lambda data: bz2.compress(data, 1),
    # As a stream, which does not say how long it becomes: the kernel's build pipes.
    "zstd": lambda data: zstandard.ZstdCompressor(write_content_size=False).compress(data),
    "lz4": lz4_legacy,
}


def kernel(*images: bytes, size: int = 1 << 20, first: int = 0x5000) -> bytes:
    """The bytes of a kernel that has these images at pages' starts, and other data around them."""
    # Not to be packed to nothing, and without a magic number.
    data = bytearray(bytes(range(1, 252)) * (size // 251 + 1))[:size]
    at = first
    for image in images:
        padded = image + bytes(-len(image) % 4096)
        data[at : at + len(padded)] = padded
        at += len(padded) + 0x3000
    return bytes(data)


def vmlinux(body: bytes) -> bytes:
    """An ELF program with the kernel in one segment, at the file's second page."""
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    head = ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    address = 0xFFFF_FFFF_8100_0000
    head += struct.pack("<IIQQQQQQ", 1, 5, 4096, address, address, len(body), len(body), 4096)
    return head + bytes(4096 - len(head)) + body


def bzimage(payload: bytes, *, version: int = 0x20F, appended: bytes = b"\x78\x56\x34\x12") -> bytes:
    """x86's: two sectors of setup, then the code that unpacks, the payload and the size that is appended to
    it.
    """
    setup = bytearray(3 * 512)
    setup[0x1F1] = 2
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x206, version)
    struct.pack_into("<H", setup, 0x20E, 0x300)
    text = b"6.12.34-test (builder@host) #1 SMP\0"
    setup[0x500 : 0x500 + len(text)] = text
    stub = b"\x90" * 700
    payload += appended
    if version >= 0x208:
        struct.pack_into("<II", setup, 0x248, len(stub), len(payload))
    return bytes(setup) + stub + payload + b"\xcc" * 5000


def zboot(payload: bytes) -> bytes:
    """The EFI image that unpacks itself."""
    head = struct.pack("<4s4sIIII", b"MZ\0\0", b"zimg", 0x1000, len(payload), 0, 0) + b"zstd22\0\0"
    return head.ljust(0x1000, b"\0") + payload + b"\xcc" * 5000


def arm64_image(body: bytes) -> bytes:
    """arm64's Image: unpacked, with a header in its first bytes."""
    data = bytearray(body)
    data[:64] = bytes(64)
    data[56:60] = b"ARM\x64"
    return bytes(data)


# ---- Debian's ----

# Whichever there is: the second is Ubuntu's name.
DEBIAN = ("linux-image-cloud-amd64", "linux-image-virtual")


def download_debian(directory: Path) -> Path:
    """Downloads a kernel image of Debian's, some 27 MB, by apt. Raises LookupError where it is not to be
    had.
    """
    for command in ("apt-get", "dpkg-deb"):
        if shutil.which(command) is None:
            raise LookupError(f"{command} is not installed: the test wants a kernel image of Debian's")
    try:
        package = _debian_package()
        _run("apt-get", "download", "-q", package, cwd=directory)
        (archive,) = directory.glob("*.deb")
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE) as unpacking:
            with tarfile.open(fileobj=unpacking.stdout, mode="r|") as tree:
                name, data = next(
                    (entry.name, tree.extractfile(entry)) for entry in tree if "boot/vmlinuz-" in entry.name
                )
                found = directory / name.rpartition("/")[2]
                with found.open("wb") as file:
                    shutil.copyfileobj(data, file)
            unpacking.kill()
    except (subprocess.SubprocessError, OSError, StopIteration, ValueError) as error:
        raise LookupError(f"no kernel image of Debian's is to be had: {error}") from None
    archive.unlink()
    return found


def _debian_package() -> str:
    """The package that the newest kernel is in."""
    for again in (True, False):
        for name in DEBIAN:
            done = subprocess.run(["apt-cache", "depends", name], capture_output=True, text=True, timeout=60)
            found = re.search(r"Depends: (linux-image-\S+)", done.stdout)
            if found is not None:
                return found[1]
        # apt's lists may be empty, as in a fresh container.
        if again:
            _run("apt-get", "update", "-q")
    raise LookupError(f"apt knows none of {', '.join(DEBIAN)}")


def _run(*words: str, cwd: Path | None = None) -> str:
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=300, check=True).stdout
