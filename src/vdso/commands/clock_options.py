"""The options that say which clock: the same for `vdso run` and `vdso attach`.

Imports nothing that they do not name: `vdso run` pays for it.
"""

from vdso.errors import UsageError

VALUED = ("--at", "--offset", "--rate", "--clocks", "--session")
FREEZE = "--freeze"
CLOCK_SETS = ("wall", "all")

# Their lines in a command's help; how --session is meant differs.
HELP_CLOCK = """\
  --at WHEN          start at this time: 2030-01-01T00:00:00Z, with an offset (+02:00), or, with neither, in
                     the local zone; a date alone is its midnight; @1893456000 is seconds since 1970
  --offset DURATION  move the time by this much: +1000d, -2h30m, +90s, 1.5h; units w d h m s ms us ns
  --rate X           let the time pass X times as fast: 10, 0.5, 0 (stands still), up to 1000000
  --freeze           let it stand still: --rate 0
  --clocks wall      move, scale and freeze the clocks that tell the date (default)
  --clocks all       scale and freeze MONOTONIC, BOOTTIME and RAW too, from their own value; never set"""


class ClockOptions:
    """Which clock. Times in ns, of REALTIME since 1970 or to be added; rate in 32.32; None: not given."""

    __slots__ = ("at_ns", "everything", "offset_ns", "rate", "session")

    def __init__(self) -> None:
        self.at_ns: int | None = None
        self.offset_ns: int | None = None
        self.rate: int | None = None
        self.everything: bool | None = None
        self.session: str | None = None

    def sets_clock(self) -> bool:
        """Whether anything is said of what the clock shows."""
        return not (self.at_ns is self.offset_ns is self.rate is self.everything is None)


def read_clock(options: ClockOptions, values: dict[str, str], freeze: bool) -> None:
    """Reads the values given for VALUED into `options`. Raises UsageError."""
    if "--at" in values and "--offset" in values:
        raise UsageError("--at and --offset exclude each other", "both say where the clock stands: name one")
    if "--at" in values:
        from vdso.clocks.transform import parse_when

        options.at_ns = parse_when(values["--at"])
    if "--offset" in values:
        from vdso.clocks.transform import parse_duration

        options.offset_ns = parse_duration(values["--offset"])
    if freeze:
        if "--rate" in values:
            raise UsageError("--rate and --freeze exclude each other", "--freeze is --rate 0")
        options.rate = 0
    if "--rate" in values:
        from vdso.clocks.transform import parse_rate

        options.rate = parse_rate(values["--rate"])
    if "--clocks" in values:
        if values["--clocks"] not in CLOCK_SETS:
            raise UsageError(f"no such set of clocks: {values['--clocks']}", "wall, or all")
        options.everything = values["--clocks"] == "all"
    if "--session" in values:
        from vdso.clocks.holders import check_name

        options.session = check_name(values["--session"])
