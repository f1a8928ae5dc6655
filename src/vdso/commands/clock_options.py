"""The options that say which clock: the same for `vdso run` and `vdso attach`.

Imports nothing that they do not name: `vdso run` pays for it.
"""

from vdso.errors import UsageError

VALUED = ("--at", "--offset", "--rate", "--clocks", "--session")
FREEZE = "--freeze"
CLOCK_SETS = ("wall", "all")


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
        from vdso.clocks.session import check_name

        options.session = check_name(values["--session"])
