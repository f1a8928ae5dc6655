"""The command line: finds the subcommand, and turns what goes wrong into one line and an exit code.

Parsed by hand, and without imports: argparse alone takes a quarter of the time that `vdso run` may.
"""

import sys

from vdso.errors import ExtraMissing, Interrupted, UsageError, VdsoError, shown

# In the order in which help lists them. Each is a module of vdso.commands, imported when it is meant.
COMMANDS = {
    "look": "show the vDSO of a process or a file: image, functions, pages, routes, ASLR",
    "vvar": "show the kernel's page of clock data, proven, and watch its updates",
    "bench": "measure what the vDSO's calls cost, by each route, and what it saves",
    "doctor": "say whether the clock is fast here, why not, and what that costs",
    "report": "write one page: the verdict, what the clock costs, how a program reads it",
    "claims": "check on this machine what is commonly said of the vDSO",
    "dump": "write an image's bytes to a file",
    "disasm": "show the assembly of an image, or of one function, with names",
    "diff": "show what differs between two images",
    "run": "run a program, and what it starts, on a clock that you set",
    "top": "show, as it goes on, the kernel's page, sessions, live pages and who reads the clock",
    "time": "show or adjust a session's clock while programs run on it",
    "sessions": "list the sessions that there are",
    "stat": "count the clock calls of a program, which no tracer sees",
    "attach": "put a running process on a clock that you set",
    "detach": "give an attached process the host's clock back",
    "publish": "publish a record under a name, from lines of JSON",
    "pages": "list what is published here",
    "show": "show the newest record of a page",
    "watch": "print each new version of a page",
    "header": "print the C header of a published page",
    "rm": "take a page away",
}

# What pyproject.toml says that vdso depends on, as it is imported.
REQUIRED = ("capstone", "lz4", "rich", "zstandard")

HELP = f"""\
usage: vdso COMMAND ...

See, measure and replace the vDSO that the kernel gives to programs, and publish data as it does.

commands:
{chr(10).join(f"  {name:<10} {what}" for name, what in COMMANDS.items())}

  vdso COMMAND --help   says more about one
  vdso --version
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line (without the program's name) and returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    command = arguments[0] if arguments else ""
    try:
        code = dispatch(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except VdsoError as error:
        report(error)
        if sys.stdout is not None and command != "run":
            try:
                sys.stdout.flush()
            except OSError:
                silence()
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        # By the signal itself, so that a shell's loop around us ends too.
        import os
        import signal

        signal.signal(signal.SIGINT, signal.SIG_DFL)
        if isinstance(interrupt, Interrupted):
            report(interrupt)
        os.kill(os.getpid(), signal.SIGINT)
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone.
        silence()
        return 141
    except OSError as error:
        # Our own output cannot be written, or no descriptor, memory or process is to be had: nothing that
        # vdso has a word for.
        report(VdsoError(str(error.strerror or error).lower()))
        if command == "run":  # whose 1 would be COMMAND's
            return VdsoError.exit_code
        silence()
        return 1
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in REQUIRED:
            raise
        missing = ExtraMissing(f"{package}, which vdso needs, is not installed", f"pip install {package}")
        report(missing)
        return missing.exit_code


def take_streams() -> None:
    """Opens those standard streams that the caller has closed: nothing else is to get their numbers."""
    import os

    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


def silence() -> None:
    """Lets go of standard output: the interpreter's own flush at exit must not fail once more."""
    import os

    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.close(devnull)


def report(error: VdsoError | Interrupted) -> None:
    """Prints the error and its hint on the standard error stream."""
    if sys.stderr is None:  # closed by the caller
        return
    # What is named in it may hold anything: bytes that are no text, ends of lines, what a terminal obeys.
    text = f"vdso: {shown(error.message)}\n" + (f"  {shown(error.hint)}\n" if error.hint else "")
    # Where the stream's encoding lacks a character, it replaces that by itself.
    sys.stderr.write(text)
    sys.stderr.flush()


def dispatch(arguments: list[str]) -> int:
    # `run` hands them on as they are.
    if None in (sys.stdin, sys.stdout, sys.stderr) and arguments[:1] != ["run"]:
        take_streams()
    if not arguments:
        sys.stderr.write(HELP)
        return 2
    word = arguments[0]
    if word in COMMANDS:
        command = __import__(f"vdso.commands.{word}", fromlist=["main"])
        return int(command.main(arguments[1:]))
    if word == "help" and len(arguments) == 2 and arguments[1] in COMMANDS:
        return dispatch([arguments[1], "--help"])
    if word in ("-h", "--help", "help"):
        sys.stdout.write(HELP)
        return 0
    if word in ("-V", "--version"):
        from vdso import __version__

        sys.stdout.write(f"vdso {__version__}\n")
        return 0
    what = "option" if word.startswith("-") else "command"
    raise UsageError(
        f"no such {what}: {word}", "vdso --help lists them; to run a program: vdso run -- PROGRAM"
    )
