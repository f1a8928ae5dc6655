"""What reading and publishing records costs, beside multiprocessing.Value: `python benchmarks/pages.py`.

Each figure is a loop's, the loop included, and the best of many short runs: what others do on the machine
only ever adds. Where two are compared, their runs are taken in turns. Prints a table, and JSON with --json.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import vdso

RUNS = 400
READS = 3000


@vdso.page
class Eight:
    a: float
    b: float
    c: int
    d: int
    e: vdso.U32
    f: vdso.F32
    g: bool
    h: vdso.U8


@vdso.page
class Large:
    data: vdso.Array[vdso.F64, 512]


@dataclass(frozen=True, slots=True)
class Row:
    """One line: `asked` is the most that is allowed, None where nothing is."""

    name: str
    measured: float
    asked: float | None
    unit: str = "ns"

    @property
    def met(self) -> bool | None:
        return None if self.asked is None else self.measured <= self.asked


def loop(statement: str, **names: Any) -> Callable[[], float]:
    """ns a turn of one short run."""
    arguments = ", ".join(names)
    source = (
        f"def run(count, clock, {arguments}):\n start = clock()\n for _ in range(count):\n  {statement}\n"
    )
    where: dict[str, Any] = {}
    exec(source + " return (clock() - start) / count\n", where)
    return lambda: where["run"](READS, time.perf_counter_ns, *names.values())


def best(*runs: Callable[[], float], count: int = RUNS) -> list[float]:
    found = [float("inf")] * len(runs)
    for _ in range(count):
        for index, run in enumerate(runs):
            found[index] = min(found[index], run())
    return found


def reading(where: str) -> list[Row]:
    publisher = vdso.publish("eight", Eight, directory=where, initial=Eight(1.0, 2.0, 3, 4, 5, 6.0, True, 8))
    large = vdso.publish("large", Large, directory=where, initial=Large([1.0] * 512))
    eight, more = vdso.open("eight", directory=where), vdso.open("large", directory=where)
    value = multiprocessing.Value("d", 1.0, lock=False)
    values = [multiprocessing.Value("d", 1.0, lock=False) for _ in range(8)]
    plain, field, theirs, lazy, whole, eights, large_lazy, array = best(
        loop("pass"),
        loop("reader.a", reader=eight),
        loop("value.value", value=value),
        loop("reader.snapshot()", reader=eight),
        loop("reader.snapshot().astuple()", reader=eight),
        loop("[value.value for value in values]", values=values),
        loop("reader.snapshot()", reader=more),
        loop("reader.data", reader=more),
    )
    (opened,) = best(loop("vopen('eight', directory=where).close()", vopen=vdso.open, where=where), count=3)
    publisher.close()
    large.close()
    return [
        Row("an empty loop", plain, None),
        Row("one field", field, 30),
        Row("multiprocessing.Value(lock=False)", theirs, None),
        Row("one field / multiprocessing.Value", field / theirs, 0.8, "x"),
        Row("a snapshot of 8 fields", lazy, 35),
        Row("the same as a tuple", whole, 140),
        Row("8 multiprocessing.Values", eights, None),
        Row("a snapshot of 4 KiB", large_lazy, None),
        Row("an array of 4 KiB", array, None),
        Row("open", opened / 1000, 60, "us"),
    ]


def publishing(where: str) -> list[Row]:
    rows = []
    for notify, asked in ((False, 120), (True, 550)):
        name = "notifies" if notify else "silent"
        with vdso.publish(name, Eight, directory=where, notify=notify) as publisher:
            (found,) = best(loop("update(a=1.5, b=2.5)", update=publisher.update), count=RUNS // 4)
        rows.append(Row(f"update of two fields, {'nobody waits' if notify else 'notify off'}", found, asked))
    return rows


@vdso.page
class Stamp:
    at_ns: int


def waking(where: str, count: int = 2000) -> list[Row]:
    """From before the update to after the wait, in two processes, by the clock that both have."""
    with vdso.publish("stamp", Stamp, directory=where, initial=Stamp(0)) as publisher:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            reader = vdso.open("stamp", directory=where)
            late = []
            seen = reader.version
            os.write(writing, b"!")
            while len(late) < count:
                reader.wait(seen)
                now = time.monotonic_ns()
                snapshot = reader.snapshot()
                seen = snapshot.version
                late.append((now - snapshot.at_ns) / 1000)
            os.write(writing, json.dumps([percentile(late, 50), percentile(late, 99)]).encode())
            os._exit(0)
        os.read(reading, 1)
        for _ in range(count):
            time.sleep(0.0005)
            publisher.update(at_ns=time.monotonic_ns())
        # What was missed at the beginning, if anything.
        os.set_blocking(reading, False)
        while os.waitpid(pid, os.WNOHANG)[0] == 0:
            publisher.update(at_ns=time.monotonic_ns())
            time.sleep(0.001)
        middle, tail = json.loads(os.read(reading, 4096))
        os.close(reading)
        os.close(writing)
    return [Row("publisher to waiting reader, p50", middle, 60, "us"), Row("the same, p99", tail, 200, "us")]


def percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as where:
        rows = [*reading(where), *publishing(where), *waking(where)]
    if options.json:
        print(json.dumps([{**asdict(row), "met": row.met} for row in rows], indent=2))
        return 0
    for row in rows:
        asked = "" if row.asked is None else f"at most {row.asked:g}"
        missed = "NOT MET" if row.met is False else ""
        print(f"{row.name:<40} {row.measured:10.2f} {row.unit:<3} {asked:<12} {missed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
