"""The two hash tables by which C libraries find a symbol: DT_HASH (System V) and DT_GNU_HASH.

Each gives the numbers of the symbols that a name may be; who asks compares the names. Offsets are into the
image's bytes and were checked when the table was found, but for the chains, whose end only walking them
shows.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vdso.errors import BadImage


@dataclass(frozen=True, slots=True)
class SysvTable:
    """`offset`: of the buckets; words have 4 bytes, 8 on Alpha and 64-bit s390 (glibc's Elf_Symndx)."""

    order: str
    offset: int
    word_bytes: int
    buckets: int
    chains: int

    def chain(self, data: bytes, name: bytes) -> Iterator[int]:
        """The numbers of the symbols that share the name's bucket."""
        if not self.buckets:
            return
        word = struct.Struct(self.order + ("Q" if self.word_bytes == 8 else "I"))
        bucket = sysv_hash(name) % self.buckets
        (index,) = word.unpack_from(data, self.offset + bucket * self.word_bytes)
        # A chain that is longer than the table goes in circles.
        for _ in range(self.chains):
            if not 0 < index < self.chains:
                return
            yield index
            (index,) = word.unpack_from(data, self.offset + (self.buckets + index) * self.word_bytes)

    def reach(self, data: bytes) -> Mapping[int, int]:
        """The symbols that the chains lead to, each with its bucket. Raises BadImage for chains that go in
        circles.
        """
        words = struct.unpack_from(
            f"{self.order}{self.buckets + self.chains}{'Q' if self.word_bytes == 8 else 'I'}",
            data,
            self.offset,
        )
        reached: dict[int, int] = {}
        for bucket in range(self.buckets):
            index = words[bucket]
            while 0 < index < self.chains:
                if index in reached:
                    raise BadImage("DT_HASH's chains go in circles, or into one another")
                reached[index] = bucket
                index = words[self.buckets + index]
        return reached

    def leads_to(self, reached: Mapping[int, int], index: int, _data: bytes, name: bytes) -> bool:
        """Whether a lookup of the name comes by that symbol; `reached` is what reach() found."""
        return reached.get(index) == sysv_hash(name) % self.buckets if self.buckets else False


@dataclass(frozen=True, slots=True)
class GnuTable:
    """`bloom`, `offset`: of the Bloom filter's words, and of the buckets.

    `first`: the first symbol that it covers; `symbols`: how many there are, those before `first` included.
    """

    order: str
    bits: int
    bloom: int
    words: int
    shift: int
    offset: int
    buckets: int
    first: int
    symbols: int

    def chain(self, data: bytes, name: bytes) -> Iterator[int]:
        """The numbers of the symbols whose hash is the name's, but for its lowest bit."""
        hashed = gnu_hash(name)
        if not self.buckets or not self._may_hold(data, hashed):
            return
        chains = self.offset + self.buckets * 4
        (index,) = struct.unpack_from(self.order + "I", data, self.offset + hashed % self.buckets * 4)
        if index < self.first:
            return
        while index < self.symbols:
            (link,) = struct.unpack_from(self.order + "I", data, chains + (index - self.first) * 4)
            if link | 1 == hashed | 1:
                yield index
            if link & 1:
                return
            index += 1

    def reach(self, data: bytes) -> Mapping[int, int]:
        """The symbols that the chains lead to, each with its bucket. Raises BadImage for chains that
        overlap.
        """
        heads = struct.unpack_from(f"{self.order}{self.buckets}I", data, self.offset)
        links = struct.unpack_from(
            f"{self.order}{self.symbols - self.first}I", data, self.offset + self.buckets * 4
        )
        reached: dict[int, int] = {}
        for bucket, head in enumerate(heads):
            for index in range(head, self.symbols) if head >= self.first else ():
                if index in reached:
                    raise BadImage("DT_GNU_HASH's chains go into one another")
                reached[index] = bucket
                if links[index - self.first] & 1:
                    break
        return reached

    def leads_to(self, reached: Mapping[int, int], index: int, data: bytes, name: bytes) -> bool:
        """Whether a lookup of the name comes by that symbol; `reached` is what reach() found."""
        hashed = gnu_hash(name)
        if not self.buckets or reached.get(index) != hashed % self.buckets:
            return False
        if not self._may_hold(data, hashed):
            return False
        at = self.offset + (self.buckets + index - self.first) * 4
        return bool(struct.unpack_from(self.order + "I", data, at)[0] | 1 == hashed | 1)

    def _may_hold(self, data: bytes, hashed: int) -> bool:
        if not self.words:
            return True
        at = self.bloom + hashed // self.bits % self.words * (self.bits // 8)
        (word,) = struct.unpack_from(self.order + ("Q" if self.bits == 64 else "I"), data, at)
        return bool(word >> hashed % self.bits & word >> (hashed >> self.shift) % self.bits & 1)


def sysv_hash(name: bytes) -> int:
    """The System V ABI's hash of a symbol's name."""
    value = 0
    for byte in name:
        value = (value << 4) + byte
        value = (value ^ (value >> 24 & 0xF0)) & 0x0FFFFFFF
    return value


def gnu_hash(name: bytes) -> int:
    """DT_GNU_HASH's hash of a symbol's name."""
    value = 5381
    for byte in name:
        value = (value * 33 + byte) & 0xFFFFFFFF
    return value
