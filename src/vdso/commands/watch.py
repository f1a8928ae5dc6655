"""`vdso watch`: each new version of a page."""

import json
import sys
from typing import Any

from vdso.commands.parser import Parser

HELP = """\
usage: vdso watch NAME [--json] [--count N] [--timeout SECONDS] [--directory DIR]

Prints the newest record and then each new version: on a terminal as a table that is kept up to date, else a
line each. Where versions come faster than they can be printed, the newest is, and those between are
missed. When the page is replaced by another record under its name, goes on with that.

  --json             a JSON object a line; the version is beside the fields, as "version"
  --count N          end after N versions
  --timeout SECONDS  end with status 1 when no version has come for so long
  --directory DIR    look for the page in DIR

example:
  vdso watch quotes --json | jq .bid

exit status:
  0 after --count versions; 1 no such page, or --timeout went by; 2 usage; 130 interrupted
"""


def main(words: list[str]) -> int:
    parser = Parser("watch", HELP)
    parser.add_argument("name")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--timeout", type=float)
    parser.add_argument("--directory")
    options = parser.read(words)
    if options is None:
        return 0
    from vdso.pages.reader import open_page

    with open_page(options.name, directory=options.directory) as reader:
        watch = iter(reader.watch(timeout=options.timeout))
        if sys.stdout.isatty() and not options.json:
            return _table(options.name, watch, options.count)
        return _lines(watch, options.count, options.json)


def _lines(watch: Any, count: int, as_json: bool) -> int:
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


def _table(name: str, watch: Any, count: int) -> int:
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
