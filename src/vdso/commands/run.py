"""`vdso run`: runs a program, and what it starts, on a vDSO image of ours.

Only reads the command line; vdso.swap.run does it.
"""

import sys

from vdso.commands.clock_options import FREEZE, HELP_CLOCK, VALUED, ClockOptions, read_clock
from vdso.errors import UsageError

HELP = f"""\
usage: vdso run [--session NAME] [--at WHEN | --offset DURATION] [--rate X | --freeze] [--clocks wall|all]
                [--strict] [--clock kernel|tsc] [--no-follow] [--strict-swap] [--] COMMAND [ARG...]

Runs COMMAND, unmodified, with our clock image in the place of the kernel's vDSO, and so whatever it starts.

{HELP_CLOCK}
  --session NAME     give the clock a name, by which `vdso time NAME` adjusts it while COMMAND runs; or run on
                     the clock that has the name already. Without it the name is COMMAND's process id
  --clock kernel     compute the time from the kernel's own vDSO (default)
  --clock tsc        compute it from the CPU's counter, for machines where the kernel's vDSO has to make
                     system calls
  --strict           answer the system calls that read a clock too, for programs that make them by themselves;
                     each takes some 20 us instead of 0.2
  --no-follow        leave the programs that COMMAND executes on the host's clock
  --strict-swap      do not start a program that cannot be given our image (else it runs, with a warning)

--at and --offset move REALTIME, REALTIME_COARSE and TAI, time() and gettimeofday(); never MONOTONIC or
BOOTTIME. What sets the clock inside (date -s, adjtimex) sets this one, without any privilege, and the host's
never. Waits and timers to an absolute time end when this clock gets there.
A tsc clock can be moved when it starts, and keeps the host's pace.

example:
  vdso run --at 2030-01-01T00:00:00Z -- date
  vdso run --offset +1000d -- python3 -c 'import time; print(time.ctime())'
  vdso run --session test --rate 60 -- ./server &
  vdso time test --freeze

not moved:
  system calls that a program makes without its C library's clock functions, but for --strict
  relative sleeps and timeouts, under a changed rate: they take the host's time (one line names a program that
  is found in one)
  the times of files (stat), the real-time clock's device (RTC), and what another process says over D-Bus
  or a socket

exit status:
  COMMAND's own; 128+N if signal N ended it; 127 not found, 126 not executable; 2 usage; 113 to 120 and 125
  vdso's own
"""

USAGE_HINT = "vdso run --help shows how"
CLOCKS = ("kernel", "tsc")
FLAGS = ("--strict", "--no-follow", "--strict-swap", FREEZE, "--help", "-h")


class Options(ClockOptions):
    """What the command line asks for."""

    __slots__ = ("clock", "command", "follow", "help", "raw_calls", "strict")

    def __init__(self) -> None:
        super().__init__()
        self.clock = "kernel"
        self.raw_calls = False
        self.follow = True
        self.strict = False
        self.help = False
        self.command: list[str] = []


def parse(arguments: list[str]) -> Options:
    """Reads the words after `vdso run`. Raises UsageError."""
    options = Options()
    values: dict[str, str] = {}
    freeze = False
    position = 0
    while position < len(arguments):
        word = arguments[position]
        if word == "--":
            position += 1
            break
        if not word.startswith("-") or word == "-":
            break
        position += 1
        name, equals, value = word.partition("=")
        if name == "--clock" or name in VALUED:
            if not equals:
                # Whatever follows is the value, also with a minus in front: --offset -2h30m.
                if position == len(arguments) or arguments[position] == "--":
                    raise UsageError(f"{name} wants a value", USAGE_HINT)
                value = arguments[position]
                position += 1
            values[name] = value
        elif equals or name not in FLAGS:
            raise UsageError(
                f"no such option: {word}", f"{USAGE_HINT}; the program's own options come after its name"
            )
        elif name == "--no-follow":
            options.follow = False
        elif name == "--strict-swap":
            options.strict = True
        elif name == "--strict":
            options.raw_calls = True
        elif name == FREEZE:
            freeze = True
        else:
            options.help = True
            return options
    options.command = arguments[position:]
    if not options.command:
        raise UsageError("no command to run", USAGE_HINT)
    if not options.command[0]:
        raise UsageError("the command is an empty word", USAGE_HINT)
    options.clock = values.get("--clock", options.clock)
    if options.clock not in CLOCKS:
        raise UsageError(f"no such clock: {options.clock}", "kernel, or tsc")
    read_clock(options, values, freeze)
    if options.clock == "tsc" and (options.rate is not None or options.everything):
        raise UsageError(
            "a tsc clock keeps the host's pace: no --rate, --freeze or --clocks all",
            "--clock kernel, the default, has them",
        )
    return options


def main(arguments: list[str]) -> int:
    """Runs the command and returns its exit status."""
    options = parse(arguments)
    if options.help:
        if sys.stdout is not None:  # closed by the caller
            sys.stdout.write(HELP)
        return 0
    from vdso.swap.run import run

    try:
        return run(
            options.command,
            clock=options.clock,
            offset_ns=options.offset_ns,
            at_ns=options.at_ns,
            follow=options.follow,
            strict=options.strict,
            rate=options.rate,
            everything=options.everything,
            session=options.session,
            raw_calls=options.raw_calls,
        )
    except FileNotFoundError:
        from vdso.kernel.process import need_proc  # which takes as long as all the rest

        need_proc()
        raise
