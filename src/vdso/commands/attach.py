"""`vdso attach`: puts a running process on a clock of ours. vdso.swap.join does it."""

import sys
from typing import TYPE_CHECKING

from vdso.commands.clock_options import FREEZE, HELP_CLOCK, VALUED, ClockOptions, read_clock
from vdso.commands.parser import Parser
from vdso.errors import UsageError

if TYPE_CHECKING:
    from vdso.swap.join import Joined

HELP = f"""\
usage: vdso attach PID [--session NAME] [--at WHEN | --offset DURATION] [--rate X | --freeze]
                   [--clocks wall|all] [--follow | --no-follow] [--strict] [--timeout SECONDS] [--json]

Puts a process that is already running, and the children that it forks from now on, on a clock that you set,
without restarting it. It stands still for a millisecond or so, and never for more than 50.

{HELP_CLOCK}
  --session NAME     give the clock a name, by which `vdso time NAME` adjusts it; or put the process on the
                     clock that has the name already. Without it the name is PID
  --follow           also what it and its children execute from now on; its waits and timers to an absolute
                     time, and what sets the clock, which sets this one and never the host's. By a seccomp
                     filter, which the process keeps for good. It is the default for a process that may set
                     the host's clock (CAP_SYS_TIME). Alone, for a process that is attached and not followed,
                     or whose follower has ended
  --no-follow        leave it without the filter, even so
  --strict           with --follow, answer the system calls that read a clock too; each takes some 20 us
  --timeout SECONDS  for how long to try again while the process cannot be stopped (default 2)
  --json             print what was done as JSON

--at and --offset move REALTIME, REALTIME_COARSE and TAI, time() and gettimeofday(); never MONOTONIC or
BOOTTIME. `vdso time` changes the clock from then on, `vdso detach PID` gives the process the host's back.

example:
  vdso attach 1234 --offset +1000d
  vdso attach 1234 --session test --rate 60 --follow
  vdso attach 5678 --session test
  vdso attach 5678 --follow
  vdso time test --freeze

not moved:
  without --follow, what the process and its children exec, which start on the host's clock; sleeps and waits
  to an absolute REALTIME deadline and timers set to one, which the kernel ends by the host's time
  system calls for the time that are made without the C library's clock functions, but for --strict
  relative sleeps and timeouts, under a changed rate; timers that were set to an absolute time before

exit status:
  0 attached; 2 usage; 113 to 125 why not: docs/attach.md
"""


def timeout_s(text: str) -> float:
    """A number of seconds, from 0 to an hour. Raises UsageError."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 3600:
        raise UsageError(f"no such timeout: {text}", "seconds, 0 to 3600, such as 0.5")
    return value


def pid(text: str) -> int:
    """A process id. Raises UsageError."""
    if not text.isascii() or not text.isdigit() or len(text) > 10 or not 0 < int(text) < 1 << 31:
        raise UsageError(f"no process id: {text}", "a number, such as pidof or ps show")
    return int(text)


def main(words: list[str]) -> int:
    """Attaches and says so in one line. Raises as vdso.swap.join.join()."""
    parser = Parser("attach", HELP)
    parser.add_argument("pid")
    for option in VALUED:
        parser.add_argument(option)
    parser.add_argument(FREEZE, action="store_true")
    parser.add_argument("--follow", action="store_true")
    parser.add_argument("--no-follow", action="store_true")
    parser.add_argument("--strict", action="store_true")
    parser.add_argument("--timeout", default="2")
    parser.add_argument("--json", action="store_true")
    given = parser.read(_join_values(words))
    if given is None:
        return 0
    target, patience_s = pid(given.pid), timeout_s(given.timeout)
    if given.no_follow and (given.follow or given.strict):
        other = "--follow" if given.follow else "--strict"
        raise UsageError(f"{other} and --no-follow exclude each other", "both are about the filter: name one")
    options = ClockOptions()
    values = {name: getattr(given, name.lstrip("-")) for name in VALUED}
    read_clock(options, {name: value for name, value in values.items() if value is not None}, given.freeze)
    follow = False if given.no_follow else True if given.follow or given.strict else None
    try:
        joined = _join(target, options, follow, patience_s, raw_calls=given.strict)
        _say(joined, named=options.session is not None, as_json=given.json)
    except KeyboardInterrupt as interrupt:
        from vdso.swap.attach import told

        raise told(interrupt, target) from None
    return 0


def _join(
    target: int, options: ClockOptions, follow: bool | None, patience_s: float, *, raw_calls: bool
) -> "Joined":
    from vdso.clocks.session import Adjustment, of_process
    from vdso.kernel.process import need_proc
    from vdso.swap.join import join

    need_proc()
    if options.session is None and not options.sets_clock():
        # One that is attached already may be followed from now on.
        found = of_process(target) if follow else None
        if found is None:
            raise UsageError(
                "which clock? one of --at, --offset, --rate, --freeze, --clocks and --session",
                "vdso attach --help shows how",
            )
        options.session = found.name

    times = (options.at_ns, options.offset_ns, options.rate)
    return join(
        target,
        session=options.session,
        first=None
        if times == (None, None, None)
        else Adjustment(at_ns=options.at_ns, offset_ns=options.offset_ns, rate=options.rate),
        everything=options.everything,
        timeout_s=patience_s,
        follow=follow,
        raw_calls=raw_calls,
    )


def _say(joined: "Joined", *, named: bool, as_json: bool) -> None:
    done = joined.done
    for line in joined.warnings:
        sys.stderr.write(f"vdso: {line}\n")
    if as_json:
        from vdso.commands.output import plain, print_json

        print_json({**plain(done), "session": joined.session})
    else:
        where = f" to the session {joined.session}" if named else ""
        where += ", and follows it" if done.followed else ""
        stood = f"{done.stood_ns / 1e6:.1f} ms"
        sys.stdout.write(f"attached {done.name} (pid {done.pid}){where}; it stood still for {stood}\n")


def _join_values(words: list[str]) -> list[str]:
    """The value of an option may begin with a minus: --offset -2h30m."""
    joined: list[str] = []
    rest = iter(words)
    for word in rest:
        value = next(rest, None) if word in VALUED else None
        joined.append(word if value is None else f"{word}={value}")
    return joined
