"""What a diagnosis puts on a page: the verdict, what it costs, findings, the clocks, what was looked at."""

from collections.abc import Iterable

from vdso.measure.doctor.result import (
    CRITICAL,
    FAST,
    NOTE,
    SLOW,
    WARNING,
    Clock,
    Cost,
    Diagnosis,
    Figures,
    Finding,
)
from vdso.measure.doctor.wording import about_subject, costs, facts, missing, ns, whole
from vdso.measure.report import page
from vdso.measure.report.page import Column, Html, plain

VERDICTS = {FAST: "good", SLOW: "bad"}
SEVERITIES = {CRITICAL: "bad", WARNING: "warn", NOTE: "note"}

COLUMNS = (
    Column("clock"),
    Column("vDSO, ns"),
    Column("C library, ns"),
    Column("system call, ns"),
    Column("ratio"),
    Column("getres"),
    Column("step seen"),
)
RATIO = (
    "ns a read, medians; the ratio is how many times the C library's read the system call costs. getres is "
    "the resolution that clock_getres tells, the step the smallest between two reads."
)


def heading(found: Diagnosis) -> list[str]:
    """The verdict, and who and what it is about."""
    machine = found.host.machine
    about = [
        machine.host,
        "" if found.subject.kind == "self" else f"{found.subject.kind} {about_subject(found.subject)}",
        machine.cpu_model or machine.architecture,
        f"Linux {machine.kernel}",
        f"clocksource {machine.clocksource or 'unknown'}",
    ]
    reason = found.reason[:1].upper() + found.reason[1:]
    badge = (found.verdict, VERDICTS.get(found.verdict, "warn"))
    return page.heading(reason, " · ".join(filter(None, about)), badge)


def title(found: Diagnosis) -> str:
    return f"{found.verdict}: {found.reason}"


def cost(found: Diagnosis) -> list[str]:
    """The figures that the verdict is about, and their sentence."""
    if found.cost is None:
        return []
    sentence = found.cost.sentence
    return page.figures(figures(found.cost, found.verdict), f"{sentence[:1].upper()}{sentence[1:]}.")


def figures(cost: Cost, verdict: str) -> Iterable[tuple[str, str, str]]:
    yield f"{ns(cost.read_ns)} ns", "a read of the clock", "bad" if verdict == SLOW else "vdso"
    if cost.could_be_ns is not None:
        yield f"{ns(cost.could_be_ns)} ns", "what it could be", "vdso"
    elif cost.syscall_ns is not None:
        yield f"{ns(cost.syscall_ns)} ns", "the same by the true system call", "syscall"
    if cost.cores is not None:
        whose = "reads a second, counted" if cost.measured else "reads a second, an example"
        what = "to be saved" if verdict == SLOW else "saved"
        cores = f"{cost.cores:.2g}" if cost.cores >= 0.001 else "< 0.001"
        yield f"{cores} cores", f"{what} at {cost.reads_per_second:,.0f} {whose}", "ink"


def findings(found: Diagnosis) -> list[str]:
    """What was found, the gravest first, with what mends it."""
    if not found.findings:
        return page.section(
            "Findings", page.paragraph(f"None. {len(found.checks)} checks have looked.", "muted")
        )
    return page.section("Findings", *(article(one) for one in found.findings))


def article(one: Finding) -> str:
    source = plain(one.source)
    link = f'<a href="{source}">{source}</a>' if one.source.startswith("https://") else source
    return "\n".join(
        (
            f'<article class="{SEVERITIES.get(one.severity, "note")}">',
            f"<h3>{plain(one.title)} <span>{plain(one.severity)}, {plain(one.id)}</span></h3>",
            page.paragraph(one.cause),
            page.paragraph(Html(f"<b>To mend it:</b> {plain(one.remedy)}"), "remedy"),
            page.paragraph(Html(link), "muted"),
            "</article>",
        )
    )


def clocks(found: Figures | None) -> list[str]:
    """Each clock, with its resolution."""
    if found is None:
        return []
    lines = page.table(RATIO, COLUMNS, [("", map(cells, found.clocks))], stack=True)
    lines += page.items(missing(found))
    return page.section("What each clock costs and tells", *lines)


def cells(clock: Clock) -> list[str]:
    return [
        clock.clock,
        *costs(clock),
        "none" if clock.ratio is None else f"{clock.ratio:.1f}",
        whole(clock.resolution_ns),
        whole(clock.step_ns),
    ]


def looked(found: Diagnosis) -> list[str]:
    """What was looked at, what could not be, and which checks did."""
    lines = page.facts(facts(found))
    if found.unseen:
        texts = (f"{one.what}: {one.why} ({', '.join(one.checks)})" for one in found.unseen)
        lines += ["<h3>Could not be looked at</h3>", *page.items(texts)]
    lines += [
        f"<h3>{len(found.checks)} checks have looked</h3>",
        page.paragraph(", ".join(found.checks), "muted"),
    ]
    return page.section("What was looked at", *lines)
