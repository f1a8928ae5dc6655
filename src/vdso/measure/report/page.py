"""A page: one HTML file that opens offline, in light and dark, on a wide screen, a narrow one and on paper.

Everything is in it, and a policy in its head forbids the browser to fetch anything else. No script. Knows
nothing of what stands on it. Text is escaped here; what is Html already is taken as it is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from vdso.errors import shown
from vdso.measure.report.picture import COLOURS, FONT, style_sheet

STYLE = """\
:root{color-scheme:light dark;--ground:#f4f5f7;--line:#e4e7eb;--good:#0a7a5c;--warn:#9a5b00;--bad:#b83a1c;
--note:#2f6fde;--wash:#eef0f3;--glow:#fff4e0;LIGHT}
@media screen and (prefers-color-scheme:dark){:root{--ground:#0d1014;--line:#30363d;--good:#34d3a4;
--warn:#f0b35a;--bad:#ff8a63;--note:#7aa8ff;--wash:#1e242b;--glow:#2b2113;DARK}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:15px/1.5 FONT;overflow-wrap:anywhere}
svg text{font-family:FONT}
main{max-width:960px;margin:0 auto;padding:32px 16px 48px}
h1{font-size:26px;line-height:1.25;margin:0 0 4px;letter-spacing:-.01em;text-wrap:balance}
h2{font-size:17px;margin:0 0 12px}
h3{font-size:15px;margin:0 0 4px}
p{margin:0 0 12px}
p:last-child{margin-bottom:0}
a{color:inherit}
ul{margin:0;padding-left:20px}
code{font:13px/1.5 ui-monospace,'DejaVu Sans Mono',monospace}
.muted,caption,dt,footer,em{color:var(--muted)}
.badge{display:inline-block;border-radius:8px;padding:1px 12px 2px;margin:0 10px 2px 0;color:var(--paper);
background:var(--muted);print-color-adjust:exact;-webkit-print-color-adjust:exact}
.badge.good{background:var(--good)}.badge.warn{background:var(--warn)}.badge.bad{background:var(--bad)}
section{background:var(--paper);border:1px solid var(--line);border-radius:12px;padding:20px;margin-top:20px}
.figures div{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:4px 16px}
.figures p{margin:12px 0 0}
.figures b{display:block;font-size:28px;line-height:1.2;font-variant-numeric:tabular-nums}
.picture svg{display:block;width:100%;height:auto}
.narrow{display:none}
.warnings{background:var(--glow);border-color:var(--warn)}
.warnings h2{color:var(--warn)}
article{border-left:3px solid var(--muted);padding-left:14px}
article+article{margin-top:20px}
article p{margin-bottom:8px}
article.good{border-color:var(--good)}article.warn{border-color:var(--warn)}
article.bad{border-color:var(--bad)}article.note{border-color:var(--note)}
article h3 span{font-weight:400;color:var(--muted)}
.remedy{background:var(--wash);border-radius:8px;padding:8px 12px;print-color-adjust:exact}
.scroll{overflow-x:auto}
dl+h3,ul+h3,p+h3,.scroll+.scroll{margin-top:20px}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
caption{text-align:left;padding-bottom:8px;font-size:14px}
th,td{padding:5px 8px;text-align:right;border-top:1px solid var(--line);white-space:nowrap}
th{font-weight:500}
thead th{border:0;color:var(--muted);font-size:13px}
th:first-child,td:first-child{text-align:left;padding-left:0}
td:last-child{padding-right:0}
tbody th[scope=rowgroup]{font-weight:600;padding-top:14px}
td.words,th.words{text-align:left;white-space:normal}
th.words span{color:var(--muted);font-weight:400;font-size:13px}
td.none{text-align:left;color:var(--muted);white-space:normal;font-size:13px}
td.drawn{width:30%;min-width:120px}
td.drawn svg{display:block;width:100%;height:14px}
.dot{display:inline-block;width:9px;height:9px;border-radius:5px;margin-right:8px;background:currentColor;
print-color-adjust:exact;-webkit-print-color-adjust:exact}
.legend{margin-top:8px}
.legend>span{display:inline-block;margin-right:20px}
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 16px;margin:0}
dd{margin:0}
footer{margin-top:20px;font-size:13px}
@media (max-width:640px){
main{padding:20px 10px 32px}
section{padding:14px 12px;border-radius:10px}
h1{font-size:21px}
.wide{display:none}
.narrow{display:block}
.more{display:none}
th,td{padding:5px 5px}
th[scope=row]{white-space:normal}
body{font-size:14px}
dl{grid-template-columns:1fr;gap:0}
dd{margin-bottom:8px}
.stack thead{display:none}
.stack tbody tr{display:grid;grid-template-columns:1fr 1fr;column-gap:24px;border-top:1px solid var(--line);
padding:6px 0}
.stack th,.stack td{border:0;padding:1px 0;white-space:normal}
.stack tbody th,.stack td.words,.stack td.none,.stack td.drawn{grid-column:1/-1;width:auto}
.stack td[data-name]{display:flex;justify-content:space-between;gap:8px}
.stack td[data-name]::before{content:attr(data-name);color:var(--muted)}
}
@media print{
@page{margin:14mm}
body{background:none;font-size:10pt}
main{max-width:none;padding:0}
section{margin-top:12px;padding:14px}
h2,h3{break-after:avoid}
tr,article,svg,.figures,.warnings{break-inside:avoid}
thead{display:table-header-group}
.scroll{overflow:visible}
}
"""

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def plain(text: str) -> str:
    """Text as HTML. It may be anybody's: what cannot be printed is written out."""
    return escape(shown(text))


def html(text: str) -> str:
    """The same of text that may be Html."""
    return text if isinstance(text, Html) else plain(text)


def document(title: str, body: Iterable[str], footer: str) -> str:
    """The page's text. `body`: pieces of HTML, as the functions here give them."""
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        # A browser asks for names in links, and a server for an icon, before anybody has.
        '<meta http-equiv="x-dns-prefetch-control" content="off">',
        '<meta name="referrer" content="no-referrer">',
        '<link rel="icon" href="data:,">',
        f"<title>{plain(title)}</title>",
        f"<style>{style()}</style>",
        "</head>",
        "<body>",
        "<main>",
        *body,
        f"<footer>{plain(footer)}</footer>",
        "</main>",
        "</body>",
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def style() -> str:
    def variables(index: int) -> str:
        return "".join(f"--{name}:{values[index]};" for name, values in COLOURS.items())

    sheet = STYLE.replace("LIGHT", variables(1)).replace("DARK", variables(2)).replace("FONT", FONT)
    return sheet + style_sheet(lambda name: f"var(--{name})")


def heading(text: str, beside: str, badge: tuple[str, str] | None = None) -> list[str]:
    """What is on top. badge: a word, and "good", "warn" or "bad"."""
    word = f'<span class="badge {badge[1]}">{plain(badge[0])}</span>' if badge else ""
    return [f"<h1>{word}{plain(text)}</h1>", f'<p class="muted">{plain(beside)}</p>']


def section(title: str, *parts: str, kind: str = "") -> list[str]:
    """A box with a title."""
    opening = f'<section class="{kind}">' if kind else "<section>"
    return [opening, f"<h2>{plain(title)}</h2>", *parts, "</section>"]


def paragraph(text: str, kind: str = "") -> str:
    return f'<p class="{kind}">{html(text)}</p>' if kind else f"<p>{html(text)}</p>"


def figures(found: Iterable[tuple[str, str, str]], sentence: str = "") -> list[str]:
    """The few figures that matter, large: (figure, what it is, name of its colour); and what they say."""
    shown = [
        f'<span><b style="color:var(--{colour})">{plain(figure)}</b>{plain(what)}</span>'
        for figure, what, colour in found
    ]
    said = [paragraph(sentence, "muted")] if sentence else []
    return ['<section class="figures">', "<div>", *shown, "</div>", *said, "</section>"] if shown else []


def items(texts: Iterable[str]) -> list[str]:
    """A list, nothing where it would be empty."""
    lines = [f"<li>{html(text)}</li>" for text in texts]
    return ["<ul>", *lines, "</ul>"] if lines else []


def warnings(found: Iterable[tuple[str, str]]) -> list[str]:
    """A box of (what is wrong, what to do about it), nothing where nothing is."""
    texts = [Html(f"{plain(text)}<br><em>{plain(advice)}</em>") for text, advice in found]
    return section("To be taken with care", *items(texts), kind="warnings") if texts else []


def facts(found: Iterable[tuple[str, str]]) -> list[str]:
    """Names and what they are; one without a text is left out, one without a name goes on from the last."""
    lines = (f"<dt>{plain(name)}</dt><dd>{html(value)}</dd>" for name, value in found if value)
    return ["<dl>", *lines, "</dl>"]


# ---- tables ----


@dataclass(frozen=True, slots=True)
class Column:
    """kind: "" for figures, "words", or "drawn"; more: left out on a narrow screen."""

    title: str
    kind: str = ""
    more: bool = False

    @property
    def classes(self) -> str:
        names = " ".join(filter(None, (self.kind, "more" if self.more else "")))
        return f' class="{names}"' if names else ""


def table(
    caption: str,
    columns: Sequence[Column],
    groups: Iterable[tuple[str, Iterable[Sequence[str]]]],
    *,
    stack: bool = False,
) -> list[str]:
    """Rows in groups, each with a title or "". A row's first cell names it; a row that is short of cells ends
    with words for all the others. stack: on a narrow screen each row becomes a small list.
    """
    lines = [
        '<div class="scroll">',
        f'<table class="{"stack" if stack else "plain"}">',
        f"<caption>{html(caption)}</caption>",
        "<thead><tr>",
        *(f'<th scope="col"{column.classes}>{plain(column.title)}</th>' for column in columns),
        "</tr></thead>",
    ]
    for title, rows in groups:
        lines.append("<tbody>")
        if title:
            lines.append(f'<tr><th scope="rowgroup" colspan="{len(columns)}">{html(title)}</th></tr>')
        lines += [table_row(columns, cells) for cells in rows]
        lines.append("</tbody>")
    return [*lines, "</table>", "</div>"]


def table_row(columns: Sequence[Column], cells: Sequence[str]) -> str:
    parts = [f'<th scope="row"{columns[0].classes}>{html(cells[0])}</th>']
    missing = len(columns) - len(cells)
    whole, words = (cells[1:-1], cells[-1]) if missing else (cells[1:], "")
    for column, cell in zip(columns[1:], whole, strict=False):
        # Words and drawings need no name on a narrow screen.
        name = "" if column.kind or not cell else f' data-name="{plain(column.title)}"'
        parts.append(f"<td{column.classes}{name}>{html(cell)}</td>")
    if missing:
        parts.append(f'<td class="none" colspan="{missing + 1}">{html(words)}</td>')
    return f"<tr>{''.join(parts)}</tr>"


def dot(colour: str, text: str) -> Html:
    """Text with a dot of that colour before it."""
    return Html(f'<span class="dot" style="color:var(--{colour})"></span>{plain(text)}')


def bar(parts: Iterable[tuple[float, str]], whole: float) -> Html:
    """A bar of (length, colour), side by side, of a cell that is `whole` long."""
    drawn, at = [], 0.0
    for length, colour in parts:
        width = 100 * length / whole if whole > 0 else 0.0
        if width > 0:
            # What there is is seen, however little it is.
            width = max(width, 0.4)
            drawn.append(f'<rect x="{at:.2f}" width="{width:.2f}" height="10" class="f-{colour}"/>')
            at += width
    view = 'viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"'
    return Html(f"<svg {view}>{''.join(drawn)}</svg>")
