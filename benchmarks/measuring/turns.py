"""Rounds in turns, and the programs that take their turn by a line."""

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

PROGRAMS = Path(__file__).resolve().parents[1] / "programs"
INCLUDE = Path(__file__).resolve().parents[2] / "c" / "include"


class Talker:
    """A program that is asked for a batch by a line and answers with a number."""

    def __init__(self, command: Sequence[str], env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )

    def ask(self, line: str) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"bench: {self.process.args!r} ended with status {self.process.wait(10)}")
        return float(answer)

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


def compile_program(name: str, directory: Path, *flags: str) -> str | None:
    """The built program's path, None where it cannot be linked so (no static libc, say)."""
    out = directory / f"{name}{''.join(flags)}"
    source = str(PROGRAMS / f"{name}.c")
    command = [os.environ.get("CC", "cc"), "-O2", f"-I{INCLUDE}", "-o", str(out), source, *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    return str(out) if done.returncode == 0 else None


def in_turns(
    one: Callable[[], float], other: Callable[[], float], rounds: int
) -> tuple[list[float], list[float]]:
    """(one's, other's) per round, each the mean of two batches in the order one, other, other, one."""
    for batch in (one, other):
        batch()
    first, second = [], []
    for _ in range(rounds):
        a, b, c, d = one(), other(), other(), one()
        first.append((a + d) / 2)
        second.append((b + c) / 2)
    return first, second


def ratios(one: Callable[[], float], other: Callable[[], float], rounds: int) -> list[float]:
    first, second = in_turns(one, other, rounds)
    return [b / a for a, b in zip(first, second, strict=True)]
