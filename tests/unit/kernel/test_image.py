"""Images of nine machines, written by the tests, read as the C libraries read them; and the lies that they
may hold.
"""

import io
import struct
from collections.abc import Callable

import elves
import pytest
from elftools.elf.elffile import ELFFile
from elves import Elf, Symbol, build

from vdso.commands.output import plain
from vdso.errors import BadImage
from vdso.kernel import Image

HASHES = [("sysv",), ("gnu",), ("sysv", "gnu")]
MACHINES = pytest.mark.parametrize("machine", elves.MACHINES)


@MACHINES
@pytest.mark.parametrize("hashes", HASHES, ids="+".join)
def test_of_every_machine(machine: str, hashes: tuple[str, ...]) -> None:
    _, bits, _, version = elves.MACHINES[machine]
    image = Image.from_bytes(bytes(build(machine, hashes=hashes, code=bytes(range(96)))))
    assert (image.machine, image.bits, image.soname) == (machine, bits, "linux-vdso.so.1")
    assert (image.version_note, image.kernel_version) == (0x060C22, "6.12.34")
    assert image.build_id == bytes(range(20)).hex()
    assert [(f.name, f.version, f.size, f.binding, f.type) for f in image.functions] == [
        ("__vdso_clock_gettime", version, 48, "global", "func"),
        ("clock_gettime", version, 48, "weak", "func"),
        ("__vdso_time", version, 16, "global", "func"),
        ("time", version, 16, "weak", "func"),
        ("__vdso_getcpu", version, 32, "global", "func"),
    ]
    assert [image.code(f) for f in image.functions[2::2]] == [bytes(range(48, 64)), bytes(range(64, 96))]
    assert [table.kind for table in image.hash_tables] == list(hashes)
    assert all((table.symbols, table.missing) == (5, ()) for table in image.hash_tables)


@MACHINES
@pytest.mark.parametrize("hashes", HASHES, ids="+".join)
def test_lookup(machine: str, hashes: tuple[str, ...]) -> None:
    version = elves.MACHINES[machine][3]
    image = Image.from_bytes(bytes(build(machine, hashes=hashes)))
    for function in image.functions:
        assert image.lookup(function.name) is image.lookup(function.name, version) is not None
        assert image.lookup(function.name) == function
        assert image.lookup(function.name, "LINUX_9.9") is None
        assert image.lookup(function.name + "x") is None
    assert image.lookup("linux-vdso.so.1") is None
    assert image.lookup("") is None


def test_64_bit_s390_has_hash_words_of_8_bytes() -> None:
    for machine, word_bytes in (("s390x", 8), ("s390", 4), ("x86-64", 4)):
        image = Image.from_bytes(bytes(build(machine, hashes=["sysv"])))
        assert [table.word_bytes for table in image.hash_tables] == [word_bytes]


@MACHINES
def test_agrees_with_pyelftools(machine: str) -> None:
    data = bytes(build(machine))
    image = Image.from_bytes(data)
    elf = ELFFile(io.BytesIO(data))
    theirs = {
        (s.name, s.entry.st_value, s.entry.st_size, s.entry.st_info.bind.removeprefix("STB_").lower())
        for s in elf.get_section_by_name(".dynsym").iter_symbols()
        if s.name
    }
    assert {(f.name, f.value, f.size, f.binding) for f in image.functions} == theirs
    assert {s.name: (s.offset, s.size) for s in image.sections().values() if s.name} == {
        s.name: (s["sh_offset"], s["sh_size"]) for s in elf.iter_sections() if s.name
    }


def test_aliases() -> None:
    image = Image.from_bytes(bytes(build()))
    by_name = {function.name: function for function in image.functions}
    assert image.aliases(by_name["time"]) == ("__vdso_time",)
    assert image.aliases(by_name["__vdso_time"]) == ("time",)
    assert image.aliases(by_name["__vdso_getcpu"]) == ()


def test_only_what_can_be_called_is_a_function() -> None:
    symbols = [
        Symbol("__vdso_time", 0, 16),
        Symbol("assembly", 16, 0, type=elves.NOTYPE),
        Symbol("data", 16, 8, type=elves.OBJECT),
        Symbol("local", 16, 8, binding=elves.LOCAL),
        Symbol("LINUX_2.6", 0, 0, type=elves.OBJECT, section=False),
    ]
    image = Image.from_bytes(bytes(build(symbols=symbols, code=bytes(32))))
    assert [(f.name, f.type, f.size) for f in image.functions] == [
        ("__vdso_time", "func", 16),
        ("assembly", "notype", 0),
    ]


def test_several_versions_of_a_name() -> None:
    symbols = [
        Symbol("f", 0, 16, version="V1"),
        Symbol("f", 16, 16, version="V2"),
        Symbol("g", 0, 4, version=None),
    ]
    elf = build(symbols=symbols)
    image = Image.from_bytes(bytes(elf))
    assert {f.version for f in image.functions} == {"V1", "V2", None}
    for version in ("V1", "V2"):
        found = image.lookup("f", version)
        assert found is not None
        assert found.version == version
    assert image.lookup("g", "V1") is None
    assert image.lookup("g") is not None
    # A hidden one is found by its version alone, as with `foo@V1` beside `foo@@V2`.
    elf.put("versym", "H", elf_version(elf, "f", "V1") | 0x8000, beyond=2 * row_of(elf, "f", "V1"))
    hidden = Image.from_bytes(bytes(elf)).lookup("f")
    assert hidden is not None
    assert hidden.version == "V2"


def row_of(elf: Elf, name: str, version: str) -> int:
    """A symbol's number, by what the reader says of an image that nothing was changed in."""
    image = Image.from_bytes(bytes(elf))
    function = image.lookup(name, version)
    assert function is not None
    for row in range(1, 4):
        value, size = struct.unpack_from("<QQ", elf.data, elf.at["dynsym"] + row * 24 + 8)
        at = struct.unpack_from("<I", elf.data, elf.at["dynsym"] + row * 24)[0] + elf.at["dynstr"]
        if elf.data[at : at + len(name) + 1] == name.encode() + b"\0" and (value, size) == (
            function.value,
            function.size,
        ):
            return row
    raise AssertionError(name)


def elf_version(elf: Elf, name: str, version: str) -> int:
    number: int = struct.unpack_from("<H", elf.data, elf.at["versym"] + 2 * row_of(elf, name, version))[0]
    return number


def test_without_versions_notes_or_sections() -> None:
    image = Image.from_bytes(bytes(build(versions=False, note=None, build_id=None, sections=False)))
    assert (image.version_note, image.kernel_version, image.build_id) == (None, None, None)
    assert {f.version for f in image.functions} == {None}
    assert image.lookup("time") is not None
    assert image.lookup("time", "LINUX_2.6") is None
    assert image.sections() == {}


def test_without_hash_tables_only_section_headers_tell() -> None:
    image = Image.from_bytes(bytes(build(hashes=[])))
    assert (len(image.functions), image.hash_tables, image.lookup("time")) == (5, (), None)
    assert Image.from_bytes(bytes(build(hashes=[], sections=False))).functions == ()


def test_a_name_that_the_kernel_has_taken_out() -> None:
    elf = build()
    image = Image.from_bytes(bytes(elf.put("symbol time", "I", 0)))
    assert "time" not in {f.name for f in image.functions}
    assert image.lookup("time") is None


def test_tables_that_disagree_say_so() -> None:
    elf = build()
    # The first word of GNU hash's chains, changed, loses the first symbol.
    elf.put("gnu_hash", "I", 0x1234_5678 & ~1, beyond=16 + 8 + 3 * 4)
    sysv, gnu = Image.from_bytes(bytes(elf)).hash_tables
    assert sysv.missing == ()
    assert len(gnu.missing) == 1
    # glibc goes by GNU hash where there is one.
    assert Image.from_bytes(bytes(elf)).lookup(gnu.missing[0]) is None
    elf = build(hashes=["gnu"])
    elf.put("gnu_hash", "Q", 0, beyond=16)
    assert len(Image.from_bytes(bytes(elf)).hash_tables[0].missing) == 5


def test_a_name_that_a_terminal_would_obey_is_escaped() -> None:
    image = Image.from_bytes(bytes(build(symbols=[Symbol("a\x1b[2Jb", 0, 8)], soname="c\x07")))
    assert (image.functions[0].name, image.soname) == (r"a\x1b[2Jb", r"c\x07")


def test_prelinked_to_an_address() -> None:
    """As i386's once were: everything counts from 0xffffe000."""
    elf = build("i386", code=bytes(range(96)))
    base = 0xFFFFE000
    for index in range(3):
        (offset,) = struct.unpack_from("<I", elf.data, elf.at[f"segment {index}"] + 4)
        elf.put(f"segment {index}", "I", base + offset, beyond=8)
    for tag in ("DT_HASH", "DT_GNU_HASH", "DT_STRTAB", "DT_SYMTAB", "DT_VERSYM", "DT_VERDEF"):
        (value,) = struct.unpack_from("<I", elf.data, elf.at[f"tag {tag}"])
        elf.put_word(f"tag {tag}", base + value)
    for symbol in elves.USUAL:
        (value,) = struct.unpack_from("<I", elf.data, elf.at[f"symbol {symbol.name}"] + 4)
        elf.put(f"symbol {symbol.name}", "I", base + value, beyond=4)
    image = Image.from_bytes(bytes(elf))
    assert image.load_address == base
    time = image.lookup("time")
    assert time is not None
    assert time.value > base
    assert image.code(time) == bytes(range(48, 64))


def test_as_json() -> None:
    shown = plain(Image.from_bytes(bytes(build())))
    assert {"machine", "bits", "soname", "build_id", "kernel_version", "functions"} <= set(shown)
    assert {"name", "version", "value", "size", "binding"} <= set(shown["functions"][0])
    assert "data" not in shown


# ---- lies ----

Lie = Callable[[Elf], object]
MANY = 0xFFFF_FFFF
LIES: dict[str, tuple[Lie, str]] = {
    "not ELF": (lambda e: e.put("start", "4s", b"ELF\x7f"), "not an ELF file"),
    "class 3": (lambda e: e.put("start", "B", 3, beyond=4), "class 3"),
    "byte order 0": (lambda e: e.put("start", "B", 0, beyond=5), "byte order 0"),
    "an object file": (lambda e: e.put("start", "H", 1, beyond=16), "type 1"),
    "program headers elsewhere": (lambda e: e.put("start", "Q", 1 << 40, beyond=32), "program headers"),
    "program headers at 2^64 - 1": (
        lambda e: e.put("start", "Q", (1 << 64) - 1, beyond=32),
        "program headers",
    ),
    "65535 program headers": (lambda e: e.put("start", "H", 65535, beyond=56), "65535"),
    "no program headers": (lambda e: e.put("start", "H", 0, beyond=56), "no segment to load"),
    "program headers of 1 byte": (lambda e: e.put("start", "H", 1, beyond=54), "program headers of 1 byte"),
    "no PT_LOAD": (lambda e: e.put("segment 0", "I", 6), "no segment to load"),
    "no PT_DYNAMIC": (lambda e: e.put("segment 1", "I", 6), "no PT_DYNAMIC"),
    "PT_DYNAMIC elsewhere": (lambda e: e.put("segment 1", "Q", 1 << 62, beyond=8), "PT_DYNAMIC"),
    "PT_DYNAMIC of 2^63 bytes": (lambda e: e.put("segment 1", "Q", 1 << 63, beyond=32), "PT_DYNAMIC"),
    "notes elsewhere": (lambda e: e.put("segment 2", "Q", 1 << 33, beyond=8), "0x200000000, outside the"),
    "no DT_STRTAB": (lambda e: e.put_word("tag DT_STRTAB", 99, beyond=-8), "DT_STRTAB"),
    "no DT_STRSZ": (lambda e: e.put_word("tag DT_STRSZ", 99, beyond=-8), "DT_STRSZ"),
    "no DT_SYMTAB": (lambda e: e.put_word("tag DT_SYMTAB", 99, beyond=-8), "DT_SYMTAB"),
    "DT_STRTAB elsewhere": (lambda e: e.put_word("tag DT_STRTAB", 1 << 50), "the string table"),
    "DT_STRSZ of 2^64 - 1": (lambda e: e.put_word("tag DT_STRSZ", (1 << 64) - 1), "the string table"),
    "DT_STRSZ of 1": (lambda e: e.put_word("tag DT_STRSZ", 1), "string table of 1 bytes"),
    "DT_SONAME elsewhere": (lambda e: e.put_word("tag DT_SONAME", MANY), "string table"),
    "DT_SYMTAB elsewhere": (lambda e: e.put_word("tag DT_SYMTAB", MANY), "6 symbols"),
    "symbols of 1 byte": (lambda e: e.put_word("tag DT_SYMENT", 1), "symbols of 1 bytes"),
    "DT_HASH elsewhere": (lambda e: e.put_word("tag DT_HASH", 1 << 63), "DT_HASH"),
    "2^32 chains": (lambda e: e.put("hash", "I", MANY, beyond=4), "4294967295 symbols"),
    "2^32 buckets": (lambda e: e.put("hash", "I", MANY), "4294967295 buckets"),
    "90000 chains": (lambda e: e.put("hash", "I", 90_000, beyond=4), "DT_HASH"),
    "a chain in circles": (lambda e: in_circles(e), "circles"),
    "GNU hash elsewhere": (lambda e: e.put_word("tag DT_GNU_HASH", 1 << 63), "DT_GNU_HASH"),
    "GNU hash of 2^32 buckets": (lambda e: e.put("gnu_hash", "I", MANY), "4294967295 buckets"),
    "GNU hash from symbol 2^32": (lambda e: e.put("gnu_hash", "I", MANY, beyond=4), "4294967295 symbols"),
    "GNU hash of 2^32 words": (lambda e: e.put("gnu_hash", "I", MANY, beyond=8), "DT_GNU_HASH"),
    "GNU hash's bucket to 2^32": (lambda e: e.put("gnu_hash", "I", MANY, beyond=24), "4294967295 symbols"),
    "GNU hash's bucket to 90000": (lambda e: e.put("gnu_hash", "I", 90_000, beyond=24), "chains"),
    "GNU hash's buckets to one chain": (
        lambda e: e.put("gnu_hash", "III", 1, 1, 1, beyond=24),
        "one another",
    ),
    "GNU hash's chain without an end": (lambda e: no_last_link(e), "chains"),
    "versions elsewhere": (lambda e: e.put_word("tag DT_VERSYM", 1 << 40), "versions"),
    "definitions elsewhere": (lambda e: e.put_word("tag DT_VERDEF", 1 << 40), "definition"),
    "2^32 definitions": (lambda e: e.put_word("tag DT_VERDEFNUM", MANY), "4294967295"),
    "the next definition elsewhere": (lambda e: e.put("verdef", "I", MANY, beyond=16), "definition"),
    "a definition's name elsewhere": (lambda e: e.put("verdef", "I", MANY, beyond=28 + 12), "version's name"),
    "a symbol's name elsewhere": (lambda e: e.put("symbol time", "I", MANY), "string table"),
    "a function elsewhere": (lambda e: e.put("symbol time", "Q", MANY, beyond=8), "outside the image"),
    "a function of 2^64 - 1 bytes": (
        lambda e: e.put("symbol time", "Q", (1 << 64) - 1, beyond=16),
        "outside",
    ),
    "names without an end": (lambda e: no_ends(e), "no end"),
}


def in_circles(elf: Elf) -> None:
    """Each bucket's first symbol is followed by itself."""
    for bucket in range(3):
        (first,) = struct.unpack_from("<I", elf.data, elf.at["hash"] + 8 + bucket * 4)
        elf.put("hash", "I", first, beyond=8 + 12 + first * 4)


def no_last_link(elf: Elf) -> None:
    """The table once more, at the very end, where nothing ends the last chain by chance."""
    size = 16 + 8 + 12 + len(elves.USUAL) * 4
    table = bytearray(elf.data[elf.at["gnu_hash"] : elf.at["gnu_hash"] + size])
    table[-4] &= 0xFE
    elf.put_word("tag DT_GNU_HASH", len(elf.data))
    elf.data += table
    elf.put("segment 0", "QQ", len(elf.data), len(elf.data), beyond=32)


def no_ends(elf: Elf) -> None:
    (size,) = struct.unpack_from("<Q", elf.data, elf.at["tag DT_STRSZ"])
    start = elf.at["dynstr"]
    elf.data[start : start + size] = b"\0" + b"x" * (size - 1)


@pytest.mark.parametrize("name", LIES)
def test_lies(name: str) -> None:
    lie, words = LIES[name]
    elf = build()
    elf.at["start"] = 0
    lie(elf)
    with pytest.raises(BadImage) as caught:
        Image.from_bytes(bytes(elf))
    assert words in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 1


@MACHINES
def test_cut_off_anywhere(machine: str) -> None:
    data = bytes(build(machine, sections=False))
    for size in range(0, len(data) - 1, 3):
        with pytest.raises(BadImage):
            Image.from_bytes(data[:size])


def test_names_that_overlap_are_bounded() -> None:
    """A symbol for every byte of one long name: as many names as bytes, and their sum a square."""
    long = 4000
    count = 12_000
    symbols = [Symbol("f", 0, 4), Symbol("x" * long, 0, 4)]
    elf = build(symbols=symbols, hashes=[], versions=False, sections=False)
    row = elf.data[elf.at["symbol f"] : elf.at["symbol f"] + 24]
    (name,) = struct.unpack_from("<I", elf.data, elf.at[f"symbol {'x' * long}"])
    table, words = len(elf.data), count + 3 + 1
    elf.data += bytes(24)
    for index in range(count):
        elf.data += struct.pack("<I", name + index % long) + row[4:]
    hashed = len(elf.data)
    elf.data += struct.pack(f"<{words}I", 1, count + 1, *[0] * (words - 2))
    elf.put_word("tag DT_SYMTAB", table)
    # In the place of DT_SYMENT, which nobody needs.
    elf.put_word("tag DT_SYMENT", 4, beyond=-8).put_word("tag DT_SYMENT", hashed)
    elf.put("segment 0", "QQ", len(elf.data), len(elf.data), beyond=32)
    with pytest.raises(BadImage, match="overlap"):
        Image.from_bytes(bytes(elf))


def test_too_much_to_be_an_image() -> None:
    with pytest.raises(BadImage, match="largest"):
        Image.from_bytes(bytes((64 << 20) + 1))


@pytest.mark.parametrize("name", ["\udcff", "\ud800time", "t\u00efme", "\0"])
def test_names_that_no_image_has(name: str) -> None:
    assert Image.from_process().lookup(name) is None
