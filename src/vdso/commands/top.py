"""`vdso top`: the kernel's page, sessions, live pages, and who reads the clock, as it goes on.

Looking is vdso.measure.top's; the terminal is vdso.commands.screen's.
"""

import argparse
import sys
import time
from typing import TYPE_CHECKING

from vdso.commands.output import columns, console, plain, printable
from vdso.commands.pages import age, user_name
from vdso.commands.parser import Parser
from vdso.commands.time import written_duration, written_time

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.table import Table

    from vdso.measure.top import Look

HELP = """\
usage: vdso top [-d SECONDS] [-n LOOKS | --once] [--json]

Shows, anew each second, what goes on here that has to do with the clock: how often the kernel updates its
page, the sessions and what their clocks say, live pages with their versions a second, and the programs on a
vDSO of ours with how often they read the clock, where `vdso stat` counts that. Of this user; as root of all.

  -d SECONDS    look so often: 1
  -n LOOKS      end after so many; off a terminal 1
  --once        the same as -n 1
  --json        an object a look, in one line, for programs

q and Ctrl-C leave it, Ctrl-Z stops it.

example:
  vdso top
  vdso top --once --json | jq .kernel.updates

exit status:
  0; 1 output that cannot be written; 2 usage
"""

PERIOD_S, PERIOD_MIN_S, PERIOD_MAX_S = 1.0, 0.05, 3600.0
UNLIMITED = 1 << 20  # lines, where nothing scrolls away
NARROW = 60  # columns; below it tables have their first and their most wanted column


def main(words: list[str]) -> int:
    parser = Parser("top", HELP)
    parser.add_argument("-d", dest="period_s", type=seconds, default=PERIOD_S)
    parser.add_argument("-n", dest="looks", type=count)
    parser.add_argument("--once", dest="looks", action="store_const", const=1)
    parser.add_argument("--json", action="store_true")
    options = parser.read(words)
    if options is None:
        return 0
    live = sys.stdout.isatty() and not console().is_dumb_terminal
    if live and not options.json and options.looks != 1:
        watch(options.period_s, options.looks)
    else:
        write(options.period_s, options.looks or 1, options.json)
    return 0


def seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not PERIOD_MIN_S <= value <= PERIOD_MAX_S:
        raise argparse.ArgumentTypeError(f"{text}: seconds, from {PERIOD_MIN_S:g} to {PERIOD_MAX_S:g}")
    return value


def count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18 or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is no number of looks")
    return int(text)


def watch(period_s: float, looks: int | None) -> None:
    """On the terminal, until it is left. What was seen last stays on it."""
    from vdso.commands.screen import Screen
    from vdso.measure.top import Top

    with Screen() as screen:
        top = Top()
        look, seen, next_s = top.look(), 0, time.monotonic() + min(period_s, 0.2)
        while seen != looks:
            screen.show(view(look, screen.width, screen.height))
            if not screen.wait(next_s - time.monotonic()):
                return
            if time.monotonic() >= next_s:
                look, seen, next_s = top.look(), seen + 1, time.monotonic() + period_s
    console().print(view(look, console().width, UNLIMITED))


def write(period_s: float, looks: int, as_json: bool) -> None:
    """Where nobody watches: so many looks, one after the other."""
    import json

    from vdso.measure.top import Top

    out = console()
    top = Top()
    top.look()
    for _ in range(looks):
        time.sleep(period_s)
        look = top.look()
        if as_json:
            sys.stdout.write(json.dumps(plain(look), allow_nan=False) + "\n")
        else:
            with out.capture() as taken:
                out.print(view(look, out.width, UNLIMITED))
            sys.stdout.write(taken.get())
        sys.stdout.flush()


# ---- what is shown ----


def view(look: "Look", width: int, height: int) -> "Group":
    """All of it, in so many columns; what has no room in so many lines is counted."""
    from rich.console import Group
    from rich.text import Text

    narrow = width < NARROW
    head = [
        Text(line, no_wrap=True, overflow="ellipsis") for line in (time_line(look), kernel_line(look, narrow))
    ]
    tables = [
        ("sessions", session_rows(look, narrow), look.processes_why),
        ("pages", page_rows(look, narrow), ""),
        ("programs", program_rows(look, narrow), look.processes_why),
    ]
    room = height - len(head) - sum(2 + bool(rows) for _, (_, rows), _ in tables)
    parts: list[RenderableType] = [*head]
    for (title, (headers, rows), why), kept in zip(
        tables, shares(room, [len(rows) for _, (_, rows), _ in tables]), strict=True
    ):
        shown = f", {kept} shown" if kept < len(rows) else ""
        said = f"{title}: {why}" if why else f"{title} {len(rows)}{shown}"
        parts += ["", Text(said, "bold", no_wrap=True, overflow="ellipsis")]
        if kept:
            parts.append(table(headers, rows[:kept]))
    return Group(*parts)


def shares(room: int, wants: list[int]) -> list[int]:
    """How many lines each gets: those that want little all of it, the others evenly what that leaves."""
    given = [0] * len(wants)
    left = max(0, room)
    for count, place in enumerate(sorted(range(len(wants)), key=wants.__getitem__)):
        given[place] = min(wants[place], left // (len(wants) - count))
        left -= given[place]
    return given


def table(headers: tuple[str, ...], rows: list[tuple[str, ...]]) -> "Table":
    from rich.text import Text

    made = columns(*headers, right=tuple(at for at, header in enumerate(headers) if header in FIGURES))
    for row in rows:
        made.add_row(*(Text(printable(cell)) for cell in row))
    return made


FIGURES = ("offset", "programs", "age", "version", "a second", "calls", "pid")


def time_line(look: "Look") -> str:
    return f"{written_time(look.taken_ns)[:19]}Z"


def kernel_line(look: "Look", narrow: bool) -> str:
    if look.kernel is None:
        return f"kernel's page: {look.kernel_why}"
    rate = f"{look.kernel.updates_per_s:.0f} updates/s"
    if narrow:
        return rate
    return f"kernel's page: {rate}, sequence {look.kernel.sequence}, mode {look.mode}"


Rows = tuple[tuple[str, ...], list[tuple[str, ...]]]


def session_rows(look: "Look", narrow: bool) -> Rows:
    rows: list[tuple[str, ...]] = [
        (
            one.name,
            written_time(one.realtime_ns)[:19] + "Z",
            written_duration(round(one.offset_ns, -6)),
            "frozen" if one.frozen else f"{one.rate:.10g}",
            str(len(one.programs)),
        )
        for one in look.sessions or ()
    ]
    if narrow:
        return ("session", "rate"), [(row[0], row[3]) for row in rows]
    return ("session", "time", "offset", "rate", "programs"), rows


def page_rows(look: "Look", narrow: bool) -> Rows:
    rows: list[tuple[str, ...]] = []
    for one in look.pages:
        rate = "" if one.versions_per_s is None else f"{one.versions_per_s:.0f}"
        if one.error is not None:
            rows.append((one.name, user_name(one.user_id), "", "", "", one.error))
            continue
        who = str(one.publisher_pid or "-") if one.alive else "gone"
        rows.append(
            (
                one.name,
                user_name(one.user_id),
                who,
                "-" if one.age_s is None else age(one.age_s),
                str(one.version),
                rate,
            )
        )
    if narrow:
        return ("page", "a second"), [(row[0], row[-1]) for row in rows]
    return ("page", "user", "publisher", "age", "version", "a second"), rows


def program_rows(look: "Look", narrow: bool) -> Rows:
    rows: list[tuple[str, ...]] = []
    for one in look.programs or ():
        rate = (
            "not counted" if not one.counted else "" if one.calls_per_s is None else f"{one.calls_per_s:,.0f}"
        )
        rows.append((str(one.pid), one.name, one.session, rate, one.busiest))
    if narrow:
        return ("pid", "a second"), [(row[0], row[3]) for row in rows]
    return ("pid", "program", "session", "a second", "most often"), rows
