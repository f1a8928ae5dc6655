"""HTML, read more strictly than a browser does."""

import re
from html.parser import HTMLParser

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Strict(HTMLParser):
    """Every tag closed in its turn, every id once, every reference kept."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.names: set[str] = set()
        self.references: list[tuple[str, str]] = []
        self.cells: list[list[str]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th") and self.cells:
            self.cells[-1].append("")
        for name, value in attributes:
            if name == "id" and value:
                self.ids.append(value)
            if name in ("href", "xlink:href", "src", "srcset", "action", "data", "poster", "background"):
                self.references.append((name, value or ""))
            if value and "url(" in value:
                self.references += [(name, found) for found in re.findall(r"url\(([^)]*)\)", value)]

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self.open and self.open[-1] in ("td", "th") and self.cells and self.cells[-1]:
            self.cells[-1][-1] += data


def parsed(page: str) -> Strict:
    parser = Strict()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser
