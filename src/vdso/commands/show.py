"""`vdso show`: the newest record of a page."""

import json
import sys

from vdso.commands.parser import Parser

HELP = """\
usage: vdso show NAME [FIELD...] [--json] [--directory DIR]

Shows one consistent record of a page: all fields, or some. One FIELD alone is printed without its name, for
scripts. Fields of nested records are best.price, items of arrays depth[3].

  --json             as JSON; the version is beside the fields, as "version". Without it, control characters
                     in text are written out, as \\n or \\x1b
  --directory DIR    look for the page in DIR

example:
  vdso show quotes
  vdso show quotes bid

exit status:
  0; 1 no such page, or one that has no record yet; 2 usage, or no such field
"""


def main(words: list[str]) -> int:
    parser = Parser("show", HELP)
    parser.add_argument("name")
    parser.add_argument("fields", nargs="*")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--directory")
    options = parser.read(words)
    if options is None:
        return 0
    from vdso.commands import output, values
    from vdso.pages.reader import open_page

    with open_page(options.name, directory=options.directory) as reader:
        snapshot = reader.snapshot()
        fields = options.fields or [field.name for field in reader.page.layout.fields]
    found = {field: values.select(snapshot, field) for field in fields}
    if options.json:
        body = {"version": snapshot.version, **values.to_json(found)}
        sys.stdout.write(json.dumps(body, allow_nan=False) + "\n")
    elif len(options.fields) == 1:
        sys.stdout.write(values.to_text(found[fields[0]]) + "\n")
    else:
        from rich.text import Text

        table = output.columns("", "")
        for field, value in found.items():
            table.add_row(Text(field, "bold"), Text(values.to_text(value)))
        output.console().print(table)
    return 0
