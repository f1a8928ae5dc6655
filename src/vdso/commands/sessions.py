"""`vdso sessions`: the sessions that there are."""

import sys

from vdso.clocks.session import Found, State, open_page, sessions, state
from vdso.commands.output import columns, console, print_json
from vdso.commands.parser import Parser
from vdso.commands.time import written_duration, written_time
from vdso.errors import PageError, SessionError
from vdso.kernel.process import need_proc

HELP = """\
usage: vdso sessions [--json]

Lists the sessions of this user (as root: of everyone), with what their clocks say.

  --json        the same, for programs

example:
  vdso sessions

exit status:
  0; 2 usage; 125 there is no /proc
"""


def main(words: list[str]) -> int:
    parser = Parser("sessions", HELP)
    parser.add_argument("--json", action="store_true")
    options = parser.read(words)
    if options is None:
        return 0
    need_proc()
    states = [shown for found in sessions() if (shown := _state(found)) is not None]
    if options.json:
        print_json(states)
        return 0
    if not states:
        sys.stderr.write("no session; vdso run --session NAME -- COMMAND and vdso attach PID start one\n")
        return 0
    table = columns("session", "time", "offset", "rate", "clocks", "programs", right=(3, 5))
    for one in states:
        rate = "frozen" if one.frozen else f"{one.rate:.10g}"
        table.add_row(
            one.name,
            written_time(one.realtime_ns),
            written_duration(one.offset_ns),
            rate,
            f"{one.clocks}, {one.clock}",
            str(len(one.programs)),
        )
    console().print(table)
    return 0


def _state(found: Found) -> State | None:
    """None of one that has ended meanwhile, has not begun, or is of a version that this one does not read."""
    try:
        return state(found, open_page(found))
    except (SessionError, PageError):
        return None
