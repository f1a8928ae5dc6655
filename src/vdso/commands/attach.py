"""`vdso attach`: puts a running process on a clock of ours. vdso.swap.attach does it."""

import sys

from vdso.commands.parser import Parser
from vdso.errors import UsageError

HELP = """\
usage: vdso attach PID (--at WHEN | --offset DURATION) [--timeout SECONDS] [--json]

Moves the time of a process that is already running, without restarting it, and of the children that it forks
from now on. It stands still for a millisecond or so, and never for more than 50.

  --at WHEN          move it to this time: 2030-01-01T00:00:00Z, with an offset (+02:00), or, with neither, in
                     the local zone; a date alone is its midnight; @1893456000 is seconds since 1970
  --offset DURATION  move it by this much: +1000d, -2h30m, +90s, 1.5h; units w d h m s ms us ns
  --timeout SECONDS  for how long to try again while the process cannot be stopped (default 2)
  --json             print what was done as JSON

Moved are REALTIME, REALTIME_COARSE and TAI, time() and gettimeofday(); never MONOTONIC or BOOTTIME.
`vdso detach PID` gives it the host's clock back.

example:
  vdso attach 1234 --offset +1000d

not moved:
  what the process and its children exec: programs start on the host's clock (vdso run follows them)
  system calls for the time that are made without the C library's clock functions
  sleeps and waits to an absolute REALTIME deadline, and timers set to one
The process may still set the host's clock, if it may.

exit status:
  0 attached; 2 usage; 113 to 124 why not: docs/attach.md
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
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 1 << 31:
        raise UsageError(f"no process id: {text}", "a number, such as pidof or ps show")
    return int(text)


def main(words: list[str]) -> int:
    """Attaches and says so in one line. Raises as vdso.swap.attach.attach()."""
    parser = Parser("attach", HELP)
    parser.add_argument("pid")
    parser.add_argument("--at")
    parser.add_argument("--offset")
    parser.add_argument("--timeout", default="2")
    parser.add_argument("--json", action="store_true")
    options = parser.read(_join_values(words))
    if options is None:
        return 0
    target, patience_s = pid(options.pid), timeout_s(options.timeout)
    if (options.at is None) == (options.offset is None):
        raise UsageError("which time? one of --at and --offset", "vdso attach --help shows how")

    from vdso.clocks.transform import parse_duration, parse_when

    offset_ns = parse_duration(options.offset) if options.offset is not None else 0
    at_ns = parse_when(options.at) if options.at is not None else None

    from vdso import _core
    from vdso.swap.attach import attach, clock_page

    if at_ns is not None:
        # By the system call: this process may itself run on a moved clock.
        offset_ns = at_ns - _core.kernel_clock_ns(0)
    page = clock_page(offset_ns)
    done = attach(target, page.reader_fd, timeout_s=patience_s)
    if options.json:
        from vdso.commands.output import print_json

        print_json(done)
    else:
        sys.stdout.write(
            f"attached {done.name} (pid {done.pid}); it stood still for {done.stood_ns / 1e6:.1f} ms\n"
        )
    return 0


def _join_values(words: list[str]) -> list[str]:
    """The value of an option may begin with a minus: --offset -2h30m."""
    joined: list[str] = []
    rest = iter(words)
    for word in rest:
        value = next(rest, None) if word in ("--offset", "--at") else None
        joined.append(word if value is None else f"{word}={value}")
    return joined
