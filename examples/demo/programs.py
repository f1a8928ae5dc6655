"""Unmodified programs on a clock of ours: started there, taken there while they run, and counted."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from costs import OFFSET, VDSO

# Says what time it is, once for each line that it is given.
PROGRAM = r"""
#include <stdio.h>
#include <time.h>

int main(void)
{
	for (int c; (c = getchar()) != EOF;)
		if (c == '\n') {
			time_t now = time(NULL);

			fputs(ctime(&now), stdout);
			fflush(stdout);
		}
	return 0;
}
"""
PYTHON = "import sys, time\nfor line in sys.stdin: print(time.ctime(), flush=True)"
ENVIRONMENT = {**os.environ, "LC_ALL": "C"}


class Warnings:
    """What vdso had to say about the commands, each line once."""

    def __init__(self) -> None:
        self._lines: dict[str, None] = {}

    def take(self, stderr: str) -> None:
        self._lines |= dict.fromkeys(line for line in stderr.splitlines() if line.startswith("vdso: "))

    def show(self) -> None:
        for line in self._lines:
            print(f"  {line}")


def first_line(command: Sequence[str], warnings: Warnings) -> str:
    try:
        done = subprocess.run(
            command, input="\n", capture_output=True, text=True, timeout=20, env=ENVIRONMENT
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"not possible here: {error}"
    warnings.take(done.stderr)
    said = done.stdout.splitlines()
    return said[0] if said else f"not possible here (exit status {done.returncode})"


def compile_static(directory: Path) -> tuple[str, str] | None:
    """(what it is, path)."""
    compiler = os.environ.get("CC", "cc")
    if shutil.which(compiler) is None:
        return None
    source = directory / "now.c"
    source.write_text(PROGRAM)
    for what, flags in (("a static C program", ["-static"]), ("a C program (no static libc here)", [])):
        out = directory / "now"
        done = subprocess.run(
            [compiler, "-O2", *flags, "-o", str(out), str(source)], capture_output=True, timeout=60
        )
        if done.returncode == 0:
            return what, str(out)
    return None


def python() -> tuple[str, list[str]]:
    return "python3 -c ...", [shutil.which("python3") or sys.executable, "-c", PYTHON]


def those_that_tell_the_time(directory: Path) -> list[tuple[str, list[str]]]:
    """(what it is, command). The last is a static program, where there is a compiler."""
    programs: list[tuple[str, list[str]]] = [("date", ["date", "+%a %b %e %H:%M:%S %Y"]), python()]
    compiled = compile_static(directory)
    if compiled is None:
        print("No C compiler here: the static binary is left out (Debian: gcc libc6-dev)\n")
    else:
        programs.append((compiled[0], [compiled[1]]))
    return programs


def started_there(programs: Sequence[tuple[str, list[str]]]) -> None:
    print(f"Unmodified programs: plain, and under vdso run --offset {OFFSET}")
    lines = [("", "plain", f"--offset {OFFSET}")]
    warnings = Warnings()
    lines += [
        (
            name,
            first_line(command, warnings),
            first_line([VDSO, "run", "--offset", OFFSET, "--", *command], warnings),
        )
        for name, command in programs
    ]
    widths = [max(len(line[i]) for line in lines) for i in range(3)]
    for line in lines:
        print("  " + "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    warnings.show()
    print()


class Driven:
    """A program that says what time it is whenever it is asked."""

    def __init__(self, command: Sequence[str]) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )

    def tell(self) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        return self.process.stdout.readline().rstrip() or "(it has ended)"


@contextmanager
def driven(command: Sequence[str]) -> Iterator[Driven]:
    program = Driven(command)
    try:
        yield program
    finally:
        with suppress(BrokenPipeError, subprocess.TimeoutExpired):
            program.process.communicate(timeout=10)
        program.process.kill()
        program.process.wait()


def adjust(*words: str, warnings: Warnings) -> bool:
    done = subprocess.run([VDSO, *words], capture_output=True, text=True, timeout=20, env=ENVIRONMENT)
    warnings.take(done.stderr)
    return done.returncode == 0


def taken_there_while_it_runs(what: str, command: Sequence[str]) -> None:
    warnings = Warnings()
    print(f"One running process, never restarted ({what})")
    with driven(command) as program:
        pid = str(program.process.pid)
        print(f"  {'as it was started':<36} {program.tell()}")
        if adjust("attach", pid, "--offset", OFFSET, warnings=warnings):
            print(f"  {'vdso attach PID --offset ' + OFFSET:<36} {program.tell()}")
            adjust("time", pid, "--at", "2038-01-19T03:14:07Z", "--freeze", warnings=warnings)
            print(f"  {'vdso time PID --at 2038... --freeze':<36} {program.tell()}")
            adjust("detach", pid, warnings=warnings)
            print(f"  {'vdso detach PID':<36} {program.tell()}")
    warnings.show()
    print()


def counted(what: str, command: Sequence[str]) -> None:
    print(f"The clock calls of a program, which no tracer sees: vdso stat ({what})")
    done = subprocess.run(
        [VDSO, "stat", "--", *command], input="\n" * 1000, capture_output=True, text=True, timeout=20
    )
    said = done.stderr.splitlines()
    for line in said[1:] if done.returncode == 0 else said:
        print(f"  {line.rstrip()}")
    print()
