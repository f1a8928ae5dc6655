"""Which function an address is in: symbol tables, files of symbols, and what they do not say."""

import lzma
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from programs import BASE, IFUNC, LOCAL, NOTYPE, TEXT, WEAK, Symbol, build

from vdso.kernel.file import File
from vdso.measure.callers import debugfiles
from vdso.measure.callers.objects import Object
from vdso.measure.callers.symbols import Symbols

START = BASE + TEXT


def symbols(*known: Symbol, names: tuple[str, str] = (".symtab", ".strtab")) -> Symbols:
    return Symbols(Object("made", build(symbols=known, names=names).data), "/nowhere/made")


def names(of: Symbols, addresses: Sequence[int]) -> list[str | None]:
    found = [of.find(START + address) for address in addresses]
    return [symbol.name if symbol is not None else None for symbol in found]


def test_a_symbol_names_what_its_size_covers() -> None:
    known = symbols(Symbol("first", START, 16), Symbol("second", START + 32, 16))
    assert names(known, [-1, 0, 15, 16, 31, 32, 47, 48]) == [
        None, "first", "first", None, None, "second", "second", None,
    ]  # fmt: skip
    found = known.find(START + 40)
    assert found is not None
    assert (found.start, found.source) == (START + 32, ".symtab")


def test_assembly_without_a_size_reaches_up_to_the_next() -> None:
    known = symbols(
        Symbol("bare", START, 0, NOTYPE), Symbol("next", START + 32, 16), Symbol("last", START + 64, 0)
    )
    assert names(known, [0, 31, 32, 48, 64, 255, 256]) == ["bare", "bare", "next", None, "last", "last", None]


def test_of_several_names_the_one_that_others_call() -> None:
    known = symbols(
        Symbol("__GI___clock_gettime", START, 16, binding=LOCAL),
        Symbol("__clock_gettime", START, 16),
        Symbol("clock_gettime@@GLIBC_2.17", START, 16, binding=WEAK),
        Symbol("label", START, 16, NOTYPE),
    )
    assert names(known, [4]) == ["clock_gettime"]


def test_a_function_around_others() -> None:
    known = symbols(
        Symbol("around", START, 64), Symbol("within", START + 16, 8), Symbol("chosen", START + 96, 8, IFUNC)
    )
    assert names(known, [15, 16, 23, 24, 63, 64, 96]) == [
        "around", "within", "within", "around", "around", None, "chosen",
    ]  # fmt: skip


def test_what_is_no_function() -> None:
    data, absolute = 1, 0xFFF1
    known = symbols(
        Symbol("variable", START, 16, data),
        Symbol("constant", START, 16, section=absolute),
        Symbol("", START, 16),
    )
    assert names(known, [4]) == [None]


def test_exported_names() -> None:
    known = symbols(Symbol("exported", START, 16), names=(".dynsym", ".dynstr"))
    found = known.find(START)
    assert found is not None
    assert (found.name, found.source) == ("exported", ".dynsym")


def test_names_are_printable() -> None:
    assert names(symbols(Symbol("a\x1b[31m\nb", START, 16)), [0]) == ["a\\x1b[31m\\nb"]


def test_a_name_without_an_end() -> None:
    made = build(symbols=[Symbol("cut", START, 16)])
    data = bytearray(made.data)
    # The first symbol's name is said to be far behind all strings.
    struct.pack_into("<I", data, made.at[".symtab"] + 24, 1 << 30)
    assert Symbols(Object("made", bytes(data)), "").find(START) is None


# ---- symbols that were taken out ----

BUILD_ID = bytes(range(20))
TAKEN = [Symbol("taken_out", START, 16)]


@pytest.fixture
def debug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of the files of symbols."""
    monkeypatch.setattr(debugfiles, "DIRECTORY", str(tmp_path / "debug"))
    return tmp_path / "debug"


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def test_a_file_of_symbols_by_the_builds_id(debug: Path) -> None:
    path = debug / ".build-id" / "00" / f"{BUILD_ID.hex()[2:]}.debug"
    write(path, build(symbols=TAKEN, build_id=BUILD_ID).data)
    of = Object("made", build(build_id=BUILD_ID).data)
    found = Symbols(of, "/bin/made").find(START)
    assert found is not None
    assert (found.name, found.source) == ("taken_out", str(path))
    # The same file for a build of another id, as a stale link has it.
    write(path, build(symbols=TAKEN, build_id=bytes(20)).data)
    assert Symbols(of, "/bin/made").find(START) is None


@pytest.mark.parametrize("place", ["", ".debug/", "debug"])
def test_a_file_of_symbols_by_the_objects_link(debug: Path, tmp_path: Path, place: str) -> None:
    symbols_of = build(symbols=TAKEN).data
    link = b"made.debug\0\0" + struct.pack("<I", zlib.crc32(symbols_of))
    of = Object("made", build(extra=[(".gnu_debuglink", link)]).data)
    directory = tmp_path / "bin"
    write(
        Path(f"{debug}{directory}/made.debug") if place == "debug" else directory / f"{place}made.debug",
        symbols_of,
    )
    assert names(Symbols(of, str(directory / "made")), [0]) == ["taken_out"]
    for stale in directory.rglob("made.debug"):
        stale.write_bytes(symbols_of + b"\0")
        assert names(Symbols(of, str(directory / "made")), [0]) == [None]


def test_a_link_out_of_its_directory_is_not_followed(tmp_path: Path) -> None:
    symbols_of = build(symbols=TAKEN).data
    (tmp_path / "made.debug").write_bytes(symbols_of)
    name = os.fsencode("../made.debug")
    link = name + bytes(4 - len(name) % 4) + struct.pack("<I", zlib.crc32(symbols_of))
    of = Object("made", build(extra=[(".gnu_debuglink", link)]).data)
    assert names(Symbols(of, str(tmp_path / "bin" / "made")), [0]) == [None]


def test_symbols_of_a_prelinked_object(debug: Path) -> None:
    path = debug / ".build-id" / "00" / f"{BUILD_ID.hex()[2:]}.debug"
    at_zero = [Symbol("taken_out", TEXT, 16)]
    write(path, build(symbols=at_zero, build_id=BUILD_ID, position_independent=True).data)
    of = Object("made", build(build_id=BUILD_ID).data)
    found = Symbols(of, "/bin/made").find(START + 4)
    assert found is not None
    assert (found.name, found.start) == ("taken_out", START)


def test_symbols_that_are_packed_into_the_object(tmp_path: Path) -> None:
    packed = lzma.compress(build(symbols=TAKEN).data, lzma.FORMAT_XZ)
    path = tmp_path / "made"
    path.write_bytes(build(extra=[(".gnu_debugdata", packed)]).data)
    with File(str(path)) as file:
        found = Symbols(Object("made", file), str(path)).find(START)
    assert found is not None
    assert (found.name, found.source) == ("taken_out", ".gnu_debugdata")


@pytest.mark.parametrize(
    "packed", [b"\xfd7zXZ\0nonsense", lzma.compress(b"no ELF file", lzma.FORMAT_XZ), b""]
)
def test_what_is_packed_and_no_object(packed: bytes) -> None:
    of = Object("made", build(extra=[(".gnu_debugdata", packed)]).data)
    assert Symbols(of, "").find(START) is None
