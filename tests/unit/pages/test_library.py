"""The file of a live library, looked at by everything that looks at ELF files."""

import itertools
import mmap
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from elftools.dwarf.callframe import FDE
from elftools.elf.elffile import ELFFile
from harness import finish, want

from vdso.errors import BadSchema
from vdso.pages import fieldtable, library, readercode
from vdso.pages.functions import functions
from vdso.pages.schema import Layout, arrayed, make, nested, parse_type, scalar

SMALL = make("small", [("bid", scalar("f64"))])
QUOTE = make(
    "quote",
    [
        (name, parse_type(kind, name))
        for name, kind in [("bid", "f64"), ("venue", "str[16]"), ("depth", "f64[10]")]
    ],
)
MANY = make("many", [(f"field_{number}", scalar("u32")) for number in range(4000)])
DEEP = make(
    "deep",
    [("levels", arrayed(nested(QUOTE), (5,), "levels")), ("one", nested(SMALL)), ("flag", scalar("bool"))],
)
LARGE = make("large", [("cells", parse_type("f64[8000000]", "cells"))])
LAYOUTS = {"small": SMALL, "quote": QUOTE, "many": MANY, "deep": DEEP}


def write(directory: Path, layout: Layout, name: str = "quotes", slots: int = 4) -> Path:
    made = library.build(layout, name, slots=slots)
    path = directory / f"{name}.so"
    with path.open("wb") as file:
        file.write(made.prefix)
        file.truncate(made.size)
    return path


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> Layout:
    return LAYOUTS[request.param]


@pytest.fixture
def path(tmp_path: Path, layout: Layout) -> Path:
    return write(tmp_path, layout)


def test_readelf_has_nothing_to_say(path: Path) -> None:
    done = finish([want("readelf", "binutils"), "-aW", path])
    assert (done.returncode, done.stderr) == (0, "")
    assert "arning" not in done.stdout
    assert "rror" not in done.stdout
    assert "There are no relocations in this file." in done.stdout
    done = finish(["readelf", "-WwfF", path])
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("options", [[], ["--gnu-ld"], ["--strict"]])
def test_elflint_is_content(options: list[str], path: Path) -> None:
    done = finish([want("eu-elflint", "elfutils"), *options, path])
    assert (done.returncode, done.stdout, done.stderr) == (0, "No errors\n", "")


def test_binutils_understand(path: Path) -> None:
    done = finish(["objdump", "-d", path])
    assert (done.returncode, done.stderr) == (0, "")
    assert "(bad)" not in done.stdout
    names = finish(["nm", "-D", "--defined-only", path])
    assert (names.returncode, names.stderr) == (0, "")
    # Functions alone: an object would invite a copy relocation.
    assert {line.split()[1] for line in names.stdout.splitlines()} == {"T"}


def test_segments(path: Path) -> None:
    """The page is one of its own that nobody may write to; nothing is both written and executed."""
    with path.open("rb") as file:
        elf = ELFFile(file)
        segments = [segment for segment in elf.iter_segments() if segment["p_type"] == "PT_LOAD"]
        assert [segment["p_flags"] for segment in segments] == [4, 5, 6, 4]
        page = segments[-1]
        assert page["p_filesz"] == page["p_memsz"] == page["p_align"] * (page["p_filesz"] // mmap.PAGESIZE)
        assert page["p_offset"] + page["p_filesz"] == path.stat().st_size
        assert all(one["p_vaddr"] % mmap.PAGESIZE == one["p_offset"] % mmap.PAGESIZE == 0 for one in segments)
        for one, other in itertools.pairwise(segments):
            assert one["p_vaddr"] + one["p_memsz"] <= other["p_vaddr"]
        stack = next(segment for segment in elf.iter_segments() if segment["p_type"] == "PT_GNU_STACK")
        assert stack["p_flags"] == 6
        tags = {tag.entry.d_tag for tag in elf.get_section_by_name(".dynamic").iter_tags()}
        assert {"DT_HASH", "DT_GNU_HASH", "DT_SONAME"} <= tags
        assert not tags & {
            "DT_RELA",
            "DT_REL",
            "DT_TEXTREL",
            "DT_INIT",
            "DT_INIT_ARRAY",
            "DT_NEEDED",
            "DT_RUNPATH",
        }


def test_every_name_is_found_by_both_hashes(path: Path, layout: Layout) -> None:
    with path.open("rb") as file:
        elf = ELFFile(file)
        names = [symbol.name for symbol in elf.get_section_by_name(".dynsym").iter_symbols()][1:]
        wanted = []
        for function in functions(layout, 4, 64):
            wanted.append(f"quotes_{function.name}")
            if function.tag is not None:
                wanted.append(f"quotes_{function.name}.{function.tag}")
        assert sorted(names) == sorted(wanted)
        for section in (".hash", ".gnu.hash"):
            table = elf.get_section_by_name(section)
            assert all(table.get_symbol(name).name == name for name in names[:: max(1, len(names) // 300)])
            assert table.get_symbol("quotes_nothing") is None


def test_what_it_says_of_itself(layout: Layout) -> None:
    made = library.build(layout, "quotes", slots=8)
    table = made.prefix[made.fields_offset : made.fields_offset + made.fields_size]
    assert fieldtable.decode(table) == layout
    assert len(made.prefix) == made.page_offset
    assert made.page_offset % mmap.PAGESIZE == made.size % mmap.PAGESIZE == 0
    stride = (layout.record_size + 8 + 63) // 64 * 64
    assert made.size - made.page_offset == -(-(192 + 8 * stride) // mmap.PAGESIZE) * mmap.PAGESIZE


def test_the_same_every_time_and_another_identity_for_another_layout() -> None:
    def identity(made: library.Library) -> bytes:
        at = made.prefix.index(struct.pack("<III4s", 4, 20, 3, b"GNU"))
        return made.prefix[at + 16 : at + 36]

    first = library.build(QUOTE, "quotes", slots=4)
    assert first == library.build(QUOTE, "quotes", slots=4)
    others = [
        library.build(SMALL, "quotes", slots=4),
        library.build(QUOTE, "quotes", slots=8),
        library.build(QUOTE, "prices", slots=4),
    ]
    assert len({identity(made) for made in (first, *others)}) == 4


def test_a_large_page(tmp_path: Path) -> None:
    """Half a gigabyte behind a few pages: distances from the code go to the page's header only."""
    made = library.build(LARGE, "large", slots=8)
    assert made.size - made.page_offset > 8 * 64_000_000
    path = write(tmp_path, LARGE, "large", 8)
    script = f"import ctypes; print(ctypes.CDLL({str(path)!r}).large_version())"
    done = finish([sys.executable, "-c", script])
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_two_fields_of_one_name_are_refused() -> None:
    with pytest.raises(BadSchema):
        library.build(make("bad", [("a", nested(SMALL)), ("a_bid", scalar("f64"))]), "bad", slots=4)


def test_building_imports_little() -> None:
    """Publishing is quick because it reads no ELF library and compiles nothing."""
    script = (
        "import sys; from vdso.pages import library, schema;"
        "library.build(schema.make('r', [('a', schema.scalar('f64'))]), 'a', slots=4);"
        "heavy = ('elftools', 'rich', 'subprocess', 'ctypes', 'hashlib', 'numpy');"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_unwind_information_covers_all_code(path: Path) -> None:
    """All functions and trampolines; in order, and by the header's table too."""
    with path.open("rb") as file:
        elf = ELFFile(file)
        dwarf = elf.get_dwarf_info()
        entries = [entry for entry in dwarf.EH_CFI_entries() if isinstance(entry, FDE)]
        ranges = sorted(
            (entry["initial_location"], entry["initial_location"] + entry["address_range"])
            for entry in entries
        )
        text = elf.get_section_by_name(".text")
        functions_ = [
            (symbol["st_value"], symbol["st_value"] + symbol["st_size"])
            for symbol in elf.get_section_by_name(".symtab").iter_symbols()
            if symbol["st_info"]["type"] == "STT_FUNC"
        ]
        assert all(any(low <= start and end <= high for low, high in ranges) for start, end in functions_)
        assert ranges[-1][1] == text["sh_addr"] + text["sh_size"]
        header = elf.get_section_by_name(".eh_frame_hdr")
        data = header.data()
        count = struct.unpack_from("<I", data, 8)[0]
        pairs = struct.iter_unpack("<ii", data[12 : 12 + 8 * count])
        assert [header["sh_addr"] + start for start, _ in pairs] == [low for low, _ in ranges]


def test_the_reader_code_is_alone() -> None:
    """Nothing undefined, no data, no relocation, and no reference to where it was linked."""
    with open(readercode.PATH, "rb") as file:
        elf = ELFFile(file)
        assert {section.name for section in elf.iter_sections() if section["sh_flags"] & 2} == {
            ".text",
            ".eh_frame",
        }
        assert not [
            section for section in elf.iter_sections() if section["sh_type"] in ("SHT_REL", "SHT_RELA")
        ]
        symbols = elf.get_section_by_name(".symtab").iter_symbols()
        undefined = [symbol.name for symbol in symbols if symbol["st_shndx"] == "SHN_UNDEF"]
        assert undefined == [""]
    assert os.stat(readercode.PATH).st_mode & 0o777 == 0o644
