"""What counting clock calls costs the program that is counted: `python benchmarks/stat.py`.

The same program plain and counted, both alive and taking turns, in one run.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import TRUE, VDSO, Row, Talker, compile_program, machine, table, whole_ms
from measuring.turns import in_turns

from vdso import _core
from vdso.errors import VdsoError
from vdso.measure.counting import OfProcess
from vdso.measure.machine import choose_cpu

STAT = [*VDSO, "stat", "-o", "/dev/null"]
READS = 20_000
RAW_READS = 2000
CLOCKS = {"MONOTONIC": (time.CLOCK_MONOTONIC, 8.0), "MONOTONIC_COARSE": (6, 8.0)}
WORK = 100  # steps of some arithmetic between two reads: some 30 ns


def beyond(one: Callable[[], float], other: Callable[[], float], rounds: int) -> list[float]:
    first, second = in_turns(one, other, rounds)
    return [b - a for a, b in zip(first, second, strict=True)]


def asking(talker: Talker, line: str, count: int) -> Callable[[], float]:
    return lambda: talker.ask(line) / count


def counted(program: str, kind: str, cpu: int, rounds: int) -> list[Row]:
    """A read in a tight loop, and with work in between: from its exec on, and with samples taken."""
    words = [program, str(cpu)]
    rows = []
    for how, options in (("counted", []), ("with --sites", ["--sites"])):
        plain, ours = Talker(words), Talker([*STAT, *options, "--", *words])
        for name, (clock, asked) in CLOCKS.items():
            line = f"{clock} {READS}"
            values = beyond(asking(plain, line, READS), asking(ours, line, READS), rounds)
            rows.append(
                Row(
                    f"{name} {how}, {kind} program, beyond plain",
                    asked if not options else None,
                    "ns",
                    values,
                )
            )
        if not options:
            line = f"{time.CLOCK_MONOTONIC} {READS} {WORK}"
            values = beyond(asking(plain, line, READS), asking(ours, line, READS), rounds)
            rows.append(
                Row(f"  the same, with {WORK} steps of arithmetic between two reads", 8.0, "ns", values)
            )
        plain.close()
        ours.close()
    return rows


def in_running(program: str, cpu: int, rounds: int) -> list[Row]:
    """The same in a process that ran already, and what its own system calls take while it is looked at."""
    words = [program, str(cpu)]
    plain, ours = Talker(words), Talker(words)
    counting = OfProcess(ours.process.pid)
    counting.start()
    line = f"{time.CLOCK_MONOTONIC} {READS}"
    rows = [
        Row(
            "MONOTONIC counted by -p, beyond plain",
            8.0,
            "ns",
            beyond(asking(plain, line, READS), asking(ours, line, READS), rounds),
        )
    ]
    counting.stop()
    plain.close()
    ours.close()
    return rows


def raw_calls(program: str, cpu: int, rounds: int) -> list[Row]:
    """A system call past the vDSO: notified, under COMMAND; at a tracepoint, with -p."""
    words = [program, str(cpu)]
    line = f"raw {RAW_READS}"
    plain, ours = Talker(words), Talker([*STAT, "--", *words])
    rows = [
        Row(
            "a raw clock_gettime, counted from its start, beyond plain",
            None,
            "us",
            [
                value / 1e3
                for value in beyond(asking(plain, line, RAW_READS), asking(ours, line, RAW_READS), rounds)
            ],
        )
    ]
    ours.close()
    values = []
    try:
        _core.tracepoint_find("clock_gettime")
        for _ in range(min(rounds, 10)):
            before = plain.ask(line) / RAW_READS
            counting = OfProcess(plain.process.pid)
            counting.start()
            values.append(plain.ask(line) / RAW_READS - before)
            counting.stop()
    except (OSError, VdsoError) as error:
        print(f"no tracepoints: {error}", file=sys.stderr)
    plain.close()
    return rows + ([Row("  counted by -p, at a tracepoint", None, "ns", values)] if values else [])


def execs(program: str, rounds: int, each: int = 20) -> list[Row]:
    plain, ours = Talker([program, TRUE]), Talker([*STAT, "--", program, TRUE])

    def batch(talker: Talker) -> Callable[[], float]:
        return lambda: talker.ask(str(each)) / each / 1e3

    values = beyond(batch(plain), batch(ours), rounds)
    plain.close()
    ours.close()
    return [Row("each counted exec, beyond the plain one", None, "us", values)]


def start_up(times: int) -> list[Row]:
    command = [str(Path(sys.executable).with_name("vdso")), "stat", "-o", "/dev/null", "--", TRUE]
    return [Row("vdso stat -- true, whole", None, "ms", [whole_ms(command) for _ in range(times)])]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args(arguments).rounds
    print("  ".join(f"{name} {value}" for name, value in machine().items()))
    cpu = choose_cpu(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        rows: list[Row] = []
        for kind, flags in (("dynamic", []), ("static", ["-static"])):
            program = compile_program("clock", directory, *flags)
            if program is not None:
                rows += counted(program, kind, cpu, rounds)
        program = compile_program("clock", directory)
        spawner = compile_program("execs", directory)
        assert program is not None
        assert spawner is not None
        rows += in_running(program, cpu, rounds)
        rows += raw_calls(program, cpu, rounds)
        rows += execs(spawner, max(3, rounds // 4))
        rows += start_up(max(3, rounds // 6))
    print(table(rows))


if __name__ == "__main__":
    main()
