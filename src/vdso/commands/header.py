"""`vdso header`: the C header of a published page.

Only reads the command line and the page's field table; vdso.pages.header writes the header.
"""

import os
import sys

from vdso.commands.output import write_file
from vdso.commands.parser import Parser

HELP = """\
usage: vdso header NAME [--output FILE] [--directory DIR]

Prints the C header of the page that is published under NAME: the record as a struct, a function for each
field, and how to find them by dlopen, by linking, or without a dynamic linker. C99 and C++.

  --output FILE    write it there
  --directory DIR  look for the page there

example:
  vdso header quotes --output quotes.h
  cc -o reader reader.c     where reader.c includes quotes.h and calls quotes_open(&page, NULL)

exit status: 0; 1 there is no such page, it cannot be read, or the file cannot be written; 2 usage
"""


def main(words: list[str]) -> int:
    """Prints or writes the header. Raises UsageError, PageNotThere, OutputRefused."""
    parser = Parser("header", HELP)
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--output", metavar="FILE")
    parser.add_argument("--directory", metavar="DIR")
    options = parser.read(words)
    if options is None:
        return 0
    from vdso.pages.directory import SUFFIX
    from vdso.pages.header import header
    from vdso.pages.reader import open_page

    with open_page(options.name, directory=options.directory) as found:
        page = found.page
    # By its link, which leads to whatever is published under the name when a program looks.
    text = header(page.layout, page.name, os.path.join(os.path.dirname(page.path), page.name + SUFFIX))
    if options.output is None:
        sys.stdout.write(text)
        return 0
    write_file(options.output, text)
    return 0
