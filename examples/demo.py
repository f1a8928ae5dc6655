"""The product on this machine, in some seconds: `make demo`.

First the kernel's vDSO and ours, read and timed in this process; then unmodified programs, plain and on a
clock of ours, side by side. Needs no privilege. Every figure is measured now.
"""

import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from vdso import _core
from vdso.errors import VdsoError
from vdso.swap.run import IMAGE, start_keeper

VDSO = str(Path(sys.executable).with_name("vdso"))
OFFSET = "+1000d"
OFFSET_S = 1000 * 86400
ROUNDS = 60
READS = 5000

PROGRAM = r"""
#include <stdio.h>
#include <time.h>

int main(void)
{
	time_t now = time(NULL);

	fputs(ctime(&now), stdout);
	return 0;
}
"""

PYTHON = "import datetime; print(datetime.datetime.now().strftime('%a %b %e %H:%M:%S %Y'))"


def where_the_vdso_is() -> None:
    print("The kernel's vDSO, in this process")
    areas = []
    with open("/proc/self/maps", encoding="utf-8") as maps:
        for line in maps:
            found = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) .*(\[vvar.*\]|\[vdso\])", line)
            if found:
                first, end = int(found[1], 16), int(found[2], 16)
                areas.append((found[4], first, end - first, found[3]))
    for name, first, size, mode in areas:
        what = "its code" if name == "[vdso]" else "the data that it reads"
        print(f"  {name:<13} {first:#x}  {size // 1024:3} KiB  {size // 4096} pages  {mode}  {what}")
    if not any(name == "[vdso]" for name, *_ in areas):
        print("  none: the kernel gives this process no vDSO, so every clock read is a system call")
    else:
        before = sum(size for name, _, size, _ in areas if name != "[vdso]") // 4096
        print(f"  {before} pages of data stand before the code")
    print()


class Session:
    """The image and a clock page of our own, beside the kernel's in this process."""

    def __init__(self, *, offset_s: int = 0, counter: bool = False) -> None:
        self.page = _core.ClockPage.create("vdso-clock")
        if counter:
            self.life_fd = start_keeper(self.page, 0, 0)
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


def what_a_read_costs() -> None:
    kernel_mode, moved = Session(), Session(offset_s=OFFSET_S)
    routes: list[tuple[str, int, int]] = [
        ("counter (rdtsc)", _core.ROUTE_RDTSC, 0),
        ("counter, in order (rdtscp)", _core.ROUTE_RDTSCP, 0),
    ]
    notes = []
    theirs = kernel_mode.image.kernel.get("clock_gettime", 0)
    if theirs:
        routes.append(("kernel's vDSO", _core.ROUTE_FUNCTION, theirs))
    routes.append(("our image, kernel mode", _core.ROUTE_FUNCTION, kernel_mode.function))
    routes.append((f"our image, {OFFSET}", _core.ROUTE_FUNCTION, moved.function))
    try:
        by_counter = Session(counter=True)
        routes.append(("our image, tsc mode", _core.ROUTE_FUNCTION, by_counter.function))
    except VdsoError as error:
        notes.append(f"our image, tsc mode: not here: {error.message}")
    routes.append(("system call", _core.ROUTE_SYSCALL, 0))
    if _core.has_vsyscall():
        routes.append(("vsyscall (time)", _core.ROUTE_VSYSCALL, 0))
    else:
        notes.append("vsyscall: not executable here")

    taken: dict[str, list[float]] = {name: [] for name, _, _ in routes}
    for _ in range(ROUNDS):
        for name, route, function in routes:
            call = _core.CALL_TIME if route == _core.ROUTE_VSYSCALL else _core.CALL_CLOCK_GETTIME
            taken[name].append(_core.route_ns(route, READS, function, time.CLOCK_REALTIME, call) / READS)
    medians = {name: statistics.median(values) for name, values in taken.items()}
    beside = medians.get("kernel's vDSO", medians["system call"])
    print(f"What a read of the clock costs (median of {ROUNDS} rounds in turns)")
    for name, ns in medians.items():
        print(f"  {name:<28} {ns:7.1f} ns   {ns / beside:5.2f} x")
    for note in notes:
        print(f"  {note}")
    print()


def first_line(command: Sequence[str], warnings: list[str]) -> str:
    """What the command says; what vdso has to say about it goes to `warnings`."""
    env = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, env=env)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"not possible here: {error}"
    warnings += [line for line in done.stderr.splitlines() if line.startswith("vdso: ")]
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


def programs_on_our_clock(directory: Path) -> None:
    programs: list[tuple[str, list[str]]] = [
        ("date", ["date", "+%a %b %e %H:%M:%S %Y"]),
        ("python3 -c ...", [shutil.which("python3") or sys.executable, "-c", PYTHON]),
    ]
    compiled = compile_static(directory)
    if compiled is not None:
        programs.append((compiled[0], [compiled[1]]))
    print(f"Unmodified programs: plain, and under vdso run --offset {OFFSET}")
    lines = [("", "plain", f"--offset {OFFSET}")]
    warnings: list[str] = []
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
    for warning in dict.fromkeys(warnings):
        print(f"  {warning}")
    if compiled is None:
        print("  no C compiler here: the static binary is left out (Debian: gcc libc6-dev)")
    print()


def what_a_run_costs() -> None:
    plain: list[float] = []
    ours: list[float] = []
    true = shutil.which("true") or "/bin/true"
    for _ in range(10):
        for command, spent in (([true], plain), ([VDSO, "run", "--offset", OFFSET, "--", true], ours)):
            start = time.monotonic_ns()
            subprocess.run(command, check=True, timeout=10, stderr=subprocess.DEVNULL)
            spent.append((time.monotonic_ns() - start) / 1e6)
    before, after = statistics.median(plain), statistics.median(ours)
    print(f"Starting true takes {before:.1f} ms, under vdso run {after:.1f} ms.")


def main() -> int:
    print(f"Linux {platform.release()}, {platform.machine()}, {os.cpu_count()} CPUs\n")
    where_the_vdso_is()
    what_a_read_costs()
    with tempfile.TemporaryDirectory(prefix="vdso-demo-") as directory:
        programs_on_our_clock(Path(directory))
    try:
        what_a_run_costs()
    except (OSError, subprocess.SubprocessError) as error:
        print(f"Under vdso run nothing can be started here: {error}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
