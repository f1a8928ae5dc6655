"""`vdso bench`: what the vDSO's calls cost by each route, and what it saves.

Measuring, comparing, drawing and saving are vdso.measure's; here is what they print.
"""

import sys
from argparse import Namespace
from typing import TYPE_CHECKING

from vdso.commands.output import columns, console, print_json, write_file
from vdso.commands.parser import Parser
from vdso.errors import UsageError, shown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from vdso.measure.compare import Comparison
    from vdso.measure.result import BenchResult, Row

HELP = """\
usage: vdso bench [--quick] [--json] [--save FILE] [--compare FILE [FILE]] [--html FILE] [--svg FILE]

Measures what each call of the vDSO costs by four routes: the vDSO's own function, the C library, the true
system call, and the vsyscall page; beside them getppid and the bare counter. In interleaved rounds, pinned to
one CPU; ns a call, medians, with p5 to p95.

  --quick            a quarter of the rounds: about a second instead of three
  --json             print the result, every round's value in it, as JSON
  --save FILE        keep the result; the same JSON
  --compare FILE     a verdict on each row, against a saved run: faster, slower, or inconclusive;
                     with a second FILE nothing is measured and that one is compared with the first
  --html FILE        one page with picture, table and conditions, that opens offline
  --svg FILE         the picture alone

--html and --svg draw with matplotlib: pip install 'vdso[report]'.

example:
  vdso bench --save before.json
  vdso bench --compare before.json --html bench.html

exit status:
  0 measured, whatever the verdicts; 1 a file that cannot be read or written, or no matplotlib; 2 usage
"""

HINT = "vdso bench --help shows how"

# A wider terminal shows p5 to p95, a narrower one fewer routes.
WIDE, NARROW = 106, 72
TITLES = {"vdso": "vDSO", "libc": "C library", "syscall": "system call", "vsyscall": "vsyscall"}


def options(words: list[str]) -> Namespace | None:
    """The options; None where help was printed. Raises UsageError."""
    parser = Parser("bench", HELP)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--save", metavar="FILE")
    parser.add_argument("--compare", metavar="FILE", nargs="+", default=[])
    parser.add_argument("--html", metavar="FILE")
    parser.add_argument("--svg", metavar="FILE")
    found = parser.read(words)
    if found is None:
        return None
    if len(found.compare) > 2:
        raise UsageError("--compare takes one file or two", HINT)
    if len(found.compare) == 2 and (found.quick or found.save):
        option = "--quick" if found.quick else "--save"
        raise UsageError(f"{option} with two files to compare: then nothing is measured", HINT)
    if any(name == "" for name in (found.save, found.html, found.svg, *found.compare)):
        raise UsageError("a file's name is an empty word", HINT)
    return found


def main(words: list[str]) -> int:
    """Measures or compares, and prints. Returns the exit status."""
    found = options(words)
    if found is None:
        return 0
    from vdso.measure import compare, saved

    # What can go wrong is found out before some seconds are spent.
    for path in filter(None, (found.save, found.html, found.svg)):
        saved.check_writable(path)
    if found.html or found.svg:
        from vdso.measure.report.picture import want_matplotlib

        want_matplotlib("--html" if found.html else "--svg")
    runs = [saved.load(path) for path in found.compare]
    result = runs[1] if len(runs) == 2 else measured(found.quick)
    comparison = compare.compare(runs[0], result) if runs else None
    write(found, result)
    if found.json:
        print_json({"result": result, "comparison": comparison} if comparison else result)
        return 0
    out = console()
    if comparison is None:
        show(out, result)
    else:
        show_comparison(out, comparison, found.compare[0])
        show_warnings(out, result)
    return 0


def write(found: Namespace, result: "BenchResult") -> None:
    """The files that were asked for."""
    if found.save:
        import json

        from vdso.commands.output import plain

        write_file(found.save, json.dumps(plain(result), allow_nan=False) + "\n")
    if found.svg:
        from vdso.measure.report.distributions import draw

        write_file(found.svg, draw(result))
    if found.html:
        from vdso.measure.report.bench import document

        write_file(found.html, document(result))


def measured(quick: bool) -> "BenchResult":
    """A run, with a progress bar on a terminal."""
    from vdso.commands.progress import bar
    from vdso.measure import bench

    with bar() as progress:
        return bench(quick=quick, progress=progress)


# ---- tables ----


def ns_text(ns: float) -> str:
    return f"{ns:.2f}" if ns < 10 else f"{ns:.1f}" if ns < 1000 else f"{ns:.0f}"


def cell(row: "Row | None", wide: bool) -> tuple[str, str]:
    """(median, spread) of a row as text; what does not exist says so."""
    if row is None or row.median_ns is None or row.p5_ns is None or row.p95_ns is None:
        return "none", ""
    if wide:
        return ns_text(row.median_ns), f"{ns_text(row.p5_ns)}-{ns_text(row.p95_ns)}"
    half = 50 * (row.p95_ns - row.p5_ns) / row.median_ns if row.median_ns > 0 else 0
    return ns_text(row.median_ns), f"{plus_minus()}{half:.0f}%"


def plus_minus() -> str:
    """The sign, where the output's encoding has it."""
    try:
        "±".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return "+-"
    return "±"


def show(out: "Console", result: "BenchResult") -> None:
    machine = result.machine
    facts = [
        machine.cpu_model or machine.architecture,
        f"Linux {machine.kernel}",
        f"clocksource {machine.clocksource or 'unknown'}",
        machine.libc,
    ]
    out.print(", ".join(filter(None, facts)), markup=False)
    wide, narrow = out.width >= WIDE, out.width < NARROW
    spread = "" if narrow else ", p5-p95" if wide else f", {plus_minus()} half of p5 to p95"
    where = "" if result.cpu is None else f", on CPU {result.cpu}"
    out.print(f"ns a call: median of {result.rounds} rounds{where}{spread}\n", markup=False)
    routes = ["vdso", "syscall"] if narrow else list(TITLES)
    out.print(route_table(result, routes, wide, spread=not narrow))
    for note in notes(result, routes):
        out.print(f"[dim]none:[/dim] {note}")
    out.print()
    out.print(bare_table(result, wide, spread=not narrow))
    out.print()
    show_warnings(out, result)
    out.print(sentence(result), markup=False)


def route_table(result: "BenchResult", routes: list[str], wide: bool, spread: bool) -> "Table":
    """Calls down, routes across, with how many times the vDSO's cost the system call's is."""
    table = columns("", *(TITLES[route] for route in routes), "ratio", right=(len(routes) + 1,))
    calls = list(dict.fromkeys((row.call, row.clock) for row in result.rows if row.route == "vdso"))
    across = [
        aligned([cell(result.row(call, route, clock), wide) for call, clock in calls], spread)
        for route in routes
    ]
    previous = ""
    for index, (call, clock) in enumerate(calls):
        if clock and call != previous:
            table.add_row(call)
        previous = call
        table.add_row(
            # Without what all such clocks end in, which would cost a narrow terminal a column.
            f"  {clock.removesuffix('_ID')}" if clock else call,
            *(texts[index] for texts in across),
            ratio(result.row(call, "syscall", clock), result.row(call, "vdso", clock)),
        )
    return table


def aligned(cells: list[tuple[str, str]], spread: bool) -> list["Text"]:
    """Medians under each other, each with its spread."""
    from rich.text import Text

    width = max((len(median) for median, _ in cells), default=0)
    return [
        Text.assemble(median.rjust(width), (f" {beside}" if spread and beside else "", "dim"))
        for median, beside in cells
    ]


def ratio(one: "Row | None", other: "Row | None") -> str:
    if one is None or other is None or one.median_ns is None or not other.median_ns or other.median_ns <= 0:
        return "none"
    times = one.median_ns / other.median_ns
    return f"{times:.1f}x" if times < 100 else f"{times:.0f}x"


def notes(result: "BenchResult", routes: list[str]) -> list[str]:
    """Why cells say "none", each reason once with the routes and calls that it is for."""
    reasons: dict[str, list[str]] = {}
    for row in result.rows:
        if row.missing and row.route in routes:
            name = f"{row.call} by {TITLES.get(row.route, row.route)}"
            names = reasons.setdefault(row.missing, [])
            if name not in names:
                names.append(name)
    return [
        reason if len(names) > 2 else f"{', '.join(names)}: {reason}" for reason, names in reasons.items()
    ]


def bare_table(result: "BenchResult", wide: bool, spread: bool) -> "Table":
    """What is beside the vDSO's calls: the cheapest system call, and the CPU's own."""
    rows = [row for row in result.rows if row.route == "cpu" or row.call == "getppid"]
    table = columns("", "")
    for row, text in zip(rows, aligned([cell(row, wide) for row in rows], spread), strict=True):
        name = "getppid, system call" if row.call == "getppid" else row.call
        table.add_row(name, text if not row.missing else row.missing)
    return table


def show_warnings(out: "Console", result: "BenchResult") -> None:
    for caution in result.warnings:
        out.print("[yellow]warning:[/yellow] ", end="")
        out.print(caution.text, markup=False)
        out.print(f"  {caution.advice}", markup=False)
    if result.warnings:
        out.print()


def sentence(result: "BenchResult") -> str:
    """What it all means, where it means anything."""
    from vdso.measure.warning import worthless

    reason = worthless(result)
    if reason is not None:
        return f"What the vDSO saves cannot be said by this run: {reason.text}."
    saved = result.saving
    if saved is None and result.conditions.image == "none":
        return "Without a vDSO every read of the clock is a system call: nothing is saved."
    if saved is None:
        return "The vDSO's clock_gettime was not found: what it saves cannot be said."
    reads = f"At {saved.reads_per_second / 1e6:g} million reads of the clock a second the vDSO"
    kept = f"{saved.vdso_cores:.2f} busy instead of {saved.syscall_cores:.2f}"
    if saved.saved_cores < 0.05 * saved.syscall_cores:
        return f"{reads} saves nothing here: {kept}."
    return f"{reads} saves {saved.saved_cores:.1f} cores: {kept}."


def show_comparison(out: "Console", comparison: "Comparison", path: str) -> None:
    from rich.text import Text

    from vdso.measure.compare import FASTER, INCONCLUSIVE, SLOWER

    styles = {FASTER: "green", SLOWER: "red", INCONCLUSIVE: "dim"}
    out.print(
        f"{comparison.now_taken_at} against {comparison.before_taken_at} ({shown(path)}), ns a call\n",
        markup=False,
    )
    wide = out.width >= 100
    headers = ["", "route", "before", "now", "ratio", *(["99.9 %"] if wide else []), ""]
    table = columns(*headers, right=(2, 3, 4))
    previous = ""
    for row in comparison.rows:
        if row.clock and row.call != previous:
            table.add_row(row.call)
        previous = row.call
        words = [
            f"  {row.clock}" if row.clock else row.call,
            TITLES.get(row.route, row.route),
            *("none" if ns is None else ns_text(ns) for ns in (row.before_ns, row.now_ns)),
            "" if row.ratio is None else f"{row.ratio:.2f}x",
        ]
        if wide:
            words.append("" if row.low is None else f"{row.low:.2f}-{row.high:.2f}")
        table.add_row(*words, Text(row.verdict, style=styles.get(row.verdict, "yellow")))
    out.print(table)
    counts = ", ".join(f"{comparison.count(word)} {word}" for word in (FASTER, SLOWER, INCONCLUSIVE))
    out.print(f"\n{counts}")
    for line in comparison.differences:
        out.print("[yellow]warning:[/yellow] ", end="")
        out.print(line, markup=False)
