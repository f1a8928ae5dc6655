"""`vdso claims`: what is commonly said of the vDSO, checked on this machine.

Prints; vdso.measure.claims measures and judges.
"""

import sys
import textwrap

from vdso.commands.output import bold, print_json
from vdso.commands.parser import Parser
from vdso.errors import shown
from vdso.measure.claims import FAILS, HOLDS, UNCHECKED, Claim, check, gather
from vdso.measure.result import Caution

HELP = """\
usage: vdso claims [--json]

Takes the description of the vDSO that this project started from, line by line, and holds each line against
what is measured and seen here, in some 2 seconds: holds, does not hold here, or cannot be checked here, with
the figure and the reason.

  --json       for programs; docs/claims.md has the fields

example:
  vdso claims

exit status:
  0, whatever holds; 2 usage
"""

COLUMNS = 100
INDENT = "    "
MARKS = {HOLDS: "+", FAILS: "-", UNCHECKED: "?"}


def main(words: list[str]) -> int:
    """Checks, prints, and returns the exit status."""
    parser = Parser("claims", HELP)
    parser.add_argument("--json", action="store_true")
    options = parser.read(words)
    if options is None:
        return 0
    found = gather()
    claims = check(found)
    warnings = found.bench.warnings if found.bench else ()
    if options.json:
        print_json({"claims": claims, "warnings": warnings})
    else:
        sys.stdout.write("\n".join(line for claim in claims for line in lines(claim)) + "\n")
        for caution in warnings:
            sys.stdout.write("\n" + "\n".join(warning_lines(caution)) + "\n")
        sys.stdout.write(f"\n{summary(claims)}\n")
    return 0


def lines(claim: Claim) -> list[str]:
    """The claim as people read it: the sentence, and below it verdict, figure and reason."""
    found = "; ".join(part for part in (claim.measured, claim.why) if part)
    below = textwrap.wrap(
        f"{claim.verdict}: {found}", COLUMNS, initial_indent=INDENT, subsequent_indent=INDENT
    )
    return [bold(f"{MARKS[claim.verdict]} {claim.says}"), *below]


def warning_lines(caution: Caution) -> list[str]:
    """What made the figures worth less, and what to do about it."""
    return [
        *textwrap.wrap(f"warning: {shown(caution.text)}", COLUMNS, subsequent_indent=INDENT),
        *textwrap.wrap(caution.advice, COLUMNS, initial_indent=INDENT, subsequent_indent=INDENT),
    ]


def summary(claims: tuple[Claim, ...]) -> str:
    counts = [(verdict, sum(claim.verdict == verdict for claim in claims)) for verdict in MARKS]
    return ", ".join(f"{count} {verdict}" for verdict, count in counts)
