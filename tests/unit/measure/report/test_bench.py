"""A bench's page and its picture: well formed, complete, of one piece, in both themes."""

import dataclasses
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest
from strict_html import parsed

from vdso.measure.report import bench, distributions, picture
from vdso.measure.result import BenchResult, Caution

RunOf = Callable[..., BenchResult]

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def result(run_of: RunOf) -> BenchResult:
    return dataclasses.replace(run_of(), warnings=(Caution("load", "a <load> & more", "do <less>"),))


@pytest.fixture(scope="module")
def page(result: BenchResult) -> str:
    return bench.document(result)


def test_the_page_is_well_formed(page: str) -> None:
    found = parsed(page)
    assert page.startswith("<!doctype html>")
    assert len(found.ids) == len(set(found.ids))
    assert {"main", "svg", "table", "h1"} <= found.names


def test_nothing_is_fetched(page: str) -> None:
    found = parsed(page)
    assert not found.names & {"script", "iframe", "object", "embed", "img", "form", "base", "a"}
    inner = [value for _, value in found.references if value.startswith("#")]
    assert inner
    assert {value[1:] for value in inner} <= set(found.ids)
    # The icon is an empty one, in place of one that a server would be asked for.
    assert [value for _, value in found.references if not value.startswith("#")] == ["data:,"]
    # Namespaces are names. Nothing else looks like an address, and no style asks for one.
    assert set(re.findall(r"https?://[^\"'\s<]*", page)) == {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert not re.search(r"@import|@font-face|src\s*:", page)
    assert "default-src 'none'" in page


def test_every_figure_is_in_the_table(page: str, result: BenchResult) -> None:
    rows = [cells for cells in parsed(page).cells if cells]
    for row in result.rows:
        name = row.call if row.route == "cpu" else distributions.TITLES[row.route]
        if row.missing:
            assert [name, f"none: {row.missing}"] in rows
            continue
        figures = [bench.ns(value) for value in (row.median_ns, row.p5_ns, row.p95_ns)]
        assert any(cells[0] == name and cells[1:4] == figures for cells in rows), (row.name, figures)


def test_what_comes_from_outside_is_escaped(page: str, result: BenchResult) -> None:
    text = "".join(parsed(page).text)
    assert result.machine.cpu_model in text
    assert "a <load> & more" in text
    assert "<of>" not in page
    assert "<load>" not in page


def test_both_themes_and_a_narrow_screen(page: str) -> None:
    # On screens alone: paper is light. The pictures have the page's colours.
    assert (
        page.count("prefers-color-scheme") == page.count("@media screen and (prefers-color-scheme:dark)") == 1
    )
    assert "@media (max-width:640px)" in page
    assert "@media print" in page
    assert 'name="viewport"' in page
    assert page.count("<svg ") == 2


@pytest.mark.parametrize("layout", [distributions.WIDE, distributions.NARROW])
def test_the_picture_is_themed_xml(result: BenchResult, layout: distributions.Layout) -> None:
    svg = distributions.draw(result, layout)
    root = ET.fromstring(svg)
    assert root.attrib["viewBox"].split()[2] == str(layout.width)
    assert "matplotlib.org" not in svg
    # Every colour is a class; what is left of matplotlib's own would be the same in the dark.
    assert "@media screen and (prefers-color-scheme:dark)" in svg
    body = svg[svg.index("</style>") :]
    assert set(re.findall(r"#[0-9a-fA-F]{6}\b", body)) <= {"#000000"}
    for name in ("vdso", "libc", "syscall", "vsyscall", "ink"):
        assert f"f-{name}" in body
    assert set(re.findall(r"[fs]-(\w+)", body)) <= set(picture.COLOURS)


def test_the_same_run_gives_the_same_picture(result: BenchResult) -> None:
    assert distributions.draw(result) == distributions.draw(result)


def test_distributions_are_drawn() -> None:
    xs, heights = distributions.shape([20.0] * 90 + [25.0] * 60)
    assert max(heights) == 1
    peaks = [
        x
        for before, x, after, low, mid, high in zip(
            xs, xs[1:], xs[2:], heights, heights[1:], heights[2:], strict=False
        )
        if low < mid >= high and before < x < after
    ]
    assert peaks == [pytest.approx(20, rel=0.02), pytest.approx(25, rel=0.02)]


def test_without_a_vdso(result: BenchResult) -> None:
    rows = tuple(row for row in result.rows if row.route != "vdso")
    without = dataclasses.replace(result, rows=rows, saving=None)
    page = bench.document(without)
    assert "<h1>What a call costs" in page
    parsed(page)
    none = dataclasses.replace(without, conditions=dataclasses.replace(without.conditions, image="none"))
    assert "<h1>No vDSO:" in bench.document(none)


@pytest.mark.parametrize("values", [(0.0, 0.0), (-0.1, 0.2), (1e6, 3e6)])
def test_figures_of_no_machine_are_drawn_too(result: BenchResult, values: tuple[float, float]) -> None:
    rows = tuple(
        dataclasses.replace(
            row, median_ns=values[0], p5_ns=values[0], p95_ns=values[1], rounds_ns=values * 10
        )
        for row in result.rows
        if not row.missing
    )
    ET.fromstring(distributions.draw(dataclasses.replace(result, rows=rows)))


def test_an_axis_label_is_short_whatever_the_machine_takes() -> None:
    """It hangs over the edge by half of its length, which has room for six letters."""
    shown = [distributions.tick_label(10.0**power) for power in range(11)]
    assert max(map(len, shown)) <= 6
    assert shown[4:7] == ["10 µs", "100 µs", "1 ms"]
