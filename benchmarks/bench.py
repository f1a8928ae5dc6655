"""What the project promises of its speed, measured on this machine: `make bench`.

Every ratio is taken in one run, by rounds in turns (plain, ours, ours, plain), pinned to one CPU and warmed:
machines differ and change their minds, and the two sides of a round do so together. Prints a table and writes
everything as JSON.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from measuring.table import Row, machine, save, table
from measuring.turns import Talker, compile_program, in_turns, ratios

from vdso import _core
from vdso.measure import bench as measure_bench
from vdso.measure.machine import choose_cpu
from vdso.swap.run import IMAGE, start_keeper

VDSO = [sys.executable, "-m", "vdso"]
CLOCKS = {"REALTIME": time.CLOCK_REALTIME, "MONOTONIC": time.CLOCK_MONOTONIC}
THOUSAND_DAYS_S = 86_400_000
TRUE = shutil.which("true") or "/bin/true"
READS = 20_000  # a batch: half a millisecond


# ---- the clocks ----


class Local:
    """The image, in this process, on a page of its own."""

    def __init__(self, offset_s: int = 0, *, counter: bool = False) -> None:
        self.page = _core.ClockPage.create("vdso-clock")
        self.life_fd = -1
        if counter:
            self.life_fd = start_keeper(self.page, offset_s, 0)
        elif offset_s:
            self.page.set_offset(offset_s, 0)
        else:
            self.page.set_identity()
        image_fd = os.open(IMAGE, os.O_RDONLY)
        self.image = _core.LocalImage(image_fd, self.page.reader_fd)
        os.close(image_fd)

    @property
    def function(self) -> int:
        return self.image.functions["clock_gettime"]

    @property
    def kernel(self) -> int:
        return self.image.kernel["clock_gettime"]


def reading(route: int, clock: int = 0, function: int = 0) -> Callable[[], float]:
    return lambda: _core.route_ns(route, READS, function, clock) / READS


def asking(talker: Talker, clock: int) -> Callable[[], float]:
    return lambda: talker.ask(f"{clock} {READS}") / READS


def in_programs(programs: dict[str, str], cpu: int, rounds: int) -> list[Row]:
    """The same program plain and under `vdso run`, both alive and taking turns."""
    ways = [
        ("under vdso run", [], 1.10, ("REALTIME", "MONOTONIC")),
        ("with an offset", ["--offset", "+1000d"], 1.20, ("REALTIME",)),
        ("at a rate", ["--offset", "+1000d", "--rate", "1000"], 1.45, ("REALTIME",)),
        ("in tsc mode", ["--clock", "tsc"], 1.00, ("REALTIME", "MONOTONIC")),
    ]
    rows = []
    for way, options, asked, clocks in ways:
        for kind, program in programs.items():
            plain = Talker([program, str(cpu)])
            ours = Talker([*VDSO, "run", *options, "--", program, str(cpu)])
            for name in clocks:
                values = ratios(asking(plain, CLOCKS[name]), asking(ours, CLOCKS[name]), rounds)
                rows.append(Row(f"{name} {way}, {kind} program", asked, "x", values))
            plain.close()
            ours.close()
    return rows


def in_process(local: dict[str, Local], rounds: int) -> list[Row]:
    """The image beside the kernel's vDSO in this very process, by a function pointer each."""
    rows = []
    for name, clock in CLOCKS.items():
        kernel = reading(_core.ROUTE_FUNCTION, clock, local["kernel"].kernel)

        def ours(mode: str, clock: int = clock) -> Callable[[], float]:
            return reading(_core.ROUTE_FUNCTION, clock, local[mode].function)

        rows.append(Row(f"{name}, in this process", 1.10, "x", ratios(kernel, ours("kernel"), rounds)))
        if clock == time.CLOCK_REALTIME:
            values = ratios(kernel, ours("offset"), rounds)
            rows.append(Row(f"{name} with an offset, in this process", 1.20, "x", values))
        rows.append(
            Row(f"{name} in tsc mode, in this process", 1.00, "x", ratios(kernel, ours("tsc"), rounds))
        )
        counter = reading(_core.ROUTE_RDTSCP)
        values = ratios(counter, ours("tsc"), rounds)
        rows.append(Row(f"{name} in tsc mode, against a bare rdtscp", 1.20, "x", values))
    return rows


def errors(tsc: Local, batches: int) -> list[Row]:
    """How far tsc mode is from the kernel's clock, over some seconds of the keeper's ticks."""
    rows = []
    for name, clock in CLOCKS.items():
        bracket: list[float] = []
        counted: list[float] = []
        for _ in range(batches):
            samples = _core.route_compare(tsc.kernel, tsc.function, clock, 5000)
            first, last = samples[0], samples[-1]
            ns_per_count = (last[1] - first[1]) / (last[0] - first[0])
            usual = [min(s[2] - s[0] for s in samples), min(s[4] - s[2] for s in samples)]
            for before, theirs, between, ours, after, again in samples:
                bracket.append(
                    abs(2 * ours - theirs - again) / 2
                )  # in integers: a float of REALTIME steps by 256 ns
                # An interrupt in between says nothing about the clock.
                if between - before < 1.5 * usual[0] and after - between < 1.5 * usual[1]:
                    apart = (after - before) / 2 * ns_per_count
                    counted.append(abs(ours - theirs - apart))
            time.sleep(0.1)
        for percent in (50, 99):
            asked = 200 if percent == 99 else None
            rows.append(
                Row(f"tsc mode's error, {name}, p{percent}, by counter", asked, "ns", counted, percent)
            )
        rows.append(Row(f"tsc mode's error, {name}, p99, kernel-ours-kernel", 200, "ns", bracket, 99))
    return rows


# ---- sessions ----


def adjustments(rounds: int) -> list[Row]:
    """From the beginning of an adjustment, as `vdso time` makes it, until a reader of the page sees it."""
    local = Local(1)
    steps, rates = [], []
    for turn in range(rounds):
        time.sleep(0.02)  # past the coarse clocks' tick, which a rate's own change would wait for
        start = time.monotonic_ns()
        local.page.adjust(_core.TIME_OFFSET, turn % 2, 0, _core.RATE_SET, 1 << 32)
        published = time.monotonic_ns()
        # The next read: how many it takes until one sees it, in time.
        while abs(ahead_ns(local) - turn % 2 * 10**9) > 10**8:
            pass
        steps.append((time.monotonic_ns() - published) / 1e3)
        start = time.monotonic_ns()
        local.page.adjust(_core.TIME_KEEP, 0, 0, _core.RATE_SET, 1000 << 32)
        while ahead_ns(local) - turn % 2 * 10**9 < 10**6:
            pass
        rates.append((time.monotonic_ns() - start) / 1e6)
    return [
        Row("a step, published, until a read sees it", None, "us", steps),
        Row("a change of rate until a read sees it, p95", 5, "ms", rates, 95),
    ]


def ahead_ns(local: Local) -> int:
    return local.image.clock_ns(time.CLOCK_REALTIME) - time.clock_gettime_ns(time.CLOCK_REALTIME)


def deadlines(rounds: int) -> list[Row]:
    """A wait to a time that has passed, plain and translated; a system call, plain and answered."""
    script = (
        "import ctypes, sys, time; l = ctypes.CDLL(None); s = (ctypes.c_long * 8)(); l.sem_init(s, 0, 0)\n"
        "t = (ctypes.c_long * 2)(1, 0)\n"
        "for line in sys.stdin:\n"
        "    a = time.monotonic_ns()\n"
        "    for _ in range(100): l.sem_timedwait(s, t)\n"
        "    print(time.monotonic_ns() - a, flush=True)"
    )
    raw = (
        "import ctypes, sys, time; l = ctypes.CDLL(None); t = (ctypes.c_long * 2)(0, 0)\n"
        "for line in sys.stdin:\n"
        "    a = time.monotonic_ns()\n"
        "    for _ in range(100): l.syscall(228, 0, t)\n"
        "    print(time.monotonic_ns() - a, flush=True)"
    )
    rows = []
    for name, program, options in (
        ("a translated wait, beyond a plain one", script, ["--offset", "+1000d"]),
        ("a raw clock_gettime under --strict, beyond a plain one", raw, ["--offset", "+1000d", "--strict"]),
    ):
        words = [sys.executable, "-u", "-c", program]
        plain, ours = Talker(words), Talker([*VDSO, "run", *options, "--", *words])
        first, second = in_turns(lambda p=plain: p.ask("") / 1e5, lambda o=ours: o.ask("") / 1e5, rounds)
        plain.close()
        ours.close()
        rows.append(Row(name, None, "us", [b - a for a, b in zip(first, second, strict=True)]))
    return rows


# ---- whole programs ----


def whole_ms(command: Sequence[str]) -> float:
    start = time.monotonic_ns()
    subprocess.run(command, check=True)
    return (time.monotonic_ns() - start) / 1e6


def start_up(times: int) -> list[Row]:
    commands: list[tuple[str, float | None, list[str]]] = [
        ("vdso run -- true, whole", 45, [str(Path(sys.executable).with_name("vdso")), "run", "--", TRUE]),
        ("  beside it: true", None, [TRUE]),
        ("  beside it: python -c pass", None, [sys.executable, "-c", "pass"]),
    ]
    values: dict[str, list[float]] = {name: [] for name, _, _ in commands}
    for turn in range(times + 1):
        for name, _, command in commands:
            spent = whole_ms(command)
            if turn:  # the first warms the caches
                values[name].append(spent)
    return [Row(name, asked, "ms", values[name]) for name, asked, _ in commands]


def execs(program: str, rounds: int, each: int = 20) -> list[Row]:
    plain, ours = Talker([program, TRUE]), Talker([*VDSO, "run", "--", program, TRUE])

    def batch(talker: Talker) -> Callable[[], float]:
        return lambda: talker.ask(str(each)) / each / 1e3

    first, second = in_turns(batch(plain), batch(ours), rounds)
    plain.close()
    ours.close()
    beyond = [b - a for a, b in zip(first, second, strict=True)]
    return [
        Row("each followed exec, beyond the plain one", 300, "us", beyond),
        Row("  beside it: vfork, exec of true and wait", None, "us", first),
    ]


def bench_command(program: str, times: int) -> list[Row]:
    """`vdso bench`, the doctor, and the report that has both on its page: how long they take; and how far
    a bench is from a plain C loop in the same rounds.
    """
    rows = []
    for line, asked in (
        ("bench", 5.0),
        ("bench --quick", 1.5),
        ("doctor", 2.5),
        ("doctor --quick", 0.5),
        (f"report -o {os.devnull}", 6.0),
    ):
        words = line.split()
        command = [sys.executable, "-m", "vdso", *words]
        spent = []
        for _ in range(times):
            start = time.monotonic_ns()
            # The doctor's status is its verdict.
            subprocess.run(command, check=words[0] != "doctor", stdout=subprocess.DEVNULL)
            spent.append((time.monotonic_ns() - start) / 1e9)
        rows.append(Row(f"vdso {line}, whole", asked, "s", spent))

    plain, count = Talker([program]), 2000
    os.sched_setaffinity(plain.process.pid, {choose_cpu(os.sched_getaffinity(0))})
    apart: dict[str, list[float]] = {"vdso": [], "libc": [], "syscall": []}
    for _ in range(times):
        taken: dict[str, list[float]] = {route: [] for route in ("loop", *apart)}

        def ask(*_: int, taken: dict[str, list[float]] = taken) -> None:
            for route, values in taken.items():
                values.append(plain.ask(f"{route} {time.CLOCK_MONOTONIC} {count}") / count)

        result = measure_bench(rounds=150, limit_s=30, progress=ask)
        loop = statistics.median(taken["loop"])
        for route, values in apart.items():
            row = result.row("clock_gettime", route, "MONOTONIC")
            if row is not None and row.median_ns is not None:
                ratio = row.median_ns / (statistics.median(taken[route]) - loop)
                values.append(max(ratio, 1 / ratio))
    plain.close()
    return rows + [
        Row(f"vdso bench and a plain C loop, MONOTONIC by {route}, apart", 1.05, "x", values)
        for route, values in apart.items()
        if values
    ]


def idle_cpu(seconds: float) -> list[Row]:
    """CPU time of everything beside a sleeping program, by the processes' own CPU clocks."""
    token = f"VDSO_BENCH={os.getpid()}"
    name, _, value = token.partition("=")
    sleeper = subprocess.Popen(
        [*VDSO, "run", "--clock", "tsc", "--", "sleep", str(seconds + 30)], env={**os.environ, name: value}
    )
    time.sleep(2)  # past the start and the keeper's first, quicker ticks
    found: dict[str, int] = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            environ = Path(f"/proc/{entry}/environ").read_bytes().split(b"\0")
            comm = Path(f"/proc/{entry}/comm").read_text().strip()
        except OSError:
            continue
        if token.encode() in environ and comm.startswith("vdso-"):
            found[comm] = int(entry)

    def spent() -> dict[str, float]:
        # A process's CPU clock, as clock_getcpuclockid(3) makes it.
        return {comm: time.clock_gettime(~pid << 3 | 2) for comm, pid in found.items()}

    before, start = spent(), time.monotonic()
    time.sleep(seconds)
    after, length = spent(), time.monotonic() - start
    sleeper.terminate()
    sleeper.wait(10)
    asked = {"vdso-keeper": 0.2, "vdso-follower": 0.0, "vdso-guard": 0.0}
    return [
        Row(
            f"{comm}'s CPU while nothing execs, {length:.0f} s",
            asked[comm],
            "%",
            [100 * (after[comm] - before[comm]) / length],
        )
        for comm in asked
        if comm in found
    ]


# ---- what comes out ----


def nanoseconds(local: dict[str, Local], rounds: int) -> dict[str, float]:
    """ns a read, for orientation: the ratios above do not come from these."""
    routes: dict[str, tuple[int, int]] = {
        "empty call": (_core.ROUTE_EMPTY, 0),
        "rdtsc": (_core.ROUTE_RDTSC, 0),
        "rdtscp": (_core.ROUTE_RDTSCP, 0),
        "lfence; rdtsc": (_core.ROUTE_LFENCE_RDTSC, 0),
        "kernel's vDSO": (_core.ROUTE_FUNCTION, local["kernel"].kernel),
        "libc": (_core.ROUTE_LIBC, 0),
        "our image, kernel mode": (_core.ROUTE_FUNCTION, local["kernel"].function),
        "our image, with an offset": (_core.ROUTE_FUNCTION, local["offset"].function),
        "our image, tsc mode": (_core.ROUTE_FUNCTION, local["tsc"].function),
        "system call": (_core.ROUTE_SYSCALL, 0),
    }
    if _core.has_vsyscall():
        routes["vsyscall time()"] = (_core.ROUTE_VSYSCALL, 0)
    values: dict[str, list[float]] = {name: [] for name in routes}
    for _ in range(rounds):
        for name, (route, function) in routes.items():
            call = _core.CALL_TIME if route == _core.ROUTE_VSYSCALL else _core.CALL_CLOCK_GETTIME
            values[name].append(_core.route_ns(route, 2000, function, time.CLOCK_REALTIME, call) / 2000)
    return {name: statistics.median(v) for name, v in values.items()}


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--out", type=Path, default=Path("build/bench.json"), help="where the JSON goes (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=200, help="of each ratio (%(default)s)")
    parser.add_argument("--idle", type=float, default=10, help="seconds of watching CPU times (%(default)s)")
    options = parser.parse_args()

    where = machine()
    print("  ".join(f"{name} {value}" for name, value in where.items()))
    everywhere = os.sched_getaffinity(0)
    cpu = max(everywhere)
    with tempfile.TemporaryDirectory(prefix="vdso-bench-") as name:
        directory = Path(name)
        programs = {
            "dynamic": compile_program("clock", directory),
            "static": compile_program("clock", directory, "-static"),
        }
        present = {kind: path for kind, path in programs.items() if path is not None}
        if programs["dynamic"] is None:
            raise SystemExit("bench: no C compiler that works (Debian: gcc libc6-dev)")
        if programs["static"] is None:
            print("no static libc here: the static program is left out")
        exec_program = compile_program("execs", directory)
        assert exec_program is not None

        rows = in_programs(present, cpu, options.rounds)
        os.sched_setaffinity(0, {cpu})
        local = {"kernel": Local(), "offset": Local(THOUSAND_DAYS_S), "tsc": Local(counter=True)}
        rows += in_process(local, options.rounds)
        rows += errors(local["tsc"], 30)
        reads = nanoseconds(local, options.rounds)
        os.sched_setaffinity(0, everywhere)
        os.close(local["tsc"].life_fd)
        rows += adjustments(max(25, options.rounds // 4))
        rows += deadlines(max(25, options.rounds // 4))
        rows += start_up(25)
        plain_program = compile_program("plain", directory, "-ldl")
        assert plain_program is not None
        rows += bench_command(plain_program, 5)
        rows += execs(exec_program, max(25, options.rounds // 4))
        rows += idle_cpu(options.idle)

    print(f"\n{table(rows)}\n\nns a read (REALTIME)")
    for route, ns in reads.items():
        print(f"  {route:<26} {ns:8.1f}")
    save(options.out, where, rows, reads_ns=reads)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
