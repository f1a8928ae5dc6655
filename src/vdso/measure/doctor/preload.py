"""Looks at libraries that stand before the C library, and take clock functions from it.

As in clocksource: each function yields what a row of the catalogue is filled with. What a read costs with
them is measured where they are: in this process, or in one that is started with them.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator

from vdso.errors import SourceError, shown
from vdso.kernel import auxv
from vdso.kernel.file import File
from vdso.measure import machine
from vdso.measure.doctor import binary
from vdso.measure.doctor.result import Clock
from vdso.measure.doctor.view import CannotSee, View
from vdso.measure.warning import NO_PATH_RATIO
from vdso.swap.run import COUNTING_IMAGE

Facts = dict[str, object]

PRELOAD_FILE = "etc/ld.so.preload"
LIBRARY_DIRECTORIES = ("/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib")
CLOCKS = ("REALTIME", "MONOTONIC")

# Of a process that measures: a library may do at its start what it likes.
PATIENCE_S = 5.0
MEASURES = """\
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from vdso.measure.doctor.measuring import by_name
print(json.dumps(by_name()))
"""


def preloads(view: View) -> tuple[str, ...]:
    """What LD_PRELOAD and ld.so.preload name, for a program that has a loader. Raises CannotSee."""
    if not binary.program(view).interpreter:
        return ()
    named = view.environment.get("LD_PRELOAD", "").replace(":", " ").split()
    # A program with another user's privilege takes none but from trusted directories, and few there.
    if view.vector.get(auxv.AT_SECURE):
        named = []
    lines = view.text_if_there(PRELOAD_FILE).splitlines()
    return tuple(
        dict.fromkeys([*named, *(word for line in lines for word in line.partition("#")[0].split())])
    )


def located(view: View, name: str) -> str | None:
    """The path of a library that is named: as it is mapped, or where a loader would look first. None: it is
    nowhere."""
    base = os.path.basename(name)
    for path in binary.libraries(view):
        if os.path.basename(path) == base:
            return path
    if "/" in name:
        return name if os.path.exists(binary.beside(view, name)) else None
    # Where its other libraries are, the loader's own directory among them.
    beside = (os.path.dirname(path) for path in binary.libraries(view))
    named = view.environment.get("LD_LIBRARY_PATH", "").split(":")
    for directory in (*named, *beside, *LIBRARY_DIRECTORIES):
        if directory and os.path.exists(binary.beside(view, f"{directory}/{base}")):
            return f"{directory}/{base}"
    return None


def preloaded(view: View) -> Iterator[Facts]:
    """A library that takes clock functions from the C library, and costs little, or nobody knows what."""
    if not slow_by_name(view):
        yield from taking(view)


def preloaded_slow(view: View) -> Iterator[Facts]:
    """One by which a read costs what a system call costs, where by the vDSO's own function it does not."""
    if slow_by_name(view):
        yield from taking(view)


def slows(view: View) -> bool:
    """Whether there is such a one: what a program's reads become is then no other's doing."""
    try:
        return bool(takers(view)) and slow_by_name(view)
    except CannotSee:
        return False


def taking(view: View) -> Iterator[Facts]:
    """Each preloaded library that exports clock functions. Raises CannotSee for one that cannot be read."""
    for library, functions in takers(view):
        yield {"library": library, "functions": functions, "cost": library_cost(view)}
    if view.unread_library is not None:
        raise view.unread_library


def takers(view: View) -> list[tuple[str, str]]:
    """Their paths, and the functions that they take; looked for once, while the process is there. Raises
    CannotSee."""
    if view.takers is None:
        found = []
        for name in preloads(view):
            path = located(view, name)
            try:
                if path is None:
                    raise CannotSee(f"the preloaded library {shown(name)}", "it was not found")
                functions = binary.interposes(view, path)
            except CannotSee as error:
                view.unread_library = error
                continue
            if functions:
                found.append((shown(path), ", ".join(functions)))
        view.takers = found
    return view.takers


def takers_or_none(view: View) -> list[tuple[str, str]]:
    """The same, none where they cannot be looked for."""
    try:
        return takers(view)
    except CannotSee:
        return []


def taking_files(paths: Iterable[str]) -> list[str]:
    """Those of these files, which a program had mapped, that take clock functions from the C library."""
    found = []
    for path in paths:
        name = os.path.basename(path)
        if ".so" not in name or name == os.path.basename(COUNTING_IMAGE):
            continue
        if binary.GLIBC_FILE.match(name) or binary.MUSL_FILE.match(name):
            continue
        with contextlib.suppress(CannotSee):
            if binary.exported(path):
                found.append(path)
    return found


def named(view: View) -> str:
    """The libraries that take clock functions, as a sentence has them. Raises CannotSee."""
    return " and ".join(library for library, _ in takers(view))


def note(view: View) -> None:
    """Looks for them while the process is there, for checks that run when it may have ended."""
    with contextlib.suppress(CannotSee, OSError):
        view.alike = bool(takers(view)) and view.command and alike(view)


# ---- What a read costs with them ----


def slow_by_name(view: View) -> bool:
    """Whether the C library's names lead to something slower than the vDSO's, as measured."""
    if view.pid is not None and not takers(view):
        return False
    return any(
        clock.libc_ns is not None
        and clock.vdso_ns is not None
        and clock.syscall_ns is not None
        and clock.vdso_ns < NO_PATH_RATIO * clock.syscall_ns <= clock.libc_ns
        for clock in view.by_name
        if clock.clock in CLOCKS
    )


def read_ns(view: View) -> float | None:
    """What a read of MONOTONIC costs with them, by the C library's name; None where that was not measured."""
    return next((one.libc_ns for one in view.by_name if one.clock == CLOCKS[1]), None)


def library_cost(view: View) -> str:
    """What a call costs by the C library's name and by the vDSO's own, where both were measured."""
    clock = next((one for one in view.by_name if one.clock == CLOCKS[0]), None)
    if clock is None:
        return "what a read costs with it was not measured in that process"
    if clock.libc_ns is None or clock.vdso_ns is None:
        return "what a read costs with it could not be measured"
    return (
        f"clock_gettime(REALTIME) takes {clock.libc_ns:.0f} ns by its name, {clock.vdso_ns:.0f} by the vDSO"
    )


def timed(view: View) -> tuple[Clock, ...]:
    """What reads cost in a process that is started as the command was: with its environment, and so with its
    libraries. Empty where that would be another C library's, or run as us what is another's."""
    try:
        if not view.alike:
            return ()
        words = [sys.executable, "-I", "-S", "-c", MEASURES, json.dumps(sys.path)]
        done = subprocess.run(
            words, env=view.environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE_S
        )
        # What a library prints at its start stands before it.
        found = json.loads(done.stdout.splitlines()[-1])
        return tuple(
            Clock(name, vdso, libc, syscall, None, None, None)
            for name, (vdso, libc, syscall) in found.items()
        )
    except (
        CannotSee,
        OSError,
        subprocess.SubprocessError,
        ValueError,
        IndexError,
        TypeError,
        AttributeError,
    ):
        return ()


def alike(view: View) -> bool:
    """Whether the process is ours to be imitated: our user's, with our files and our C library. Raises
    CannotSee, OSError."""
    ours = machine.field(view.text("proc/self/status"), "Uid")
    if machine.field(view.status, "Uid") != ours or len(set(ours.split())) != 1:
        return False
    for space in ("mnt", "user"):
        if os.readlink(f"/{view.of_process(f'ns/{space}')}") != os.readlink(f"/proc/self/ns/{space}"):
            return False
    if not os.path.samefile(f"/{view.of_process('root')}", "/"):
        return False
    try:
        with File("/proc/self/exe") as file:
            return binary.read(file).interpreter == binary.program(view).interpreter
    except SourceError:
        return False
