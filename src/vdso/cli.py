"""The command line: finds the subcommand, and turns what goes wrong into one line and an exit code.

Parsed by hand, and without imports: argparse alone takes a quarter of the time that `vdso run` may.
"""

import sys

from vdso.errors import UsageError, VdsoError

# In the order in which help lists them. Each is a module of vdso.commands, imported when it is meant.
COMMANDS = {
    "look": "show the vDSO of a process or a file: image, functions, pages, routes, ASLR",
    "vvar": "show the kernel's page of clock data, proven, and watch its updates",
    "bench": "measure what the vDSO's calls cost, by each route, and what it saves",
    "claims": "check on this machine what is commonly said of the vDSO",
    "dump": "write an image's bytes to a file",
    "disasm": "show the assembly of an image, or of one function, with names",
    "diff": "show what differs between two images",
    "run": "run a program, and what it starts, on a clock that you set",
    "time": "show or adjust a session's clock while programs run on it",
    "sessions": "list the sessions that there are",
    "attach": "put a running process on a clock that you set",
    "detach": "give an attached process the host's clock back",
    "publish": "publish a record under a name, from lines of JSON",
    "pages": "list what is published here",
    "show": "show the newest record of a page",
    "watch": "print each new version of a page",
    "header": "print the C header of a published page",
    "rm": "take a page away",
}

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
    try:
        code = dispatch(sys.argv[1:] if arguments is None else arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except VdsoError as error:
        report(error)
        return error.exit_code
    except KeyboardInterrupt:
        # By the signal itself, so that a shell's loop around us ends too.
        import os
        import signal

        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone. The interpreter's own flush at exit must not find it out again.
        import os

        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except OSError as error:
        # No descriptor, memory or process to be had: nothing that vdso has a word for.
        report(VdsoError(str(error.strerror or error).lower()))
        return VdsoError.exit_code


def report(error: VdsoError) -> None:
    """Prints the error and its hint on the standard error stream."""
    if sys.stderr is None:  # closed by the caller
        return
    # A file name may hold bytes that are no text: they are shown as what they are.
    text = f"vdso: {error.message}\n" + (f"  {error.hint}\n" if error.hint else "")
    sys.stderr.write(text.encode("utf-8", "backslashreplace").decode())
    sys.stderr.flush()


def dispatch(arguments: list[str]) -> int:
    if not arguments:
        sys.stderr.write(HELP)
        return 2
    word = arguments[0]
    if word in COMMANDS:
        if sys.stdout is None and word != "run":  # closed by the caller; `run` hands it on as it is
            import os

            sys.stdout = open(os.devnull, "w")  # noqa: SIM115
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
