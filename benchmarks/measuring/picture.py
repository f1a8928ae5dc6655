"""The figures of pages.py as one picture, SVG, for light and dark.

matplotlib knows one set of colours: it is given marks that stand for them, and what it writes gets classes in
their place and a style sheet for both.
"""

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from vdso.measure.report.picture import font_declarations

# Name: what matplotlib is given, on light, on dark.
COLOURS = {
    "ink": ("#010101", "#1c2127", "#e8eaed"),
    "muted": ("#010102", "#67707b", "#98a2ad"),
    "grid": ("#010103", "#e4e7eb", "#30363d"),
    "paper": ("#010104", "#ffffff", "#15191e"),
    "ours": ("#010105", "#0a8f6c", "#34d3a4"),
    "whole": ("#010106", "#2f6fde", "#7aa8ff"),
    "torn": ("#010107", "#d4512b", "#ff8a63"),
}
FONT = "system-ui, -apple-system, 'Segoe UI', 'Noto Sans', sans-serif"
WIDTH, LEFT, RIGHT, HEAD, FOOT, ROW = 880, 262, 24, 84, 64, 33  # px
PX = 1 / 72  # an SVG of matplotlib's has 72 units an inch
FIELD, WHOLE = "one field: ", "8 fields, a tuple: "


def draw(document: Mapping[str, Any]) -> str:
    """The SVG's text, from what pages.py has written as JSON."""
    import logging

    import matplotlib
    from matplotlib.figure import Figure

    # It tells of its caches, on the standard error stream.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    figures = {row["name"]: row["measured"] for row in document["rows"]}
    peers = sorted(
        (name.removeprefix(FIELD) for name in figures if name.startswith(FIELD)),
        key=lambda peer: figures[WHOLE + peer],
    )
    peers.insert(0, peers.pop(peers.index("vdso")))  # whom the others stand beside
    height = HEAD + FOOT + ROW * len(peers)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "vdso", "font.size": 12.5}):
        figure = Figure(figsize=(WIDTH * PX, height * PX), dpi=72)
        axes = figure.add_axes(
            (LEFT / WIDTH, FOOT / height, (WIDTH - LEFT - RIGHT) / WIDTH, ROW * len(peers) / height)
        )
        frame(axes, [figures[what + peer] for peer in peers for what in (FIELD, WHOLE)], len(peers))
        for place, peer in enumerate(peers):
            y = len(peers) - 1 - place
            draw_peer(axes, peer, y, figures[FIELD + peer], figures[WHOLE + peer], document["guards"][peer])
        lettering(figure, document["machine"], height)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date")))
    return themed(out.getvalue())


def mark(name: str) -> str:
    return COLOURS[name][0]


def frame(axes: Any, values: Sequence[float], rows: int) -> None:
    """Axes and grid, in decades."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    ticks = [10.0**power for power in range(low, high + 1)]
    axes.set_xscale("log")
    axes.set_xticks(ticks, [tick_label(tick) for tick in ticks])
    axes.set_xlim(min(10, min(values) / 1.7), max(values) * 2.1)
    axes.minorticks_off()
    axes.set_ylim(-0.6, rows - 0.4)
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)
    axes.tick_params(axis="x", length=0, labelcolor=mark("muted"), pad=7)
    axes.grid(axis="x", color=mark("grid"), linewidth=1)
    axes.set_axisbelow(True)


def tick_label(ns: float) -> str:
    return f"{ns / 1000:g} µs" if ns >= 1000 else f"{ns:g} ns"


def shown(ns: float) -> str:
    if ns >= 10_000:
        return f"{ns / 1000:.0f} µs"
    if ns >= 1000:
        return f"{ns / 1000:.1f} µs"
    return f"{ns:.0f}"


def draw_peer(axes: Any, peer: str, y: int, field: float, whole: float, guard: str) -> None:
    """A ring for one field, a dot for the record, and the way between them."""
    paint = mark("ours" if peer == "vdso" else "whole" if guard else "torn")
    close = max(field, whole) / min(field, whole) < 1.25
    axes.plot([field, whole], [y, y], color=paint, linewidth=3, alpha=0.35, zorder=3)
    for ns, filled in ((field, False), (whole, True)):
        axes.plot(
            [ns],
            [y],
            marker="o",
            markersize=9,
            markerfacecolor=paint if filled else mark("paper"),
            markeredgecolor=paint,
            markeredgewidth=1.8,
            linestyle="none",
            zorder=4 + filled,
        )

    def write(text: str, ns: float, side: str) -> None:
        axes.annotate(
            text,
            (ns, y),
            (-10 if side == "right" else 10, 0),
            textcoords="offset points",
            ha=side,
            va="center_baseline",
            color=mark("ink"),
            fontsize=11.5,
            zorder=6,
        )

    if not close:
        write(shown(min(field, whole)), min(field, whole), "right")
    write(shown(whole if close else max(field, whole)), max(field, whole), "left")
    axes.annotate(
        "vdso, a live page" if peer == "vdso" else peer,
        (0, y),
        (-16, 0),
        ("axes fraction", "data"),
        "offset points",
        ha="right",
        va="center_baseline",
        color=mark("ours" if peer == "vdso" else "ink"),
        fontweight="bold" if peer == "vdso" else "normal",
        annotation_clip=False,
    )


def lettering(figure: Any, machine: Mapping[str, str], height: int) -> None:
    def write(text: str, x: float, y: float, colour: str = "muted", **more: Any) -> None:
        figure.text(x / WIDTH, y / height, text, color=mark(colour), va="center_baseline", **more)

    write(
        "Reading from Python what another process keeps fresh",
        24,
        height - 30,
        "ink",
        fontsize=17,
        fontweight="bold",
    )
    x = 24.0
    for text, colour in (
        ("ring: one field; dot: a record of 8 doubles as a tuple", "muted"),
        ("whole, always", "whole"),
        ("nothing guards it: torn under a busy writer", "torn"),
    ):
        if colour != "muted":
            figure.add_artist(dot(x + 5, height - 60, colour, height))
            x += 16
        write(text, x, height - 60, "muted" if colour == "muted" else "ink", fontsize=12)
        x += 6.1 * len(text) + 26
    write(
        f"The quickest tenth of rounds in turns, nobody writing, the loop included. {machine['cpu']}, "
        f"Linux {machine['kernel'].partition('-')[0]}, Python {machine['python']}",
        24,
        20,
        fontsize=11,
    )


def dot(x: float, y: float, colour: str, height: int) -> Any:
    from matplotlib.lines import Line2D

    return Line2D(
        [x / WIDTH],
        [y / height],
        marker="o",
        markersize=8,
        markerfacecolor=mark(colour),
        markeredgecolor=mark(colour),
        linestyle="none",
    )


# ---- what matplotlib wrote, made ours ----


def themed(svg: str) -> str:
    """Classes for marks, our font, and no words of matplotlib's about itself."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'style="([^"]*)"', classes, svg)
    svg = re.sub(r"(\d\.\d\d)\d+", r"\1", svg)  # a hundredth of a px is fine enough
    svg = "\n".join(line.rstrip() for line in svg.splitlines())
    opening = svg[: svg.index(">") + 1]
    view = re.search(r'viewBox="([^"]*)"', opening)
    assert view is not None
    width, height = view[1].split()[2:]
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    head = (
        f'<svg {names} viewBox="{view[1]}" width="{width}" height="{height}" role="img">\n'
        "<title>What a read costs from Python: a live page and others</title>\n"
        f"<style>{style_sheet()}</style>\n"
        '<rect width="100%" height="100%" rx="6" class="f-paper"/>\n'
    )
    return head + svg[len(opening) :].lstrip() + "\n"


def classes(match: "re.Match[str]") -> str:
    """A style attribute with classes instead of the colours that are marks."""
    found, kept = [], []
    for declaration in match[1].split(";"):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        name = next((name for name, marks in COLOURS.items() if marks[0] == value), None)
        if name is not None and key in ("fill", "stroke"):
            found.append(f"{key[0]}-{name}")
        elif key == "font":
            kept += font_declarations(value)
        elif declaration.strip() and key != "font-family":
            kept.append(declaration.strip())
    style = "; ".join(kept)
    return " ".join(
        filter(None, (f'class="{" ".join(found)}"' if found else "", f'style="{style}"' if kept else ""))
    )


def style_sheet() -> str:
    def rules(which: int) -> str:
        return "".join(
            f".f-{name}{{fill:{marks[which]}}}.s-{name}{{stroke:{marks[which]}}}"
            for name, marks in COLOURS.items()
        )

    return f"text{{font-family:{FONT}}}{rules(1)}@media (prefers-color-scheme:dark){{{rules(2)}}}"
