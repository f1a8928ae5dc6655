"""The kernel's data page of this process, [vvar]: found, decoded and proven.

What vdso.kernel.layout claims is read by the protocol of the page's seqcount and held against the kernel's
own functions by vdso.kernel.proof; what does not stand that is not shown. Only one's own page can be read: it
is in no core file, and /proc/PID/mem gives EIO.
"""

import errno
import struct
from collections.abc import Mapping

from vdso import _core
from vdso.errors import NoVvar, VvarUnproven
from vdso.kernel import maps, proof
from vdso.kernel.datapage import (
    CLOCKS,
    COARSE,
    COUNTERS,
    HOMES,
    KEPT_WITHOUT_COUNTER,
    MODE_NONE,
    NAMESPACE_CLOCKS,
    Base,
    Clock,
    Offset,
    Page,
    Place,
    TimeNamespace,
    Vvar,
    copy,
    mode_name,
)
from vdso.kernel.image import Image
from vdso.kernel.layout import BASE_BYTES, MODE_TIMENS, PAGE_BYTES, Layout, find, machine_of, within

# The owner's name in the note by which an image of ours is known.
OUR_NOTE = b"vdso-project\0"

__all__ = ["Vvar", "decode", "place", "read", "reader"]


def read(method: str | None = None) -> Vvar:
    """This process's page, now. `method`: "btf", "code" or "table" alone, None for the first of them that can
    tell.

    Raises NoVvar: there is none; VvarUnproven: no layout is known, or a proof failed, and then `proof` says
    which.
    """
    where = place()
    layout, refused = find(where.image, where.before, where.vvar.size, method)
    return decode(where, layout, refused)


def place() -> Place:
    """The kernel's pages in this process, also where an image of ours stands in their place. Raises
    NoVvar."""
    area = maps.area()
    if area.image is None:
        raise NoVvar(
            "this process has no vDSO: the kernel gave it none",
            "vdso=0 on the kernel's command line does that",
        )
    vvar = next((mapping for mapping in area.pages if mapping.name == "[vvar]"), None)
    if vvar is None:
        raise NoVvar("this process has a vDSO and no [vvar] before it: its data page was moved or unmapped")
    start, size = area.image.start, area.image.size
    image = Image.from_bytes(copy(start, size, "[vdso]"), address=start)
    function = image.lookup(machine_of(image).clock_gettime)
    if function is None or not 0 < function.value < size:
        raise VvarUnproven("the image has no clock_gettime to hold the page against")
    return Place(
        vvar=vvar,
        vclock=next((mapping for mapping in area.pages if mapping.name == "[vvar_vclock]"), None),
        image=image,
        image_address=start,
        clock_gettime=start + function.value,
        runs_on=_runs_on(start),
    )


def _runs_on(kernel_image: int) -> str:
    """Whose image this process's C library was led to."""
    given = _core.sysinfo_ehdr()
    if given in (0, kernel_image):
        return "kernel" if given else "none"
    try:
        return "vdso" if OUR_NOTE in _core.vvar_copy(given, _core.IMAGE_BYTES) else "another"
    except OSError:
        return "another"


def decode(where: Place, layout: Layout, refused: Mapping[str, str] | None = None) -> Vvar:
    """What stands in the page by that layout, if it proves to be right. Raises VvarUnproven."""
    within(layout, where.vvar.size)
    namespace = _namespace(where, layout)
    home = layout.time_page if namespace is None else _namespace_page(layout)
    readers = tuple(reader(where, layout, home, index) for index in range(len(HOMES)))
    seen = proof.run(where, layout, home, readers, namespace)
    clocks = tuple(
        _clock(layout, home, where, index, sequence, data)
        for index, (sequence, data) in enumerate(seen.snapshots)
    )
    return Vvar(
        machine=where.image.machine,
        kernel_version=where.image.kernel_version,
        address=where.vvar.start,
        size_bytes=where.vvar.size,
        image_address=where.image_address,
        runs_on=where.runs_on,
        method=layout.method,
        refused=dict(refused or {}),
        mode=clocks[0].mode,
        pages=_pages(where, layout, home, namespace is not None, clocks[0].mode),
        time_namespace=namespace,
        clocks=clocks,
        timezone=seen.timezone,
        hrtimer_res_ns=seen.hrtimer_res_ns,
        rng=seen.rng,
        proofs=seen.proofs,
        layout=layout,
    )


def reader(where: Place, layout: Layout, home: int, index: int) -> _core.VvarClock:
    """A reader of one of the clocks on page `home`. Raises VvarUnproven where that page is not backed."""
    address = _clock_address(where, layout, home, index)
    mode = mode_name(layout, copy(address, layout.clock_bytes, f"layout by {layout.method}"))
    pvclock = where.pvclock if mode == "pvclock" else None
    counter = COUNTERS.get(mode, _core.VVAR_COUNTER_NONE)
    if mode == "pvclock" and pvclock is None:
        counter = _core.VVAR_COUNTER_NONE
    try:
        return _core.VvarClock(
            address,
            size=layout.clock_bytes,
            seq=layout.seq,
            mode=layout.mode,
            cycle_last=layout.cycle_last,
            mask=layout.mask,
            mult=layout.mult,
            shift=layout.shift,
            bases=layout.bases,
            counter=counter,
            pvclock=pvclock or 0,
        )
    except OSError as error:
        if error.errno not in (errno.EFAULT, errno.EINVAL):
            raise
        raise VvarUnproven(
            f"layout by {layout.method}: no clock can be at {address:#x}: {error.strerror}", proof="backed"
        ) from None


def _clock_address(where: Place, layout: Layout, page: int, index: int) -> int:
    return where.vvar.start + page * PAGE_BYTES + layout.clocks + index * layout.stride


def _namespace_page(layout: Layout) -> int:
    if layout.namespace_page is None:
        raise VvarUnproven(
            f"layout by {layout.method}: it does not say where a time namespace has the clocks"
        )
    return layout.namespace_page


def _namespace(where: Place, layout: Layout) -> TimeNamespace | None:
    """The offsets, where the time page is a time namespace's: the kernel writes them once and never changes
    them."""
    what = f"layout by {layout.method}"
    addresses = [_clock_address(where, layout, layout.time_page, index) for index in range(len(HOMES))]
    pages = [copy(address, layout.clock_bytes, what) for address in addresses]
    if mode_name(layout, pages[0]) != MODE_TIMENS:
        return None
    offsets = []
    for data, (_, ids) in zip(pages, HOMES, strict=True):
        for number in ids:
            if number in NAMESPACE_CLOCKS:
                sec, nsec = struct.unpack_from("=qQ", data, layout.bases + number * BASE_BYTES)
                offsets.append(Offset(CLOCKS[number], number, sec, nsec))
    offsets.sort(key=lambda offset: offset.clock_id)
    return TimeNamespace(where.vvar.start + layout.time_page * PAGE_BYTES, tuple(offsets))


def _clock(layout: Layout, home: int, where: Place, index: int, sequence: int, data: bytes) -> Clock:
    name, ids = HOMES[index]
    mode = mode_name(layout, data)
    kept = mode != MODE_NONE

    def word(offset: int | None, form: str) -> int | None:
        return int(struct.unpack_from(form, data, offset)[0]) if kept and offset is not None else None

    (shift,) = struct.unpack_from("=I", data, layout.shift)
    bases = []
    for number in ids:
        if not kept and number not in KEPT_WITHOUT_COUNTER:
            continue
        sec, nsec = struct.unpack_from("=QQ", data, layout.bases + number * BASE_BYTES)
        if number in COARSE:
            bases.append(Base(CLOCKS[number], number, sec, nsec, None))
        elif kept:
            bases.append(Base(CLOCKS[number], number, sec, nsec >> shift, nsec))
        else:  # of REALTIME, for time(); the shift that its ns have is not kept up
            bases.append(Base(CLOCKS[number], number, sec, 0, None))
    mult = word(layout.mult, "=I")
    return Clock(
        name=name,
        address=_clock_address(where, layout, home, index),
        sequence=sequence,
        mode=mode,
        cycle_last=word(layout.cycle_last, "=Q"),
        max_cycles=word(layout.max_cycles, "=Q"),
        mask=word(layout.mask, "=Q"),
        mult=mult,
        shift=word(layout.shift, "=I"),
        counter_hz=1e9 * 2.0**shift / mult if mult else None,
        bases=tuple(bases),
    )


def _pages(where: Place, layout: Layout, home: int, in_namespace: bool, mode: str) -> tuple[Page, ...]:
    """Each page before the image by its name, as far as the layout and the mappings tell."""
    read = {layout.time_page, home}
    names = {layout.time_page: "timens" if in_namespace else "time"}
    if layout.namespace_page is not None:
        names[layout.namespace_page] = "time" if in_namespace else "timens"
    if layout.rng is not None:
        page = layout.rng // PAGE_BYTES
        names.setdefault(page, "rng")
        read.add(page)
    count = where.vvar.size // PAGE_BYTES
    if where.vclock is not None and count == 4:
        names.setdefault(3, "arch")
    elif where.vclock is None and count == 4:
        names.setdefault(1, "pvclock")
        names.setdefault(2, "hvclock")
    pages = [
        Page(where.vvar.start + number * PAGE_BYTES, where.vvar.name, names.get(number), number in read)
        for number in range(count)
    ]
    if where.vclock is not None:
        pages += [
            Page(where.vclock.start + number * PAGE_BYTES, where.vclock.name, name, False)
            for number, name in zip(
                range(where.vclock.size // PAGE_BYTES), ("pvclock", "hvclock"), strict=False
            )
        ]
    if mode == "pvclock":
        pages = [
            Page(page.address, page.mapping, page.name, page.read or page.address == where.pvclock)
            for page in pages
        ]
    return tuple(pages)
