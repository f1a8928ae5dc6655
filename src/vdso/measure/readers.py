"""The programs that run on a vDSO of ours, and how often they call it, where `vdso stat` has it count.

Looks from outside, read-only: at /proc, and at the counts, which whoever counts holds open. What programs
write there is not vouched for.
"""

import os
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from vdso import _core
from vdso.clocks.holders import running
from vdso.clocks.session import Found
from vdso.errors import SourceError
from vdso.kernel import maps
from vdso.measure.calls import CALLS, Call

MEMFD = "/memfd:vdso-counts"
# Whoever holds counts open, by the name in /proc/PID/comm: `vdso stat`, and who writes for it.
HOLDERS = ("vdso", "vdso-follower", "vdso-guard")


@dataclass(frozen=True, slots=True)
class Program:
    """A process on a vDSO of ours. `session`: its clock's, "" without one. `counted`: `vdso stat` counts its
    calls: so many so far, so many a second since the last look, `busiest` most often. None and "" where that
    is not known, the rate above all at the first look.
    """

    pid: int
    name: str
    session: str
    counted: bool
    calls: int | None
    calls_per_s: float | None
    busiest: str


class Readers:
    """Looks again and again; a program has a rate from the second look on."""

    def __init__(self) -> None:
        self._before: dict[int, Counter[Call]] = {}
        self._looked_s = time.monotonic()

    def look(self, sessions: Iterable[Found]) -> tuple[Program, ...]:
        """The busiest first, and what is not counted last."""
        seconds, self._looked_s = time.monotonic() - self._looked_s, time.monotonic()
        names = {one.inode: one.name for one in sessions}
        pids = {pid: names.get(inode, "") for inode, found in running().items() for pid in found}
        counted = {pid: inode for pid in pids if counts_now(pid) and (inode := counts_of(pid))}
        there = {inode: calls_by_pid(path) for inode, path in held().items() if inode in counted.values()}
        now = {
            pid: there[inode].get(pid_inside(pid), Counter())
            for pid, inode in counted.items()
            if inode in there
        }
        found = [
            program(pid, name, pid in counted, now.get(pid), self._before.get(pid), seconds)
            for pid, name in pids.items()
        ]
        self._before = now
        return tuple(sorted(found, key=lambda one: (not one.counted, -(one.calls_per_s or 0), one.pid)))


def program(
    pid: int,
    session_name: str,
    counted: bool,
    calls: Counter[Call] | None,
    before: Counter[Call] | None,
    seconds: float,
) -> Program:
    rate, busiest = None, ""
    if calls:
        new = calls - before if before is not None else calls
        (most, _), *_ = (new or calls).most_common(1)
        busiest = f"{most.function} {most.clock}".strip()
    if calls is not None and before is not None and seconds > 0:
        rate = (calls - before).total() / seconds
    return Program(
        pid, name_of(pid), session_name, counted, None if calls is None else calls.total(), rate, busiest
    )


def counts_now(pid: int) -> bool:
    """What a `vdso stat` has left is on its image still, and counts no more."""
    try:
        return _core.counts_calls(pid)
    except OSError:
        return False


def counts_of(pid: int) -> int:
    """The inode of the counts that a process has mapped, 0 without any."""
    try:
        return next((one.inode for one in maps.read(pid) if one.name.startswith(MEMFD)), 0)
    except SourceError:
        return 0


def held() -> dict[int, str]:
    """Where counts can be opened: {inode: path of a holder's descriptor}."""
    found: dict[int, str] = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if name_of(int(pid)) not in HOLDERS:
            continue
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                path = f"/proc/{pid}/fd/{fd}"
                if os.readlink(path).startswith(MEMFD):
                    found.setdefault(os.stat(path).st_ino, path)
        except OSError:  # gone meanwhile, or another user's
            continue
    return found


def calls_by_pid(path: str) -> dict[int, Counter[Call]]:
    """What was counted, by the process ids that the programs have for themselves; empty where it has gone."""
    found: dict[int, Counter[Call]] = {}
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return found
    try:
        cells = _core.counts_look(fd)
    except OSError:  # the descriptor's number has come to something else
        return found
    finally:
        os.close(fd)
    for _, pid, _, _, _, numbers in cells:
        calls = found.setdefault(pid, Counter())
        for slot, number in enumerate(numbers):
            if number and slot in CALLS:
                calls[CALLS[slot]] += number
    return found


def pid_inside(pid: int) -> int:
    """The id that a process has for itself, in its own PID namespace: proc_pid_status(5)."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as stream:
            line = next((line for line in stream if line.startswith("NSpid:")), "")
    except OSError:
        return pid
    words = line.split()
    return int(words[-1]) if len(words) > 1 else pid


def name_of(pid: int) -> str:
    """As /proc/PID/comm has it, "" where it has ended."""
    try:
        with open(f"/proc/{pid}/comm", "rb") as stream:
            return os.fsdecode(stream.read().rstrip(b"\n"))
    except OSError:
        return ""
