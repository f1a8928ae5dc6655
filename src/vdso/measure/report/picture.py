"""SVG by matplotlib, one file for light and dark: colours, and what becomes of what matplotlib wrote.

matplotlib knows one set of colours. It is given marks that are no colours of any theme, and what it writes
gets classes in their place. Knows nothing of what is drawn.
"""

import re
from collections.abc import Callable
from html import escape

from vdso.errors import ExtraMissing

# Name: (what matplotlib is given, on light, on dark).
COLOURS = {
    "ink": ("#010101", "#1c2127", "#e8eaed"),
    "muted": ("#010102", "#67707b", "#98a2ad"),
    "grid": ("#010103", "#e4e7eb", "#30363d"),
    "paper": ("#010104", "#ffffff", "#15191e"),
    "vdso": ("#010111", "#0a8f6c", "#34d3a4"),
    "libc": ("#010112", "#2f6fde", "#7aa8ff"),
    "syscall": ("#010113", "#d4512b", "#ff8a63"),
    "vsyscall": ("#010114", "#8a4fc2", "#c79bf2"),
    "cpu": ("#010115", "#67707b", "#98a2ad"),
}
FONT = "system-ui, -apple-system, 'Segoe UI', 'Noto Sans', sans-serif"

PX = 1 / 72  # an SVG of matplotlib's has 72 units an inch
# A text's mark is its colour's with another first byte: it gets a margin of paper around its letters.
TEXT_MARK = "#02"


def want_matplotlib(option: str) -> None:
    """Raises ExtraMissing, for what `option` asks for."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ExtraMissing(
            f"{option} draws with matplotlib, which is not installed", "pip install 'vdso[report]'"
        ) from error


def colour(name: str, *, text: bool = False) -> str:
    mark = COLOURS[name][0]
    return mark.replace("#01", TEXT_MARK) if text else mark


def themed(svg: str, title: str, alone: bool, prefix: str) -> str:
    """Classes for marks, no words of matplotlib's about itself, and ids that are free in a page.

    alone: with a style sheet and a background; in a page the page has them.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>", "", svg, count=1, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'style="([^"]*)"', _classes, svg)
    # A hundredth of a px is fine enough.
    svg = re.sub(r"(\d\.\d\d)\d+", r"\1", svg)
    if prefix:
        svg = re.sub(r'\bid="', f'id="{prefix}', svg)
        svg = re.sub(r'href="#', f'href="#{prefix}', svg)
        svg = svg.replace("url(#", f"url(#{prefix}")
    head = f"<title>{escape(title)}</title>\n"
    if alone:
        head += f'<style>{both_themes()}</style>\n<rect width="100%" height="100%" class="f-paper"/>\n'
    opening = svg[: svg.index(">") + 1]
    view = re.search(r'viewBox="([^"]*)"', opening)
    assert view is not None
    width, height = view[1].split()[2:]
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    size = f'viewBox="{view[1]}" width="{width}" height="{height}"'
    return f'<svg {names} {size} role="img">\n{head}{svg[len(opening) :].lstrip()}'


def _classes(match: "re.Match[str]") -> str:
    names, kept = [], []
    for declaration in match[1].split(";"):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        text = value.startswith(TEXT_MARK)
        mark = value.replace(TEXT_MARK, "#01")
        name = next((name for name, marks in COLOURS.items() if marks[0] == mark), None)
        if name is not None and key in ("fill", "stroke"):
            names.append(f"{key[0]}-{name}{' halo' if text else ''}")
        elif key == "font":
            kept += font_declarations(value)
        elif declaration.strip() and key != "font-family":
            kept.append(declaration.strip())
    style = escape("; ".join(kept), quote=True)
    return " ".join(
        filter(None, (f'class="{" ".join(names)}"' if names else "", f'style="{style}"' if kept else ""))
    )


def font_declarations(value: str) -> list[str]:
    """Size and weight out of matplotlib's font:, which until 3.9 is weight, size and families in one."""
    size = re.search(r"[\d.]+px", value)
    weight = ["font-weight: 600"] if "700" in value or "bold" in value else []
    return [f"font-size: {size[0] if size else '12px'}", *weight]


def style_sheet(paint: Callable[[str], str]) -> str:
    """fill and stroke of every colour, as `paint` has it, and the margin around letters."""
    rules = "".join(f".f-{name}{{fill:{paint(name)}}}.s-{name}{{stroke:{paint(name)}}}" for name in COLOURS)
    return (
        f"{rules}.halo{{paint-order:stroke;stroke-width:4px;stroke-linejoin:round;stroke:{paint('paper')}}}"
    )


def both_themes() -> str:
    """For a file of its own. By values: what shows an SVG elsewhere than in a browser knows no variables."""
    light = style_sheet(lambda name: COLOURS[name][1])
    dark = style_sheet(lambda name: COLOURS[name][2])
    return f"text{{font-family:{FONT}}}{light}@media screen and (prefers-color-scheme:dark){{{dark}}}"
