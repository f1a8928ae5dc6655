"""vdso.travel() beside its peers, in one run: clock reads inside, entering and leaving, the first time.

Peers: faketime (Debian), time-machine and freezegun (PyPI); one that is not installed is left out. A ratio is
of two processes that take turns, a batch each: one that travels, and one that never did. Medians are shown.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import vdso

try:
    import time_machine
except ImportError:
    time_machine = None
try:
    import freezegun
except ImportError:
    freezegun = None

READS = 2000  # a batch; freezegun takes some milliseconds for it
WHEN = datetime(2030, 1, 1, tzinfo=UTC)
TEXT = "2030-01-01T00:00:00Z"
SLOW = ("freezegun",)


@dataclass(frozen=True, slots=True)
class Row:
    what: str
    who: str
    asked: float | None
    unit: str  # "x": against plain
    median: float
    least: float
    most: float


def row(what: str, who: str, asked: float | None, unit: str, values: list[float]) -> Row:
    return Row(what, who, asked, unit, statistics.median(values), min(values), max(values))


# ---- reading, inside ----

# Looked up by the module at each call, as programs do: some peers replace the functions and the classes.
TALKER = """
import contextlib, sys, time, datetime
{imports}
def time_time():
    for _ in range({reads}): time.time()
def datetime_now():
    for _ in range({reads}): datetime.datetime.now()
with {way}:
    for line in sys.stdin:
        began = time.perf_counter_ns()
        (time_time if "time.time" in line else datetime_now)()
        print(time.perf_counter_ns() - began, flush=True)
"""
WHAT = ("time.time()", "datetime.now()")


class Talker:
    """A process that reads clocks when it is told to."""

    def __init__(self, stack: ExitStack, way: str, imports: str = "", words: tuple[str, ...] = ()) -> None:
        program = TALKER.format(way=way, imports=imports, reads=READS)
        env = {**os.environ, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [*words, sys.executable, "-c", program], stdin=pipe, stdout=pipe, text=True, env=env
        )
        self.process = stack.enter_context(process)

    def ask(self, what: str) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def talkers(stack: ExitStack) -> dict[str, Talker]:
    when = "datetime.datetime(2030, 1, 1, tzinfo=datetime.timezone.utc)"
    over = "import vdso\nwith vdso.travel(0): pass"
    found = {
        "vdso": Talker(stack, f"vdso.travel({when})", "import vdso"),
        "vdso, rate 60": Talker(stack, f"vdso.travel({when}, rate=60)", "import vdso"),
        "vdso, frozen": Talker(stack, f"vdso.freeze({when})", "import vdso"),
        "vdso, when it is over": Talker(stack, "contextlib.nullcontext()", over),
    }
    if time_machine is not None:
        found["time-machine"] = Talker(stack, f"time_machine.travel({when})", "import time_machine")
    if freezegun is not None:
        found["freezegun"] = Talker(stack, f"freezegun.freeze_time({when}, tick=True)", "import freezegun")
    faketime = shutil.which("faketime")
    if faketime is not None:
        found["faketime"] = Talker(stack, "contextlib.nullcontext()", words=(faketime, "-f", "+1000d"))
    return found


def inside(rounds: int) -> list[Row]:
    rows = []
    with ExitStack() as stack:
        plain = Talker(stack, "contextlib.nullcontext()")
        there = talkers(stack)
        for what in WHAT:
            for who, talker in there.items():
                values = []
                for _ in range(rounds + 2):  # the first two warm up
                    turns = [plain.ask(what), talker.ask(what), talker.ask(what), plain.ask(what)]
                    values.append((turns[1] + turns[2]) / (turns[0] + turns[3]))
                rows.append(row(what, who, 1.2 if who == "vdso" else None, "x", values[2:]))
    return rows


# ---- entering and leaving ----


def pairs(rounds: int) -> list[Row]:
    found: dict[str, Callable[[], AbstractContextManager[Any]]] = {
        "vdso, datetime": lambda: vdso.travel(WHEN),
        "vdso, text": lambda: vdso.travel(TEXT),
        "vdso, frozen": lambda: vdso.freeze(1893456000.0),
    }
    if time_machine is not None:
        found["time-machine, datetime"] = lambda: time_machine.travel(WHEN)
    if freezegun is not None:
        found["freezegun, datetime"] = lambda: freezegun.freeze_time(WHEN)
    rows = []
    for who, way in found.items():
        count = 5 if who.startswith(SLOW) else 1000
        values = []
        for _ in range(rounds):
            began = time.perf_counter_ns()
            for _ in range(count):
                with way():
                    pass
            values.append((time.perf_counter_ns() - began) / count / 1000)
        rows.append(row("entering and leaving", who, 5 if who.startswith("vdso") else None, "us", values))
    return rows


# ---- once a process, and once a run ----

FIRST = """
import time
import vdso
began = time.perf_counter()
{load}
loaded = time.perf_counter()
with vdso.travel(0):
    there = time.perf_counter()
print((there - {since}) * 1000)
"""
HEAP = 'vdso.travel; heap = bytearray(1 << 30); heap[::4096] = b"1" * (1 << 18)'


def fresh(program: str) -> float:
    return float(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)


def first(rounds: int) -> list[Row]:
    ways = {
        "vdso": FIRST.format(load="", since="began"),
        "vdso, its modules imported before": FIRST.format(load="vdso.travel", since="loaded"),
        "vdso, with a heap of 1 GiB": FIRST.format(load=HEAP, since="loaded"),
    }
    return [
        row("the first time", who, 100, "ms", [fresh(program) for _ in range(rounds)])
        for who, program in ways.items()
    ]


IMPORT = """
import pytest, sys, time
began = time.perf_counter()
import vdso.pytest_plugin
print((time.perf_counter() - began) * 1000)
"""


def plugin(rounds: int) -> list[Row]:
    imports = [fresh(IMPORT) for _ in range(rounds)]
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "test_all.py").write_text(
            'import pytest\n@pytest.mark.parametrize("n", range(500))\ndef test_it(n): pass\n'
        )
        words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]

        def take(*more: str) -> float:
            began = time.perf_counter()
            subprocess.run([*words, *more], cwd=directory, check=True, capture_output=True)
            return time.perf_counter() - began

        values = []
        for _ in range(rounds):
            turns = [take("-p", "no:vdso"), take(), take(), take("-p", "no:vdso")]
            values.append((turns[1] + turns[2]) / (turns[0] + turns[3]))
    return [
        row("importing the pytest plugin", "vdso", None, "ms", imports),
        row("a run of 500 empty tests that do not travel", "vdso", None, "x", values),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    few = max(5, chosen.rounds // 4)
    with vdso.travel(0):
        pass
    rows = [
        *inside(chosen.rounds),
        *pairs(chosen.rounds),
        *first(few),
        *plugin(max(3, few // 2)),
    ]
    print(f"{'':44} {'':36} {'at most':>8} {'median':>9} {'least':>9} {'most':>9}")
    for one in rows:
        asked = f"{one.asked:g}" if one.asked is not None else ""
        figures = " ".join(f"{value:9.2f}" for value in (one.median, one.least, one.most))
        print(f"{one.what:44} {one.who:36} {asked:>8} {figures} {one.unit}")
    if chosen.json is not None:
        chosen.json.write_text(json.dumps([asdict(one) for one in rows], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
