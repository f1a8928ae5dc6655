"""`vdso pages`: what is published here."""

import os
import pwd

from vdso.commands.parser import Parser

HELP = """\
usage: vdso pages [--json] [--directory DIR]

Lists the pages that this user may read: who publishes each, whether the publisher lives, the age of the
newest version, how many versions there have been and how many come a second (counted for a quarter of one).

  --json             as JSON, with fields and paths
  --directory DIR    only what is in DIR

A note says where a page's file cannot be loaded as a library: its filesystem is mounted noexec. `vdso
show`, and vdso.open() in Python, do not mind. Another gives the option by which they find a page that is
not in the places where they look, other users' above all.

example:
  vdso pages

exit status:
  0, also when there are none; 1 no such DIR, or one that is not to be trusted; 2 usage
"""


def main(words: list[str]) -> int:
    parser = Parser("pages", HELP)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--directory")
    options = parser.read(words)
    if options is None:
        return 0
    from vdso.commands import output
    from vdso.pages.catalogue import published

    found = published(options.directory)
    if options.json:
        output.print_json(found)
        return 0
    from rich.text import Text

    from vdso.pages.directory import reading_candidates

    usual = reading_candidates()
    headers = ("name", "user", "publisher", "age", "version", "a second", "bytes", "fields", "note")
    table = output.columns(*headers, right=(3, 4, 5, 6))
    for page in found:
        if page.error is not None:
            name, why = Text(output.printable(page.name)), Text(output.printable(page.error), "red")
            table.add_row(name, user_name(page.user_id), "", "", "", "", "", "", why)
            continue
        notes = ["noexec: no dlopen"] if page.noexec else []
        where = os.path.dirname(page.path)
        if options.directory is None and where not in usual:
            notes.append(f"--directory {where}")
        who = str(page.publisher_pid or "-") if page.alive else "gone"
        table.add_row(
            page.name,
            user_name(page.user_id),
            Text(who, "green" if page.alive else "yellow"),
            "-" if page.age_s is None else age(page.age_s),
            str(page.version),
            "-" if page.versions_per_s is None else f"{page.versions_per_s:.0f}",
            str(page.record_bytes),
            str(len(page.fields)),
            Text(", ".join(notes)),
        )
    output.console().print(table if found else "no pages")
    return 0


def age(seconds: float) -> str:
    """Short, for a table: 12 ms, 3.2 s, 5 min, 2 h, 4 d."""
    for limit, unit, per in ((1, "ms", 1e3), (100, "s", 1), (6000, "min", 1 / 60), (172800, "h", 1 / 3600)):
        if seconds < limit:
            number = max(0.0, seconds) * per
            return f"{number:.1f} {unit}" if unit == "s" else f"{number:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def user_name(user_id: int) -> str:
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return str(user_id)
