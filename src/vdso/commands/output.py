"""How commands print: one line a fact, tables and JSON, coloured on a terminal only.

Knows nothing of what is printed. What goes into a pipe is neither coloured nor wrapped.
"""

import dataclasses
import enum
import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def plain(value: Any) -> Any:
    """A result as JSON has it: dataclasses by their fields, enums by their names, bytes in hexadecimal.

    A field whose metadata says `"json": False` is left out.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if field.metadata.get("json", True)
        }
    if isinstance(value, enum.Enum):
        return value.name.lower()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return value


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(plain(value), indent=2, allow_nan=False) + "\n")


def bold(text: str) -> str:
    """The text, bold where standard output is a terminal."""
    return f"\x1b[1m{text}\x1b[0m" if sys.stdout.isatty() else text


def console(*, stderr: bool = False) -> "Console":
    """A rich console. Off a terminal it is wide enough for any line."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 10_000
    return Console(file=stream, width=width, highlight=False, soft_wrap=False, emoji=False, markup=True)


def columns(*headers: str, right: tuple[int, ...] = ()) -> "Table":
    """An empty table without lines; `right`: the columns of figures."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", show_header=any(headers))
    for index, header in enumerate(headers):
        table.add_column(header, justify="right" if index in right else "left", no_wrap=True)
    return table
