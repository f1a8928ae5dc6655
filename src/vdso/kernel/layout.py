"""Where things lie in the kernel's data page: by its own types, by its code, or by its version.

Three ways, each on its own, and none of them guesses: what it cannot tell raises. That a layout is right is
for vdso.kernel.proof to show; here is only what is claimed. x86-64; what another architecture has to supply
stands in `Machine`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from vdso import _core
from vdso.errors import BadBtf, SourceError, VvarUnproven
from vdso.kernel import btf, timecode
from vdso.kernel.image import Image

PAGE_BYTES = 4096
BASE_BYTES = 16
BASES = 12  # by clock id, 0 to CLOCK_TAI
BASES_BYTES = BASES * BASE_BYTES
TAIL_BYTES = 16  # timezone and resolution, where each clock has its own
MODE_TIMENS = "timens"

METHODS = ("btf", "code", "table")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things lie. Pages are numbered from the first of [vvar]; all else is in bytes.

    `method`: how this was found out. `time_page` holds the clocks, or a time namespace's offsets, and then
    `namespace_page` the clocks. In either, the first clock is at `clocks` and the next `stride` on; `seq` to
    `bases` and `max_cycles` (None: this kernel has it not) are from a clock's first byte. `timezone` (minutes
    west, then DST) and `hrtimer_res` are from the page's first byte, `rng` is from that of [vvar] and
    `rng_ready` from there: None where this method cannot tell or the kernel has none. `modes`: enum
    vdso_clock_mode, by value.
    """

    method: str
    time_page: int
    namespace_page: int | None
    clocks: int
    stride: int
    seq: int
    mode: int
    cycle_last: int
    max_cycles: int | None
    mask: int
    mult: int
    shift: int
    bases: int
    timezone: int | None
    hrtimer_res: int | None
    rng: int | None
    rng_ready: int
    modes: Mapping[int, str]

    @property
    def clock_bytes(self) -> int:
        """How much of a clock is read: up to the end of its bases."""
        return self.bases + BASES_BYTES

    def differences(self, other: "Layout") -> list[str]:
        """Names of the fields in which the two, found in different ways, contradict each other."""
        return [
            field.name
            for field in dataclasses.fields(self)
            if field.name != "method"
            and None not in (mine := getattr(self, field.name), theirs := getattr(other, field.name))
            and mine != theirs
        ]


@dataclass(frozen=True, slots=True)
class Machine:
    """What an architecture has of its own: the modes of enum vdso_clock_mode, and the functions by their
    roles."""

    modes: Mapping[int, str]
    time: str
    clock_gettime: str
    getrandom: str


MACHINES = {
    "x86-64": Machine(
        {0: "none", 1: "tsc", 2: "pvclock", 3: "hvclock", timecode.INT_MAX: MODE_TIMENS},
        "__vdso_time",
        "__vdso_clock_gettime",
        "__vdso_getrandom",
    ),
}


def machine_of(image: Image) -> Machine:
    """Raises VvarUnproven for an architecture whose page nobody has proven."""
    try:
        return MACHINES[image.machine]
    except KeyError:
        raise VvarUnproven(
            f"no layout of the kernel's data page is proven on {image.machine}", "x86-64 has one"
        ) from None


def find(
    image: Image,
    before: int,
    size: int,
    method: str | None = None,
    types: Callable[[], btf.Btf] = btf.read,
) -> tuple[Layout, dict[str, str]]:
    """The layout of the page that belongs to this image, and why the methods before the one that told could
    not.

    [vvar], of `size` bytes, begins `before` bytes before the image. `method`: that one alone. `types` reads
    the kernel's types. Raises VvarUnproven.
    """
    machine = machine_of(image)
    refused = {}
    for name in METHODS if method is None else (method,):
        try:
            if name == "btf":
                found = by_btf(types(), machine, image, before, size)
            elif name == "code":
                found = by_code(machine, image, before, size)
            else:
                found = by_table(machine, image.version_note)
            within(found, size)
        except SourceError as error:
            refused[name] = error.message
        else:
            return found, refused
    raise VvarUnproven(
        "no layout of the kernel's data page is known: "
        + "; ".join(f"by {name}: {why}" for name, why in refused.items())
    )


def within(layout: Layout, size: int) -> None:
    """Raises VvarUnproven for a layout that reaches outside of [vvar]'s bytes, or out of a page."""
    pages = size // PAGE_BYTES
    named = (layout.time_page, layout.time_page if layout.namespace_page is None else layout.namespace_page)
    # (offset, bytes, of how many)
    parts = [(page, 1, pages) for page in named]
    words, long_words = (layout.seq, layout.mode, layout.mult, layout.shift), (layout.cycle_last, layout.mask)
    parts += [(offset, 4, layout.clock_bytes) for offset in words]
    parts += [(offset, 8, layout.clock_bytes) for offset in (*long_words, layout.max_cycles or 0)]
    parts += [(layout.bases, BASES_BYTES, _core.VVAR_CLOCK_BYTES_MAX), (layout.clock_bytes, 0, layout.stride)]
    parts.append((layout.clocks, layout.stride + layout.clock_bytes, PAGE_BYTES))
    parts += [(layout.timezone or 0, 8, PAGE_BYTES), (layout.hrtimer_res or 0, 4, PAGE_BYTES)]
    if layout.rng is not None:
        parts += [(layout.rng_ready - 8, 1, PAGE_BYTES), (layout.rng, layout.rng_ready + 1, size)]
    if any(offset < 0 or offset + of > end for offset, of, end in parts):
        raise VvarUnproven(f"by {layout.method}: what it says lies outside the {pages} pages of [vvar]")


# ---- by the kernel's types ----


def by_btf(types: btf.Btf, machine: Machine, image: Image, before: int, size: int) -> Layout:
    """By the kernel's BTF: `struct vdso_time_data` and `enum vdso_pages` (6.15 and later); before, `struct
    vdso_data`, and the code for the pages, which had no type. Raises BadBtf, VvarUnproven."""
    modes = types.enum("vdso_clock_mode")
    if modes is None:
        raise BadBtf("no enum vdso_clock_mode in the kernel's types")
    prefix = "VDSO_CLOCKMODE_"
    names = {
        value: name.removeprefix(prefix).lower()
        for name, value in sorted(modes.items())
        if name.startswith(prefix) and name != prefix + "MAX"
    }
    pages = types.enum("vdso_pages")
    whole = types.struct("vdso_time_data")
    clock = types.struct("vdso_clock")
    if whole is not None and clock is not None and pages is not None:
        data = _member(whole, "clock_data")
        if data.type_name != clock.name or data.count < 2 or data.size != clock.size * data.count:
            raise BadBtf("clock_data in the kernel's types is no array of struct vdso_clock")
        return Layout(
            method="btf",
            time_page=_page(pages, "TIME"),
            namespace_page=_page(pages, "TIMENS"),
            clocks=data.offset,
            stride=clock.size,
            timezone=_member(whole, "tz_minuteswest", 4).offset,
            hrtimer_res=_member(whole, "hrtimer_res", 4).offset,
            rng=_rng(types, _page(pages, "RNG")),
            rng_ready=_rng_ready(types),
            modes=names,
            **_clock(clock),
        )
    clock = types.struct("vdso_data")
    if clock is None:
        raise BadBtf("neither vdso_time_data, vdso_clock and vdso_pages nor vdso_data in the kernel's types")
    placed = by_code(machine, image, before, size)
    found = dataclasses.replace(
        placed,
        method="btf",
        stride=clock.size,
        timezone=placed.clocks + _member(clock, "tz_minuteswest", 4).offset,
        hrtimer_res=placed.clocks + _member(clock, "hrtimer_res", 4).offset,
        modes=names,
        **_clock(clock),
    )
    if different := found.differences(placed):
        raise VvarUnproven(f"the kernel's types and its code contradict each other in {', '.join(different)}")
    return found


def _clock(clock: btf.Struct) -> dict[str, Any]:
    bases = _member(clock, "basetime")
    if bases.count != BASES or bases.size != BASES_BYTES or bases.type_name != "vdso_timestamp":
        raise BadBtf(f"basetime in the kernel's types is no array of {BASES} struct vdso_timestamp")
    return {
        "seq": _member(clock, "seq", 4).offset,
        "mode": _member(clock, "clock_mode", 4).offset,
        "cycle_last": _member(clock, "cycle_last", 8).offset,
        "max_cycles": _member(clock, "max_cycles", 8).offset if "max_cycles" in clock.members else None,
        "mask": _member(clock, "mask", 8).offset,
        "mult": _member(clock, "mult", 4).offset,
        "shift": _member(clock, "shift", 4).offset,
        "bases": bases.offset,
    }


def _member(of: btf.Struct, name: str, size: int | None = None) -> btf.Member:
    member = of.members.get(name)
    if member is None:
        raise BadBtf(f"struct {of.name} has no {name} in the kernel's types")
    if size is not None and (member.size, member.count) != (size, 1):
        raise BadBtf(f"{name} of struct {of.name} has {member.size} bytes in the kernel's types, not {size}")
    return member


def _page(pages: Mapping[str, int], name: str) -> int:
    found = pages.get(f"VDSO_{name}_PAGE_OFFSET")
    if found is None:
        raise BadBtf(f"enum vdso_pages has no VDSO_{name}_PAGE_OFFSET in the kernel's types")
    return found


def _rng(types: btf.Btf, page: int) -> int | None:
    rng = types.struct("vdso_rng_data")
    return None if rng is None else page * PAGE_BYTES + _member(rng, "generation", 8).offset


def _rng_ready(types: btf.Btf) -> int:
    rng = types.struct("vdso_rng_data")
    return 8 if rng is None else _member(rng, "is_ready", 1).offset - _member(rng, "generation", 8).offset


# ---- by the kernel's code ----

# struct vdso_clock and, before, vdso_data begin with seq, mode, cycle_last, [max_cycles,] mask, mult, shift.
BASES_AT = {32: False, 40: True}  # whether max_cycles is there
CLOCKS_AT = (0, 128)  # 128 up to 6.12: arch/x86/include/asm/vvar.h


def by_code(machine: Machine, image: Image, before: int, size: int) -> Layout:
    """By what the code of time() reveals: the mode's place, that of REALTIME's seconds, and so whether
    max_cycles is between them; where the clocks are in a time namespace. The second clock and the random
    generator's data by what clock_gettime() and getrandom() name. Raises VvarUnproven."""
    time = image.lookup(machine.time)
    gettime = image.lookup(machine.clock_gettime)
    if time is None or gettime is None:
        raise VvarUnproven(f"the image has no {machine.time if time is None else machine.clock_gettime}")
    times = timecode.read_time(image.code(time), time.value)
    sec = times.sec + before
    page, sec = divmod(sec, PAGE_BYTES)
    clocks, bases = _split(sec, None if times.mode is None else times.mode + before - page * PAGE_BYTES)
    namespace_page = None
    if times.sec_in_namespace is not None:
        namespace_page, again = divmod(times.sec_in_namespace + before, PAGE_BYTES)
        if again != sec:
            raise VvarUnproven("time() looks elsewhere in the page of a time namespace")
    with_max = BASES_AT[bases]
    named = timecode.references(image.code(gettime), gettime.value)
    homes = {page, page if namespace_page is None else namespace_page}
    strides = (bases + BASES_BYTES, bases + BASES_BYTES + TAIL_BYTES)
    addressed = [
        stride
        for stride in strides
        if any(home * PAGE_BYTES + clocks + stride - before in named.addresses for home in homes)
    ]
    found = addressed or [stride for stride in strides if stride in named.numbers]
    if len(found) != 1:
        raise VvarUnproven("the code of clock_gettime() does not say where the second clock is")
    rng = image.lookup(machine.getrandom)
    return Layout(
        method="code",
        time_page=page,
        namespace_page=namespace_page,
        clocks=clocks,
        stride=found[0],
        seq=0,
        mode=4,
        cycle_last=8,
        max_cycles=16 if with_max else None,
        mask=bases - 16,
        mult=bases - 8,
        shift=bases - 4,
        bases=bases,
        timezone=None,
        hrtimer_res=None,
        rng=None if rng is None else _rng_named(image.code(rng), rng.value, before, size),
        rng_ready=8,
        modes=machine.modes,
    )


def _split(sec: int, mode: int | None) -> tuple[int, int]:
    """Where the first clock is in the page, and where in it its bases: from the places of REALTIME's seconds,
    which are the first base, and of the mode."""
    found = [
        (clocks, bases)
        for clocks in CLOCKS_AT
        for bases in BASES_AT
        if clocks + bases == sec and mode in (None, clocks + 4)
    ]
    if len(found) != 1:
        raise VvarUnproven(
            f"time() reads the mode at {mode} and seconds at {sec} of its page, as no kernel known does"
        )
    return found[0]


def _rng_named(code: bytes, start: int, before: int, size: int) -> int | None:
    """Where generation is: getrandom() names it and is_ready, 8 bytes on, and nothing else of [vvar]."""
    named = timecode.references(code, start).addresses
    places = {address + before for address in named if 0 <= address + before < size}
    first = min(places, default=0)
    return first if places == {first, first + 8} else None


# ---- by the kernel's version ----


@dataclass(frozen=True, slots=True)
class Row:
    """Kernels from `first` to `last` (None: and later), as (version, patch level), and what they have."""

    first: tuple[int, int]
    last: tuple[int, int] | None
    namespace_page: int
    clocks: int
    stride: int
    max_cycles: bool
    tail: bool
    rng: int | None


# include/vdso/datapage.h and arch/x86/include/asm/vvar.h of these kernels. What lies between the rows has
# changed from one to the next and is left to the other methods.
ROWS = (
    Row((5, 10), (6, 9), 3, 128, 240, max_cycles=False, tail=True, rng=None),
    Row((6, 12), (6, 12), 3, 128, 248, max_cycles=True, tail=True, rng=640),
    Row((6, 16), None, 1, 0, 232, max_cycles=True, tail=False, rng=2 * PAGE_BYTES),
)


def by_table(machine: Machine, version_note: int | None) -> Layout:
    """By the version in the image's "Linux" note, which is LINUX_VERSION_CODE. Raises VvarUnproven."""
    if version_note is None:
        raise VvarUnproven("the image does not say of which kernel it is")
    version = (version_note >> 16, version_note >> 8 & 0xFF)
    for row in ROWS:
        if row.first <= version and (row.last is None or version <= row.last):
            break
    else:
        raise VvarUnproven(f"no row for Linux {version[0]}.{version[1]} in the table")
    bases = 40 if row.max_cycles else 32
    tail = row.clocks + bases + BASES_BYTES if row.tail else None
    return Layout(
        method="table",
        time_page=0,
        namespace_page=row.namespace_page,
        clocks=row.clocks,
        stride=row.stride,
        seq=0,
        mode=4,
        cycle_last=8,
        max_cycles=16 if row.max_cycles else None,
        mask=bases - 16,
        mult=bases - 8,
        shift=bases - 4,
        bases=bases,
        timezone=tail,
        hrtimer_res=None if tail is None else tail + 8,
        rng=row.rng,
        rng_ready=8,
        modes=machine.modes,
    )
