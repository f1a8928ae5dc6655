"""`vdso doctor`: is the clock fast, why not, and what does that cost.

Prints; vdso.measure.doctor measures, looks and concludes.
"""

import os
import sys
import textwrap
from argparse import Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vdso.commands.output import folded, print_json, printable, styled
from vdso.commands.parser import Parser
from vdso.errors import UsageError, VdsoError
from vdso.measure.doctor.result import CRITICAL, FAST, NOTE, SLOW, WARNING
from vdso.measure.doctor.wording import costs, facts, missing, whole

if TYPE_CHECKING:
    from vdso.measure.doctor.catalogue import Check
    from vdso.measure.doctor.result import Diagnosis, Figures, Finding

HELP = """\
usage: vdso doctor [--quick] [--json | --openmetrics] [-p PID | -- COMMAND [ARGUMENT...]]
       vdso doctor --list [--json]

Says whether reads of the clock are fast here, why not, what that costs, and the one command or setting that
mends each cause. Looks at the vDSO, the clocksource, the CPUs' counters, the kernel's command line and its
messages, and what stands between the process and its clock; measures what each clock costs; changes nothing.

  -p, --pid PID    that process's own view: its C library, its vDSO, filters, tracer, preloaded libraries
  -- COMMAND       the same of a program, which is run to its end; what it prints goes to standard error
  --quick          fewer rounds: some 0.2 s instead of 1.2; with -p, which observes too, 0.5 instead of 2
  --json           for programs; docs/doctor.md has the schema
  --openmetrics    metrics, for node_exporter's textfile collector
  --list           every check that there is, with its cause and remedy

example:
  vdso doctor
  vdso doctor --quick && echo the clock is fast
  vdso doctor -- ./my-server --once
  vdso doctor --openmetrics >vdso.prom.new; mv vdso.prom.new /var/lib/node_exporter/vdso.prom

exit status:
  0 fast; 1 slow; 2 unknown, and usage, no such process, output that cannot be written;
  126, 127 the command cannot be executed, is not found; 141 nobody reads the output
"""

HINT = "vdso doctor --help shows how"
COLUMNS_MAX, COLUMNS_MIN = 100, 20
INDENT = "  "
VERDICT_STYLES = {FAST: "green", SLOW: "red"}
SEVERITY_STYLES = {CRITICAL: "red", WARNING: "yellow", NOTE: "cyan"}
UNDECIDED = 2
# What `vdso bench` warns of and no check says: the figures may be off.
NOISE = ("unpinned", "frequency-scaling", "stolen-time", "load", "noisy-machine", "cut-short")


def options(words: list[str]) -> Namespace | None:
    """The options, `command` among them; None where help was printed. Raises UsageError."""
    parser = Parser("doctor", HELP)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--openmetrics", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("-p", "--pid", metavar="PID")
    own, dashes, command = words, [], []
    if "--" in words:
        at = words.index("--")
        own, dashes, command = words[:at], ["--"], words[at + 1 :]
    found = parser.read(own)
    if found is None:
        return None
    if dashes and not command:
        raise UsageError("no command after --", HINT)
    if found.json and found.openmetrics:
        raise UsageError("--json or --openmetrics", HINT)
    if found.pid is not None and command:
        raise UsageError("-p PID or -- COMMAND: one of them is looked at", HINT)
    if found.list and (found.quick or found.openmetrics or found.pid is not None or command):
        raise UsageError("--list looks at nothing, and goes with --json alone", HINT)
    if found.pid is not None:
        digits = found.pid.isascii() and found.pid.isdigit()
        if not digits or not 0 < int(found.pid) < 1 << 31:
            raise UsageError(f"no process id: {found.pid}", HINT)
        found.pid = int(found.pid)
    found.command = command or None
    return found


def main(words: list[str]) -> int:
    """Examines, prints, and returns the exit status."""
    found = options(words)
    if found is None:
        return 0
    try:
        if sys.__stdout__ is None:  # /dev/null is for who wants the exit status alone
            raise OSError("standard output is closed")
        if found.list:
            return show_list(found.json)
        from vdso.measure.doctor.examination import diagnose

        diagnosis = diagnose(quick=found.quick, pid=found.pid, command=found.command)
        if found.json:
            print_json(diagnosis.to_json())
        elif found.openmetrics:
            from vdso.measure.doctor.openmetrics import render

            sys.stdout.write(render(diagnosis))
        else:
            sys.stdout.write("\n".join(lines(diagnosis, columns())) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        # 1 would say that the clock is slow.
        failed = VdsoError(str(error.strerror or error).lower())
        failed.exit_code = UNDECIDED
        raise failed from None
    return diagnosis.exit_status


def columns() -> int:
    """Of the terminal; off one, what lines are wrapped to."""
    if not sys.stdout.isatty():
        return COLUMNS_MAX
    try:
        # 0: nobody has told the terminal how wide it is.
        there = os.get_terminal_size(sys.stdout.fileno()).columns or COLUMNS_MAX
    except OSError:
        return COLUMNS_MAX
    return max(COLUMNS_MIN, min(COLUMNS_MAX, there))


# ---- The screen ----


def lines(found: "Diagnosis", width: int) -> Iterator[str]:
    """The diagnosis as people read it."""
    yield from wrapped(
        f"{found.verdict}: {found.reason}", width, style=VERDICT_STYLES.get(found.verdict, "yellow")
    )
    if found.cost is not None:
        yield from wrapped(found.cost.sentence, width)
    yield ""
    for name, text in facts(found):
        yield from entry(name, text, width)
    if found.figures is not None:
        yield from table(found.figures, width)
        for text in missing(found.figures):
            yield from wrapped(text, width, first=INDENT, rest=INDENT * 2)
        for caution in found.figures.cautions:
            if caution.id in NOISE:
                yield from wrapped(caution.text, width, first=f"{INDENT}figures: ", rest=INDENT)
    for one in found.findings:
        yield ""
        yield from finding_lines(one, width)
    if found.unseen:
        yield ""
        yield from wrapped("could not be looked at", width, style="bold")
        for missed in found.unseen:
            names = f" ({', '.join(missed.checks)})" if missed.checks else ""
            text = f"{missed.what}: {missed.why}{names}"
            yield from wrapped(text, width, first=INDENT, rest=INDENT * 2)


def finding_lines(one: "Finding", width: int) -> Iterator[str]:
    style = SEVERITY_STYLES[one.severity]
    yield from wrapped(f"{one.severity}: {one.title} [{one.id}]", width, style=style)
    yield from wrapped(one.cause, width, first=INDENT, rest=INDENT)
    yield from wrapped(remedy(one), width, first=INDENT, rest=INDENT)


def remedy(one: "Finding | Check") -> str:
    return f"to {'change' if one.severity == NOTE else 'mend'} it: {one.remedy}"


def entry(name: str, text: str, width: int) -> Iterator[str]:
    """A fact with its name in front, below it where there is no room beside it."""
    if width >= 60:
        return wrapped(text, width, first=f"{name:<12} ", rest=" " * 13)
    return iter([*([name] if name else []), *wrapped(text, width, first=INDENT, rest=INDENT)])


def table(figures: "Figures", width: int) -> Iterator[str]:
    """ns a read, a line a clock; where they are too wide, the clock's figures below its name."""
    heads = ("ns a read", "vDSO", "C library", "system call", "ratio", "getres", "step seen")
    cells: list[tuple[str, ...]] = [heads]
    for clock in figures.clocks:
        ratio = "" if clock.ratio is None else f"{clock.ratio:.1f}x"
        told = (whole(clock.resolution_ns), whole(clock.step_ns))
        cells.append((f"{INDENT}{clock.clock}", *costs(clock), ratio, *told))
    wide = [max(map(len, column)) for column in zip(*cells, strict=True)]
    if sum(wide) + 2 * (len(wide) - 1) > width:
        yield heads[0]
        yield from folded(heads, [(name.strip(), *others) for name, *others in cells[1:]], width)
        return
    for row in cells:
        line = row[0].ljust(wide[0]) + "".join(
            f"  {cell:>{size}}" for cell, size in zip(row[1:], wide[1:], strict=True)
        )
        yield line.rstrip()


def wrapped(text: str, width: int, *, first: str = "", rest: str = "", style: str = "") -> Iterator[str]:
    room = max(width, COLUMNS_MIN)
    for line in textwrap.wrap(
        printable(text), room, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
    ):
        yield styled(line, style) if style else line


# ---- The list ----


def show_list(as_json: bool) -> int:
    """Every check, its texts as the catalogue has them."""
    from vdso.measure.doctor.catalogue import CHECKS

    if as_json:
        rows = [
            {
                "id": one.id,
                "severity": one.severity,
                "title": one.title,
                "cause": one.cause,
                "remedy": one.remedy,
                "source": one.source,
            }
            for one in CHECKS
        ]
        print_json({"checks": rows})
        return 0
    width = columns()
    sys.stdout.write("\n".join(line for one in CHECKS for line in check_lines(one, width)) + "\n")
    return 0


def check_lines(one: "Check", width: int) -> Iterator[str]:
    yield from wrapped(f"{one.id} ({one.severity}): {one.title}", width, style=SEVERITY_STYLES[one.severity])
    yield from wrapped(one.cause, width, first=INDENT, rest=INDENT)
    yield from wrapped(remedy(one), width, first=INDENT, rest=INDENT)
    yield f"{INDENT}{one.source}"
