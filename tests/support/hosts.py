"""Hosts as trees of files: what a doctor's view looks through, with figures that nobody measured.

A tree is a healthy x86-64 host's, with one process in it, unless a test says otherwise.
"""

import dataclasses
import os
import struct
from pathlib import Path
from typing import Any

from vdso.kernel import auxv
from vdso.measure.doctor.result import Clock, Counter, Figures, Observation
from vdso.measure.doctor.view import Measured, Page, View
from vdso.measure.placement import Placement
from vdso.measure.stat import Row, Stat

CLOCKSOURCE = "sys/devices/system/clocksource/clocksource0"
FLAGS = "fpu tsc rdtscp constant_tsc nonstop_tsc tsc_known_freq"
VDSO_AT = 0x7FFE_0000_2000
GLIBC_LOADER = "/lib64/ld-linux-x86-64.so.2"

MAPS = """\
00400000-00500000 r-xp 00000000 fe:00 11 /usr/bin/server
7f0000000000-7f0000100000 r-xp 00000000 fe:00 12 /usr/lib/libc.so.6
7ffe00000000-7ffe00002000 r--p 00000000 00:00 0 [vvar]
7ffe00002000-7ffe00004000 r-xp 00000000 00:00 0 [vdso]
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]
"""
SMAPS = """\
7ffe00002000-7ffe00004000 r-xp 00000000 00:00 0                          [vdso]
Size:                  8 kB
VmFlags: rd ex mr mw me de {seal}
"""


def cpuinfo(flags: str = FLAGS, model: str = "A CPU of some sort") -> str:
    return f"processor\t: 0\nmodel name\t: {model}\nflags\t\t: {flags}\n\n"


def messages(*lines: str, first: int = 0) -> str:
    """Of the kernel, as /dev/kmsg has them."""
    numbered = ["Linux version 6.18.0", *lines]
    return "".join(f"6,{first + n},{1000 * n},-;{line}\n" for n, line in enumerate(numbered))


def vector(address: int = VDSO_AT, **more: int) -> bytes:
    """An auxiliary vector that names that image; 0: none."""
    rows = [(auxv.AT_PAGESZ, 4096), (auxv.AT_SECURE, more.get("secure", 0))]
    if address:
        rows.insert(0, (auxv.AT_SYSINFO_EHDR, address))
    return b"".join(struct.pack("=QQ", *row) for row in [*rows, (0, 0)])


def vector_32(address: int = 0xF7F0_0000) -> bytes:
    rows = [(auxv.AT_SYSINFO_EHDR, address)] if address else []
    return b"".join(struct.pack("=II", *row) for row in [*rows, (auxv.AT_PAGESZ, 4096), (0, 0)])


def program(interpreter: str = GLIBC_LOADER, *, body: bytes = b"\0__vdso_clock_gettime\0") -> bytes:
    """A program as far as its file says what it is."""
    header_bytes, segment_bytes = 64, 56
    count = 1 if interpreter else 0
    name = interpreter.encode() + b"\0"
    at = header_bytes + count * segment_bytes
    head = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01" + bytes(9),
        *(2, 62, 1, 0x400000, header_bytes, 0, 0, 64, segment_bytes, count, 64, 0, 0),
    )
    segments = struct.pack("<IIQQQQQQ", 3, 4, at, 0, 0, len(name), len(name), 1) if interpreter else b""
    return head + segments + (name if interpreter else b"") + body


FILES: dict[str, str | bytes] = {
    "proc/cmdline": "root=/dev/vda console=ttyS0 quiet -- clocksource=hpet\n",
    "proc/cpuinfo": cpuinfo(),
    "proc/version": "Linux version 6.18.0 (somebody@somewhere) #1 SMP\n",
    "proc/sys/kernel/hostname": "elsewhere\n",
    "proc/sys/kernel/osrelease": "6.18.0\n",
    "proc/sys/kernel/randomize_va_space": "2\n",
    "proc/sys/vm/memfd_noexec": "0\n",
    "proc/self/status": "Name:\tserver\nTracerPid:\t0\nCapEff:\t0000000000000000\nSeccomp:\t0\n",
    "proc/self/maps": MAPS,
    "proc/self/smaps": SMAPS.format(seal=""),
    "proc/self/auxv": vector(),
    "proc/self/environ": "PATH=/usr/bin\0",
    "proc/self/personality": "00000000\n",
    "proc/self/timens_offsets": "monotonic           0         0\nboottime            0         0\n",
    "proc/self/mounts": "/dev/vda / ext4 rw 0 0\ntmpfs /run tmpfs rw 0 0\ntmpfs /dev/shm tmpfs rw 0 0\n",
    "proc/self/exe": program(),
    "usr/lib/libc.so.6": b"GNU C Library (Debian) stable release version 2.41.\n\0__vdso_clock_gettime\0",
    "dev/kmsg": messages("tsc: Refined TSC clocksource calibration: 2300.000 MHz"),
    f"{CLOCKSOURCE}/current_clocksource": "tsc\n",
    f"{CLOCKSOURCE}/available_clocksource": "tsc kvm-clock acpi_pm\n",
}
LINKS = {"proc/self/ns/time": "time:[4026531834]", "proc/self/root": "../.."}


def clock(name: str = "MONOTONIC", **changed: Any) -> Clock:
    plain = Clock(name, 20.0, 21.0, 150.0, "vdso", 1, 20)
    return dataclasses.replace(plain, **changed)


def figures(*clocks: Clock, counter: Counter | None = None, **changed: Any) -> Figures:
    """Those of a fast clock; `clocks` take the place of those of their names."""
    coarse = {"vdso_ns": 3.0, "libc_ns": 4.0, "syscall_ns": 120.0}
    ticks = {"resolution_ns": 4_000_000, "step_ns": 4_000_000}
    usual = {
        "REALTIME": clock("REALTIME"),
        "MONOTONIC": clock("MONOTONIC"),
        "MONOTONIC_COARSE": clock("MONOTONIC_COARSE", **coarse, **ticks),
    }
    usual |= {one.clock: one for one in clocks}
    known = counter or Counter(9.0, 17.0, 1, 4000, 0, 0, True)
    return dataclasses.replace(Figures(20, 1, tuple(usual.values()), 95.0, known, ()), **changed)


def slow_figures(**changed: Any) -> Figures:
    """Those of a host whose every read is a system call of 300 ns."""
    costs = {"vdso_ns": 295.0, "libc_ns": 300.0, "syscall_ns": 290.0, "route": "vdso-syscall"}
    return figures(clock("REALTIME", **costs), clock("MONOTONIC", **costs), **changed)


def placed(distinct: int = 20, **changed: Any) -> Placement:
    plain = Placement(20, 0, distinct, 20 - distinct, 28.0, 0x7FFC_0000_0000, 0x7FFF_0000_0000, 2, False)
    return dataclasses.replace(plain, **changed)


def row(
    calls: int, clock: str = "MONOTONIC", route: str = "vdso", function: str = "clock_gettime", **changed: Any
) -> Row:
    """What was counted of one call, in the second that observed() takes."""
    plain = Row(function, clock, route, "", calls, float(calls), 20.0 if route == "vdso" else 150.0, 0.0)
    return dataclasses.replace(plain, **changed)


def observed(*rows: Row, seconds: float = 1.0, whole: bool = True, slowed: bool = False) -> Observation:
    calls = sum(one.calls for one in rows)
    stat = Stat(
        *("vdso-stat", 1, "0.1.0", (), 7, "", seconds, 1, 1, 1, calls, calls / seconds, 0.0, rows, "all"),
        *((), None, ()),
    )
    return Observation(stat, whole, slowed)


USUAL = {
    "figures": figures(),
    "page": Page("tsc", "btf"),
    "aslr": placed(),
    "counter_allowed": True,
    "memfd": "",
    "observation": observed(row(1_000_000), row(3, route="syscall")),
}


def view(
    root: Path,
    files: dict[str, str | bytes | None] | None = None,
    links: dict[str, str | None] | None = None,
    *,
    architecture: str = "x86_64",
    image: Any = None,
    pid: int | None = None,
    **measured: Any,
) -> View:
    """A host below `root`. What `files` and `links` say is added or, with None, taken away; `pid`: the
    process is that one, with the files of proc/self."""
    for name, content in {**FILES, **(files or {})}.items():
        path = root / of_process(name, pid)
        if content is None:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    for name, target in {**LINKS, **(links or {})}.items():
        path = root / of_process(name, pid)
        path.parent.mkdir(parents=True, exist_ok=True)
        if target is not None and not os.path.lexists(path):
            path.symlink_to(target)
    found = View(Measured(**{**USUAL, **measured}), root=str(root), architecture=architecture, pid=pid)
    if image is not None:
        found.__dict__["image"] = image
    return found


def of_process(name: str, pid: int | None) -> str:
    return name if pid is None else name.replace("proc/self/", f"proc/{pid}/")
