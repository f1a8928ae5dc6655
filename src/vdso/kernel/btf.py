"""The kernel's description of its own types, BTF, as far as a layout needs it: structs with their offsets,
and enums.

Documentation/bpf/btf.rst and include/uapi/linux/btf.h. The file has 100,000 types and more, so they are
stepped over and no object is made of any that is not asked for. Nothing in it is trusted: what lies outside,
loops or has no end is BadBtf, in bounded time.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from vdso.errors import BadBtf

VMLINUX = "/sys/kernel/btf/vmlinux"
FILE_BYTES_MAX = 256 << 20  # distributions' kernels have some 5 MB

MAGIC, MAGIC_SWAPPED = 0xEB9F, 0x9FEB
HEADER = struct.Struct("=HBBIIIII")

KIND_INT, KIND_PTR, KIND_ARRAY, KIND_STRUCT, KIND_UNION, KIND_ENUM = 1, 2, 3, 4, 5, 6
KIND_TYPEDEF, KIND_VOLATILE, KIND_CONST, KIND_RESTRICT, KIND_FLOAT = 8, 9, 10, 11, 16
KIND_TYPE_TAG, KIND_ENUM64 = 18, 19
SIZED = (KIND_INT, KIND_STRUCT, KIND_UNION, KIND_ENUM, KIND_FLOAT, KIND_ENUM64)
RENAMING = (KIND_TYPEDEF, KIND_VOLATILE, KIND_CONST, KIND_RESTRICT, KIND_TYPE_TAG)
POINTER_BYTES = 8

# Words that follow a type's own three, by kind: always, and for each of its vlen members. Kind 0 is no type.
WORDS_MORE = (0, 1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0)
WORDS_EACH = (0, 0, 0, 0, 3, 3, 2, 0, 0, 0, 0, 0, 0, 2, 0, 3, 0, 0, 0, 3)

DEPTH_MAX = 32  # of types made of types: real ones have a handful
MEMBERS_MAX = 4096
NAME_BYTES_MAX = 512
SAME_NAME_MAX = 64


@dataclass(frozen=True, slots=True)
class Member:
    """Of a struct: `offset` and `size` in bytes; `count` above 1 for an array, whose elements have `size`
    together."""

    name: str
    offset: int
    size: int
    count: int
    type_name: str


@dataclass(frozen=True, slots=True)
class Struct:
    """A struct's size in bytes, and its members by name, those of anonymous structs and unions among them."""

    name: str
    size: int
    members: Mapping[str, Member]


class Btf:
    """The types of a BTF file's bytes. Raises BadBtf."""

    def __init__(self, data: bytes) -> None:
        if len(data) < HEADER.size:
            raise BadBtf(f"{len(data)} bytes, which is less than a header")
        magic, version, _, header, type_at, type_size, name_at, name_size = HEADER.unpack_from(data)
        if magic == MAGIC_SWAPPED:
            raise BadBtf("types in the other byte order, of another machine")
        if magic != MAGIC or version != 1:
            raise BadBtf(f"magic {magic:#x}, version {version}: no BTF that is known")
        if header < HEADER.size or header % 4 or type_at % 4 or type_size % 4:
            raise BadBtf("sections that are not aligned")
        if max(header + type_at + type_size, header + name_at + name_size) > len(data):
            raise BadBtf("a section outside the file: it is truncated")
        start = header + name_at
        self._names = data[start : start + name_size]
        if self._names[:1] != b"\0" or self._names[-1:] != b"\0":
            raise BadBtf("a string table that does not begin and end with an empty string")
        start = header + type_at
        self._words = memoryview(data[start : start + type_size]).cast("I")
        self._types, self._heads = self._walk()

    def struct(self, name: str) -> Struct | None:
        """The struct of that name; None where there is none, or it is only declared.

        Raises BadBtf, also where there are two that differ.
        """
        found = {self._struct(name, at) for at in self._named(name, KIND_STRUCT) if self._words[at + 2]}
        if len(found) > 1:
            raise BadBtf(f"two structs {name} that differ")
        if not found:
            return None
        size, members = found.pop()
        return Struct(name, size, {member.name: member for member in members})

    def enum(self, name: str) -> Mapping[str, int] | None:
        """The enum's values by their names; None where there is none. Raises BadBtf as struct() does."""
        found = {self._enum(at) for at in self._named(name, KIND_ENUM)}
        if len(found) > 1:
            raise BadBtf(f"two enums {name} that differ")
        return dict(found.pop()) if found else None

    # ---- the table of types ----

    def _walk(self) -> tuple[list[int], list[int]]:
        """Where each type begins, in words, and its name, by its id; 0 is void and has neither."""
        words, end, at = self._words, len(self._words), 0
        types, heads = [-1], [-1]
        place, head, more, each = types.append, heads.append, WORDS_MORE, WORDS_EACH
        try:
            while at < end:
                info = words[at + 1]
                kind = info >> 24 & 31
                place(at)
                head(words[at])
                at += 3 + more[kind] + each[kind] * (info & 0xFFFF)
        except IndexError:
            raise BadBtf(f"type {len(types) - 1} or the next is of an unknown kind, or cut short") from None
        if at != end:
            raise BadBtf(f"type {len(types) - 1} is cut short")
        return types, heads

    def _named(self, name: str, kind: int) -> list[int]:
        """Where the types of that name and kind begin, in words."""
        # A string's tail may serve as another name, so that every place counts at which these bytes end a
        # string.
        wanted, place, found = name.encode() + b"\0", -1, []
        heads, places = self._heads, 0
        while (place := self._names.find(wanted, place + 1)) >= 0:
            number, places = 0, places + 1
            try:
                while True:
                    number = heads.index(place, number + 1)
                    if self._words[self._types[number] + 1] >> 24 & 31 == kind:
                        found.append(self._types[number])
                    if len(found) > SAME_NAME_MAX:
                        raise BadBtf(f"more than {SAME_NAME_MAX} types {name}")
            except ValueError:
                pass
            if places > SAME_NAME_MAX:
                raise BadBtf(f"more than {SAME_NAME_MAX} names that end in {name}")
        return found

    def _name(self, offset: int) -> str:
        end = self._names.find(b"\0", offset, offset + NAME_BYTES_MAX)
        if end < 0:
            raise BadBtf(f"a name at {offset:#x}, which is outside the string table or has no end")
        return self._names[offset:end].decode("utf-8", "backslashreplace")

    def _at(self, number: int) -> int:
        if not 0 < number < len(self._types):
            raise BadBtf(f"type {number} of {len(self._types)}")
        return self._types[number]

    # ---- one type ----

    def _enum(self, at: int) -> frozenset[tuple[str, int]]:
        words, info = self._words, self._words[at + 1]
        signed = info >> 31
        values = set()
        for entry in range(at + 3, at + 3 + (info & 0xFFFF) * 2, 2):
            value = words[entry + 1]
            values.add((self._name(words[entry]), value - (1 << 32) if signed and value >> 31 else value))
        return frozenset(values)

    def _struct(self, name: str, at: int) -> tuple[int, tuple[Member, ...]]:
        size, members = self._words[at + 2], self._members(name, at)
        for member in members:
            if member.offset + member.size > size:
                raise BadBtf(f"struct {name} has {size} bytes and its member {member.name} lies outside")
        if len({member.name for member in members}) < len(members):
            raise BadBtf(f"struct {name} has two members of one name")
        return size, tuple(members)

    def _members(self, name: str, at: int) -> list[Member]:
        words, members, seen = self._words, list[Member](), 0
        inside = [(at, 0)]  # the struct, and the anonymous ones in it
        while inside:
            at, base = inside.pop()
            info = words[at + 1]
            for entry in range(at + 3, at + 3 + (info & 0xFFFF) * 3, 3):
                seen += 1
                if seen > MEMBERS_MAX:
                    raise BadBtf(f"struct {name} has more than {MEMBERS_MAX} members")
                bits = words[entry + 2]
                if info >> 31:  # then the upper byte is a bit field's width
                    if bits >> 24:
                        continue
                    bits &= 0xFFFFFF
                if bits % 8:
                    continue  # a bit field, as older formats have it
                if member := self._name(words[entry]):
                    size, count, type_name = self._measure(words[entry + 1])
                    members.append(Member(member, base + bits // 8, size, count, type_name))
                    continue
                anonymous = self._at(words[entry + 1])
                if words[anonymous + 1] >> 24 & 31 in (KIND_STRUCT, KIND_UNION):
                    inside.append((anonymous, base + bits // 8))
        return members

    def _measure(self, number: int) -> tuple[int, int, str]:
        """Size in bytes, how many elements, and the name, if it has one, of a type or of its elements."""
        words, count = self._words, 1
        for _ in range(DEPTH_MAX):
            at = self._at(number)
            kind = words[at + 1] >> 24 & 31
            if kind in SIZED:
                return words[at + 2] * count, count, self._name(words[at])
            if kind == KIND_PTR:
                return POINTER_BYTES * count, count, ""
            if kind == KIND_ARRAY:
                number, count = words[at + 3], count * words[at + 5]
            elif kind in RENAMING:
                number = words[at + 2]
            else:
                raise BadBtf(f"type {number} has no size")
        raise BadBtf("types made of types without an end")


def read(path: str = VMLINUX) -> Btf:
    """The running kernel's types. Raises BadBtf: not there, not ours to read, or not as it should be."""
    try:
        with open(path, "rb", buffering=0) as file:
            parts, size = [], 0
            while part := file.read(1 << 20):
                parts.append(part)
                size += len(part)
                if size > FILE_BYTES_MAX:
                    raise BadBtf(f"{path}: more than {FILE_BYTES_MAX >> 20} MiB")
    except OSError as error:
        raise BadBtf(f"{path}: {(error.strerror or str(error)).lower()}") from None
    try:
        return Btf(b"".join(parts))
    except BadBtf as error:
        raise BadBtf(f"{path}: {error.message}") from None
