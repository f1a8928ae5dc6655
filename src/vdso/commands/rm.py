"""`vdso rm`: takes a page away."""

from vdso.commands.parser import Parser

HELP = """\
usage: vdso rm NAME [--directory DIR]

Takes the page NAME away, one of your own; refuses while its publisher lives. Programs that have it open
keep the last record and see that it was replaced.

  --directory DIR    look for the page in DIR

example:
  vdso rm quotes

exit status:
  0; 1 there is no such page of yours, or its publisher lives; 2 usage
"""


def main(words: list[str]) -> int:
    parser = Parser("rm", HELP)
    parser.add_argument("name")
    parser.add_argument("--directory")
    options = parser.read(words)
    if options is None:
        return 0
    from vdso.pages.publisher import remove

    remove(options.name, directory=options.directory)
    return 0
