"""What a process has of the vDSO, or a file: image, pages before it, vsyscall, the C library's routes, ASLR.

Gathers; what could not be found out is listed with its reason, and nothing is put in its place.
"""

from dataclasses import dataclass, field

from vdso import _core
from vdso.errors import VdsoError
from vdso.kernel import auxv, maps
from vdso.kernel.image import Image
from vdso.kernel.source import Source, pick, read_process
from vdso.kernel.vsyscall import Vsyscall
from vdso.kernel.vsyscall import of as vsyscall_of
from vdso.measure import placement, routes
from vdso.measure.placement import Placement
from vdso.measure.routes import Routes

KERNEL_NAME = "[vdso]"
EXECS = 200


@dataclass(frozen=True, slots=True)
class DataPages:
    """A mapping that stands before the image: its name, such as "[vvar]", addresses and size in bytes."""

    name: str
    start: int
    end: int
    size: int
    permissions: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """What could not be found out, and why."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Look:
    """Everything that `vdso look` shows, in the form of its JSON.

    `pages`, `vsyscall`, `routes` and `aslr` are None where `source` is a file, and where `unknown` says
    why. `origin`: the name of the mapping that holds the image, "[vdso]" when it is the kernel's own.
    `sysinfo_ehdr`: the address in the auxiliary vector, by which alone programs find an image, also of a
    core; None without.
    """

    source: str
    images: tuple[Image, ...]
    origin: str | None = None
    permissions: str | None = None
    sysinfo_ehdr: int | None = None
    pages: tuple[DataPages, ...] | None = None
    vsyscall: Vsyscall | None = None
    routes: Routes | None = None
    aslr: Placement | None = None
    unknown: tuple[Unknown, ...] = field(default=())


def look_at_file(source: Source, number: int | None = None) -> Look:
    """The images of a file, or the one of that number; a file has nothing else. Raises SourceError."""
    images = source.images if number is None else (pick(source.images, number, source.name),)
    # A core's image was found by it.
    told = images[0].address if source.kind == "core" else None
    return Look(source.name, images, sysinfo_ehdr=told)


def look_at_process(pid: int | None = None, *, execs: int = EXECS) -> Look:
    """Looks at a process, or (None) at this one; ASLR is measured over `execs` executions of a small program.

    Raises SourceError: no such process, not ours to look into, a kernel thread, a zombie, no vDSO.
    """
    source = read_process(pid)
    (image,), mappings = source.images, list(source.mappings)
    own = maps.find(mappings, image.address or 0)
    unknown: list[Unknown] = []
    seen: Routes | None = None
    placed: Placement | None = None
    if pid is not None:
        why = "a child of the process would have to make them, and another's cannot be had"
        unknown.append(Unknown("how its C library routes each call", why))
    else:
        try:
            seen = routes.observe()
        except VdsoError as error:
            unknown.append(Unknown("how the C library routes each call", error.message))
    try:
        placed = placement.measure(execs)
    except VdsoError as error:
        unknown.append(Unknown("whether ASLR moves the image", error.message))
    if image.build_id is None:
        unknown.append(Unknown("build id", "the image has no such note"))
    if image.version_note is None:
        unknown.append(Unknown("kernel version", "the image has no such note"))
    return Look(
        source="this process" if pid is None else f"process {pid}",
        images=(image,),
        origin=own.name if own else None,
        permissions=own.permissions if own else None,
        sysinfo_ehdr=told(pid),
        pages=tuple(
            DataPages(page.name, page.start, page.end, page.size, page.permissions)
            for page in (before(mappings, own) if own else ())
        ),
        vsyscall=vsyscall_of(maps.area_of(mappings).vsyscall),
        routes=seen,
        aslr=placed,
        unknown=tuple(unknown),
    )


def told(pid: int | None) -> int | None:
    """The vDSO's address as the process was told it: this one by its vector, another by the kernel's copy."""
    return (_core.sysinfo_ehdr() if pid is None else auxv.read(pid).get(auxv.AT_SYSINFO_EHDR)) or None


def before(mappings: list[maps.Mapping], image: maps.Mapping) -> tuple[maps.Mapping, ...]:
    """The data that leads up to the image without a gap: the kernel's by name, another's by permissions."""
    if image.name == KERNEL_NAME:
        return maps.pages_before(mappings, image)
    pages: list[maps.Mapping] = []
    end = image.start
    for mapping in reversed(mappings):
        if mapping.end == end and mapping.permissions[:3] == "r--":
            pages.insert(0, mapping)
            end = mapping.start
    return tuple(pages)
