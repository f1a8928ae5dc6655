"""From a view to a diagnosis: runs the checks, and says what they come to: verdict, reason, cost.

Prints nothing. What is measured, vdso.measure.doctor.measuring says; what is looked for, the catalogue.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from vdso.measure import machine
from vdso.measure.doctor import binary, clocksource, preload, program, vdso, wording
from vdso.measure.doctor.catalogue import CHECKS, Check
from vdso.measure.doctor.result import (
    CRITICAL,
    FAST,
    SEVERITIES,
    SLOW,
    UNKNOWN,
    Clock,
    Cost,
    Figures,
    Finding,
    Host,
    Observation,
    Subject,
    Unseen,
)
from vdso.measure.doctor.view import CannotSee, View
from vdso.measure.warning import NO_PATH_RATIO, TRAPPED_NS, WORTHLESS

T = TypeVar("T")

# Said to be an example wherever it is used: what a busy server, a tracer or a logger makes.
EXAMPLE_READS_PER_SECOND = 1_000_000.0


@dataclass(slots=True)
class Looked:
    """What checks have found so far, and what they could not see: by (what, why), the checks' ids."""

    findings: list[Finding] = field(default_factory=list)
    unseen: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    checks: list[str] = field(default_factory=list)
    # Who could not be looked at and may read the clock in another way than what was: without it no verdict.
    stranger: Unseen | None = None

    def run(self, view: View, checks: Iterable[Check]) -> None:
        """Lets these look. A check may find something and be kept from seeing the rest."""
        for check in checks:
            try:
                for facts in check.look(view):
                    self.findings.append(finding(check, facts))
            except CannotSee as refused:
                self.unseen.setdefault((refused.what, refused.why), []).append(check.id)
            else:
                self.checks.append(check.id)

    def miss(self, what: str, why: str) -> None:
        """Something that could not be seen and that no check depends on."""
        self.unseen.setdefault((what, why), [])

    def ordered(self) -> tuple[Finding, ...]:
        """The findings, the gravest first, else as the catalogue has them."""
        places = {check.id: place for place, check in enumerate(CHECKS)}
        return tuple(sorted(self.findings, key=lambda one: (SEVERITIES.index(one.severity), places[one.id])))

    def not_seen(self) -> tuple[Unseen, ...]:
        return tuple(Unseen(what, why, tuple(checks)) for (what, why), checks in self.unseen.items())

    def undecided(self, view: View) -> Unseen | None:
        """The first thing that was not seen and without which there is no verdict."""
        if self.stranger is not None:
            return self.stranger
        deciding = {check.id for check in CHECKS if check.decides}
        if view.pid is None:
            deciding = {"clock-slow"}  # what this process's own C library takes was measured, or was not
        return next((one for one in self.not_seen() if deciding.intersection(one.checks)), None)


def finding(check: Check, facts: Mapping[str, object]) -> Finding:
    cause, remedy = check.cause.format_map(facts), check.remedy.format_map(facts)
    return Finding(check.id, check.severity, check.title, cause, remedy, check.source)


def judge(view: View, looked: Looked) -> tuple[str, str]:
    """The verdict, and the reason in one line."""
    critical = [one for one in looked.ordered() if one.severity == CRITICAL]
    if critical:
        more = len(critical) - 1
        return SLOW, critical[0].title + (f", and {more} more" if more else "")
    seen = view.measured.observation
    if any(one.id == "program-blind" for one in looked.findings) and seen is None:
        return UNKNOWN, f"{view.process_name} finds no vDSO, and whether it reads the clock was not observed"
    undecided = looked.undecided(view)
    if undecided is not None:
        return UNKNOWN, f"{undecided.what} could not be looked at: {undecided.why}"
    if preloaded(looked) and preload.read_ns(view) is None:
        library = preload.named(view)
        return UNKNOWN, f"{library} takes clock functions, and what a read costs with it was not measured"
    figures = view.measured.figures
    clock = figures.clock("MONOTONIC") if figures else None
    if view.pid is None and clock is not None and "libc-bypasses" not in looked.checks:
        return FAST, (
            f"a read of the clock of {view.process_name} takes {wording.ns(clock.libc_ns)} ns and a system "
            f"call {wording.ns(clock.syscall_ns)}; which way it goes could not be looked at"
        )
    return FAST, f"reads of the clock of {view.process_name} stay out of the kernel"


# ---- What it costs ----


def fast_ns(figures: Figures) -> float | None:
    """What a read costs where nothing is wrong: as measured, where this vDSO is fast; else the sum of what it
    is made of, an ordered read of the counter and one of the coarse clock, both measured. None: neither.
    """
    clock, coarse = figures.clock("MONOTONIC"), figures.clock("MONOTONIC_COARSE")
    if clock and clock.vdso_ns and clock.syscall_ns and clock.vdso_ns < NO_PATH_RATIO * clock.syscall_ns:
        return clock.vdso_ns
    ordered = figures.counter.ordered_ns
    if coarse is None or coarse.vdso_ns is None or ordered is None or ordered > TRAPPED_NS:
        return None
    return ordered + coarse.vdso_ns


def read_ns(view: View, looked: Looked, clock: Clock) -> float | None:
    """What a read costs the process: with a preloaded library as it was timed with that; else by what it was
    seen to read, else as a read of MONOTONIC costs in this process, where the figures are taken; one that
    does not find its vDSO pays for the system call."""
    if looked.stranger is not None:
        return None
    if preloaded(looked):
        return preload.read_ns(view)
    seen = view.measured.observation
    if seen is not None and seen.whole and seen.read_ns is not None:
        return seen.read_ns
    outside = {"vdso-hidden", "program-blind", "program-enters"}
    if view.pid is not None and outside.intersection(one.id for one in looked.findings):
        return clock.syscall_ns
    return clock.libc_ns


def preloaded(looked: Looked) -> bool:
    """Whether a library stands before the C library's clock functions."""
    return any(one.id in ("preload", "preload-slow") for one in looked.findings)


def rate(seen: Observation | None, looked: Looked) -> float | None:
    """How many reads a second it makes; None where that was not counted, or counting has made it another; and
    under a preloaded library, of which one read may make two, or none."""
    if seen is None or seen.slowed or not seen.reads or preloaded(looked):
        return None
    # Where those that the vDSO serves were not counted, the others are the rate only if it makes those.
    if not seen.whole and all(one.id != "program-enters" for one in looked.findings):
        return None
    return seen.per_second


def cost(view: View, looked: Looked, verdict: str) -> Cost | None:
    """What a read costs the process, and what that comes to; None where that was not measured."""
    figures = view.measured.figures
    clock = figures.clock("MONOTONIC") if figures else None
    costs = read_ns(view, looked, clock) if clock else None
    if figures is None or clock is None or costs is None:
        return None
    measured = rate(view.measured.observation, looked)
    per_s = EXAMPLE_READS_PER_SECOND if measured is None else measured
    whose = "a million a second, say"
    if measured is not None:
        whose = f"the {rate_text(per_s)} that {view.process_name} makes"
    cores: float | None = None
    could_be = fast_ns(figures) if verdict == SLOW else None
    sentence = f"each clock read costs {costs:.0f} ns"
    if could_be is not None and could_be < costs:
        cores = per_s * (costs - could_be) / 1e9
        sentence += f" instead of {could_be:.0f}; at {whose}, {cores_text(cores)}"
    elif verdict == SLOW:
        could_be = None
        sentence += "; what it could cost here is not known"
    elif (saved_ns := (clock.syscall_ns or 0.0) - costs) > 0 and not worthless(figures):
        cores = per_s * saved_ns / 1e9
        sentence += f", and a system call {clock.syscall_ns:.0f}; at {whose}, {cores_text(cores)} saved"
    return Cost(
        read_ns=round(costs, 1),
        syscall_ns=clock.syscall_ns,
        could_be_ns=None if could_be is None else round(could_be, 1),
        reads_per_second=round(per_s, 1),
        measured=measured is not None,
        cores=None if cores is None else round(cores, 4),
        sentence=sentence,
    )


def worthless(figures: Figures) -> bool:
    return any(one.id in WORTHLESS for one in figures.cautions)


def rate_text(per_second: float) -> str:
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if per_second >= limit:
            return f"{per_second / limit:.1f} {unit}/s"
    return f"{per_second:.0f}/s"


def cores_text(cores: float) -> str:
    if cores < 0.001:
        return "under a thousandth of a core"
    text = f"{cores:.2g}"
    return f"{text} core{'' if text == '1' else 's'}"


# ---- Who and where ----


def host(view: View) -> Host:
    names: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    own = ""
    with contextlib.suppress(CannotSee):
        names, own = view.clocksources, clocksource.paravirtual(view)
    with contextlib.suppress(CannotSee):
        flags = tuple(flag for flag in clocksource.SHOWN_FLAGS if flag in view.cpu_flags)
    page = view.measured.page
    return Host(
        machine=machine.machine(view.root),
        hypervisor=clocksource.hypervisor(view),
        product=clocksource.product(view),
        clocksources=names,
        paravirtual=own,
        flags=flags,
        mode=page.mode if page else "",
        mode_by=page.method if page else "",
    )


def subject(view: View) -> Subject:
    """What is known of the process, as far as it can be seen."""

    def seen(take: Callable[[View], T], otherwise: T) -> T:
        try:
            return take(view)
        except CannotSee:
            return otherwise

    unknown: int | None = None
    nobody: list[str] = []
    kind = "command" if view.command else "self" if view.pid is None else "process"
    tracers = seen(lambda view: [str(one["who"]) for one in program.traced(view)], nobody)
    return Subject(
        kind=kind,
        pid=view.pid,
        name=program.name_of(view),
        program=program.path(view),
        bits=seen(lambda view: view.bits, unknown),
        libc=seen(binary.libc, ""),
        image=seen(vdso.whose_image, ""),
        vsyscall=seen(vdso.vsyscall_mode, ""),
        seccomp_filters=seen(program.filters, unknown),
        tracer=tracers[0] if tracers else "",
        preloaded=seen(preload.preloads, ()),
        time_namespace=seen(program.time_namespace, None),
        aslr_off=seen(program.randomisation_off_here, None),
        ended="",
    )


def split() -> tuple[Sequence[Check], Sequence[Check], Sequence[Check]]:
    """The checks that look at what is there, those that look at what a program did, and those that may start
    something, and so come last."""
    first = [one for one in CHECKS if not one.observes and not one.starts]
    return first, [one for one in CHECKS if one.observes], [one for one in CHECKS if one.starts]
