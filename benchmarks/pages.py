"""What reading and publishing a live page costs, beside what one would use instead: `make bench`.

Everything takes its turn in every round, forwards in one and backwards in the next, on one pinned CPU, so
that a ratio compares what the machine did at about the same time; writers have a CPU of their own and stand
still while what is idle is measured. A read's ns include the loop around it. Prints a table, writes
everything as JSON and draws docs/pictures/pages.svg where it is told to.

With iceoryx2 among the peers, its /dev/shm/iox2_*.global_mgmt stays behind.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import timeit
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

from measuring.live import Figures, c_pages, c_round, flat_out_round, only_flat_out
from measuring.peers import BEGIN, FIELDS, RECORD, CQuote, Peer, Quote, all_peers, attributes
from measuring.table import Row, machine, percentile, save, table
from measuring.turns import compile_program

import vdso
from vdso.pages import schema

BATCH_NS = 1_000_000  # what a contestant gets each round
BLOCK = 200  # wake-ups
QUICKEST = 10  # percent
WHAT = {
    "field": "one field",
    "lazy": "8 fields, not yet Python's",
    "whole": "8 fields, a tuple",
    "update": "update of two fields",
}


# ---- statements ----


@dataclass(frozen=True)
class Contestant:
    """A statement in a loop, and how often it goes round in a batch."""

    timer: timeit.Timer
    count: int

    def ns(self) -> float:
        return self.timer.timeit(self.count) / self.count * 1e9


def contestant(statement: str, names: dict[str, Any]) -> Contestant:
    """Its names are local variables, as they would be in somebody's function."""
    setup = "\n".join(f"{name} = names[{name!r}]" for name in names)
    timer = timeit.Timer(statement, setup, globals={"names": names})
    count, spent = 100, timer.timeit(100)
    while spent < BATCH_NS / 20 / 1e9:
        count *= 2
        spent = timer.timeit(count)
    return Contestant(timer, max(10, round(count * BATCH_NS / 1e9 / spent)))


# ---- waking, opening, tearing ----

# Its own program: it waits, answers with the ns that each version took to reach it, and waits again.
WAITER = """
import os, sys, time
import vdso

way, directory = sys.argv[1:]
page = vdso.open("waking", directory=directory)
seen = page.version
print("ready", flush=True)
while True:
    if way == "pipe":
        stamp = int.from_bytes(os.read(0, 8), "little")
    else:
        page.wait(seen)
        record = page.snapshot()
        seen, stamp = record.version, record.stamp
    now = time.monotonic_ns()
    if not stamp:
        break
    print(now - stamp, flush=True)
"""


def waking(directory: Path, count: int) -> dict[str, list[float]]:
    """us from a publisher's update() to its reader having the record in hand; by a pipe, for comparison.

    The two take turns. Each time the reader has had half a millisecond to fall asleep again.
    """
    stamp = schema.make("record", [("stamp", schema.scalar("i64"))])
    pipe = subprocess.PIPE
    found: dict[str, list[float]] = {"page": [], "pipe": []}
    with (
        ExitStack() as stack,
        vdso.publish("waking", stamp, initial={"stamp": 1}, directory=directory) as publisher,
    ):
        waiters = {}
        for way in found:
            words = [sys.executable, "-c", WAITER, way, directory]
            waiter = stack.enter_context(subprocess.Popen(words, stdin=pipe, stdout=pipe))
            assert waiter.stdin is not None
            assert waiter.stdout is not None
            waiter.stdout.readline()
            waiters[way] = waiter.stdin.fileno(), waiter.stdout
        for turn in range(count + 1):
            for way, (written, answers) in waiters.items():
                time.sleep(0.0005)
                now = time.monotonic_ns() if turn < count else 0
                if way == "page":
                    publisher.update(stamp=now)
                else:
                    os.write(written, now.to_bytes(8, "little"))
                if now:
                    found[way].append(int(answers.readline()) / 1e3)
    return found


def opening(directory: Path, count: int) -> dict[str, list[float]]:
    """us to open and close what is there."""
    found: dict[str, list[float]] = {"page": [], "shared_memory": []}
    memory = shared_memory.SharedMemory(create=True, size=64)
    with vdso.publish("opening", Quote, initial=BEGIN, directory=directory):
        for turn in range(count + 10):
            start = time.perf_counter_ns()
            vdso.open("opening", directory=directory).close()
            middle = time.perf_counter_ns()
            other = shared_memory.SharedMemory(memory.name)
            other.close()
            end = time.perf_counter_ns()
            if turn >= 10:
                found["page"].append((middle - start) / 1e3)
                found["shared_memory"].append((end - middle) / 1e3)
    memory.close()
    memory.unlink()
    return found


def torn(program: str, writing: int, count: int) -> dict[str, float]:
    """The share, in %, of 8-field reads that mix two records where nothing guards them: a writer in C that
    never pauses makes all eight fields equal, again and again.
    """
    memory = shared_memory.SharedMemory(create=True, size=RECORD.size)
    writer = subprocess.Popen([program, "bare", f"/dev/shm/{memory.name}", str(writing)])
    found = {}
    try:
        names: dict[str, Any] = {
            "record": CQuote.from_buffer(memory.buf),
            "unpack": RECORD.unpack_from,
            "memory": memory.buf,
        }
        ways = {"shared_memory and struct": "unpack(memory)", "ctypes over mmap": attributes("record")}
        with contextlib.suppress(ImportError):
            import numpy

            names["array"] = numpy.ndarray((), [(name, "f8") for name in FIELDS], memory.buf)
            ways["numpy in shared_memory"] = "array.item()"
        time.sleep(0.05)
        for way, statement in ways.items():
            read = eval(f"lambda: {statement}", names)
            found[way] = 100 * sum(len(set(read())) > 1 for _ in range(count)) / count
            del read
        names.clear()
    finally:
        writer.kill()
        writer.wait(10)
        memory.close()
        memory.unlink()
    return found


# ---- rows ----


def tails(values: list[float]) -> list[float]:
    """The 99th percentile of each block: a burst of something else spoils one of them."""
    return [percentile(values[at : at + BLOCK], 99) for at in range(0, len(values) - BLOCK + 1, BLOCK)]


def ratio(ours: list[float], theirs: list[float]) -> list[float]:
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def rows_of(peers: list[Peer], figures: Figures, extra: dict[str, list[float]]) -> list[Row]:
    """The rows that were asked for first, as medians; then each peer's own figures, ours too, by which the
    picture goes. Those are the quickest tenth of the rounds: on a machine that does other things a server's
    median says how long it waits for a CPU.
    """

    def ours(what: str) -> list[float]:
        return figures["vdso", what]

    def c(name: str, asked: float | None, what: str, unit: str = "ns", percent: int = 50) -> Row:
        return Row(name, asked, unit, figures["c", what], percent)

    empty = Row("", None, "ns", figures["c", "empty"]).measured
    rows = [
        Row("one field, Python, the loop included", 30, "ns", ours("field")),
        Row("8-field snapshot, lazy", 35, "ns", ours("lazy")),
        Row("8-field snapshot, as a tuple", 140, "ns", ours("whole")),
    ]
    asked = [
        ("multiprocessing.Value(lock=False)", "field", 0.8),
        ("iceoryx2 blackboard", "lazy", 1 / 20),
        ("iceoryx2 blackboard", "whole", 1 / 20),
        ("LMDB, held transaction", "lazy", 1 / 2),
        ("LMDB, held transaction", "whole", 1 / 2),
    ]
    for peer, what, limit in asked:
        if (peer, what) in figures:
            values = ratio(ours(what), figures[peer, what])
            rows.append(Row(f"{WHAT[what]}, against {peer}", limit, "x", values))
    rows += [
        c("one field, C, idle writer", max(4.0, empty + 1.5), "field"),
        c("  beside it: an empty call by a pointer", None, "empty"),
        c("64-byte snapshot, C, idle writer", 5, "64 bytes idle"),
        c("64-byte snapshot, C, 1 kHz writer", 8, "64 bytes 1 kHz"),
        c("  beside it: p99 of the batches", None, "64 bytes 1 kHz p99"),
        c("  beside it: an unguarded copy", None, "unguarded"),
        c("64-byte snapshot, C, flat-out writer, p99", 400, "flat p99"),
        c("  beside it: p50", None, "flat p50"),
        c("  beside it: the clock around an empty call, p99", None, "flat empty p99"),
        c("  beside it: batches of 32", None, "flat batch"),
        c("  retries a read", 0.5, "retries", ""),
        c("  beside it: versions a us", None, "versions", ""),
        c("4 KiB record, C, idle writer", 100, "4 KiB"),
        c("  beside it: an unguarded copy", None, "4 KiB unguarded"),
        Row("update of two fields, Python, notify off", 120, "ns", ours("update")),
        Row("update of two fields, Python, notify on, nobody waits", 550, "ns", ours("notify")),
        Row("publisher to waiting reader, p50", 60, "us", extra["page"], 50),
        Row(f"publisher to waiting reader, p99 of each {BLOCK}", 200, "us", tails(extra["page"])),
        Row("  beside it: p99 of all", None, "us", extra["page"], 99),
        Row("  beside it: by a pipe, p50", None, "us", extra["pipe"], 50),
        Row(f"  beside it: by a pipe, p99 of each {BLOCK}", None, "us", tails(extra["pipe"])),
        Row("open", 60, "us", extra["open"]),
        Row("  beside it: SharedMemory(name)", None, "us", extra["open shared_memory"]),
        Row("8-field snapshot, as a tuple, behind a flat-out writer", None, "ns", ours("flat")),
    ]
    for what, title in WHAT.items():
        rows += [
            Row(f"{title}: {peer.name}", None, "ns", figures[peer.name, what], QUICKEST)
            for peer in peers
            if (peer.name, what) in figures
        ]
    return rows


def measure(rounds: int, directory: Path) -> tuple[list[Row], dict[str, Any]]:
    """Rows, and what the JSON has besides: who guards its records by what, who is missing, % torn."""
    everywhere = os.sched_getaffinity(0)
    writing, reading = min(everywhere), max(everywhere)
    if writing == reading:
        raise SystemExit("bench: a reader and a writer want a CPU each")
    program = compile_program("page_reads", directory, "-ldl")
    if program is None:
        raise SystemExit("bench: no C compiler that works (Debian: gcc libc6-dev)")
    figures: Figures = {}
    with (
        all_peers(directory) as (peers, missing),
        c_pages(program, directory, writing, reading) as pages,
        vdso.publish("notify", Quote, initial=BEGIN, directory=directory) as notifying,
    ):
        pages.flat_writer.send_signal(signal.SIGSTOP)
        os.sched_setaffinity(0, {reading})
        contestants = {
            (peer.name, what): contestant(statement, peer.names)
            for peer in peers
            for what, statement in peer.statements().items()
        }
        names = {"publisher": notifying, "a": 1.0, "b": 2.0}
        contestants["vdso", "notify"] = contestant("publisher.update(bid=a, ask=b)", names)
        behind = contestant("page.snapshot().astuple()", {"page": pages.flat_page})
        for turn in range(rounds):
            order = list(contestants.items())
            for key, one in order if turn % 2 else reversed(order):
                figures.setdefault(key, []).append(one.ns())
            c_round(pages, figures)
            flat_out_round(pages, behind.ns, figures)
        os.sched_setaffinity(0, everywhere)
        only_flat_out(figures)
        extra = waking(directory, max(BLOCK, 10 * rounds))
        opened = opening(directory, 5 * rounds)
        extra |= {"open": opened["page"], "open shared_memory": opened["shared_memory"]}
        more = {
            "guards": {peer.name: peer.guard for peer in peers},
            "missing": missing,
            "torn_percent": torn(program, writing, 100 * rounds),
        }
        return rows_of(peers, figures, extra), more


def main() -> int:
    parser = argparse.ArgumentParser(prog="pages.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--out", type=Path, default=Path("build/pages.json"), help="where the JSON goes (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=200, help="of each figure (%(default)s)")
    parser.add_argument("--picture", type=Path, help="draws the figures as SVG, for light and dark")
    options = parser.parse_args()

    where = machine()
    print("  ".join(f"{name} {value}" for name, value in where.items()), flush=True)
    # In memory, and where code may be loaded from.
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="vdso-bench-", dir=place) as name:
        rows, more = measure(options.rounds, Path(name))
    print(f"\n{table(rows)}\n")
    for line in more["missing"]:
        print(line)
    print("8-field reads that nothing guards, torn behind a flat-out writer")
    for way, percent in more["torn_percent"].items():
        print(f"  {way:<26} {percent:5.1f} %")
    save(options.out, where, rows, **more)
    if options.picture is not None:
        from measuring.picture import draw

        options.picture.parent.mkdir(parents=True, exist_ok=True)
        options.picture.write_text(draw(json.loads(options.out.read_text())))
        print(options.picture)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
