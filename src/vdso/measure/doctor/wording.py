"""What was looked at, in words: for a screen and for a page alike."""

from collections.abc import Iterator

from vdso.measure.doctor.result import Clock, Counter, Diagnosis, Figures, Observation, Subject
from vdso.measure.result import LOST

ROWS_SHOWN = 3


def facts(found: Diagnosis) -> Iterator[tuple[str, str]]:
    """What was looked at, each with its name; one without a name goes on from the last."""
    machine = found.host.machine
    brings = f" with {found.host.paravirtual}" if found.host.paravirtual else ""
    about = [
        f"Linux {machine.kernel}",
        machine.architecture,
        machine.cpu_model,
        f"{machine.cpus} CPU{'' if machine.cpus == 1 else 's'}",
        f"on {found.host.hypervisor}{brings}" if found.host.hypervisor else "",
        found.host.product,
    ]
    yield "host", ", ".join(filter(None, about))
    others = f" of {' '.join(found.host.clocksources)}" if found.host.clocksources else ""
    mode = f"; mode {found.host.mode}, proven by {found.host.mode_by}" if found.host.mode else ""
    yield "clocksource", f"{machine.clocksource or 'unknown'}{others}{mode}"
    yield (
        {"self": "process", "process": "process", "command": "command"}[found.subject.kind],
        about_subject(found.subject),
    )
    counter = found.figures.counter if found.figures else None
    if counter is not None and counter.read_ns is not None:
        flags = f"; {' '.join(found.host.flags)}" if found.host.flags else ""
        yield "counter", about_counter(counter, counter.read_ns) + flags
    if found.aslr is not None:
        one = "the address" if found.aslr.distinct == 1 else f"{found.aslr.distinct} addresses"
        yield "ASLR", f"{one} of the vDSO in {found.aslr.execs} executions, {found.aslr.entropy_bits} bits"
    if found.observation is not None:
        yield "observed", about_observation(found.observation)
        for missed in found.observation.stat.unknown:
            yield "", f"not {missed.what}: {missed.why}"


def about_subject(subject: Subject) -> str:
    who = subject.name or subject.program or "?"
    if subject.kind != "self":
        who = f"{subject.pid}, {who}"
    image = {"kernel": "the kernel's vDSO", "none": "no vDSO", "": "its vDSO unknown"}.get(
        subject.image, f"the vDSO of {subject.image}"
    )
    bits = "" if subject.bits is None else f"{subject.bits} bits"
    page = f"vsyscall {subject.vsyscall}" if subject.vsyscall else ""
    count = subject.seccomp_filters
    filters = f"{count} seccomp filter{'' if count == 1 else 's'}" if count else ""
    ended = f"ended: {subject.ended}" if subject.ended else ""
    parts = (who, bits, subject.libc or "C library unknown", image, page, filters, ended)
    return ", ".join(filter(None, parts))


def about_counter(counter: Counter, read_ns: float) -> str:
    pairs = f"{counter.pairs} pair{'' if counter.pairs == 1 else 's'}"
    agree = (
        f"{counter.warps} reads behind another CPU's"
        if counter.warps
        else f"{pairs} of CPUs compared{which(counter)}, none behind"
        if counter.compared
        else "not compared between CPUs"
    )
    ordered = "" if counter.ordered_ns is None else f", rdtscp {counter.ordered_ns:.1f} ns"
    return f"rdtsc {read_ns:.1f} ns{ordered}; {agree}"


def which(counter: Counter) -> str:
    """Of the pairs of CPUs."""
    if not counter.pairwise:
        return ", each with the first (too many for each with each)"
    return ", each with each" if counter.pairs > 1 else ""


def about_observation(seen: Observation) -> str:
    """What it read, most first."""
    what = "read" if seen.whole else "system call"
    text = f"{seen.reads:,} {what}{'' if seen.reads == 1 else 's'} in {duration(seen.stat.seconds)}"
    rows = sorted(seen.served, key=lambda row: -row.calls)[:ROWS_SHOWN]
    ways = {"vdso": "the vDSO", "vdso-syscall": "the vDSO's system call", "syscall": "its own system call"}
    parts = [f"{row.calls:,} {row.clock or row.function} by {ways.get(row.route, row.route)}" for row in rows]
    slowed = ["counting its system calls has slowed it"] if seen.slowed else []
    return "; ".join([text, *parts, *slowed])


def costs(clock: Clock) -> tuple[str, str, str]:
    """What a read costs by the vDSO, the C library and the system call, as a table's cells have it."""
    vdso, libc, syscall = (
        "?" if clock.missing.get(route) == LOST else ns(value)
        for route, value in (("vdso", clock.vdso_ns), ("libc", clock.libc_ns), ("syscall", clock.syscall_ns))
    )
    return vdso, libc, syscall


def missing(figures: Figures) -> Iterator[str]:
    """Why figures are missing, a sentence for each reason."""
    ways = {"vdso": "the vDSO", "libc": "the C library", "syscall": "the system call"}
    reasons: dict[tuple[str, str], list[str]] = {}
    for clock in figures.clocks:
        for route, why in clock.missing.items():
            reasons.setdefault((route, why), []).append(clock.clock)
    for (route, why), clocks in reasons.items():
        which = "" if len(clocks) == len(figures.clocks) else f"{', '.join(clocks)} "
        yield f"{'?' if why == LOST else 'none'}: {which}by {ways[route]}: {why}"


def duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{1000 * seconds:.0f} ms"


def ns(value: float | None) -> str:
    return "none" if value is None else f"{value:.1f}" if value < 1000 else f"{value:.0f}"


def whole(value: int | None) -> str:
    """ns with its unit, as short as it goes."""
    if value is None:
        return "none"
    for size, unit in ((10**9, "s"), (10**6, "ms"), (10**3, "us")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value} ns"
