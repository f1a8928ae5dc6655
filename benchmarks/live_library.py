"""Reading a live library from C, by a pointer that dlsym gave, beside an empty call by a pointer.

    python benchmarks/live_library.py [--json FILE]

Reader and writer are pinned to a CPU each. Fields: ns a call, the best of five long loops. Snapshots: the
median of 20,000 batches of 32; behind a writer that never pauses, the 99th percentile of 200,000 single
reads, each between two readings of the counter, whose own cost (the same around an empty call) is not taken
off. Retries are counted in the protocol's own reader, which the program contains.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from vdso import _core
from vdso.pages.publisher import publish
from vdso.pages.schema import Layout, make, scalar

HERE = Path(__file__).resolve().parent
SETTLE_S = 0.2


@dataclass(frozen=True)
class Row:
    """One line of the table; `asked` is at most. All but retries in ns."""

    name: str
    asked: float | None
    measured: float
    beside: str = ""


def layout(fields: int) -> Layout:
    return make("record", [(f"f{number}", scalar("f64")) for number in range(fields)])


def lay(directory: Path, name: str, fields: int) -> tuple[Path, int]:
    """A page with one version, its publisher gone; its file and where the page is in it."""
    with publish(name, layout(fields), directory=directory) as made:
        made.update(f0=1.0)
        path = Path(made.path)
    fd = os.open(path, os.O_RDONLY)
    try:
        return path, _core.page_find(fd)[0]
    finally:
        os.close(fd)


def measure(program: Path, path: Path, name: str, offset: int, cpu: int) -> dict[str, float]:
    words = [program, "read", path, name, "f3", str(offset), str(cpu)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return {what: float(value) for what, value in (line.split() for line in done.stdout.splitlines())}


@contextlib.contextmanager
def writer(program: Path, path: Path, offset: int, period_ns: int, cpu: int) -> Iterator[None]:
    process = subprocess.Popen([program, "write", path, str(offset), str(period_ns), str(cpu)])
    time.sleep(SETTLE_S)
    try:
        yield
    finally:
        process.kill()
        process.wait(10)


def rows(directory: Path) -> list[Row]:
    program = directory / "live_library"
    include = HERE.parent / "c" / "include"
    source = HERE / "programs" / "live_library.c"
    subprocess.run(["cc", "-O2", f"-I{include}", source, "-o", program, "-ldl"], check=True)
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        sys.exit("live_library: a reader and a writer want a CPU each")
    writing, reading = cpus[0], cpus[-1]
    small, small_at = lay(directory, "small", 8)
    large, large_at = lay(directory, "large", 512)

    idle = measure(program, small, "small", small_at, reading)
    with writer(program, small, small_at, 1_000_000, writing):
        ticking = measure(program, small, "small", small_at, reading)
    with writer(program, small, small_at, 0, writing):
        flat_out = measure(program, small, "small", small_at, reading)
    big = measure(program, large, "large", large_at, reading)
    empty, batch = idle["empty"], idle["empty_batch_p50"]
    single = flat_out["empty_single_p99"]
    return [
        Row("an empty call by a pointer", None, empty),
        Row("one field, idle writer", max(4.0, empty + 1.5), idle["field"]),
        Row("one field, 1 kHz writer", None, ticking["field"]),
        Row("one field, flat-out writer", None, flat_out["field"]),
        Row("64 bytes, idle writer", 5, idle["snapshot_batch_p50"], f"an empty call: {batch:.2f}"),
        Row("64 bytes, 1 kHz writer", 8, ticking["snapshot_batch_p50"]),
        Row("64 bytes, flat-out writer, p50", None, flat_out["snapshot_single_p50"]),
        Row(
            "64 bytes, flat-out writer, p99",
            400,
            flat_out["snapshot_single_p99"],
            f"the counter: {single:.1f}",
        ),
        Row("the same, p99 of batches of 32", None, flat_out["snapshot_batch_p99"]),
        Row("the same, retries a read", 0.5, flat_out["retries"]),
        Row("4 KiB, idle writer", 100, big["snapshot_batch_p50"]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="What reading a live library costs in C.")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures there too")
    options = parser.parse_args()
    in_memory = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None
    with tempfile.TemporaryDirectory(dir=in_memory, prefix="vdso-bench-") as name:
        found = rows(Path(name))
    for row in found:
        asked = "" if row.asked is None else f"{row.asked:g}"
        verdict = "" if row.asked is None else ("met" if row.measured <= row.asked else "MISSED")
        print(f"{row.name:34} {row.measured:10.3f}  {asked:>6}  {verdict:6} {row.beside}".rstrip())
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(row) for row in found], indent=2) + "\n")


if __name__ == "__main__":
    main()
