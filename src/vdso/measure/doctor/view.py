"""What the checks look through: files of the host below a root, one process's files, and what was measured.

A check sees nothing but this, so that a tree of another machine's files, with figures that nobody measured,
stands in for that machine. What cannot be had raises CannotSee: a check that meets it has not looked.
"""

import os
import re
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from vdso import _core
from vdso.errors import SourceError, VdsoError, shown
from vdso.kernel import auxv, maps, process
from vdso.kernel.image import Image
from vdso.measure import machine
from vdso.measure.doctor.result import Clock, Figures, Observation
from vdso.measure.placement import Placement

T = TypeVar("T")

CLOCKSOURCE = "sys/devices/system/clocksource/clocksource0"
READ_BYTES, FILE_PARTS_MAX = 1 << 16, 1 << 12
LOG_BYTES_MAX = 64 << 20
STACK_BYTES_MAX = 16 << 20  # arguments and environment take 6 MiB at most: execve(2)
RECORD_BYTES = 8192  # of /dev/kmsg, one a read: Documentation/ABI/testing/dev-kmsg
RECORD = re.compile(r"\d+,(\d+),\d+,[^;]*;(.*)")
SHOWN_LINE = re.compile(r"(?:<\d+>)?\[ *\d+\.\d+\] ?(.*)")


class CannotSee(Exception):
    """`what` could not be looked at, and why; for the runner of the checks, which lists it."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")
        self.what = what
        self.why = why


@dataclass(frozen=True, slots=True)
class Page:
    """What the kernel's data page says, proven: its clock mode, and by which method it was read."""

    mode: str
    method: str


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured or observed in this process. None: it was not, and `lacking` says why, by the field's
    name."""

    figures: Figures | None = None
    page: Page | None = None
    aslr: Placement | None = None
    # False after PR_SET_TSC, by which reading it is a SIGSEGV.
    counter_allowed: bool | None = None
    # Who answers CPUID's hypervisor leaf, "" where none does.
    hypervisor: str = ""
    # Why a memfd such as a session's page is in is refused, "" where it is not.
    memfd: str | None = None
    observation: Observation | None = None
    lacking: Mapping[str, str] = field(default_factory=dict)


class View:
    """One host and one process on it. `pid` None: this process, and what it is told; `root`: below which its
    proc, sys, etc and dev are; `architecture`: as uname(2) has it; `command`: it was started to be looked at,
    and `counted`: `vdso stat`'s image and filter are in it, which are not its own; `called`: what sentences
    call it, where `pid` is a thread, or was started by the command. `timed`: measures what its
    C library's functions cost, in a process made for that.
    """

    def __init__(
        self,
        measured: Measured,
        *,
        root: str = "/",
        pid: int | None = None,
        architecture: str = "x86_64",
        command: bool = False,
        counted: bool = False,
        called: str = "",
        timed: "Callable[[View], tuple[Clock, ...]] | None" = None,
    ) -> None:
        self.measured = measured
        self.root = root
        self.pid = pid
        self.architecture = architecture
        self.command = command
        self.counted = counted
        self.called = called
        # Of one that is counted: the same before that; and the kernel's image, once it was looked at.
        self.held: View | None = None
        self.kernels: Image | None = None
        self._timed = timed
        # Preloaded libraries with the clock functions that they take, once looked for; one that is not to be
        # read; and whether a process of ours may be started with them.
        self.takers: list[tuple[str, str]] | None = None
        self.unread_library: CannotSee | None = None
        self.alike = False
        self._texts: dict[str, str] = {}

    # ---- Files ----

    def read(self, path: str) -> bytes:
        """The whole of a file below the root. Raises CannotSee."""
        if self.pid == 0:
            raise CannotSee("the command", "it could not be held, and had ended before it was looked at")
        try:
            with open(os.path.join(self.root, path), "rb", buffering=0) as stream:
                parts: list[bytes] = []
                # Of a read's size the kernel makes itself a buffer, for some files: not the largest at once.
                while part := stream.read(READ_BYTES):
                    parts.append(part)
                    if len(parts) > FILE_PARTS_MAX:
                        raise CannotSee(f"/{path}", "it has no end")
        except OSError as error:
            raise CannotSee(f"/{path}", reason(error)) from None
        return b"".join(parts)

    def text(self, path: str) -> str:
        """The file's text, read once. Raises CannotSee."""
        if path not in self._texts:
            self._texts[path] = self.read(path).decode("utf-8", "replace")
        return self._texts[path]

    def text_if_there(self, path: str) -> str:
        """The same, "" where there is no such file. Raises CannotSee where it may not be read."""
        return self.text(path) if os.path.lexists(os.path.join(self.root, path)) else ""

    def number(self, path: str) -> int | None:
        """The number that a setting's file holds, None where this kernel has no such. Raises CannotSee."""
        text = self.text_if_there(path).strip()
        if not text:
            return None
        try:
            return int(text)
        except ValueError:
            raise CannotSee(f"/{path}", f"no number: {shown(text[:40])}") from None

    # ---- The host ----

    @cached_property
    def command_line(self) -> tuple[tuple[str, str], ...]:
        """The kernel's parameters, (name, value) in order, "" where one has no value. Raises CannotSee."""
        # What follows `--` is init's.
        words = self.text("proc/cmdline").split()
        words = words[: words.index("--")] if "--" in words else words
        return tuple((word.partition("=")[0], word.partition("=")[2]) for word in words)

    @cached_property
    def clocksource(self) -> str:
        """The current one. Raises CannotSee."""
        return self._clocksource_names("current_clocksource")[0]

    @cached_property
    def clocksources(self) -> tuple[str, ...]:
        """Those available, by the kernel's rating, the best first. Raises CannotSee."""
        return self._clocksource_names("available_clocksource")

    def _clocksource_names(self, name: str) -> tuple[str, ...]:
        names = tuple(self.text(f"{CLOCKSOURCE}/{name}").split())
        if not names:  # no kernel's is: something was put over it
            raise CannotSee(f"/{CLOCKSOURCE}/{name}", "it is empty")
        return names

    @cached_property
    def cpu_flags(self) -> frozenset[str]:
        """The flags of the first CPU. Raises CannotSee: also where it is another architecture's cpuinfo."""
        flags = machine.field(self.text("proc/cpuinfo"), "flags")
        if not flags:
            raise CannotSee("/proc/cpuinfo", "no line `flags` in it, as x86's has")
        return frozenset(flags.split())

    @cached_property
    def log(self) -> "Log":
        """The kernel's messages. Raises CannotSee."""
        return read_log(self.root)

    def logged(self, pattern: str) -> list["re.Match[str]"]:
        """The kernel's messages in which the pattern is found. Raises CannotSee: also where none is and there
        were more."""
        found = [match for match in (re.search(pattern, line) for line in self.log.lines) if match]
        if not found and not self.log.whole:
            raise CannotSee(
                "the kernel's messages", "those of the boot are gone: others have taken their place"
            )
        return found

    # ---- The process ----

    @property
    def process_name(self) -> str:
        """The process as sentences call it."""
        if self.called:
            return self.called
        if self.command:
            return "the command"
        return "this process" if self.pid is None else f"process {self.pid}"

    def of_process(self, name: str) -> str:
        """The path of one of its files in proc."""
        return f"proc/{'self' if self.pid is None else self.pid}/{name}"

    @cached_property
    def status(self) -> str:
        return self.text(self.of_process("status"))

    def status_number(self, name: str) -> int | None:
        """A number of its status, None where this kernel's has no such line. Raises CannotSee."""
        value = machine.field(self.status, name).split()
        return int(value[0]) if value and value[0].isascii() and value[0].isdigit() else None

    @cached_property
    def mappings(self) -> list[maps.Mapping]:
        return parsed(self.of_process("maps"), maps.decode, self.read(self.of_process("maps")))

    @cached_property
    def _vector(self) -> bytes:
        path = self.of_process("auxv")
        data = self.read(path)
        if not data:
            raise CannotSee(f"/{path}", "it is empty: a process without memory, or one that has ended")
        return data

    @cached_property
    def vector(self) -> Mapping[int, int]:
        """The kernel's copy of its auxiliary vector. Raises CannotSee: also for one that is empty, a kernel
        thread's or a zombie's."""
        return parsed(self.of_process("auxv"), auxv.decode, self._vector)

    @cached_property
    def bits(self) -> int:
        """Of its words, as its vector has them: 64 or 32. Raises CannotSee."""
        try:
            auxv.decode(self._vector, bits=64)
        except SourceError:
            return 32 if self.vector else 64
        return 64

    @cached_property
    def environment(self) -> Mapping[str, str]:
        """What it was started with. Raises CannotSee."""
        words = self.text(self.of_process("environ")).split("\0")
        return {name: value for name, equals, value in (word.partition("=") for word in words) if equals}

    @cached_property
    def told(self) -> int:
        """The vDSO's address as the process was told it, 0: of none. Raises CannotSee.

        On its stack, where the C library reads it: the kernel's copy says what the kernel had put there.
        """
        if self.root == "/" and self.pid is None:
            return _core.sysinfo_ehdr()
        kernels = self.vector.get(auxv.AT_SYSINFO_EHDR, 0)
        if self.root != "/":
            return kernels
        try:
            return on_stack(self).get(auxv.AT_SYSINFO_EHDR, 0)
        except SourceError:
            return kernels

    @cached_property
    def vdso(self) -> maps.Mapping | None:
        """The mapping that it was told of, None without. Raises CannotSee."""
        return maps.find(self.mappings, self.told) if self.told else None

    @cached_property
    def image(self) -> Image:
        """The image there. Raises CannotSee: of a tree of files, too, which holds no memory."""
        if self.root != "/":
            raise CannotSee("the vDSO's image", "a tree of files has no memory")
        try:
            return Image.from_process(self.pid)
        except SourceError as error:
            raise CannotSee("the vDSO's image", error.message) from None

    # ---- What was measured ----

    def lacking(self, what: str, name: str) -> CannotSee:
        return CannotSee(what, self.measured.lacking.get(name, "it was not measured"))

    @property
    def figures(self) -> Figures:
        if self.measured.figures is None:
            raise self.lacking("what a read costs", "figures")
        return self.measured.figures

    def clock(self, name: str = "MONOTONIC") -> Clock:
        found = self.figures.clock(name)
        if found is None:
            raise CannotSee(f"what a read of {name} costs", "it was not measured")
        return found

    @cached_property
    def by_name(self) -> tuple[Clock, ...]:
        """What reads cost by the C library's names, with this process's libraries. Empty: not known."""
        if self.pid is None:
            return self.measured.figures.clocks if self.measured.figures else ()
        return self._timed(self) if self._timed else ()

    @property
    def page(self) -> Page:
        if self.measured.page is None:
            raise self.lacking("the kernel's data page", "page")
        return self.measured.page


def on_stack(view: View) -> Mapping[int, int]:
    """The auxiliary vector as it stands on the process's stack, behind arguments and environment (elf(5)).
    Raises CannotSee, SourceError: it is not where the program was started with it.
    """
    words = view.text(view.of_process("stat")).rpartition(")")[2].split()
    # The 28th field, the third being the first behind the name: proc_pid_stat(5); 0 for who may not look.
    start = int(words[25]) if len(words) > 25 and words[25].isdigit() else 0
    stack = maps.find(view.mappings, start) if start else None
    if stack is None or stack.end - start > STACK_BYTES_MAX:
        raise SourceError("where its stack begins is not to be seen")
    data = process.read_memory(view.pid, start, stack.end - start)
    width = view.bits // 8
    number, pointer = int.from_bytes(data[:width], sys.byteorder), bytes(width)
    at = width * (1 + number + 1)
    while at < len(data) and data[at : at + width] != pointer:
        at += width
    return auxv.decode(data[at + width :], bits=view.bits)


@dataclass(frozen=True, slots=True)
class Log:
    """The kernel's messages, oldest first. `whole`: from the boot on, none lost."""

    lines: tuple[str, ...]
    whole: bool


def read_log(root: str) -> Log:
    """The kernel's messages: its buffer, or what the boot's were kept as. Raises CannotSee."""
    refused = CannotSee("the kernel's messages", "there is no /dev/kmsg")
    kept = os.path.join(root, "var/log/dmesg")
    log = None
    try:
        log = log_of(kmsg(os.path.join(root, "dev/kmsg")))
        if log.whole:
            return log
    except OSError as error:
        why = reason(error)
        # Of dmesg_restrict: the file itself is everybody's to read.
        hint = ": kernel.dmesg_restrict keeps them for root" if isinstance(error, PermissionError) else ""
        refused = CannotSee("the kernel's messages", why + hint)
    try:
        with open(kept, "rb") as stream:
            return log_of(stream.read(LOG_BYTES_MAX))
    except OSError:
        if log is None:
            raise refused from None
        return log


def kmsg(path: str) -> bytes:
    """All records that the kernel's buffer holds now. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISCHR(os.fstat(fd).st_mode):
            with open(fd, "rb", closefd=False) as stream:
                return stream.read(LOG_BYTES_MAX)
        records: list[bytes] = []
        while True:
            try:
                record = os.read(fd, RECORD_BYTES)
            except BlockingIOError:
                return b"".join(records)
            except BrokenPipeError:  # overwritten while it was read: the next is the oldest there is
                records.clear()
                continue
            if not record:
                return b"".join(records)
            records.append(record)
    finally:
        os.close(fd)


def log_of(data: bytes) -> Log:
    """The messages of kmsg's records, or of lines as dmesg(1) prints them."""
    lines: list[str] = []
    first: int | None = None
    for line in data.decode("utf-8", "replace").splitlines():
        record = RECORD.match(line)
        if record is not None:
            first = int(record[1]) if first is None else first
            lines.append(record[2])
            continue
        printed = SHOWN_LINE.match(line)
        if printed is not None:
            lines.append(printed[1])
    # The boot's first message names the kernel; a buffer's first record, if none was lost, has number 0.
    return Log(tuple(lines), first == 0 or any(line.startswith("Linux version") for line in lines[:5]))


def reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def parsed(path: str, decode: Callable[[bytes], T], data: bytes) -> T:
    try:
        return decode(data)
    except VdsoError as error:
        raise CannotSee(f"/{path}", error.message) from None
