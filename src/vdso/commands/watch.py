"""`vdso watch`: each new version of a page."""

import argparse
import json
import math
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from vdso.commands.parser import Parser

if TYPE_CHECKING:
    from vdso.pages.reader import Reader

HELP = """\
usage: vdso watch NAME [--json] [--count N] [--timeout SECONDS] [--directory DIR]

Prints the newest record and then each new version: on a terminal as a table that is kept up to date, else a
line each. Where versions come faster than they can be printed, the newest is, and those between are
missed. When the page is replaced by another record under its name, goes on with that.

  --json             a JSON object a line; the version is beside the fields, as "version". Without it, control
                     characters in text are written out, as \\n or \\x1b
  --count N          end after N versions
  --timeout SECONDS  end with status 1 when no version has come for so long
  --directory DIR    look for the page in DIR

example:
  vdso watch quotes --json | jq .bid

exit status:
  0 after --count versions; 1 no such page, or --timeout went by; 2 usage; 130 interrupted;
  141 nobody reads the output any more
"""

_SLICE_S = 0.25  # how often it looks whether somebody still reads


def main(words: list[str]) -> int:
    parser = Parser("watch", HELP)
    parser.add_argument("name")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--count", type=_count)
    parser.add_argument("--timeout", type=_seconds)
    parser.add_argument("--directory")
    options = parser.read(words)
    if options is None:
        return 0
    from vdso.pages.reader import open_page

    with open_page(options.name, directory=options.directory) as reader:
        watch = _versions(reader, options.timeout)
        if sys.stdout.isatty() and not options.json:
            return _table(options.name, watch, options.count)
        return _lines(watch, options.count, options.json)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18 or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is no number of versions")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not seconds >= 0:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds")
    return seconds


def _versions(reader: "Reader", timeout_s: float | None) -> Iterator[Any]:
    """Each version, until there has been none for that long, or nobody reads what is printed of them."""
    from vdso.commands import output

    parts, slice_s = math.inf, _SLICE_S
    if timeout_s is not None and timeout_s < math.inf:
        parts = max(1, math.ceil(timeout_s / _SLICE_S))
        slice_s = timeout_s / parts
    watch = reader.watch(timeout=slice_s)
    quiet = 0
    while quiet < parts:
        for snapshot in watch:
            quiet = 0
            yield snapshot
        quiet += 1
        if output.nobody_reads():
            raise BrokenPipeError


def _lines(watch: Any, count: int | None, as_json: bool) -> int:
    from vdso.commands import values

    for seen, snapshot in enumerate(watch, 1):
        fields = snapshot.asdict()
        if as_json:
            line = json.dumps({"version": snapshot.version, **values.to_json(fields)}, allow_nan=False)
        else:
            parts = [f"{name}={values.to_text(value)}" for name, value in fields.items()]
            line = " ".join([str(snapshot.version), *parts])
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
        if seen == count:
            return 0
    return 1


def _table(name: str, watch: Any, count: int | None) -> int:
    from rich.live import Live
    from rich.text import Text

    from vdso.commands import output, values

    # Drawn by a clock and not for each version: a writer may be a thousand times faster than a terminal.
    with Live(console=output.console(), refresh_per_second=10) as live:
        for seen, snapshot in enumerate(watch, 1):
            table = output.columns(name, f"version {snapshot.version}")
            for field, value in snapshot.asdict().items():
                table.add_row(Text(field, "bold"), Text(values.to_text(value)))
            live.update(table)
            if seen == count:
                return 0
    return 1
