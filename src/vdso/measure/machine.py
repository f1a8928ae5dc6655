"""What this host is, and what may disturb a measurement on it: read, never changed.

Every file is taken below `root`, so that a tree of another machine's files can be read as well. A file that
is not there makes its fact unknown ("" or 0), not an error.
"""

import os
import platform

from vdso import _core
from vdso.errors import SourceError, shown
from vdso.kernel import auxv, maps
from vdso.measure.result import Conditions, Machine

OUR_IMAGES = ("vdso-clock.so", "vdso-count.so")


def text(root: str, path: str) -> str:
    """The file's text without its last newline, "" where it cannot be read."""
    try:
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def field(table: str, name: str) -> str:
    """The value of a line `name: value`, the first of that name, as in /proc/self/status; "" where there is
    none.
    """
    for line in table.splitlines():
        key, colon, value = line.partition(":")
        if colon and key.strip() == name:
            return value.strip()
    return ""


def number(word: str) -> int:
    return int(word) if word.isascii() and word.isdigit() else 0


def libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        return ""


def machine(root: str = "/") -> Machine:
    """This host. proc_cpuinfo(5), proc_sys_kernel(5), Documentation/ABI/testing/sysfs-devices-system-cpu."""
    cpuinfo = text(root, "proc/cpuinfo")
    names = [line for line in cpuinfo.splitlines() if line.partition(":")[0].strip() == "processor"]
    return Machine(
        host=text(root, "proc/sys/kernel/hostname") or platform.node(),
        architecture=platform.machine(),
        cpu_model=" ".join(field(cpuinfo, "model name").split()),
        cpus=len(names) or os.cpu_count() or 1,
        kernel=text(root, "proc/sys/kernel/osrelease") or platform.release(),
        clocksource=text(root, "sys/devices/system/clocksource/clocksource0/current_clocksource"),
        hypervisor=_core.hypervisor(),
        libc=libc(),
    )


def conditions(cpu: int | None, root: str = "/") -> Conditions:
    """What may disturb a run on that CPU, as it is now."""
    status = text(root, "proc/self/status")
    tracer = number(field(status, "TracerPid"))
    load = text(root, "proc/loadavg").split()
    filters = number(field(status, "Seccomp_filters"))
    return Conditions(
        load_1min=float(load[0]) if load and load[0].replace(".", "", 1).isdigit() else 0.0,
        tracer_pid=tracer,
        tracer=shown(text(root, f"proc/{tracer}/comm")) if tracer else "",
        # Kernels before 5.9 do not count them: mode 2 is at least one.
        seccomp_filters=filters or int(field(status, "Seccomp") == "2"),
        governor=text(root, f"sys/devices/system/cpu/cpu{cpu or 0}/cpufreq/scaling_governor"),
        image=image(),
        preloaded=os.environ.get("LD_PRELOAD", ""),
    )


def image() -> str:
    """Whose vDSO this process has, as whose() says; "" where that cannot be seen."""
    try:
        base = auxv.read().get(auxv.AT_SYSINFO_EHDR, 0)
        return whose(maps.find(maps.read(), base) if base else None)
    except SourceError:
        return ""


def whose(mapping: maps.Mapping | None) -> str:
    """Whose image is in that mapping: "kernel", "vdso run" for one of ours, "none", or the file's name."""
    if mapping is None:
        return "none"
    if mapping.name == "[vdso]":
        return "kernel"
    return "vdso run" if os.path.basename(mapping.name) in OUR_IMAGES else mapping.name or "no file"


def ticks(cpu: int | None, root: str = "/") -> tuple[int, int]:
    """(stolen, all) ticks of that CPU, or of all, since boot: proc_stat(5)."""
    name = "cpu" if cpu is None else f"cpu{cpu}"
    for line in text(root, "proc/stat").splitlines():
        words = line.split()
        if words and words[0] == name:
            # Guest time, the ninth and tenth, is part of user and nice already.
            values = [number(word) for word in words[1:9]]
            return (values[7] if len(values) > 7 else 0), sum(values)
    return 0, 0


def stolen_percent(before: tuple[int, int], after: tuple[int, int]) -> float:
    """The share that a hypervisor gave to others between two readings of ticks(), 0 to 100."""
    all_ticks = after[1] - before[1]
    return round(100 * max(0, after[0] - before[0]) / all_ticks, 2) if all_ticks > 0 else 0.0


def choose_cpu(allowed: set[int], root: str = "/") -> int:
    """Which CPU to measure on: of those with the highest frequency, the last, which serves the fewest
    interrupts.
    """
    return max(
        allowed,
        key=lambda cpu: (
            number(text(root, f"sys/devices/system/cpu/cpu{cpu}/cpufreq/cpuinfo_max_freq")),
            cpu,
        ),
    )
