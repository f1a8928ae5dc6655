"""The rounds of a bench as a picture: per call a line, per route its median, its spread and its shape."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vdso.measure.report.picture import PX, colour, themed, want_matplotlib
from vdso.measure.result import BenchResult, Row, quantile

TITLES = {
    "vdso": "vDSO",
    "libc": "C library",
    "syscall": "system call",
    "vsyscall": "vsyscall page",
    "cpu": "the CPU alone",
}

# In decades: a distribution narrower than this is drawn this wide, some 3 px.
GRAIN = 0.006


@dataclass(frozen=True, slots=True)
class Layout:
    """In px. `left`: the room for the rows' names; 0: they stand above their rows."""

    width: int
    left: int
    right: int
    row: int
    font: float
    peak: float  # how high the shapes are, in rows


WIDE = Layout(width=880, left=236, right=24, row=33, font=12.5, peak=0.66)
NARROW = Layout(width=370, left=0, right=12, row=54, font=12, peak=0.4)
BESIDE = 44  # of a figure and what is between it and its mark
# Between the rows of two calls, in rows.
GAP = 0.3


def draw(result: BenchResult, layout: Layout = WIDE, *, alone: bool = True, prefix: str = "") -> str:
    """The SVG's text. alone: with a title and its background, as a file of its own; prefix: of every id in
    it.

    Raises ExtraMissing.
    """
    want_matplotlib("the picture")
    import logging

    import matplotlib
    from matplotlib.figure import Figure

    # It tells of its caches, on the standard error stream.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    groups = grouped(result)
    places = spread_out(groups)
    head = 78 if alone else 38
    foot = 56 if alone else 34
    height = head + foot + round(layout.row * (places[0] + 1.3))
    with matplotlib.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": "vdso", "font.size": layout.font, "path.simplify": False}
    ):
        figure = Figure(figsize=(layout.width * PX, height * PX), dpi=72)
        axes = figure.add_axes(
            (
                max(layout.left, 12) / layout.width,
                foot / height,
                (layout.width - max(layout.left, 12) - layout.right) / layout.width,
                (height - head - foot) / height,
            )
        )
        frame(axes, groups, layout, places[0])
        for rows, y in zip(groups, places, strict=True):
            draw_group(axes, rows, y, layout)
        names(axes, groups, places, layout)
        lettering(figure, result, groups, layout, height, alone)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date")))
    return themed(out.getvalue(), f"{about(result)}: ns a call by each route", alone, prefix)


def grouped(result: BenchResult) -> list[list[Row]]:
    """The rows that have figures, by call and clock, in the order of the result."""
    groups: dict[str, list[Row]] = {}
    for row in result.rows:
        if row.median_ns is not None:
            groups.setdefault(row.name, []).append(row)
    return list(groups.values())


def spread_out(groups: Sequence[Sequence[Row]]) -> list[float]:
    """Where each group stands, in rows above the last."""
    places: list[float] = []
    for before, rows in zip([None, *groups], groups, strict=False):
        step = 0.0 if before is None else 1.0
        if before is not None and (before[0].call != rows[0].call and rows[0].route != "cpu"):
            step += GAP
        places.append((places[-1] if places else 0.0) + step)
    last = places[-1] if places else 0.0
    return [last - place for place in places] or [0.0]


# ---- drawing ----


def frame(axes: Any, groups: Sequence[Sequence[Row]], layout: Layout, top: float) -> None:
    """Axes and grid."""
    values = [ns for rows in groups for row in rows for ns in (row.p5_ns, row.p95_ns) if ns and ns > 0]
    low, high = min(values, default=1.0), max(values, default=1000.0)
    axes.set_xscale("log")
    # Room for the figures beside the outermost marks, in px, whatever the scale.
    decades = max(math.log10(high / low), 0.5)
    width = layout.width - max(layout.left, 12) - layout.right
    per_px = decades / (width - 2 * BESIDE)
    axes.set_xlim(low / 10 ** (BESIDE * per_px), high * 10 ** (BESIDE * per_px))
    axes.set_ylim(-0.4, top + 0.9)
    for side in axes.spines.values():
        side.set_visible(False)
    ticks = [10.0**power for power in range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)]
    limits = axes.get_xlim()
    # Half of a label hangs over.
    ticks = [
        tick for tick in ticks if limits[0] * 10 ** (8 * per_px) <= tick <= limits[1] * 10 ** (-8 * per_px)
    ]
    axes.set_xticks(ticks, [tick_label(tick) for tick in ticks])
    axes.set_xticks(
        [tick * part for tick in [ticks[0] / 10 if ticks else 1, *ticks] for part in (2, 5)], minor=True
    )
    axes.set_xlim(limits)
    axes.xaxis.set_minor_formatter("")
    axes.tick_params(axis="x", which="both", length=0, labelcolor=colour("muted"), pad=7)
    axes.grid(axis="x", which="major", color=colour("grid"), linewidth=1)
    axes.grid(axis="x", which="minor", color=colour("grid"), linewidth=0.5, linestyle=(0, (2, 3)))
    axes.set_axisbelow(True)
    axes.set_yticks([])


def tick_label(ns: float) -> str:
    for size, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if ns >= size:
            return f"{ns / size:g} {unit}"
    return f"{ns:g} ns"


def draw_group(axes: Any, rows: Sequence[Row], y: float, layout: Layout) -> None:
    """One call: its routes on one line, each with the shape of its rounds, and the way between vDSO and
    kernel.
    """
    medians = {row.route: row.median_ns for row in rows if row.median_ns and row.median_ns > 0}
    axes.axhline(y, color=colour("grid"), linewidth=1, zorder=1)
    if "vdso" in medians and "syscall" in medians:
        ends = [medians["vdso"], medians["syscall"]]
        axes.plot(ends, [y, y], color=colour("muted"), linewidth=1.2, alpha=0.7, zorder=2)
    for row in rows:
        if row.route in medians:
            draw_route(axes, row, y, layout)
    for route, ns, side in labels(medians):
        # Beside its own bar and its neighbours', unless that leads far away.
        near = [row for row in rows if row.median_ns and 1 / 1.4 < row.median_ns / ns < 1.4]
        low = min((row.p5_ns or ns for row in near), default=ns)
        high = max((row.p95_ns or ns for row in near), default=ns)
        axes.annotate(
            f"{ns:.2f}" if ns < 10 else f"{ns:.1f}" if ns < 100 else f"{ns:.0f}",
            (max(low, ns / 1.4) if side == "right" else min(high, 1.4 * ns), y),
            (-8 if side == "right" else 8, 0),
            textcoords="offset points",
            ha=side,
            va="center_baseline",
            color=colour(route, text=True),
            fontsize=layout.font - 1,
            zorder=9,
        )


def draw_route(axes: Any, row: Row, y: float, layout: Layout) -> None:
    if row.median_ns is None or row.p5_ns is None or row.p95_ns is None:
        return
    xs, heights = shape(row.rounds_ns)
    paint = colour(row.route)
    edge = [y + layout.peak * value for value in heights]
    axes.fill_between(xs, edge, y, color=paint, alpha=0.36, linewidth=0, zorder=3)
    # A tail without height would look like the bar.
    outline = [at if height > 0.03 else math.nan for at, height in zip(edge, heights, strict=True)]
    axes.plot(xs, outline, color=paint, linewidth=0.9, alpha=0.9, zorder=4)
    low = max(row.p5_ns, row.median_ns / 100)
    axes.plot([low, row.p95_ns], [y, y], color=paint, linewidth=3.2, solid_capstyle="round", zorder=5)
    # The C library's is mostly the vDSO's: a ring around it, so that both are seen.
    ring = row.route == "libc"
    axes.plot(
        [row.median_ns],
        [y],
        marker="o",
        markersize=9 if ring else 6.5,
        markerfacecolor="none" if ring else paint,
        markeredgecolor=paint if ring else colour("paper"),
        markeredgewidth=1.4 if ring else 1,
        linestyle="none",
        zorder=7 if ring else 6,
    )


def labels(medians: dict[str, float]) -> list[tuple[str, float, str]]:
    """(route, ns, which side of the text is at the mark): the figures that have room."""
    found = []
    syscall = medians.get("syscall", math.inf)
    if "vdso" in medians and syscall > 1.2 * medians["vdso"]:
        found.append(("vdso", medians["vdso"], "right"))
    for route in ("syscall", "vsyscall", "cpu"):
        crowded = route == "syscall" and 1 < medians.get("vsyscall", 0) / syscall < 2
        if route in medians and not crowded:
            found.append((route, medians[route], "left"))
    return found


def shape(values: Sequence[float]) -> tuple[list[float], list[float]]:
    """A density over the logarithm of ns: x in ns, y from 0 to 1. Outside p1 to p99 nothing is drawn."""
    low, high = (max(quantile(values, share), 1e-3) for share in (0.01, 0.99))
    logs = [math.log10(value) for value in values if low <= value <= high]
    if not logs:
        return [], []
    spread = quantile(logs, 0.75) - quantile(logs, 0.25)
    # Silverman's rule on the middle half, which a few outliers do not widen.
    width = max(GRAIN, 0.9 * spread / 1.34 * len(logs) ** -0.2)
    # Sorted into bins first: a thousand rounds at sixty places are more than a picture needs.
    bins: dict[int, int] = {}
    for value in logs:
        place = round(value / (GRAIN / 2))
        bins[place] = bins.get(place, 0) + 1
    start, end = min(logs) - 3 * width, max(logs) + 3 * width
    count = max(24, min(160, math.ceil((end - start) / (GRAIN / 1.5))))
    places = [start + (end - start) * index / count for index in range(count + 1)]
    densities = [
        sum(weight * math.exp(-(((place - at * GRAIN / 2) / width) ** 2) / 2) for at, weight in bins.items())
        for place in places
    ]
    top = max(densities)
    return [10**place for place in places], [density / top for density in densities]


def names(axes: Any, groups: Sequence[Sequence[Row]], places: Sequence[float], layout: Layout) -> None:
    """The rows' names: left of them, a call's once for all its clocks, or above them."""

    def write(text: str, y: float, x: float, up: float, ha: str, ink: str) -> None:
        axes.annotate(
            text,
            (0, y),
            (x, up),
            ("axes fraction", "data"),
            "offset points",
            ha=ha,
            va="center_baseline",
            color=colour(ink, text=True),
            fontsize=layout.font - 0.5,
            annotation_clip=False,
            zorder=10,
        )

    previous = ""
    for rows, y in zip(groups, places, strict=True):
        call, clock = rows[0].call, rows[0].clock
        if not layout.left:
            write(rows[0].name, y, 0, 31, "left", "ink")
            continue
        if clock and call != previous:
            write(call, y, 24 - layout.left, 0, "left", "muted")
        write(clock or call, y, -14, 0, "right", "ink")
        previous = call


def lettering(
    figure: Any,
    result: BenchResult,
    groups: Sequence[Sequence[Row]],
    layout: Layout,
    height: int,
    alone: bool,
) -> None:
    """The legend, and for a file of its own what it shows."""
    routes = [route for route in TITLES if any(row.route == route for rows in groups for row in rows)]
    x, y = (layout.left or 12) / layout.width, 1 - (64 if alone else 18) / height
    for route in routes:
        # The narrow picture has no room for five; the CPU's grey explains itself there.
        if not layout.left and route == "cpu":
            continue
        title = TITLES[route] if layout.left else TITLES[route].replace(" page", "")
        figure.add_artist(_mark(x, y, layout, height, route))
        figure.text(
            x + 11 / layout.width,
            y,
            title,
            ha="left",
            va="center_baseline",
            color=colour(route),
            fontsize=layout.font,
        )
        x += (11 + 0.5 * layout.font * len(title) + 24) / layout.width
    if alone:
        figure.text(
            24 / layout.width,
            1 - 28 / height,
            "What a call costs, by each route",
            color=colour("ink"),
            fontsize=17,
            fontweight="bold",
            va="center_baseline",
        )
        figure.text(
            24 / layout.width,
            16 / height,
            f"{about(result)}. Dots: medians, ns; bars: p5 to p95; shapes: {result.rounds} rounds.",
            color=colour("muted"),
            fontsize=layout.font - 1.5,
            va="center_baseline",
        )


def about(result: BenchResult) -> str:
    machine = result.machine
    return ", ".join(
        filter(None, (machine.cpu_model or machine.architecture, f"Linux {machine.kernel}", machine.libc))
    )


def _mark(x: float, y: float, layout: Layout, height: int, route: str) -> Any:
    from matplotlib.lines import Line2D

    ring = route == "libc"
    return Line2D(
        [x + 3 / layout.width],
        [y + 1 / height],
        marker="o",
        markersize=8 if ring else 7,
        markerfacecolor="none" if ring else colour(route),
        markeredgecolor=colour(route),
        markeredgewidth=1.4,
        linestyle="none",
    )
