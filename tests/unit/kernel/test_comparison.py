"""What differs between two images, and what the kernel's patching, moved code and moved pages must not hide
or show.
"""

import struct
from dataclasses import replace

import elves
import pytest
from elves import Symbol

from vdso.errors import SourceError
from vdso.kernel import Image, alternatives
from vdso.kernel.comparison import NO_NAME, READ_ONLY_DATA, Comparison, compare

RDTSC = bytes.fromhex("0f31")
RDTSCP = bytes.fromhex("0f01f9")
LFENCE_RDTSC = bytes.fromhex("0faee80f31")
CPUID = bytes.fromhex("0fa2")
NOPS = {0: b"", 1: b"\x90", 2: b"\x66\x90", 3: b"\x0f\x1f\x00"}
SITE_BYTES = 5
FEATURES = {LFENCE_RDTSC: 0x71, RDTSCP: 0x3B}


def filled(code: bytes) -> bytes:
    """As the kernel fills up a place that it patches."""
    return code + NOPS[SITE_BYTES - len(code)]


def image(
    now: bytes = RDTSC,
    *,
    replacements: tuple[bytes, ...] = (LFENCE_RDTSC, RDTSCP),
    page: int = -0x2000,
    second_page: int = -0x1000,
    constant: int = 1,
    listed: bool = True,
    read_only: bytes = b"constant",
    symbols: tuple[Symbol, ...] = elves.USUAL,
    entry: str = "iiIBB",
    nameless: bytes = b"",
    machine: str = "x86-64",
    note: int = 0x06_0C_22,
    renumbered: int = 0,
) -> Image:
    """An image whose clock_gettime reads two pages and the counter, and whose time calls it."""
    elf = elves.build(machine)
    # Twice: the second time it is known where everything comes to lie.
    for _ in range(2):
        text = elf.at["text"]
        code = b"\x48\x8b\x05" + struct.pack("<i", page + 0x80 - text - 7)
        code += b"\x48\x8b\x0d" + struct.pack("<i", second_page + 0x88 - text - 14)
        site = text + len(code)
        code += filled(now)
        code += b"\x74\x05" + b"\xb8" + struct.pack("<i", constant) + b"\xc3"
        code = code.ljust(48, b"\xcc")
        code += b"\xe8" + struct.pack("<i", -48 - 5) + b"\xc3"
        code = code.ljust(64, b"\xcc") + b"\x31\xc0\xc3"
        code = code.ljust(96, b"\xcc") + nameless
        entries = b""
        at, to = elf.at.get("altinstructions", 0), elf.at.get("altinstr_replacement", 0)
        for index, code_of in enumerate(replacements):
            here = at + index * struct.calcsize("<" + entry)
            more = (0,) * (len(entry) - 5)
            feature = FEATURES.get(code_of, 0x22) + renumbered
            entries += struct.pack(
                "<" + entry, site - here, to - here - 4, feature, SITE_BYTES, len(code_of), *more
            )
            to += len(code_of)
        elf = elves.build(
            machine,
            symbols,
            code=code,
            read_only=read_only,
            sections=listed,
            note=note,
            alternatives=entries if listed else b"",
            replacements=b"".join(replacements),
        )
    return Image.from_bytes(bytes(elf))


def changed(found: Comparison) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {change.name: (change.kind, change.what) for change in found.functions}


def test_the_places_are_found() -> None:
    for entry in ("iiIBB", "iiHBB", "iiHBBB"):
        sites = alternatives.sites(image(entry=entry))
        assert sites is not None
        (site,) = sites.values()
        assert site.size == SITE_BYTES
        assert [each.size for each in site.replacements] == [5, 3]
    assert alternatives.sites(image(listed=False)) is None
    assert alternatives.sites(Image.from_bytes(bytes(elves.build()))) is None


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("a", [RDTSC, RDTSCP, LFENCE_RDTSC])
@pytest.mark.parametrize("b", [RDTSC, RDTSCP, LFENCE_RDTSC])
def test_what_the_kernel_patches_is_no_change(a: bytes, b: bytes, listed: bool) -> None:
    found = compare(image(a, listed=listed), image(b, listed=listed))
    assert (found.same, found.functions, found.other) == (True, (), ())
    assert found.patched == (1 if listed else 0)


def test_an_image_in_memory_that_shows_no_list() -> None:
    assert compare(image(RDTSC), image(RDTSCP, listed=False)).same


@pytest.mark.parametrize("listed", [True, False])
def test_two_originals_that_differ(listed: bool) -> None:
    found = compare(image(RDTSC, listed=listed), image(CPUID, listed=listed))
    assert changed(found) == dict.fromkeys(("__vdso_clock_gettime", "clock_gettime"), ("changed", ("code",)))


def test_a_place_that_may_become_something_else() -> None:
    assert not compare(image(), image(replacements=(LFENCE_RDTSC,))).same
    assert not compare(image(), image(replacements=(LFENCE_RDTSC, CPUID))).same
    assert not compare(image(), image(replacements=(RDTSCP, LFENCE_RDTSC))).same


def test_for_other_cpus() -> None:
    """Features have other numbers in other kernels; in one they are the same or it is another CPU's."""
    assert not compare(image(), image(renumbered=1)).same
    assert compare(image(), image(renumbered=1, note=0x06_0D_00)).same
    assert not compare(image(), image(renumbered=1, note=0x06_0C_00)).same


@pytest.mark.parametrize("listed", [True, False])
def test_one_constant(listed: bool) -> None:
    found = compare(image(listed=listed), image(constant=2, listed=listed))
    assert not found.same
    assert changed(found) == dict.fromkeys(("__vdso_clock_gettime", "clock_gettime"), ("changed", ("code",)))
    assert found.other == ()


@pytest.mark.parametrize("listed", [True, False])
def test_code_that_moved(listed: bool) -> None:
    a, b = image(listed=listed), image(listed=listed, symbols=(*elves.USUAL, Symbol("__vdso_new", 64, 8)))
    assert a.functions[0].value != b.functions[0].value
    found = compare(a, b)
    assert changed(found) == {"__vdso_new": ("added", ())}
    assert changed(compare(b, a)) == {"__vdso_new": ("removed", ())}


def test_pages_that_moved() -> None:
    found = compare(image(), image(page=-0x6000, second_page=-0x5000))
    assert found.same
    assert found.moved_pages
    assert not compare(image(), image()).moved_pages


def test_another_page_is_a_change() -> None:
    """Both accesses to one page, where they went to two, and the other way about."""
    for pages in ((-0x1000, -0x1000), (-0x2000, -0x2000)):
        one = image(page=pages[0], second_page=pages[1])
        assert not compare(image(), one).same
        assert not compare(one, image()).same


def test_versions_bindings_and_sizes() -> None:
    other = tuple(
        replace(symbol, **changes)
        for symbol, changes in zip(
            elves.USUAL,
            ({}, {"binding": elves.GLOBAL}, {"size": 12}, {"version": "LINUX_9"}, {}),
            strict=True,
        )
    )
    found = changed(compare(image(), image(symbols=other)))
    assert found["clock_gettime"] == ("changed", ("binding",))
    assert found["__vdso_time"][1][0] == "size"
    assert found["time"] == ("changed", ("version",))
    assert "__vdso_getcpu" not in found


def test_what_is_no_function() -> None:
    assert compare(image(), image(read_only=b"another!")).other == (READ_ONLY_DATA,)
    nameless = compare(image(nameless=b"\x31\xc0\xc3"), image(nameless=b"\x31\xc9\xc3"))
    assert (nameless.same, nameless.functions, nameless.other) == (False, (), (NO_NAME,))
    assert compare(image(nameless=b"\x31\xc0\xc3"), image()).other == (NO_NAME,)


def test_too_much_code() -> None:
    with pytest.raises(SourceError, match="4 MiB"):
        compare(image(), image(nameless=b"\x31\xc0" * (3 << 20)))


def test_of_different_machines() -> None:
    found = compare(image(), Image.from_bytes(bytes(elves.build("arm64"))))
    assert not found.same
    assert {change.what for change in found.functions} == {("version",)}


@pytest.mark.parametrize("machine", elves.MACHINES)
def test_of_every_machine(machine: str) -> None:
    def one(code: bytes) -> Image:
        return Image.from_bytes(bytes(elves.build(machine, code=code)))

    code = bytes(range(96))
    assert compare(one(code), one(code)).same
    found = compare(one(code), one(code[:50] + b"\xa5\x5a" + code[52:]))
    assert changed(found) == dict.fromkeys(("__vdso_time", "time"), ("changed", ("code",)))


def test_a_machine_without_a_disassembler() -> None:
    def one(code: bytes) -> Image:
        elf = elves.build(code=code)
        elf.data[18] = 0xFE
        return Image.from_bytes(bytes(elf))

    assert one(b"").machine == "machine-254"
    assert compare(one(b""), one(b"")).same
    assert not compare(one(b""), one(b"\1")).same
