"""The built images, held to what consumers demand of the ELF and to the rules that they are built by."""

import ctypes
import io
import os
import re
import struct
import subprocess
from collections.abc import Iterator

import pytest
from elftools.dwarf.callframe import FDE
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerDefSection, GNUVerSymSection
from elftools.elf.segments import NoteSegment

from vdso import _core
from vdso.swap.run import COUNTING_IMAGE, IMAGE

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
PREFIX = "__vdso_"
UNPREFIXED = {"clock_gettime", "gettimeofday", "time", "clock_getres", "getcpu", "getrandom"}
EXPORTED = {PREFIX + name for name in UNPREFIXED} | {"__vdso_sgx_enter_enclave"}
VERSION = "LINUX_2.6"
FRAME_MAX = 256
AT_SYSINFO_EHDR = 33
KERNEL_IMAGE_BYTES = 8192

Symbol = tuple[str, int, int, int, int, int]  # name, info, shndx, value, size, index


class Mapped:
    """An image as its consumers read it: from the mapped bytes, by program headers and dynamic tags alone."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        offset, size, count = struct.unpack_from("=Q14xHH", data, 32)
        self.segments = [struct.unpack_from("=IIQQQQQQ", data, offset + i * size) for i in range(count)]
        dynamic = next(segment for segment in self.segments if segment[0] == 2)
        pairs = [struct.unpack_from("=QQ", data, dynamic[2] + at) for at in range(0, dynamic[5], 16)]
        assert pairs[-1] == (0, 0)
        self.tags = dict(pairs)

    def word(self, at: int) -> int:
        return int(struct.unpack_from("=I", self.data, at)[0])

    def name(self, offset: int) -> str:
        start = self.tags[5] + offset
        return self.data[start : self.data.index(0, start)].decode()

    def symbol(self, index: int) -> Symbol:
        name, info, _, shndx, value, size = struct.unpack_from(
            "=IBBHQQ", self.data, self.tags[6] + 24 * index
        )
        return self.name(name), info, shndx, value, size, index

    def by_sysv(self, name: str) -> Symbol | None:
        hashed = 0
        for byte in name.encode():
            hashed = (hashed << 4) + byte
            high = hashed & 0xF0000000
            hashed = (hashed ^ high >> 24) & ~high & 0xFFFFFFFF
        table = self.tags[4]
        buckets = self.word(table)
        index = self.word(table + 8 + 4 * (hashed % buckets))
        while index and self.symbol(index)[0] != name:
            index = self.word(table + 8 + 4 * (buckets + index))
        return self.symbol(index) if index else None

    def by_gnu(self, name: str) -> Symbol | None:
        hashed = 5381
        for byte in name.encode():
            hashed = (hashed * 33 + byte) & 0xFFFFFFFF
        table = self.tags[0x6FFFFEF5]
        buckets, first, bloom, shift = struct.unpack_from("=IIII", self.data, table)
        (word,) = struct.unpack_from("=Q", self.data, table + 16 + 8 * (hashed // 64 % bloom))
        if not (word >> hashed % 64 & 1 and word >> (hashed >> shift) % 64 & 1):
            return None
        heads = table + 16 + 8 * bloom
        index = self.word(heads + 4 * (hashed % buckets))
        while index:
            chained = self.word(heads + 4 * (buckets + index - first))
            if chained | 1 == hashed | 1 and self.symbol(index)[0] == name:
                return self.symbol(index)
            if chained & 1:
                return None
            index += 1
        return None

    def count(self) -> int:
        if 4 in self.tags:
            return self.word(self.tags[4] + 4)
        # GNU hash alone, as some kernels': the end of the last chain.
        buckets, first, bloom, _ = struct.unpack_from("=IIII", self.data, self.tags[0x6FFFFEF5])
        heads = self.tags[0x6FFFFEF5] + 16 + 8 * bloom
        last = max(self.word(heads + 4 * i) for i in range(buckets))
        while not self.word(heads + 4 * (buckets + last - first)) & 1:
            last += 1
        return last + 1


def kernel_image() -> bytes:
    """This process's own [vdso], which is the kernel's."""
    with open("/proc/self/auxv", "rb") as stream:
        auxv = stream.read()
    address = next(value for key, value in struct.iter_unpack("=QQ", auxv) if key == AT_SYSINFO_EHDR)
    return ctypes.string_at(address, KERNEL_IMAGE_BYTES)


def identity_page() -> _core.ClockPage:
    page = _core.ClockPage.create("vdso-clock")
    page.set_identity()
    page.release()
    return page


@pytest.fixture(scope="module", params=[IMAGE, COUNTING_IMAGE], ids=["clock", "count"])
def path(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def data(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read()


def test_the_landing_is_entered_behind_the_image(elf: ELFFile, data: bytes) -> None:
    assert _core.IMAGE_BYTES <= elf["e_entry"] < _core.IMAGE_FILE_BYTES
    assert data[elf["e_entry"]] == 0x52, "push %rdx: its first instruction"


def test_the_annex_says_where_a_wait_is(elf: ELFFile, data: bytes) -> None:
    wait, step = struct.unpack_from("=II", data, _core.IMAGE_BYTES)
    symbols = elf.get_section_by_name(".symtab").iter_symbols()
    assert [symbol["st_value"] for symbol in symbols if symbol.name == "vdso_wait"] == [wait]
    assert _core.IMAGE_BYTES < step < _core.IMAGE_FILE_BYTES
    assert data[step : step + 4] == b"\xf3\x0f\x1e\xfa"  # endbr64: it is called through a pointer


@pytest.fixture(scope="module")
def elf(data: bytes) -> ELFFile:
    return ELFFile(io.BytesIO(data))


@pytest.fixture(scope="module")
def mapped(data: bytes) -> Mapped:
    return Mapped(data)


@pytest.fixture(scope="module")
def functions(elf: ELFFile) -> dict[str, tuple[int, int]]:
    """Value and size of the prefixed functions."""
    symbols = elf.get_section_by_name(".dynsym").iter_symbols()
    return {s.name: (s["st_value"], s["st_size"]) for s in symbols if s.name.startswith(PREFIX)}


@pytest.fixture(scope="module")
def code(path: str) -> str:
    return subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", path], capture_output=True, text=True, check=True
    ).stdout


def test_header(elf: ELFFile) -> None:
    ident = elf["e_ident"]
    assert (ident["EI_CLASS"], ident["EI_DATA"]) == ("ELFCLASS64", "ELFDATA2LSB")
    assert (ident["EI_OSABI"], ident["EI_ABIVERSION"]) == ("ELFOSABI_SYSV", 0)
    assert (elf["e_type"], elf["e_machine"]) == ("ET_DYN", "EM_X86_64")
    assert elf["e_phentsize"] == 56


def test_it_fits_where_the_kernels_stands(data: bytes) -> None:
    """The annex, behind the image in its file, stands elsewhere."""
    assert len(data) == _core.IMAGE_FILE_BYTES > _core.IMAGE_BYTES == KERNEL_IMAGE_BYTES


def test_one_segment_to_map(elf: ELFFile) -> None:
    load = [s for s in elf.iter_segments() if s["p_type"] == "PT_LOAD"]
    assert len(load) == 1
    assert (load[0]["p_offset"], load[0]["p_vaddr"]) == (0, 0)
    assert load[0]["p_flags"] == 5  # R-X
    assert load[0]["p_filesz"] == load[0]["p_memsz"] <= _core.IMAGE_BYTES
    assert load[0]["p_align"] == 4096
    assert elf["e_phoff"] + elf["e_phnum"] * 56 <= load[0]["p_filesz"]


def test_the_other_segments_only_describe(elf: ELFFile) -> None:
    load = next(s for s in elf.iter_segments() if s["p_type"] == "PT_LOAD")
    others = {s["p_type"]: s for s in elf.iter_segments() if s["p_type"] != "PT_LOAD"}
    for kind in ("PT_DYNAMIC", "PT_NOTE", "PT_GNU_EH_FRAME"):
        segment = others.pop(kind)
        assert segment["p_flags"] == 4, kind  # R
        assert segment["p_vaddr"] == segment["p_offset"]
        assert segment["p_offset"] + segment["p_filesz"] <= load["p_filesz"]
    # No PT_INTERP, PT_GNU_RELRO, PT_TLS (glibc asserts), and no segment twice.
    assert not set(others) - {"PT_GNU_STACK"}
    assert elf.num_segments() == 4 + len(others)


def test_nothing_to_relocate_or_write(elf: ELFFile, mapped: Mapped) -> None:
    for section in elf.iter_sections():
        assert section["sh_type"] not in ("SHT_RELA", "SHT_REL", "SHT_RELR", "SHT_NOBITS"), section.name
        assert not section["sh_flags"] & 0x400, f"{section.name} is thread-local"
        if section["sh_flags"] & 1:  # SHF_WRITE, of which only the linker's habit for .dynamic is left
            assert section.name == ".dynamic"
    relocating = {
        "NEEDED": 1, "PLTRELSZ": 2, "PLTGOT": 3, "RELA": 7, "RELASZ": 8, "INIT": 12, "FINI": 13, "REL": 17,
        "TEXTREL": 22, "JMPREL": 23, "INIT_ARRAY": 25, "RELR": 36, "RELACOUNT": 0x6FFFFFF9,
    }  # fmt: skip
    assert not {name for name, tag in relocating.items() if tag in mapped.tags}
    assert not mapped.tags.get(30, 0) & ~2  # DT_FLAGS: DF_SYMBOLIC at the most
    for symbol in elf.get_section_by_name(".dynsym").iter_symbols():
        assert symbol["st_shndx"] != "SHN_UNDEF" or not symbol.name


def test_dynamic_tags(elf: ELFFile, mapped: Mapped) -> None:
    """Chromium's and abseil's parsers assert every one; addresses count from the image's first byte."""
    dynamic = next(s for s in elf.iter_segments() if isinstance(s, DynamicSegment))
    load = next(s for s in elf.iter_segments() if s["p_type"] == "PT_LOAD")
    tags = [tag.entry.d_tag for tag in dynamic.iter_tags()]
    addresses = {"DT_HASH", "DT_GNU_HASH", "DT_STRTAB", "DT_SYMTAB", "DT_VERSYM", "DT_VERDEF"}
    for name in addresses | {"DT_STRSZ", "DT_SYMENT", "DT_VERDEFNUM", "DT_SONAME", "DT_NULL"}:
        assert tags.count(name) == 1, name
    for tag in dynamic.iter_tags():
        if tag.entry.d_tag in addresses:
            assert 0 < tag.entry.d_ptr < load["p_filesz"], tag.entry.d_tag
            assert tag.entry.d_ptr % 8 == 0 or tag.entry.d_tag in ("DT_STRTAB", "DT_VERSYM"), tag.entry.d_tag
    assert mapped.tags[11] == 24
    assert mapped.tags[5] + mapped.tags[10] <= load["p_filesz"]


def test_soname(mapped: Mapped) -> None:
    assert mapped.name(mapped.tags[14]) == "linux-vdso.so.1"


def test_versions(elf: ELFFile, mapped: Mapped) -> None:
    """Go follows VERDEF unchecked; by another name glibc loses gettimeofday and time, and rustix panics."""
    section = elf.get_section_by_name(".gnu.version_d")
    assert isinstance(section, GNUVerDefSection)
    definitions = [(d, [aux.name for aux in names]) for d, names in section.iter_versions()]
    assert [names for _, names in definitions] == [["linux-vdso.so.1"], [VERSION]]
    assert [(d["vd_ndx"], d["vd_flags"], d["vd_version"]) for d, _ in definitions] == [(1, 1, 1), (2, 0, 1)]
    assert definitions[1][0]["vd_hash"] == 0x3AE75F6  # of "LINUX_2.6", as every consumer has it built in
    assert mapped.tags[0x6FFFFFFD] == 2
    versym = elf.get_section_by_name(".gnu.version")
    assert isinstance(versym, GNUVerSymSection)
    assert versym.num_symbols() == mapped.count()
    for symbol in versym.iter_symbols():
        if symbol.name:
            assert symbol["ndx"] == 2, symbol.name


def test_exports(elf: ELFFile, functions: dict[str, tuple[int, int]]) -> None:
    assert set(functions) == EXPORTED
    text = elf.get_section_by_name(".text")
    for symbol in elf.get_section_by_name(".dynsym").iter_symbols():
        if not symbol.name or symbol.name == VERSION:
            continue
        info = symbol["st_info"]
        assert info["type"] == "STT_FUNC", symbol.name
        assert symbol["st_other"]["visibility"] == "STV_DEFAULT"
        assert text["sh_addr"] <= symbol["st_value"] < text["sh_addr"] + text["sh_size"]
        assert symbol["st_size"] > 0
        if symbol.name.startswith(PREFIX):
            assert info["bind"] == "STB_GLOBAL", symbol.name
        else:
            assert info["bind"] == "STB_WEAK", symbol.name
            assert (symbol["st_value"], symbol["st_size"]) == functions[PREFIX + symbol.name]


def test_every_weak_name_is_there(mapped: Mapped) -> None:
    names = {mapped.symbol(i)[0] for i in range(1, mapped.count())}
    assert names - EXPORTED - {VERSION} == UNPREFIXED


@pytest.mark.parametrize("table", ["by_sysv", "by_gnu"])
def test_both_hash_tables_find_every_symbol(mapped: Mapped, table: str) -> None:
    for index in range(1, mapped.count()):
        symbol = mapped.symbol(index)
        assert getattr(mapped, table)(symbol[0]) == symbol
    for name in ("", "clock", "__vdso_clock_gettime64", "__vdso_clock_gettim", "__kernel_clock_gettime"):
        assert getattr(mapped, table)(name) is None


def test_it_has_every_function_of_this_kernels(mapped: Mapped) -> None:
    kernel = Mapped(kernel_image())
    theirs = {kernel.symbol(i)[0] for i in range(1, kernel.count())}
    assert "__vdso_clock_gettime" in theirs
    assert theirs <= {mapped.symbol(i)[0] for i in range(1, mapped.count())}


def test_the_package_knows_what_both_have(path: str) -> None:
    page = identity_page()
    with open(path, "rb") as image:
        local = _core.LocalImage(image.fileno(), page.reader_fd)
    assert set(local.functions) == UNPREFIXED | {"sgx_enter_enclave"}
    theirs = Mapped(kernel_image())
    for name, address in local.kernel.items():
        symbol = theirs.by_sysv(PREFIX + name) if 4 in theirs.tags else theirs.by_gnu(PREFIX + name)
        assert symbol is not None
        assert symbol[3] == address % 4096 + (symbol[3] & ~4095)


def test_section_headers_are_mapped(elf: ELFFile) -> None:
    """gdb and older bionic read them from memory, where there is nothing beyond the image's two pages."""
    assert elf["e_shnum"] > 0
    assert elf["e_shentsize"] == 64
    assert elf["e_shoff"] + elf["e_shnum"] * 64 <= _core.IMAGE_BYTES
    for section in elf.iter_sections():
        assert section["sh_offset"] + section["sh_size"] <= _core.IMAGE_BYTES, section.name
        if section["sh_flags"] & 2:
            assert section["sh_addr"] == section["sh_offset"], section.name
    assert elf.get_section(elf["e_shstrndx"])["sh_type"] == "SHT_STRTAB"


def test_notes(elf: ELFFile) -> None:
    segment = next(s for s in elf.iter_segments() if isinstance(s, NoteSegment))
    notes = {note["n_name"]: note["n_descdata"] for note in segment.iter_notes()}
    assert set(notes) == {"GNU", "vdso-project"}
    assert notes["vdso-project"] == b"\x01\0\0\0"


def frames(elf: ELFFile) -> Iterator[tuple[int, int, FDE]]:
    for entry in elf.get_dwarf_info().EH_CFI_entries():
        if isinstance(entry, FDE):
            start = entry["initial_location"]
            yield start, start + entry["address_range"], entry


def test_unwind_information(elf: ELFFile, functions: dict[str, tuple[int, int]]) -> None:
    ranges = [(start, end) for start, end, _ in frames(elf)]
    for name, (value, size) in functions.items():
        assert any(start <= value and value + size <= end for start, end in ranges), name


def test_unwind_index(elf: ELFFile, data: bytes) -> None:
    """The table that libgcc's unwinder searches, by PT_GNU_EH_FRAME: sorted, and complete."""
    header = next(s for s in elf.iter_segments() if s["p_type"] == "PT_GNU_EH_FRAME")["p_offset"]
    assert tuple(data[header : header + 4]) == (1, 0x1B, 0x03, 0x3B)
    (count,) = struct.unpack_from("=I", data, header + 8)
    table = [struct.unpack_from("=ii", data, header + 12 + 8 * i) for i in range(count)]
    starts = [header + start for start, _ in table]
    assert starts == sorted(starts)
    assert set(starts) == {start for start, _, _ in frames(elf)}


def test_frames_are_small(elf: ELFFile) -> None:
    """Go calls the vDSO on its small stacks; a goroutine's signal stack is no larger."""
    deepest = 0
    for start, _, entry in frames(elf):
        for row in entry.get_decoded().table:
            assert row["cfa"].expr is None
            assert row["cfa"].offset < FRAME_MAX, hex(start)
            deepest = max(deepest, row["cfa"].offset)
    assert deepest > 8


def test_frames_without_unwind_information_are_small(code: str) -> None:
    taken = [int(size, 16) for size in re.findall(r"sub +\$0x([0-9a-f]+),%rsp", code)]
    assert taken
    assert max(taken) < FRAME_MAX
    assert not re.findall(r"sub +%r\w+,%rsp", code)


def test_code_touches_neither_thread_nor_vector_state(code: str, path: str) -> None:
    """But for the thread pointer, which the counting image asks for by an instruction of its own."""
    assert "rdtscp" in code if path == IMAGE else "rdfsbase" in code
    assert not re.findall(r"%[fg]s\b", code)
    assert not re.findall(r"%[xyz]mm\d|%mm\d|%st\b", code)


def test_entries_begin_with_a_landing_pad(functions: dict[str, tuple[int, int]], data: bytes) -> None:
    for name, (value, _) in functions.items():
        assert data[value : value + 4] == b"\xf3\x0f\x1e\xfa", name  # endbr64


def test_code_does_not_leave_the_image(code: str, elf: ELFFile) -> None:
    """Direct calls and jumps stay inside; what leaves goes through the process page."""
    end = next(s for s in elf.iter_segments() if s["p_type"] == "PT_LOAD")["p_filesz"]
    direct = re.findall(r"\t(?:call|jmp|j[a-z]{1,3}) +([0-9a-f]+)\b", code)
    assert len(direct) > 30
    assert all(int(target, 16) < end for target in direct)
    process_page = 2**64 - 4096
    through = re.findall(r"\t(?:call|jmp) +\*-?0x[0-9a-f]+\(%rip\) +# ([0-9a-f]+)", code)
    assert through
    assert all(process_page <= int(slot, 16) < 2**64 for slot in through)


def build(out: str, *variant: str, **environment: str) -> bytes:
    source = os.path.join(ROOT, "c", "image")
    compiler = os.environ.get("CC", "cc").split()[-1]
    words = [
        "sh",
        os.path.join(source, "build.sh"),
        compiler,
        source,
        os.path.join(ROOT, "c", "include"),
        out,
        *variant,
    ]
    subprocess.run(words, check=True, timeout=60, env={"PATH": os.environ["PATH"], **environment})
    with open(out, "rb") as stream:
        return stream.read()


@pytest.mark.parametrize("variant", [[], ["counting"]], ids=["clock", "count"])
def test_the_environments_flags_stay_outside(variant: list[str], tmp_path: os.PathLike[str]) -> None:
    hostile = "-O0 -g3 -fstack-protector-all -fcf-protection=full -fsanitize=undefined -pg -flto -fno-pic"
    plain = build(os.path.join(tmp_path, "plain.so"), *variant)
    other = build(
        os.path.join(tmp_path, "other.so"),
        *variant,
        CFLAGS=hostile,
        CXXFLAGS=hostile,
        CPPFLAGS="-D_FORTIFY_SOURCE=3 -Dstatic= -include stdio.h",
        LDFLAGS="-Wl,-z,now,-z,relro,-z,separate-code -Wl,--hash-style=gnu -Wl,--as-needed -pie",
        CPATH=str(tmp_path),
        LC_ALL="C.UTF-8",
        SOURCE_DATE_EPOCH="1",
        LD_RUN_PATH="/opt/elsewhere",
    )
    assert plain == other
    assert len(plain) == _core.IMAGE_FILE_BYTES
