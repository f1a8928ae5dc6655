"""`vdso time`: shows a session's clock, or adjusts it while programs run on it."""

from vdso.clocks.session import RESET, Adjustment, State, adjust, find_open, state
from vdso.clocks.transform import NS_PER_S, parse_duration, parse_rate, parse_when
from vdso.commands.output import print_json
from vdso.commands.parser import Parser
from vdso.errors import UsageError
from vdso.kernel.process import need_proc

HELP = """\
usage: vdso time [NAME] [--at WHEN | --offset D | --shift D] [--rate X | --freeze | --thaw] [--reset]
                 [--show] [--json]

Shows the clock of a session, or adjusts it while programs run on it. NAME is what `vdso run --session` or
`vdso attach --session` gave, or the process id of what was run or attached; without it the session that vdso
itself runs on, or the only one.

  --at WHEN     set the time: 2030-01-01T00:00:00Z, '2030-01-01 12:00', @1893456000
  --offset D    set it to the host's time and this much: +1000d, -2h30m
  --shift D     move it by this much from where it is
  --rate X      let it pass X times as fast: 10, 0.5, 0 (stands still), up to 1000000
  --freeze      let it stand still
  --thaw        let it go on, at the rate that it had
  --reset       the host's time at the host's pace
  --show        show what the clock says afterwards; also what `vdso time` does alone
  --json        the same, for programs

A time is a step: the next read of every program sees it. A rate is not: the clock goes on from where it is,
for all of them at the same moment, some 2 ms later. MONOTONIC, BOOTTIME and RAW follow the rate, and nothing
else, in a session that was started with --clocks all.

example:
  vdso run --session test --at 2030-01-01 -- ./server &
  vdso time test --rate 60
  vdso time test --shift +1d --freeze
  vdso time test --thaw --show

exit status:
  0; 2 usage; 125 no such session, or one that cannot be adjusted
"""


def parse(words: list[str]) -> tuple[str | None, Adjustment | None, bool, bool] | None:
    """(name, what is to change, show, json), None where help was printed. Raises UsageError."""
    parser = Parser("time", HELP)
    parser.add_argument("name", nargs="?")
    for option in ("--at", "--offset", "--shift", "--rate"):
        parser.add_argument(option)
    for option in ("--freeze", "--thaw", "--reset", "--show", "--json"):
        parser.add_argument(option, action="store_true")
    options = parser.read(_joined(words))
    if options is None:
        return None
    times = [word for word in ("at", "offset", "shift") if getattr(options, word) is not None]
    paces = [word for word in ("rate", "freeze", "thaw") if getattr(options, word) not in (None, False)]
    for words_given in (times, paces):
        if len(words_given) > 1:
            raise UsageError(f"--{words_given[0]} and --{words_given[1]} exclude each other", "name one")
    if options.reset and (times or paces):
        raise UsageError(f"--reset and --{(times + paces)[0]} exclude each other", "name one")
    adjustment = Adjustment(
        at_ns=None if options.at is None else parse_when(options.at),
        offset_ns=None if options.offset is None else parse_duration(options.offset),
        shift_ns=None if options.shift is None else parse_duration(options.shift),
        rate=0 if options.freeze else None if options.rate is None else parse_rate(options.rate),
        thaw=options.thaw,
    )
    changes = RESET if options.reset else adjustment if times or paces else None
    return options.name, changes, options.show or options.json or changes is None, options.json


def _joined(words: list[str]) -> list[str]:
    """`--offset -2h30m` as one word: what begins with a minus would else be taken for an option."""
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] in ("--at", "--offset", "--shift", "--rate"):
            joined[-1] += "=" + word
        else:
            joined.append(word)
    return joined


def main(words: list[str]) -> int:
    parsed = parse(words)
    if parsed is None:
        return 0
    name, changes, show, as_json = parsed
    need_proc()
    found, page = find_open(name)
    if changes is not None:
        adjust(page, changes)
    if as_json:
        print_json(state(found, page))
    elif show:
        show_state(state(found, page))
    return 0


def show_state(shown: State) -> None:
    from vdso.commands.output import columns, console

    table = columns("", "")
    count = len(shown.programs)
    table.add_row("session", f"{shown.name}, {count} program{'' if count == 1 else 's'}")
    table.add_row("time", written_time(shown.realtime_ns))
    table.add_row("the host's", written_time(shown.host_realtime_ns))
    table.add_row("offset", written_duration(shown.offset_ns))
    pace = f"frozen; thaws to {shown.thaw_rate:.10g}" if shown.frozen else f"{shown.rate:.10g}"
    table.add_row("rate", pace)
    table.add_row("clocks", f"{shown.clocks}, {shown.clock}")
    console().print(table)


def written_time(ns: int) -> str:
    """In UTC, to the nanosecond. Python's own calendar ends in 9999; the clock's does not."""
    import time

    sec, nsec = divmod(ns, NS_PER_S)
    try:
        then = time.gmtime(sec)
    except (OverflowError, ValueError):
        return f"@{sec}.{nsec:09}"
    date = "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}".format(*then[:6])
    return f"{date}.{nsec:09}Z"


def written_duration(ns: int) -> str:
    """Such as +1000d2h0m0.5s: what --offset takes."""
    sign = "-" if ns < 0 else "+"
    sec, nsec = divmod(abs(ns), NS_PER_S)
    text = ""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        count, sec = divmod(sec, length)
        if count or text:
            text += f"{count}{unit}"
    fraction = f".{nsec:09}".rstrip("0") if nsec else ""
    return f"{sign}{text}{sec}{fraction}s"
