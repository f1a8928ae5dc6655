"""The ways in which kernels are compressed, each as a stream: gzip, xz, lzma, bzip2, zstd, lz4.

Every stream is unpacked a MiB at a time and ends at its own end, whatever follows: the kernel's build
appends the unpacked size, and a boot loader's file its padding. What comes in may be made to harm: neither
the memory (but for the dictionary that the format asks for, up to 128 MiB) nor the time depends on what it
unpacks to.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from vdso.errors import SourceError, TooMuch

# By the bytes that a stream begins with. The last is here to be named.
MAGICS = {
    b"\x1f\x8b\x08": "gzip",
    b"\xfd7zXZ\x00": "xz",
    b"\x5d\x00\x00": "lzma",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x02\x21\x4c\x18": "lz4",
    b"\x89LZO": "lzo",
}
MAGIC_BYTES_MAX = 6
CHUNK_BYTES = 1 << 20
# The largest kernel known, everything built in, has some 300 MiB.
UNPACKED_BYTES_MAX = 512 << 20
# And packed none has more than a tenth. Some formats have blocks of nothing, without an end.
PACKED_BYTES_MAX = 512 << 20
DICTIONARY_BYTES_MAX = 192 << 20  # xz counts what it needs besides
ZSTD_PIECE_BYTES = 1 << 10
LZ4_BLOCK_BYTES = 8 << 20  # of the legacy format, lib/decompress_unlz4.c
LZ4_PACKED_BYTES_MAX = LZ4_BLOCK_BYTES + LZ4_BLOCK_BYTES // 255 + 16

Chunks = Iterator[bytes]


class _Decompressor(Protocol):
    """What lzma's and bz2's decompressors have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def format_of(start: bytes) -> str | None:
    """Which format a stream that begins with these bytes has."""
    return next((name for magic, name in MAGICS.items() if start.startswith(magic)), None)


class Budget:
    """How many bytes a search may read and how many it may unpack, over all the places that it tries."""

    def __init__(self) -> None:
        self.packed = PACKED_BYTES_MAX
        self.unpacked = UNPACKED_BYTES_MAX

    def reading(self, chunks: Chunks) -> Chunks:
        """The same chunks. Raises TooMuch."""
        for chunk in chunks:
            self.packed -= len(chunk)
            if self.packed < 0:
                raise TooMuch(f"more than {PACKED_BYTES_MAX >> 20} MiB of packed data, which is no kernel")
            yield chunk

    def unpacking(self, chunks: Chunks) -> Chunks:
        """The same chunks. Raises TooMuch."""
        for chunk in chunks:
            self.unpacked -= len(chunk)
            if self.unpacked < 0:
                raise TooMuch(f"unpacks to more than {UNPACKED_BYTES_MAX >> 20} MiB, which is no kernel")
            yield chunk


def unpack(name: str, packed: Chunks, budget: Budget | None = None) -> Chunks:
    """The unpacked stream. Raises SourceError: damaged, cut off, no way to read it; TooMuch: beyond the
    budget, which without one is that of the largest kernel.
    """
    budget = Budget() if budget is None else budget
    ways: dict[str, Callable[[Chunks], Chunks]] = {
        "gzip": _gzip,
        "xz": _xz,
        "lzma": _lzma,
        "bzip2": _bzip2,
        "zstd": _zstd,
        "lz4": _lz4,
    }
    if name not in ways:
        raise SourceError(f"compressed by {name}, which is not read", "unpack it first")
    yield from budget.unpacking(ways[name](budget.reading(packed)))


def _cut_off(name: str) -> SourceError:
    return SourceError(f"the {name} data is cut off")


def _damaged(name: str) -> SourceError:
    return SourceError(f"the {name} data is damaged")


def _drive(
    name: str, decompressor: _Decompressor, packed: Chunks, errors: tuple[type[Exception], ...]
) -> Chunks:
    data = b""
    while not decompressor.eof:
        if decompressor.needs_input:
            data = next(packed, b"")
            if not data:
                raise _cut_off(name)
        try:
            chunk = decompressor.decompress(data, CHUNK_BYTES)
        except errors:
            raise _damaged(name) from None
        data = b""
        yield chunk


def _gzip(packed: Chunks) -> Chunks:
    import zlib

    decompressor = zlib.decompressobj(wbits=31)
    data = b""
    while not decompressor.eof:
        data = decompressor.unconsumed_tail or next(packed, b"")
        if not data:
            raise _cut_off("gzip")
        try:
            chunk = decompressor.decompress(data, CHUNK_BYTES)
        except zlib.error:
            raise _damaged("gzip") from None
        yield chunk


def _xz(packed: Chunks) -> Chunks:
    import lzma

    decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=DICTIONARY_BYTES_MAX)
    return _drive("xz", decompressor, packed, (lzma.LZMAError, EOFError))


def _lzma(packed: Chunks) -> Chunks:
    import lzma

    decompressor = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=DICTIONARY_BYTES_MAX)
    return _drive("lzma", decompressor, packed, (lzma.LZMAError, EOFError))


def _bzip2(packed: Chunks) -> Chunks:
    import bz2

    return _drive("bzip2", bz2.BZ2Decompressor(), packed, (OSError, ValueError, EOFError))


def _zstd(packed: Chunks) -> Chunks:
    zstandard = _library("zstd", "zstandard")
    # The library's own limit on the window is 128 MiB, which is what the kernel's compression asks for. How
    # much comes out of one call it does not limit: a block gives up to 128 KiB and takes 4 bytes at least.
    decompressor = zstandard.ZstdDecompressor().decompressobj()
    for data in packed:
        for at in range(0, len(data), ZSTD_PIECE_BYTES):
            try:
                chunk = decompressor.decompress(data[at : at + ZSTD_PIECE_BYTES])
            except (zstandard.ZstdError, MemoryError):
                raise _damaged("zstd") from None
            if chunk:
                yield chunk
            if decompressor.eof:
                return
    raise _cut_off("zstd")


def _lz4(packed: Chunks) -> Chunks:
    """The legacy format: after the magic, blocks of 8 MiB, each behind its packed size; no end mark."""
    block = _library("lz4", "lz4.block")
    data = bytearray()

    def take(size: int) -> bytes:
        while len(data) < size and (more := next(packed, b"")):
            data.extend(more)
        part = bytes(data[:size])
        del data[:size]
        return part

    take(4)
    last = -1
    while True:
        head = take(4)
        size = int.from_bytes(head, "little")
        if len(head) < 4 or not 0 < size <= LZ4_PACKED_BYTES_MAX:
            break
        packed_block = take(size)
        if len(packed_block) < size:
            # What is appended may look like a size; but a whole block asks for another.
            if packed_block and last in (-1, LZ4_BLOCK_BYTES):
                raise _cut_off("lz4")
            break
        try:
            chunk = block.decompress(packed_block, uncompressed_size=LZ4_BLOCK_BYTES)
        except (block.LZ4BlockError, ValueError, MemoryError):
            raise _damaged("lz4") from None
        last = len(chunk)
        yield chunk
    if last < 0:
        raise _cut_off("lz4") if len(head) < 4 else _damaged("lz4")


def _library(name: str, module: str) -> Any:
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise SourceError(
            f"compressed by {name}, and the Python package {package} cannot be imported",
            f"pip install {package}",
        ) from None
