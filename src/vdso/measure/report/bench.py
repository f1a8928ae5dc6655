"""What a bench puts on a page: what the vDSO saves, the rounds drawn, every figure, how it was measured."""

from collections.abc import Iterable

from vdso.measure.report import page
from vdso.measure.report.distributions import NARROW, TITLES, WIDE, draw
from vdso.measure.report.page import Column
from vdso.measure.result import BenchResult, Row
from vdso.measure.warning import worthless

LEGEND = (
    "Dots are medians, bars go from p5 to p95, shapes show how the rounds are spread; the scale is "
    "logarithmic. The line between vDSO and system call is what the vDSO saves."
)
COLUMNS = (
    Column("route"),
    Column("median"),
    Column("p5"),
    Column("p95"),
    Column("×"),
    Column("rounds", more=True),
    Column("calls a round", more=True),
)


def document(result: BenchResult) -> str:
    """A bench alone. Raises ExtraMissing where there is no matplotlib."""
    body = [
        *page.heading(heading(result), subheading(result)),
        *page.figures(figures(result)),
        *page.warnings((found.text, found.advice) for found in result.warnings),
        *picture(result),
        *table(result),
        *conditions(result),
    ]
    return page.document(heading(result), body, f"vdso {result.version}, {result.taken_at}")


def picture(result: BenchResult) -> list[str]:
    """The rounds, once for each kind of screen."""
    drawn = [
        f'<div class="{name}">{draw(result, layout, alone=False, prefix=f"{name}-")}</div>'
        for name, layout in (("wide", WIDE), ("narrow", NARROW))
    ]
    legend = page.paragraph(LEGEND, "muted")
    return page.section("Nanoseconds a call, by each route", *drawn, legend, kind="picture")


def heading(result: BenchResult) -> str:
    saved = None if worthless(result) else result.saving
    if saved is None:
        nothing = result.conditions.image == "none"
        return (
            "No vDSO: every read of a clock is a system call"
            if nothing
            else "What a call costs, by each route"
        )
    if saved.saved_cores < 0.05 * saved.syscall_cores:
        return "The vDSO saves nothing here"
    times = saved.syscall_cores / saved.vdso_cores if saved.vdso_cores > 0 else 0
    return f"Reading the clock by the vDSO costs {share(times)} of the system call"


def share(times: float) -> str:
    """One of so many parts, in words."""
    names = {
        2: "half",
        3: "a third",
        4: "a quarter",
        5: "a fifth",
        6: "a sixth",
        7: "a seventh",
        8: "an eighth",
    }
    count = round(times)
    if count < 2:
        return f"{100 / times:.0f} %" if times > 0 else "nothing"
    return names.get(count, f"1/{count}")


def subheading(result: BenchResult) -> str:
    machine = result.machine
    facts = (machine.cpu_model, f"Linux {machine.kernel}", f"clocksource {machine.clocksource}", machine.libc)
    return " · ".join(fact for fact in facts if fact)


def figures(result: BenchResult) -> list[tuple[str, str, str]]:
    saved = None if worthless(result) else result.saving
    if saved is None:
        return []
    reads = f"{saved.reads_per_second / 1e6:g} million reads a second"
    # As many ns a read as busy seconds for so many reads.
    vdso, syscall = (
        1e9 * cores / saved.reads_per_second for cores in (saved.vdso_cores, saved.syscall_cores)
    )
    return [
        (f"{ns(vdso)} ns", f"a read of {saved.clock} by the vDSO", "vdso"),
        (f"{ns(syscall)} ns", "the same by the true system call", "syscall"),
        (f"{saved.saved_cores:.1f} cores", f"saved at {reads}", "ink"),
    ]


def ns(value: float | None) -> str:
    """To three or four figures."""
    if value is None:
        return ""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 1000 else f"{value:.0f}"


def table(result: BenchResult) -> list[str]:
    """Every row, by call: the figures that the picture is drawn from, and what does not exist."""
    groups: dict[str, list[Row]] = {}
    for row in result.rows:
        groups.setdefault("the CPU alone" if row.route == "cpu" else row.name, []).append(row)
    caption = f"ns a call; {result.rounds} rounds; × is how many times the vDSO's cost"
    lines = page.table(caption, COLUMNS, ((name, cells(rows)) for name, rows in groups.items()))
    return page.section("What each call costs, by each route", *lines)


def cells(rows: list[Row]) -> Iterable[list[str]]:
    vdso_ns = next((row.median_ns for row in rows if row.route == "vdso"), None)
    for row in rows:
        name = page.dot(row.route, row.call if row.route == "cpu" else TITLES[row.route])
        if row.median_ns is None:
            yield [name, f"none: {row.missing}"]
            continue
        times = ns(row.median_ns / vdso_ns) if vdso_ns and vdso_ns > 0 else ""
        yield [
            name,
            ns(row.median_ns),
            ns(row.p5_ns),
            ns(row.p95_ns),
            times,
            str(row.rounds),
            str(row.batch),
        ]


def conditions(result: BenchResult) -> list[str]:
    """How it was measured, and on what."""
    machine, state = result.machine, result.conditions
    taken_off = f"{result.loop_ns:g} ns a call for the loop, {result.timer_ns:g} ns a batch for the timer"
    facts = (
        ("host", machine.host),
        ("CPU", f"{machine.cpu_model or machine.architecture}, {machine.cpus} online"),
        ("hypervisor", machine.hypervisor),
        ("kernel", machine.kernel),
        ("clocksource", machine.clocksource),
        ("C library", machine.libc),
        ("vDSO", state.image),
        ("pinned to", "no CPU" if result.cpu is None else f"CPU {result.cpu}"),
        ("governor", state.governor),
        ("load before", f"{state.load_1min:g}"),
        ("time stolen", f"{result.stolen_percent:g} %"),
        ("rounds", f"{result.rounds}, interleaved, in {result.duration_s:.1f} s"),
        ("taken off", taken_off),
    )
    return page.section("How it was measured", *page.facts(facts))
