"""Looks at the clock that the kernel keeps time by: clocksource, counter, and why it is not a better one.

Each function looks at one thing through a View and yields what a row of the catalogue is filled with, once
for each time that it applies.
"""

from collections.abc import Iterator

from vdso.measure.doctor.view import CannotSee, View
from vdso.measure.result import LOST
from vdso.measure.warning import NO_PATH_RATIO, TRAPPED_NS

Facts = dict[str, object]

# Clocksources that the vDSO can read by itself, by the machine of uname(2): each architecture's
# asm/vdso/clocksource.h and asm/clocksource.h, and who sets vdso_clock_mode.
READABLE = {
    "x86_64": ("tsc", "kvm-clock", "hyperv_clocksource_tsc_page"),
    "i686": ("tsc", "kvm-clock", "hyperv_clocksource_tsc_page"),
    "aarch64": ("arch_sys_counter",),
    "armv7l": ("arch_sys_counter",),
    "riscv64": ("riscv_clocksource",),
    "ppc64le": ("timebase",),
    "s390x": ("tod",),
    "loongarch64": ("Constant",),
}
# Its vDSO path takes a newer kernel, and the hypervisor's word that the TSC is stable.
IT_DEPENDS = ("xen",)
X86 = ("x86_64", "i686")
WANTED_FLAGS = ("constant_tsc", "nonstop_tsc")
SHOWN_FLAGS = ("constant_tsc", "nonstop_tsc", "tsc_known_freq", "tsc_adjust", "rdtscp", "hypervisor")
# The clock that a hypervisor brings with it.
PARAVIRTUAL = ("kvm-clock", "xen", "hyperv_clocksource_tsc_page", "hyperv_clocksource_msr")
# By what CPUID's leaf 0x40000000 answers: Documentation/virt/, and each hypervisor's own.
HYPERVISORS = {
    "KVMKVMKVM": "KVM",
    "Linux KVM Hv": "KVM",
    "XenVMMXenVMM": "Xen",
    "Microsoft Hv": "Hyper-V",
    "VMwareVMware": "VMware",
    "VBoxVBoxVBox": "VirtualBox",
    "TCGTCGTCGTCG": "QEMU TCG",
    "bhyve bhyve ": "bhyve",
    "ACRNACRNACRN": "ACRN",
    " lrpepyh vr": "Parallels",
    "VirtualApple": "Rosetta",
}
HIGH_RESOLUTION_NS = 1_000_000


def readable(view: View) -> bool | None:
    """Whether the vDSO reads the current clocksource by itself: by the data page's mode where that is proven,
    else by its name, and where that does not tell by what a read costs. None: not to be known. Raises
    CannotSee."""
    if view.measured.page is not None:
        return view.measured.page.mode != "none"
    names = READABLE.get(view.architecture)
    if names is None or (view.clocksource in IT_DEPENDS and view.measured.figures is None):
        return None
    if view.clocksource in IT_DEPENDS:
        return not measured_slow(view)
    return view.clocksource in names


def evidence(view: View) -> str:
    """How that is known."""
    page = view.measured.page
    return f"the kernel's data page has clock mode {page.mode}, proven" if page else "by its name"


def usable(view: View) -> tuple[str, ...]:
    """The clocksources that the vDSO reads by itself, without one that was measured to be no clock."""
    names = READABLE.get(view.architecture, ())
    if view.measured.figures is not None and view.measured.figures.counter.warps:
        return tuple(name for name in names if name != "tsc")
    return names


def better(view: View) -> str:
    """A clocksource that is available, usable and not used; "" without. Raises CannotSee."""
    names = usable(view)
    return next((name for name in view.clocksources if name in names and name != view.clocksource), "")


def slow_with_better(view: View) -> Iterator[Facts]:
    """The clocksource has no vDSO path, and one that has could be used at once."""
    if readable(view) is False and better(view):
        yield {"current": view.clocksource, "better": better(view), "evidence": evidence(view)}


def slow_without_better(view: View) -> Iterator[Facts]:
    """The clocksource has no vDSO path, and no other is to be had."""
    if readable(view) is False and not better(view):
        available = ", ".join(view.clocksources) or "none"
        yield {"current": view.clocksource, "available": available, "evidence": evidence(view)}


def not_best(view: View) -> Iterator[Facts]:
    """The kernel rates another one that the vDSO reads above the one in use."""
    first = view.clocksources[:1]
    if not first or first[0] == view.clocksource or readable(view) is not True:
        return
    if first[0] in usable(view):
        yield {"current": view.clocksource, "better": first[0]}


def paravirtual_unstable(view: View) -> Iterator[Facts]:
    """kvm-clock without the hypervisor's word that the TSC is stable: the vDSO looks, and makes the system
    call."""
    if view.page.mode != "pvclock":
        return
    clock = view.clock()
    if measured_slow(view):
        yield {"ns": clock.libc_ns, "syscall_ns": clock.syscall_ns, "other": better(view) or "tsc"}


def measured_slow(view: View) -> bool:
    """Whether a read by the C library takes about what a system call takes; where a filter refuses that, what
    answers is another way. Raises CannotSee."""
    for name in ("REALTIME", "MONOTONIC"):
        clock = view.clock(name)
        if clock.libc_ns is None:
            why = clock.missing.get("libc", "it could not be timed")
            raise CannotSee(f"what a read of {name} costs", why)
        if clock.syscall_ns is None:
            why = clock.missing.get("syscall", "it could not be timed")
            if "syscall" in clock.missing and why != LOST:
                continue  # it fails, and a read is answered: it is none
            raise CannotSee(f"what the system call for {name} costs", why)
        if clock.libc_ns >= NO_PATH_RATIO * clock.syscall_ns:
            return True
    return False


# ---- The machine under it ----


def hypervisor(view: View) -> str:
    """Its name, "" where none is seen: CPUID's leaf, /sys/hypervisor, or the CPU's flag that there is one."""
    leaf = view.measured.hypervisor
    if leaf:
        return HYPERVISORS.get(leaf, leaf.strip())
    try:
        named = view.text_if_there("sys/hypervisor/type").strip()
        if named:
            return {"xen": "Xen"}.get(named, named)
        return "a hypervisor" if "hypervisor" in view.cpu_flags else ""
    except CannotSee:
        return ""


def product(view: View) -> str:
    """What the machine is sold as, by DMI; "" where there is none."""
    words = []
    for name in ("sys_vendor", "product_name"):
        try:
            words.append(view.text_if_there(f"sys/class/dmi/id/{name}").strip())
        except CannotSee:
            continue
    return " ".join(filter(None, words))


def paravirtual(view: View) -> str:
    """The hypervisor's own clock, where it is available; "" without. Raises CannotSee."""
    return next((name for name in view.clocksources if name in PARAVIRTUAL), "")


# ---- The counter ----


def trapped(view: View) -> Iterator[Facts]:
    """Reading the counter leaves the guest."""
    ns = view.figures.counter.read_ns
    if ns is None:
        raise CannotSee("what reading the counter costs", "it could not be timed")
    if ns > TRAPPED_NS:
        yield {"ns": ns, "who": view.measured.hypervisor or "something"}


def forbidden(view: View) -> Iterator[Facts]:
    """PR_SET_TSC, of this process: no other's can be asked."""
    if view.pid is not None and not view.command:
        raise CannotSee(
            "whether it may read the counter (PR_SET_TSC)", "a process can ask for itself alone: prctl(2)"
        )
    if view.measured.counter_allowed is None:
        raise view.lacking("whether the counter may be read", "counter_allowed")
    if not view.measured.counter_allowed:
        yield {}


def differs(view: View) -> Iterator[Facts]:
    """The CPUs' counters do not agree."""
    counter = view.figures.counter
    if counter.warps:
        yield {"warps": counter.warps, "widest": counter.widest, "pairs": counter.pairs}
    elif not counter.compared:
        if "counter" in view.measured.lacking:
            raise view.lacking("whether the CPUs' counters agree", "counter")
        raise CannotSee(
            "whether the CPUs' counters agree", "they were too busy to be compared, or only one may be used"
        )


def agreement(view: View) -> str:
    """What was measured of it, in words."""
    counter = view.measured.figures.counter if view.measured.figures else None
    if counter is None or not (counter.compared or counter.warps):
        return "whether the CPUs' counters differ could not be measured"
    if counter.warps:
        return f"measured now they differ, by {counter.widest} counts or more"
    return f"measured now they do not differ, in {counter.handovers} handovers"


def flags(view: View) -> Iterator[Facts]:
    """The CPU does not promise a counter that goes on at one rate."""
    if view.architecture not in X86:
        return
    missing = [flag for flag in WANTED_FLAGS if flag not in view.cpu_flags]
    if missing:
        yield {"missing": " and ".join(missing)}


# ---- What the kernel was told and what it said ----


def unstable(view: View) -> Iterator[Facts]:
    """The kernel's own judgement of the TSC."""
    said = view.logged(r"Marking TSC unstable due to .*|Marking clocksource 'tsc[^']*' as unstable.*")
    if said:
        yield {"line": said[-1][0].rstrip(" :"), "agreement": agreement(view)}


def warp(view: View) -> Iterator[Facts]:
    """The check at boot, between two CPUs."""
    said = view.logged(r"Measured -?\d+ cycles TSC warp between CPUs.*")
    if said:
        yield {"line": said[-1][0], "agreement": agreement(view)}


def calibration(view: View) -> Iterator[Facts]:
    """The TSC's rate could not be found out as usual."""
    said = view.logged(
        r"Fast TSC calibration failed|Unable to calibrate against PIT|HPET/PMTIMER calibration failed"
        r"|Refined TSC clocksource calibration: [0-9.]+ MHz"
    )
    failed = [line[0] for line in said if not line[0].startswith("Refined")]
    # A refinement that came later has made up for it.
    if failed and not any(line[0].startswith("Refined") for line in said):
        yield {"line": failed[-1]}


def refused(view: View) -> Iterator[Facts]:
    """It was told to use a clocksource, at boot or through sysfs, and did not."""
    said = view.logged(r"Override clocksource \S+ is .*")
    if said:
        yield {"line": said[-1][0]}


def told(view: View, names: tuple[str, ...], slow_values: tuple[str, ...]) -> Iterator[Facts]:
    """A parameter of that name whose value is one of these; "" stands for a parameter without."""
    for name, value in view.command_line:
        if name in names and value in slow_values:
            yield {"parameter": f"{name}={value}" if value else name}


def told_clocksource(view: View) -> Iterator[Facts]:
    """`clocksource=` for one that the vDSO cannot read."""
    names = READABLE.get(view.architecture)
    for name, value in view.command_line:
        if name == "clocksource" and names is not None and value not in (*names, *IT_DEPENDS):
            yield {"parameter": f"{name}={value}"}


def told_tsc(view: View) -> Iterator[Facts]:
    """The kernel was told not to trust the TSC."""
    yield from told(view, ("tsc",), ("unstable",))
    yield from told(view, ("notsc",), ("",))


def told_hpet(view: View) -> Iterator[Facts]:
    """`hpet=force`: one that firmware hides, which is then there to be chosen."""
    yield from told(view, ("hpet",), ("force", "force,verbose", "verbose,force"))


# ---- Resolution ----


def coarse(view: View) -> Iterator[Facts]:
    """A fine clock that goes by ticks: no high-resolution timers, or a clocksource of jiffies."""
    for name in ("REALTIME", "MONOTONIC"):
        clock = view.clock(name)
        steps = [value for value in (clock.resolution_ns, clock.step_ns) if value is not None]
        if not steps:
            raise CannotSee(f"the resolution of {name}", "neither clock_getres nor reading it tells")
        if max(steps) >= HIGH_RESOLUTION_NS:
            yield {"clock": name, "ms": max(steps) / 1e6}
            return


def unexplained(view: View) -> Iterator[Facts]:
    """Slow by measure, and nothing that was looked at says why."""
    if not measured_slow(view) or explained(view):
        return
    clock = view.clock()
    yield {"ns": clock.libc_ns, "syscall_ns": clock.syscall_ns, "mode": mode(view)}


def mode(view: View) -> str:
    return view.measured.page.mode if view.measured.page else "unknown"


def explained(view: View) -> bool:
    """Whether another row has said it already."""
    from vdso.measure.doctor import preload, vdso

    looks = (slow_with_better, slow_without_better, paravirtual_unstable, trapped, forbidden)
    # A library is measured in this process; for another, that is for later.
    here = (vdso.bypassed, preload.preloaded_slow) if view.pid is None else ()
    for look in (*looks, *vdso.ABSENT, *here):
        try:
            if any(True for _ in look(view)):
                return True
        except CannotSee:
            continue
    return False
