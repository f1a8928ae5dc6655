"""What attaching to a running process costs it: `python benchmarks/attach.py`.

For how long it stands still, with 8 threads that wait or read the clock flat out, and what a read costs an
attached process against a plain one, by rounds in turns.
"""

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path

from bench import THOUSAND_DAYS_S, VDSO, Row, Talker, compile_program, machine, table

from vdso.swap.attach import attach, clock_page, detach

THREADS = 8
READS = 20_000


def stand_still(program: Path, what: str, asked_ms: float, rounds: int) -> list[Row]:
    """Attach, attach again (pages and all are there) and detach, in ms of standing still."""
    first: list[float] = []
    again: list[float] = []
    back: list[float] = []
    for _ in range(rounds):
        with subprocess.Popen(
            [program, str(THREADS), what], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdout.readline()
            page = clock_page(THOUSAND_DAYS_S * 10**9)
            for values in (first, again, again):
                values.append(attach(process.pid, page.reader_fd, timeout_s=20).stood_ns / 1e6)
                back.append(detach(process.pid, timeout_s=20).stood_ns / 1e6)
            process.stdin.close()
    return [
        Row(f"{THREADS} threads, {what}: attach", asked_ms, "ms", first),
        Row(f"{THREADS} threads, {what}: attach again", None, "ms", again),
        Row(f"{THREADS} threads, {what}: detach", None, "ms", back),
    ]


def reading(program: Path, rounds: int) -> list[Row]:
    """A read of REALTIME and of MONOTONIC, attached and under `vdso run`, against plain."""
    words = [str(program), str(max(os.sched_getaffinity(0)))]
    plain, attached = Talker(words), Talker(words)
    run = Talker([*VDSO, "run", "--offset", "+1000d", "--", *words])
    page = clock_page(THOUSAND_DAYS_S * 10**9)
    attach(attached.process.pid, page.reader_fd, timeout_s=20)
    rows = []
    for name, clock, asked in (
        ("REALTIME", time.CLOCK_REALTIME, 1.20),
        ("MONOTONIC", time.CLOCK_MONOTONIC, 1.10),
    ):
        values: dict[str, list[float]] = {"attached": [], "run": []}
        for _ in range(rounds):
            line = f"{clock} {READS}"
            turns = (plain, attached, run, run, attached, plain)
            a, b, c, d, e, f = (talker.ask(line) for talker in turns)
            values["attached"].append((b + e) / (a + f))
            values["run"].append((c + d) / (a + f))
        rows.append(Row(f"a read of {name}, attached / plain", asked, "x", values["attached"]))
        rows.append(Row(f"a read of {name}, under vdso run / plain", None, "x", values["run"]))
    for talker in (plain, attached, run):
        talker.process.kill()
        talker.process.communicate()
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="attach.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=40, help="processes of each kind (%(default)s)")
    options = parser.parse_args()
    print("  ".join(f"{name} {value}" for name, value in machine().items()))
    with tempfile.TemporaryDirectory(prefix="vdso-bench-") as name:
        threads, clock = (compile_program(program, Path(name)) for program in ("threads", "clock"))
        if threads is None or clock is None:
            raise SystemExit("attach.py: no C compiler that works (Debian: gcc libc6-dev)")
        rows = stand_still(threads, "idle", 1, options.rounds)
        rows += stand_still(threads, "busy", 4, options.rounds)
        rows += reading(clock, 100)
    print(f"\n{table(rows)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
