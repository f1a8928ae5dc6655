"""What counted calls put on a page: a bar and a row for each function and clock, and for each caller."""

import os
from collections.abc import Iterable, Sequence

from vdso.measure.doctor.result import Observation
from vdso.measure.doctor.wording import duration, ns
from vdso.measure.report import page
from vdso.measure.report.page import Column, Html
from vdso.measure.sites import Frame
from vdso.measure.stat import RAW, THROUGH, VDSO, Caller, Row, Stat, how_many_called

TITLE = "How it calls the clock"
COLOURS = {VDSO: "vdso", THROUGH: "syscall", RAW: "vsyscall"}
WAYS = {
    VDSO: "by the vDSO, out of the kernel",
    THROUGH: "by the vDSO, which made a system call",
    RAW: "by a system call of the program's own",
}
COLUMNS = (
    Column("function and clock"),
    Column("", "drawn"),
    Column("calls"),
    Column("a second"),
    Column("ns a call"),
    Column("cores"),
)
CALLERS = (
    Column("who, and what", "words"),
    Column("", "drawn"),
    Column("of all"),
    Column("calls"),
)
OWN = "System calls that the program makes itself are counted and not sampled, and are in no share"
CALLERS_SHOWN, LEAST = 12, 0.002  # of the calls: what is less is named together


def counts(seen: Observation) -> list[str]:
    """All calls that were counted, those that cost most first, and why any of them entered the kernel."""
    found = seen.stat
    if found.rows:
        together = f"{found.calls_per_s:,.0f} calls a second, {found.cores:.3f} cores"
        by = how_many_called(found)
        who = f", by {by}" if by else ""
        caption = f"Together {together}, in {duration(found.seconds)}{who}."
        lines = page.table(caption, COLUMNS, [("", rows(found))], stack=True)
        ways = [way for way in COLOURS if any(row.route == way for row in found.rows)]
        dots = "".join(f"<span>{page.dot(COLOURS[way], WAYS[way])}</span> " for way in ways)
        lines.append(page.paragraph(Html(dots), "muted legend"))
    else:
        what = "clock call" if seen.whole else "system call that reads a clock"
        lines = [page.paragraph(f"No {what} in {duration(found.seconds)}.")]
    said = reasons(found.rows)
    if seen.slowed:
        said.append("Counting its own system calls has slowed it: they are not its rate.")
    said += [f"not known: {one.what}: {one.why}" for one in found.unknown]
    return page.section(TITLE, *lines, *page.items(said))


def rows(found: Stat) -> Iterable[Sequence[str]]:
    most = max(row.calls for row in found.rows)
    for row in found.rows:
        yield [
            named(row),
            page.bar([(row.calls, COLOURS[row.route])], most),
            f"{row.calls:,}",
            rate(row.calls_per_s),
            "unknown" if row.ns is None else ns(row.ns),
            "unknown" if row.cores is None else "< 0.001" if row.cores < 0.001 else f"{row.cores:.3f}",
        ]


def reasons(found: Iterable[Row]) -> list[str]:
    """Why calls became system calls, each reason once."""
    calls: dict[str, list[str]] = {}
    for row in found:
        if row.why:
            calls.setdefault(row.why, []).append(named(row))
    return [f"{', '.join(names)}: {why}" for why, names in calls.items()]


def callers(found: Stat) -> list[str]:
    """Who called, as far as that was sampled."""
    if not found.callers:
        return []
    total = sum(one.calls for one in found.callers)
    shown = [one for one in found.callers[:CALLERS_SHOWN] if one.calls >= LEAST * total]
    samples = some(sum(one.samples for one in found.callers), "sample")
    caption = f"By {samples}: each place stands for its share of the calls that were counted."
    lines = page.table(caption, CALLERS, [("", (caller(one, total) for one in shown))], stack=True)
    own = sum(row.calls for row in found.rows if row.route == RAW)
    if own and not any(one.raw for one in found.callers):
        lines.append(page.paragraph(f"{OWN}: {own:,} calls.", "muted"))
    if len(shown) < len(found.callers):
        rest = total - sum(one.calls for one in shown)
        others = some(len(found.callers) - len(shown), "other place")
        lines.append(page.paragraph(f"{others}: {rest:,} calls. vdso stat --sites --json has them.", "muted"))
    return page.section("Who calls", *lines)


def caller(one: Caller, total: int) -> list[str]:
    who = frames([one.caller]) if one.caller else f"not found: {one.unknown}"
    what = f"{one.function} {one.clock}".strip()
    if one.raw:
        what += ", a system call of its own"
    if one.via:
        what += f" through {frames(one.via[::-1])}"
    if one.beyond:
        what += f", called by {frames(one.beyond)}"
    return [
        Html(f"{page.plain(who)}<br><span>{page.plain(what)}</span>"),
        page.bar([(one.calls, COLOURS[RAW if one.raw else VDSO])], total),
        f"{100 * one.calls / total:.1f} %",
        f"{one.calls:,}",
    ]


def frames(found: Sequence[Frame]) -> str:
    """The functions, and the last part of their object's name, once behind those that are of one object."""
    words = []
    for one, after in zip(found, [*found[1:], None], strict=True):
        name = os.path.basename(one.object) or one.object
        if one.function is None:
            words.append(name if one.object.startswith("generated") else f"{name}+{one.address:#x}")
        elif after is not None and after.function is not None and after.object == one.object:
            words.append(one.function)
        else:
            words.append(f"{one.function} ({name})")
    return ", ".join(words)


def named(row: Row) -> str:
    return f"{row.function} {row.clock}".strip()


def some(number: int, noun: str) -> str:
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{number:,} {noun if number == 1 else plural}"


def rate(per_s: float) -> str:
    return f"{per_s:,.0f}" if per_s >= 10 else f"{per_s:.1f}"
