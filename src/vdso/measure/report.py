"""A bench as a page: one HTML file that opens offline, in light and dark, on a wide screen and a narrow one.

Everything is in it, and a policy in its head forbids the browser to fetch anything else. No script.
"""

from collections.abc import Iterable
from html import escape

from vdso.measure.picture import COLOURS, NARROW, TITLES, WIDE, draw
from vdso.measure.result import BenchResult, Row
from vdso.measure.warning import worthless

STYLE = """\
:root{color-scheme:light dark;--ground:#f4f5f7;--line:#e4e7eb;--warn:#9a5b00;--wash:#fff4e0;LIGHT}
@media (prefers-color-scheme:dark){:root{--ground:#0d1014;--line:#30363d;--warn:#f0b35a;--wash:#2b2113;DARK}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:15px/1.5 system-ui,-apple-system,'Segoe UI',
'Noto Sans',sans-serif}
main{max-width:960px;margin:0 auto;padding:32px 16px 48px}
h1{font-size:26px;line-height:1.25;margin:0 0 4px;letter-spacing:-.01em;text-wrap:balance}
h2{font-size:17px;margin:0 0 12px}
p{margin:0 0 12px}
.muted,caption,dt,footer{color:var(--muted)}
section{background:var(--paper);border:1px solid var(--line);border-radius:12px;padding:20px;margin-top:20px}
.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:16px}
.figures b{display:block;font-size:28px;line-height:1.2;font-variant-numeric:tabular-nums}
.picture svg{display:block;width:100%;height:auto}
.narrow{display:none}
.warnings{background:var(--wash);border-color:var(--warn)}
.warnings h2{color:var(--warn)}
.warnings ul{margin:0;padding-left:20px}
.warnings em{color:var(--muted)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
caption{text-align:left;padding-bottom:8px;font-size:14px}
th,td{padding:5px 8px;text-align:right;border-top:1px solid var(--line);white-space:nowrap}
th{font-weight:500}
thead th{border:0;color:var(--muted);font-size:13px}
th:first-child,td:first-child{text-align:left;padding-left:0}
td:last-child{padding-right:0}
tbody th[scope=rowgroup]{font-weight:600;padding-top:14px}
td.none{text-align:left;color:var(--muted);white-space:normal;font-size:13px}
.dot{display:inline-block;width:9px;height:9px;border-radius:5px;margin-right:8px;background:currentColor}
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 16px;margin:0}
dd{margin:0;overflow-wrap:anywhere}
footer{margin-top:20px;font-size:13px}
@media (max-width:640px){
main{padding:20px 10px 32px}
section{padding:14px 12px;border-radius:10px}
h1{font-size:21px}
.wide{display:none}
.narrow{display:block}
.more{display:none}
th,td{padding:5px 5px}
body{font-size:14px}
dl{grid-template-columns:1fr;gap:0}
dd{margin-bottom:8px}
}
@media print{body{background:none}section{break-inside:avoid}}
"""

LEGEND = (
    "Dots are medians, bars go from p5 to p95, shapes show how the rounds are spread; the scale is "
    "logarithmic. The line between vDSO and system call is what the vDSO saves."
)
HEADER = (
    '<thead><tr><th scope="col">route</th><th scope="col">median</th><th scope="col">p5</th>'
    '<th scope="col">p95</th><th scope="col">×</th><th scope="col" class="more">rounds</th>'
    '<th scope="col" class="more">calls a round</th></tr></thead>'
)
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(result: BenchResult) -> str:
    """The page's text. Raises ExtraMissing where there is no matplotlib."""
    pictures = [
        f'<div class="{name}">{draw(result, layout, alone=False, prefix=f"{name}-")}</div>'
        for name, layout in (("wide", WIDE), ("narrow", NARROW))
    ]
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        f"<title>{escape(heading(result))}</title>",
        f"<style>{style()}</style>",
        "</head>",
        "<body>",
        "<main>",
        f"<h1>{escape(heading(result))}</h1>",
        f'<p class="muted">{escape(subheading(result))}</p>',
        *figures(result),
        *warnings(result),
        '<section class="picture">',
        "<h2>Nanoseconds a call, by each route</h2>",
        *pictures,
        f'<p class="muted">{LEGEND}</p>',
        "</section>",
        *table(result),
        *conditions(result),
        f"<footer>vdso {escape(result.version)}, {escape(result.taken_at)}</footer>",
        "</main>",
        "</body>",
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def style() -> str:
    def variables(index: int) -> str:
        return "".join(f"--{name}:{values[index]};" for name, values in COLOURS.items())

    return STYLE.replace("LIGHT", variables(1)).replace("DARK", variables(2))


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


def figures(result: BenchResult) -> list[str]:
    saved = None if worthless(result) else result.saving
    if saved is None:
        return []
    reads = f"{saved.reads_per_second / 1e6:g} million reads a second"
    # As many ns a read as busy seconds for so many reads.
    vdso, syscall = (
        1e9 * cores / saved.reads_per_second for cores in (saved.vdso_cores, saved.syscall_cores)
    )
    items = [
        (f"{ns(vdso)} ns", f"a read of {saved.clock} by the vDSO", "vdso"),
        (f"{ns(syscall)} ns", "the same by the true system call", "syscall"),
        (f"{saved.saved_cores:.1f} cores", f"saved at {reads}", "ink"),
    ]
    return [
        '<section class="figures">',
        *(
            f'<div><b style="color:var(--{colour})">{escape(figure)}</b>{escape(what)}</div>'
            for figure, what, colour in items
        ),
        "</section>",
    ]


def warnings(result: BenchResult) -> list[str]:
    if not result.warnings:
        return []
    items = [f"<li>{escape(found.text)}<br><em>{escape(found.advice)}</em></li>" for found in result.warnings]
    return [
        '<section class="warnings">',
        "<h2>To be taken with care</h2>",
        "<ul>",
        *items,
        "</ul>",
        "</section>",
    ]


def ns(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def table(result: BenchResult) -> list[str]:
    """Every row, by call: the figures that the picture is drawn from, and what does not exist."""
    groups: dict[str, list[Row]] = {}
    for row in result.rows:
        groups.setdefault("the CPU alone" if row.route == "cpu" else row.name, []).append(row)
    lines = [
        "<section>",
        "<h2>All figures</h2>",
        '<div class="scroll">',
        "<table>",
        f"<caption>ns a call; {result.rounds} rounds; × is how many times the vDSO's cost</caption>",
        HEADER,
    ]
    for name, rows in groups.items():
        vdso = next((row.median_ns for row in rows if row.route == "vdso"), None)
        lines += [f'<tbody><tr><th scope="rowgroup" colspan="7">{escape(name)}</th></tr>']
        lines += [line(row, vdso) for row in rows]
        lines += ["</tbody>"]
    return [*lines, "</table>", "</div>", "</section>"]


def line(row: Row, vdso_ns: float | None) -> str:
    name = row.call if row.route == "cpu" else TITLES[row.route]
    first = f'<td><span class="dot" style="color:var(--{row.route})"></span>{escape(name)}</td>'
    if row.median_ns is None:
        return f'<tr>{first}<td class="none" colspan="6">none: {escape(row.missing)}</td></tr>'
    times = f"{row.median_ns / vdso_ns:.2f}" if vdso_ns and vdso_ns > 0 else ""
    cells = (f"<td>{cell}</td>" for cell in (ns(row.median_ns), ns(row.p5_ns), ns(row.p95_ns), times))
    return (
        f'<tr>{first}{"".join(cells)}<td class="more">{row.rounds}</td><td class="more">{row.batch}</td></tr>'
    )


def conditions(result: BenchResult) -> list[str]:
    """How it was measured, and on what."""
    machine, state = result.machine, result.conditions
    facts: Iterable[tuple[str, str]] = (
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
        (
            "taken off",
            f"{result.loop_ns:g} ns a call for the loop, {result.timer_ns:g} ns a batch for the timer",
        ),
    )
    items = (f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts if value)
    return ["<section>", "<h2>How it was measured</h2>", "<dl>", *items, "</dl>", "</section>"]
