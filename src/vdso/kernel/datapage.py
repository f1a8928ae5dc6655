"""What the kernel's data page holds, as results: the page, its clocks and their bases, offsets, proofs.

Knows what things are called and nothing of where they lie: that is vdso.kernel.layout's, the reading
vdso.kernel.vvar's.
"""

import errno
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from vdso import _core
from vdso.errors import VvarUnproven
from vdso.kernel import maps
from vdso.kernel.clocks import clock_name
from vdso.kernel.image import Image
from vdso.kernel.layout import PAGE_BYTES, Layout

MODE_NONE = "none"

# As far as the page has them.
CLOCKS = {number: clock_name(number) for number in (0, 1, 4, 5, 6, 7, 11)}
COARSE = (5, 6)
NAMESPACE_CLOCKS = (1, 4, 6, 7)
# Which clock of the page has which bases; and what the kernel keeps up where the clocksource has no vDSO path
# (update_vsyscall() in kernel/time/vsyscall.c).
HOMES = (("hres_coarse", (0, 1, 5, 6, 7, 11)), ("raw", (4,)))
KEPT_WITHOUT_COUNTER = (0, 5, 6)

# What vdso can count by itself.
COUNTERS = {"tsc": _core.VVAR_COUNTER_TSC, "pvclock": _core.VVAR_COUNTER_PVCLOCK}


@dataclass(frozen=True, slots=True)
class Page:
    """One page before the image. `name`: "time", "timens", "rng", "arch", "pvclock", "hvclock", or None where
    the method cannot tell; `read`: whether it was read. One that is not used raises SIGBUS, and is not
    touched."""

    address: int
    mapping: str
    name: str | None
    read: bool


@dataclass(frozen=True, slots=True)
class Base:
    """Where a clock stood at the last update: `sec` and `nsec`. `nsec_shifted`: as the page has it, nsec <<
    shift; None for the coarse clocks, which have plain nsec."""

    clock: str
    clock_id: int
    sec: int
    nsec: int
    nsec_shifted: int | None


@dataclass(frozen=True, slots=True)
class Clock:
    """One vdso_clock. `cycle_last` to `shift` and `counter_hz`, which is made of mult and shift, are None
    where the mode is none: the kernel does not keep them up then. `max_cycles`: None also where this kernel
    has it not."""

    name: str
    address: int
    sequence: int
    mode: str
    cycle_last: int | None
    max_cycles: int | None
    mask: int | None
    mult: int | None
    shift: int | None
    counter_hz: float | None
    bases: tuple[Base, ...]


@dataclass(frozen=True, slots=True)
class Offset:
    """What a time namespace adds to a clock: `sec`, which may be negative, and `nsec`."""

    clock: str
    clock_id: int
    sec: int
    nsec: int

    @property
    def ns(self) -> int:
        return self.sec * 1_000_000_000 + self.nsec


@dataclass(frozen=True, slots=True)
class TimeNamespace:
    """This process is in a time namespace: `address` is the page of its offsets, in the place of the
    host's."""

    address: int
    offsets: tuple[Offset, ...]


@dataclass(frozen=True, slots=True)
class Timezone:
    """What gettimeofday's second argument gives."""

    minutes_west: int
    dst_time: int


@dataclass(frozen=True, slots=True)
class Rng:
    """What vDSO getrandom goes by (Linux 6.11 and later): a new generation makes it draw a new key."""

    address: int
    generation: int
    is_ready: bool


@dataclass(frozen=True, slots=True)
class Proof:
    """One proof. `holds`: None where it could not be run, and `why` says why. `good` samples of `of` spoke
    for it, during `ticks` the page changed, so that they say nothing; the rest would be against it, and then
    nothing is shown at all. `mean_width_ns`: how far apart the two reads were that a computed time fell
    between."""

    name: str
    what: str
    holds: bool | None
    good: int = 0
    of: int = 0
    ticks: int = 0
    mean_width_ns: float | None = None
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Vvar:
    """The page, decoded and proven. `method`: "btf", "code" or "table"; `refused`: why the methods before it
    could not tell. `runs_on`: the image that the process itself uses, "kernel", "vdso" for one of ours,
    "another" or "none"; meant here is the kernel's in any case. `layout`: where all of it was found."""

    machine: str
    kernel_version: str | None
    address: int
    size_bytes: int
    image_address: int
    runs_on: str
    method: str
    refused: Mapping[str, str]
    mode: str
    pages: tuple[Page, ...]
    time_namespace: TimeNamespace | None
    clocks: tuple[Clock, ...]
    timezone: Timezone | None
    hrtimer_res_ns: int | None
    rng: Rng | None
    proofs: tuple[Proof, ...]
    layout: Layout


@dataclass(frozen=True, slots=True)
class Place:
    """Where this process has the kernel's pages and image; `clock_gettime` is the kernel's own function's
    address."""

    vvar: maps.Mapping
    vclock: maps.Mapping | None
    image: Image
    image_address: int
    clock_gettime: int
    runs_on: str

    @property
    def before(self) -> int:
        """Bytes from [vvar]'s first to the image's."""
        return self.image_address - self.vvar.start

    @property
    def pvclock(self) -> int | None:
        """The hypervisor's page: the first of [vvar_vclock] (6.13 and later), before that the second of
        [vvar]'s four."""
        if self.vclock is not None:
            return self.vclock.start
        return self.vvar.start + PAGE_BYTES if self.vvar.size == 4 * PAGE_BYTES else None


def copy(address: int, size: int, what: str) -> bytes:
    """Bytes of this process, without touching them: a page that is not backed is an error and no signal.

    Raises VvarUnproven.
    """
    try:
        return _core.vvar_copy(address, size)
    except OSError as error:
        if error.errno != errno.EFAULT:
            raise
        raise VvarUnproven(
            f"{what}: the page at {address & -PAGE_BYTES:#x} is not backed: it is not what it was taken for",
            proof="backed",
        ) from None


def mode_name(layout: Layout, data: bytes) -> str:
    """The mode of a clock's bytes. Raises VvarUnproven for one that the kernel has no name for."""
    (value,) = struct.unpack_from("=i", data, layout.mode)
    name = layout.modes.get(value)
    if name is None:
        raise VvarUnproven(
            f"proof failed: mode: {value} is in no enum vdso_clock_mode (layout by {layout.method})",
            proof="mode",
        )
    return name
