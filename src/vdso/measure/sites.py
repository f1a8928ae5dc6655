"""Who reads the clock: samples become sites, the call's place in the program with the functions that it went
through.

What is worth showing is decided here: between the vDSO and a site lie the C library's functions and those by
which a language reads the clock, and they are shown as the way there. How frames are found and named is
vdso.measure.callers' business.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from vdso.errors import CannotUnwind
from vdso.measure.callers.chain import walk
from vdso.measure.callers.code import Point
from vdso.measure.callers.demangle import brief
from vdso.measure.callers.rules import Stack
from vdso.measure.callers.space import Library, Space
from vdso.measure.sample import Sample

__all__ = ["Frame", "Library", "Site", "Sites"]

# How many frames a site has to be found within, and how many of its callers are kept.
DEPTH_MAX = 64
BEYOND = 6

# What Frame.source says of code that is in no object.
GENERATED = ("generated code", "perf map")

# Objects whose functions, all of them, are only the way to a site.
C_LIBRARY = re.compile(
    r"(?:libc|libpthread|librt|ld)(?:-[0-9][\w.-]*)?\.so(?:\.\d+)*|ld-linux[\w.-]*\.so\.\d+"
    r"|ld-musl-[\w-]+\.so\.\d+|libc\.musl-[\w-]+\.so\.\d+|libfaketime(?:MT)?\.so\.\d+"
)
# And functions: the C library's where it is linked in, and those by which languages and their libraries read
# clocks.
WRAPPERS = re.compile(
    r"_*(?:(?:GI|interceptor|wrap|real)_)?_*"
    r"(?:clock_gettime|gettimeofday|time|clock|timespec_get|ftime|clock_getres|getcpu|sched_getcpu|syscall)"
    r"(?:64|_2|_syscall|_vsyscall)?"
    # C++: libstdc++, libc++
    r"|std::(?:\w+::)*chrono::.*"
    # Rust
    r"|<?std::(?:time|sys::(?:\w+::)*time(?:::\w+)*)::.*"
    # Go
    r"|runtime\.(?:nanotime1?|walltime1?|time_now|unixnano|vdso\w+)(?:\.abi\w+)?"
    r"|time\.(?:now|Now|Since|Until|runtimeNano|runtimeNow)(?:\.abi\w+)?"
    r"|(?:(?:runtime/internal/|internal/runtime/)?syscall)\.(?:Raw|raw)?Syscall\w*(?:\.abi\w+)?"
    # CPython
    r"|_?Py_?Time_\w+|py_get_\w*clock\w*|py_get_\w*time\w*|pymonotonic|pygettimeofday"
    # The JVM, V8, libuv
    r"|os::(?:Linux::|Posix::)?(?:javaTime|elapsed)\w*\(.*|JVM_(?:NanoTime|CurrentTimeMillis)"
    r"|v8::base::(?:Time|TimeTicks|OS::Time\w+)\b.*|uv__?hrtime|uv_clock_gettime"
    # GLib, abseil
    r"|g_get_(?:monotonic|real)_time|absl::(?:\w+::)*(?:Now|GetCurrentTimeNanos)\(.*",
    re.DOTALL,
)
# Where a thread begins: what is outside of everybody's code.
BEGINNINGS = re.compile(r"_*(?:start_thread|clone3?|libc_start_(?:main|call_main)\w*|start|start_c)")


@dataclass(frozen=True, slots=True)
class Frame:
    """A place in a function. `address`: the return address, in the object's own addresses (what `objdump -d`
    and `addr2line` count in), in the program's for generated code, in the file for one that cannot be read.
    `offset`: from the function's start; both it and `function` are None where nothing names the function.
    `source`: what named it: ".symtab", ".dynsym", a file of symbols, ".gnu_debugdata", ".gopclntab", "perf
    map"; or why nothing does. `tail`: the function has no frame, and the call in the next one names it:
    mostly it has ended in a jump to the one before; `address` is its start.
    """

    object: str
    address: int
    function: str | None
    offset: int | None
    source: str
    tail: bool = False

    @property
    def label(self) -> str:
        """In one line, briefly: "program: function+0x1c", "program+0x4021c", "generated code [anon]"."""
        where = self.object if self.source in GENERATED else os.path.basename(self.object)
        if self.function is None:
            return where if self.source in GENERATED else f"{where}+{self.address:#x}"
        return f"{where}: {brief(self.function)}" + (f"+{self.offset:#x}" if self.offset else "")


@dataclass(frozen=True, slots=True)
class Site:
    """A place that calls the vDSO's `function` for `clock`, with how often it did in all of its samples.

    `caller`: the innermost frame outside of the C library and of the functions by which a language reads the
    clock; None where it was not reached, and `unknown` says why. `via`: what lies between, from the vDSO
    outwards. `beyond`: the caller's own callers, some of them, as in most of the samples. `pids`: of which
    processes. `raw`: it makes the system call itself, past the vDSO.
    """

    function: str
    clock: int | None
    caller: Frame | None
    via: tuple[Frame, ...]
    beyond: tuple[Frame, ...]
    samples: int
    weight: int
    pids: tuple[int, ...]
    unknown: str | None = None
    raw: bool = False


@dataclass(slots=True)
class _Found:
    """The samples of a site, as they are counted."""

    caller: Point | None
    via: tuple[Point, ...]
    unknown: str | None
    samples: int = 0
    weight: int = 0
    pids: set[int] = field(default_factory=set)
    beyond: Counter[tuple[Point, ...]] = field(default_factory=Counter)


class Sites:
    """Counts samples by the place that they come from."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int | None, bool, object, str | None], _Found] = {}
        self._through: dict[Point, bool] = {}

    def add(self, samples: Iterable[Sample], space: Space) -> None:
        """Samples of a process, with what it has mapped. Raises ExtraMissing without capstone."""
        for sample in samples:
            via, caller, beyond, unknown = self._place(sample, space)
            where = (_identity(caller) if caller is not None else None, tuple(map(_identity, via)))
            key = (sample.function, sample.clock, sample.raw, where, unknown)
            found = self._found.get(key)
            if found is None:
                found = self._found[key] = _Found(caller, via, unknown)
            found.samples += 1
            found.weight += sample.weight
            found.pids.add(sample.pid)
            found.beyond[beyond] += sample.weight

    def found(self) -> list[Site]:
        """The sites so far, the busiest first."""
        result = []
        for (function, clock, raw, _, _), one in self._found.items():
            beyond = max(one.beyond.items(), key=lambda item: item[1])[0]
            result.append(
                Site(
                    function,
                    clock,
                    None if one.caller is None else _frame(one.caller),
                    tuple(map(_frame, one.via)),
                    tuple(map(_frame, beyond)),
                    one.samples,
                    one.weight,
                    tuple(sorted(one.pids)),
                    one.unknown,
                    raw,
                )
            )
        result.sort(key=lambda site: -site.weight)
        return result

    def _place(
        self, sample: Sample, space: Space
    ) -> tuple[tuple[Point, ...], Point | None, tuple[Point, ...], str | None]:
        """What the call went through, the caller, its callers, and why the caller is not known."""
        registers = sample.registers
        stack = Stack((registers["rsp"], sample.stack), (registers["rbp"], sample.frame))
        points: list[Point] = []
        at: int | None = None
        unknown: str | None = None
        try:
            for point in walk(registers, stack, space):
                points.append(point)
                if at is None:
                    if not self._is_way(point):
                        at = len(points) - 1
                    elif len(points) == DEPTH_MAX:
                        raise CannotUnwind(f"{DEPTH_MAX} frames of the C library, and more")
                elif len(points) > at + BEYOND:
                    break
        except CannotUnwind as error:
            unknown = error.message
        if at is not None:
            return tuple(points[:at]), points[at], tuple(points[at + 1 :]), None
        if unknown is None:
            # The C library's own thread: there is nobody else.
            own = [index for index, point in enumerate(points) if not _is_beginning(point)]
            at = own[-1] if own else len(points) - 1
            return tuple(points[:at]), points[at], (), None
        if points:
            last = points[-1]
            unknown = f"{os.path.basename(last.name)}: {unknown}"
        return tuple(points), None, (), unknown

    def _is_way(self, point: Point) -> bool:
        known = self._through.get(point)
        if known is None:
            known = self._through[point] = is_way(point.name, point.function)
        return known


def is_way(path: str, function: str | None) -> bool:
    """Whether a function is only the way to who reads the clock: of the C library, or a language's own."""
    if C_LIBRARY.fullmatch(os.path.basename(path)):
        return True
    return function is not None and WRAPPERS.fullmatch(function) is not None


def _is_beginning(point: Point) -> bool:
    return point.function is not None and BEGINNINGS.fullmatch(point.function) is not None


def _identity(point: Point) -> object:
    if point.code is not None:
        return point
    # An address in generated code says nothing that lasts.
    symbol = point.symbol
    return (point.name, symbol or point.why) if point.why in GENERATED else (point.name, point.address)


def _frame(point: Point) -> Frame:
    symbol = point.symbol
    return Frame(
        point.name,
        point.address,
        None if symbol is None else symbol.name,
        None if symbol is None or point.code is None else point.address - symbol.start,
        symbol.source if symbol is not None else point.why or "no symbol",
        point.tail,
    )
