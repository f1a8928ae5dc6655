"""Looks at the host's settings that decide what `vdso run`, `vdso attach` and live pages can do here.

As in clocksource: each function yields what a row of the catalogue is filled with.
"""

import os
from collections.abc import Iterator

from vdso.measure import machine
from vdso.measure.doctor.view import View
from vdso.pages.directory import own_candidates

Facts = dict[str, object]

CAP_SYS_PTRACE = 19
IN_MEMORY = ("tmpfs", "ramfs")


def may_trace_anyway(view: View) -> bool:
    """CAP_SYS_PTRACE of this process."""
    held = machine.field(view.text("proc/self/status"), "CapEff")
    return bool(int(held or "0", 16) >> CAP_SYS_PTRACE & 1)


def scope(view: View) -> int:
    """Yama's scope, 0 without Yama. Raises CannotSee."""
    return view.number("proc/sys/kernel/yama/ptrace_scope") or 0


def yama_parents(view: View) -> Iterator[Facts]:
    """Only a parent may trace."""
    if scope(view) == 1 and not may_trace_anyway(view):
        yield {}


def yama_privileged(view: View) -> Iterator[Facts]:
    """Only CAP_SYS_PTRACE may trace."""
    if scope(view) == 2 and not may_trace_anyway(view):
        yield {}


def yama_nobody(view: View) -> Iterator[Facts]:
    """Nobody may trace until the next boot."""
    if scope(view) >= 3:
        yield {}


def memfd(view: View) -> Iterator[Facts]:
    """By trying: what vm.memfd_noexec refuses differs between kernels."""
    if view.measured.memfd is None:
        raise view.lacking("whether memory files are to be had", "memfd")
    if view.measured.memfd:
        noexec = view.number("proc/sys/vm/memfd_noexec")
        yield {"error": view.measured.memfd, "noexec": "not there" if noexec is None else noexec}


def no_place_to_execute(view: View) -> Iterator[Facts]:
    """All directories in memory that pages may be in are mounted noexec."""
    mounts = mount_points(view.text("proc/self/mounts"))
    places = [(path, *mounted(mounts, path)) for path in map(os.path.dirname, own_candidates())]
    usable = [(path, options) for path, kind, options in places if kind in IN_MEMORY]
    if usable and all("noexec" in options for _, options in usable):
        yield {"paths": " and ".join(path for path, _ in usable)}


def mount_points(text: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Path to (filesystem, options), the last mounted on each: fstab(5), proc_pid_mounts(5)."""
    found = {}
    for line in text.splitlines():
        words = line.split(" ")
        if len(words) >= 4:
            path = words[1].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
            found[path] = (words[2], tuple(words[3].split(",")))
    return found


def mounted(mounts: dict[str, tuple[str, tuple[str, ...]]], path: str) -> tuple[str, tuple[str, ...]]:
    """What the path's filesystem is, and how it is mounted."""
    while path not in mounts and path != "/":
        path = os.path.dirname(path)
    return mounts.get(path, ("", ()))
