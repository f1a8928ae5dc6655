"""Looks at the process: what stands between it and its clock, or changes what it reads.

As in clocksource: each function yields what a row of the catalogue is filled with.
"""

import os
from collections.abc import Iterator

from vdso.errors import shown
from vdso.kernel import maps
from vdso.measure import machine
from vdso.measure.doctor import preload, vdso
from vdso.measure.doctor.result import CPU_TIME, OWN
from vdso.measure.doctor.view import CannotSee, View
from vdso.measure.placement import ADDR_NO_RANDOMIZE
from vdso.measure.result import LOST

Facts = dict[str, object]

# PROC_TIME_INIT_INO of include/linux/proc_ns.h: the number of the one that every host starts with.
FIRST_TIME_NAMESPACE = "time:[4026531834]"

# A true clock_gettime takes 1.6 times getppid where nobody looks at it more closely than at that.
DEAR_RATIO = 4.0
# Of reads that could have stayed out of the kernel: fewer are start-up, also of what ends at once, or a look
# now and then.
ENTERED_SHARE, ENTERED_PER_SECOND, ENTERED_LEAST = 0.05, 100.0, 100
CPU_READS_PER_SECOND = 10_000.0


# ---- Who looks at its system calls ----


def traced(view: View) -> Iterator[Facts]:
    """A tracer is attached."""
    pid = view.status_number("TracerPid")
    if pid is None:
        raise CannotSee(f"/{view.of_process('status')}", "no TracerPid in it")
    # The doctor itself holds a command for the moment in which it is looked at.
    if pid and pid != os.getpid():
        try:
            name = shown(view.text(f"proc/{pid}/comm").strip())
        except CannotSee:
            name = ""
        who = f"{name}, process {pid}" if name else f"process {pid}"
        yield {"process": view.process_name, "who": who, "pid": pid}


def filters(view: View) -> int:
    """How many seccomp filters look at its system calls; kernels before 5.9 do not count them: 1 at least.
    Raises CannotSee."""
    mode = view.status_number("Seccomp")
    if mode is None:
        return 0  # a kernel without seccomp
    count = view.status_number("Seccomp_filters") or int(mode == 2)
    return max(0, count - 1) if view.counted else count


def filtered(view: View) -> Iterator[Facts]:
    """A filter, and clock calls that cost no more than others for it, as far as that was measured."""
    count = filters(view)
    graver = (*filter_dear(view), *filter_refuses(view)) if count else ()
    if count and not graver and not placed_by(view):
        yield {"process": view.process_name, "count": "a filter" if count == 1 else f"{count} filters"}


def placed_by(view: View) -> str:
    """Which of our commands has put a filter there with its image, "" where none is seen to."""
    try:
        whose = vdso.whose_image(view)
    except CannotSee:
        return ""
    return whose if whose in (vdso.RUN, vdso.STAT) else ""


def filtered_by_us(view: View) -> Iterator[Facts]:
    """One by which what it starts is followed."""
    count, whose = filters(view), placed_by(view)
    if count and whose:
        number = "a filter is" if count == 1 else f"{count} filters are"
        yield {"process": view.process_name, "count": number, "whose": whose}


def filter_dear(view: View) -> Iterator[Facts]:
    """This process's filter makes true clock calls dear: it notifies or traces them, or looks at length."""
    if view.pid is not None or not filters(view):
        return
    plain = view.figures.getppid_ns
    timed = [(clock.syscall_ns, clock.clock) for clock in view.figures.clocks if clock.syscall_ns is not None]
    if plain is not None and timed and max(timed)[0] > DEAR_RATIO * plain:
        ns, name = max(timed)
        yield {"ns": ns, "clock": name, "plain_ns": plain}


def filter_refuses(view: View) -> Iterator[Facts]:
    """This process's filter refuses the true clock call, which the vDSO falls back on."""
    if view.pid is not None or not filters(view):
        return
    refused = [
        clock.clock
        for clock in view.figures.clocks
        if clock.syscall_ns is None and clock.missing.get("syscall") != LOST
    ]
    if refused:
        yield {"clocks": ", ".join(refused)}


# ---- Where it is ----


def time_namespace(view: View) -> bool:
    """Whether the process is in a time namespace of its own. Raises CannotSee."""
    path = view.of_process("ns/time")
    try:
        return os.readlink(os.path.join(view.root, path)) != FIRST_TIME_NAMESPACE
    except FileNotFoundError:
        view.text(view.of_process("status"))  # it may be the process that is not there
        return False  # a kernel without, before 5.6
    except OSError as error:
        raise CannotSee(f"/{path}", (error.strerror or str(error)).lower()) from None


def namespaced(view: View) -> Iterator[Facts]:
    """MONOTONIC and BOOTTIME are not the host's."""
    if time_namespace(view):
        offsets = [
            f"{name} {seconds} s"
            for name, seconds, *_ in map(str.split, offset_lines(view))
            if seconds not in ("0", "-0")
        ]
        yield {"process": view.process_name, "offsets": ", ".join(offsets) or "by less than a second"}


def offset_lines(view: View) -> list[str]:
    """Of its timens_offsets, whose columns are the clock, seconds and nanoseconds."""
    text = view.text_if_there(view.of_process("timens_offsets"))
    return [line for line in text.splitlines() if len(line.split()) == 3]


def randomisation_off(view: View) -> Iterator[Facts]:
    """kernel.randomize_va_space is 0."""
    if view.number("proc/sys/kernel/randomize_va_space") == 0:
        yield {}


def randomisation_off_here(view: View) -> bool:
    """Whether the process's personality keeps it where it is. Raises CannotSee."""
    path = view.of_process("personality")
    try:
        return bool(int(view.text(path).strip(), 16) & ADDR_NO_RANDOMIZE)
    except ValueError:
        raise CannotSee(f"/{path}", "no number") from None


def personal(view: View) -> Iterator[Facts]:
    """ADDR_NO_RANDOMIZE."""
    if randomisation_off_here(view):
        yield {"process": view.process_name}


def fixed(view: View) -> Iterator[Facts]:
    """By measure the image is where it always is, and no setting says why."""
    placed = view.measured.aslr
    if placed is None:
        raise view.lacking("whether ASLR moves the image", "aslr")
    known = any(True for _ in randomisation_off(view)) or placed.randomization_off
    if not placed.moves and placed.execs - placed.without_vdso > 1 and not known:
        yield {"execs": placed.execs, "address": placed.lowest}


def sealed(view: View) -> Iterator[Facts]:
    """The kernel's pages may not be moved: `sl` among the flags of its mapping in smaps."""
    if view.vdso is None:
        return
    begin = f"{view.vdso.start:x}-"
    inside = False
    for line in view.text(view.of_process("smaps")).splitlines():
        if maps.LINE.fullmatch(line.encode()):
            inside = line.startswith(begin)
        elif inside and line.startswith("VmFlags:"):
            if "sl" in line.split():
                yield {"process": view.process_name}
            return
    raise CannotSee(f"whether {view.process_name}'s vDSO is sealed", "its smaps has no VmFlags")


# ---- How it uses the clock, as observed ----


def enters(view: View) -> Iterator[Facts]:
    """Reads that the vDSO could have served were true system calls of the program's own."""
    seen = view.measured.observation
    if seen is None:
        if view.pid is None:
            return
        raise view.lacking(f"how {view.process_name} reads the clock", "observation")
    entered, reads, seconds = seen.entered, seen.reads, seen.stat.seconds
    often = entered > max(ENTERED_SHARE * reads, ENTERED_PER_SECOND * seconds, ENTERED_LEAST)
    if often and not preload.slows(view):
        worst = max(seen.served, key=lambda row: row.calls if row.route == OWN else 0)
        name = f"{worst.function}({worst.clock})" if worst.clock else worst.function
        yield {
            "process": view.process_name,
            "entered": entered,
            "reads": reads,
            "worst": name,
            "first": suspected(view),
        }


def suspected(view: View) -> str:
    """What to try before the program is changed: without a library that may be what makes the calls."""
    try:
        names = [library for library, _ in preload.takers(view)]
    except CannotSee:
        return ""
    return f"start it without {' and '.join(names)}, which may be what makes them; else " if names else ""


def reads_cpu_time(view: View) -> Iterator[Facts]:
    """It reads the CPU-time clocks often, which no vDSO serves."""
    seen = view.measured.observation
    if seen is None or seen.stat.seconds <= 0:
        return
    rate = sum(row.calls for row in seen.stat.rows if row.clock in CPU_TIME) / seen.stat.seconds
    if rate > CPU_READS_PER_SECOND:
        yield {"process": view.process_name, "rate": rate}


def name_of(view: View) -> str:
    """The process's own name for itself, "" where it cannot be read."""
    try:
        return shown(machine.field(view.status, "Name"))
    except CannotSee:
        return ""


def path(view: View) -> str:
    """The file of its program, "" where it cannot be seen."""
    try:
        return shown(os.readlink(os.path.join(view.root, view.of_process("exe"))))
    except OSError:
        return ""
