"""Looks at the vDSO of the process: whether it has one, is told of it and finds it, what that lacks; and at
the vsyscall page, which it replaced.

As in clocksource: each function yields what a row of the catalogue is filled with.
"""

import contextlib
import os
from collections.abc import Iterator

from vdso import _core
from vdso.kernel import maps
from vdso.kernel.clocks import call_name
from vdso.kernel.image import Image
from vdso.kernel.vsyscall import of as vsyscall_of
from vdso.measure import machine
from vdso.measure.doctor import binary, preload
from vdso.measure.doctor.view import CannotSee, View
from vdso.measure.warning import EMULATORS
from vdso.swap.run import COUNTING_IMAGE

Facts = dict[str, object]

# The functions that programs call, by the image's machine: since which kernel, (0, 0): all that vdso reads.
# Each architecture's vdso.lds.S, whose history says when. A kernel may be configured without getrandom.
FUNCTIONS: dict[str, dict[str, tuple[int, int]]] = {
    "x86-64": {
        "clock_gettime": (0, 0),
        "gettimeofday": (0, 0),
        "time": (0, 0),
        "getcpu": (0, 0),
        "clock_getres": (5, 3),
        "getrandom": (6, 11),
    },
    "i386": {
        "clock_gettime": (3, 15),
        "gettimeofday": (3, 15),
        "time": (3, 15),
        "clock_gettime64": (5, 3),
        "clock_getres": (5, 3),
        "getcpu": (6, 3),
    },
    "arm64": {
        "clock_gettime": (0, 0),
        "gettimeofday": (0, 0),
        "clock_getres": (0, 0),
        "getrandom": (6, 12),
    },
    "arm": {
        "clock_gettime": (4, 1),
        "gettimeofday": (4, 1),
        "clock_gettime64": (5, 5),
        "clock_getres": (5, 5),
    },
    "riscv64": {"clock_gettime": (0, 0), "gettimeofday": (0, 0), "clock_getres": (0, 0), "getcpu": (0, 0)},
    "ppc64le": {
        "clock_gettime": (0, 0),
        "gettimeofday": (0, 0),
        "clock_getres": (0, 0),
        "time": (0, 0),
        "getcpu": (0, 0),
        "getrandom": (6, 12),
    },
    "s390x": {
        "clock_gettime": (0, 0),
        "gettimeofday": (0, 0),
        "clock_getres": (0, 0),
        "getrandom": (6, 12),
    },
}

# Why there is none.
HIDDEN, DISABLED, DISABLED_32, GVISOR, EMULATOR, OTHER = range(1, 7)

# Whose image is in the kernel's place, where it is ours; and to whose jumps lead from the kernel's.
RUN, STAT, ATTACH, STAT_PID = "vdso run", "vdso stat", "vdso attach", "vdso stat -p"

# What gVisor says of itself: its messages, its name in the release, the day on which all its Linux is built.
GVISOR_MESSAGE = "Starting gVisor"
GVISOR_VERSION = ("gvisor", "#1 SMP Sun Jan 10 15:06:54 PST 2016")


# ---- Whether there is one ----


def absence(view: View) -> int:
    """Why the process has no vDSO, 0 where it has. Raises CannotSee."""
    if view.told:
        return 0
    if maps.area_of(view.mappings).image is not None:
        return HIDDEN
    told: tuple[tuple[str, str], ...] = ()
    with contextlib.suppress(CannotSee):
        told = view.command_line
    if ("vdso", "0") in told:
        return DISABLED
    if ("vdso32", "0") in told and view.bits == 32:
        return DISABLED_32
    if gvisor_signs(view):
        return GVISOR
    return EMULATOR if emulator_name(view) else OTHER


def _absent(why: int, view: View) -> Iterator[Facts]:
    if absence(view) == why:
        yield {"process": view.process_name, "who": emulator_name(view)}


def hidden(view: View) -> Iterator[Facts]:
    """It is mapped, and the process was not told."""
    yield from _absent(HIDDEN, view)


def disabled(view: View) -> Iterator[Facts]:
    """`vdso=0`."""
    yield from _absent(DISABLED, view)


def disabled_32(view: View) -> Iterator[Facts]:
    """`vdso32=0`, and a 32-bit program."""
    yield from _absent(DISABLED_32, view)


def absent_in_gvisor(view: View) -> Iterator[Facts]:
    """gVisor has given it none."""
    yield from _absent(GVISOR, view)


def absent_in_emulator(view: View) -> Iterator[Facts]:
    """An emulator has given it none."""
    yield from _absent(EMULATOR, view)


def absent(view: View) -> Iterator[Facts]:
    """There is none, and nothing says why."""
    yield from _absent(OTHER, view)


ABSENT = (hidden, disabled, disabled_32, absent_in_gvisor, absent_in_emulator, absent)


# ---- Who is there in the kernel's place ----


def gvisor_signs(view: View) -> bool:
    """By the version that gVisor claims, or by its messages, which are its own."""
    with contextlib.suppress(CannotSee):
        if any(sign in view.text("proc/version") for sign in GVISOR_VERSION):
            return True
    with contextlib.suppress(CannotSee):
        return any(GVISOR_MESSAGE in line for line in view.log.lines)
    return False


def gvisor(view: View) -> Iterator[Facts]:
    """A kernel in user space, whose system calls cost what two of the host's do and more."""
    view.text("proc/version")
    if gvisor_signs(view):
        yield {}


def emulator_name(view: View) -> str:
    """The emulator that runs this CPU, "" where nothing says so."""
    try:
        model = machine.field(view.text("proc/cpuinfo"), "model name")
    except CannotSee:
        model = ""
    for name in EMULATORS:
        if name in (view.measured.hypervisor, model.split(" ")[0]):
            return "QEMU TCG" if name == EMULATORS[0] else name
    return "QEMU TCG" if "TCG" in model else ""


def emulator(view: View) -> Iterator[Facts]:
    """An emulated CPU: no figure is a CPU's."""
    who = emulator_name(view)
    if who:
        yield {"who": who}


# ---- What it has, and whether it is used ----


def missing(view: View) -> Iterator[Facts]:
    """Functions that kernels of this version have on this machine, and this image has not."""
    if absence(view):
        return
    image = kernels(view)
    expected = FUNCTIONS.get(image.machine)
    if expected is None or image.kernel_version is None:
        raise CannotSee("which functions the image should have", "its machine or its version is not known")
    major, minor = (int(word) for word in image.kernel_version.split(".")[:2])
    served = {call_name(function.name) for function in image.functions}
    lacks = [name for name, since in expected.items() if since <= (major, minor) and name not in served]
    if lacks:
        yield {"lacks": ", ".join(lacks), "machine": image.machine, "version": image.kernel_version}


def kernels(view: View) -> Image:
    """The kernel's image; of what is counted, that which was there before. Raises CannotSee."""
    before = view.held
    if view.counted and before is not None and before.kernels is not None and before.bits == view.bits:
        view.kernels = before.kernels
        return before.kernels
    if whose_image(view) != "kernel" or view.counted:
        whose = "vdso stat" if view.counted else whose_image(view)
        raise CannotSee("the functions of the kernel's image", f"that of {whose} stands in its place")
    view.kernels = view.image
    return view.kernels


def bypassed(view: View) -> Iterator[Facts]:
    """This process's C library makes the system call, though there is a vDSO: as observed, and not by a
    library that stands before it."""
    if view.pid is not None or absence(view) or preload.slows(view):
        return
    clock = view.clock()
    if clock.route is None:
        raise view.lacking("the C library's way to the clock", "routes")
    if clock.route in ("syscall", "vsyscall"):
        yield {"way": "a system call" if clock.route == "syscall" else "a call into the vsyscall page"}


def blind(view: View) -> Iterator[Facts]:
    """Nothing in the program or its C library names a vDSO function: it cannot find one."""
    if absence(view):
        return
    if not binary.looks_for_vdso(view):
        yield {"process": view.process_name, "libc": binary.libc(view)}


def of_32_bits(view: View) -> Iterator[Facts]:
    """A 32-bit program, which has a vDSO of its own."""
    if view.bits == 32:
        yield {"process": view.process_name}


def ours(view: View) -> Iterator[Facts]:
    """The process reads its clock by an image of ours, which is not there to count."""
    whose = whose_image(view)
    if whose in (RUN, ATTACH):
        yield {"process": view.process_name, "whose": whose}


def started_counted(view: View) -> Iterator[Facts]:
    """`vdso stat` has started it."""
    if whose_image(view) == STAT:
        yield {"process": view.process_name}


def counted_in_place(view: View) -> Iterator[Facts]:
    """`vdso stat -p` counts it, or was killed while it did."""
    if whose_image(view) == STAT_PID:
        yield {"process": view.process_name, "pid": view.status_number("Tgid") or view.pid}


def anothers(view: View) -> Iterator[Facts]:
    """An image that is neither the kernel's nor ours."""
    whose = whose_image(view)
    if whose not in ("kernel", "none", RUN, STAT, ATTACH, STAT_PID):
        yield {"process": view.process_name, "whose": whose}


def whose_image(view: View) -> str:
    """As vdso.measure.machine.whose() has it, and ATTACH, STAT and STAT_PID. Raises CannotSee."""
    mapping = maps.find(view.mappings, view.told) if view.told else None
    if mapping and is_counting(mapping):
        return "kernel" if view.counted else STAT  # it would not be counted on another
    whose = machine.whose(mapping)
    if whose != "kernel":
        return whose
    page = attached(view)
    if page is None:
        return "kernel"
    # The image stands behind its page. Another's may be left from before.
    behind = (one for one in view.mappings if one.start > page.start and "x" in one.permissions)
    image = next((one for one in behind if os.path.basename(one.name) in machine.OUR_IMAGES), None)
    return STAT_PID if image is not None and is_counting(image) else ATTACH


def is_counting(mapping: maps.Mapping) -> bool:
    return os.path.basename(mapping.name) == os.path.basename(COUNTING_IMAGE)


def attached(view: View) -> maps.Mapping | None:
    """The clock page of the image of ours to which jumps lead from the kernel's, None without: in one that
    was left, only our pages are. Raises CannotSee."""
    inode = 0
    if view.root == "/":
        try:
            inode = _core.clock_inode(view.pid or os.getpid())
        except OSError as error:
            raise CannotSee(f"{view.process_name}'s vDSO", (error.strerror or str(error)).lower()) from None
    pages = (one for one in view.mappings if one.name.startswith("/memfd:vdso-clock"))
    there = (one for one in pages if one.permissions == "r--s" and (view.root != "/" or one.inode == inode))
    return next(there, None)


# ---- vsyscall ----


def vsyscall_mode(view: View) -> str:
    return vsyscall_of(maps.area_of(view.mappings).vsyscall).mode


def vsyscall_used(view: View) -> Iterator[Facts]:
    """The program calls into the page, which is there: each call is an exception."""
    mode = vsyscall_mode(view)
    if mode != "none" and view.architecture == "x86_64" and binary.calls_vsyscall(view):
        yield {"process": view.process_name, "mode": mode}


def vsyscall_gone(view: View) -> Iterator[Facts]:
    """The program would call into the page, and there is none."""
    if view.architecture == "x86_64" and vsyscall_mode(view) == "none" and binary.calls_vsyscall(view):
        yield {"process": view.process_name}


def vsyscall_readable(view: View) -> Iterator[Facts]:
    """vsyscall=emulate: the same code at the same address in every process, to be read as well."""
    if vsyscall_mode(view) == "emulate":
        yield {}
