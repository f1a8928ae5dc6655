"""`vdso report`: what doctor, stat and bench say of a host or a program, on one page.

Measuring and laying out are vdso.measure's.
"""

import sys
from argparse import Namespace

from vdso.commands.parser import Parser
from vdso.errors import OutputRefused, UsageError, shown

HELP = """\
usage: vdso report -o FILE [--quick] [-p PID | -- COMMAND [ARGUMENT...]]

Writes one page on the clock of this host: the verdict, findings with what mends them, what each call costs
with its distribution drawn, and of the program that is named which calls it makes, how often and where from.
A single file that opens offline, in light and dark, on a phone and on paper; takes some four seconds, and the
time that COMMAND runs.

  -o, --output FILE   where to; - is standard output
  --quick             fewer rounds: some two seconds
  -p, --pid PID       of that process, whose calls are counted for half a second; with --quick its system
                      calls alone, and nothing is put into it
  -- COMMAND          of a program, which is run to its end; what it prints goes to standard error

Draws with matplotlib: pip install 'vdso[report]'.

example:
  vdso report -o report.html
  vdso report -o report.html -p 4711
  vdso report -o report.html -- ./my-server --once

exit status:
  0 written, whatever the verdict; 1 output that cannot be written, or no matplotlib; 2 usage, no such
  process; 126, 127 the command cannot be executed, is not found; 141 nobody reads the output
"""

HINT = "vdso report --help shows how"


def options(words: list[str]) -> Namespace | None:
    """The options, `command` among them; None where help was printed. Raises UsageError."""
    parser = Parser("report", HELP)
    parser.add_argument("-o", "--output", metavar="FILE")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("-p", "--pid", metavar="PID")
    at = words.index("--") if "--" in words else len(words)
    found = parser.read(words[:at])
    if found is None:
        return None
    found.command = words[at + 1 :] or None
    if at < len(words) and not found.command:
        raise UsageError("no command after --", HINT)
    if not found.output:
        raise UsageError("where to? -o FILE", "vdso report -o report.html; -o - is standard output")
    if found.pid is not None and found.command:
        raise UsageError("-p PID or -- COMMAND: one of them is looked at", HINT)
    if found.pid is not None:
        found.pid = process_id(found.pid)
    return found


def process_id(word: str) -> int:
    if not (word.isascii() and word.isdigit() and 0 < int(word) < 1 << 31):
        raise UsageError(f"no process id: {word}", HINT)
    return int(word)


def main(words: list[str]) -> int:
    """Measures, writes the page, and says where it is."""
    found = options(words)
    if found is None:
        return 0
    from vdso.measure.report.picture import want_matplotlib

    # What can go wrong is found out before some seconds are spent.
    want_matplotlib("vdso report")
    if found.output == "-" and sys.__stdout__ is None:
        raise OutputRefused("standard output is closed")
    if found.output != "-":
        from vdso.measure.saved import check_writable

        check_writable(found.output)
    from vdso.commands.progress import bar
    from vdso.measure.report import taking, whole

    report = taking.take(quick=found.quick, pid=found.pid, command=found.command, progress=bar)
    text = whole.document(report)
    if found.output == "-":
        # The page says that it is UTF-8, whatever the terminal is.
        sys.stdout.buffer.write(text.encode())
        return 0
    from vdso.commands.output import write_file

    write_file(found.output, text)
    sys.stdout.write(f"{report.diagnosis.verdict}: {report.diagnosis.reason}\n{shown(found.output)}\n")
    return 0
