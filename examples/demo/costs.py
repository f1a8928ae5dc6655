"""The kernel's vDSO and ours, read and timed in this process."""

import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from vdso import _core
from vdso.errors import VdsoError
from vdso.swap.run import IMAGE, start_keeper

VDSO = str(Path(sys.executable).with_name("vdso"))
OFFSET = "+1000d"
OFFSET_S = 1000 * 86400
ROUNDS = 60
READS = 5000


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
