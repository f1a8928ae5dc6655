"""Samples of clock calls, taken from a real program by ptrace: a breakpoint at each of its vDSO's functions.

Not the way that the package counts calls, so that who called is found out from what any taker of samples
sees.
"""

import contextlib
import ctypes
import os
import signal
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vdso.kernel import maps, source
from vdso.measure.sample import Sample

PTRACE_TRACEME, PTRACE_CONT, PTRACE_KILL, PTRACE_SINGLESTEP = 0, 7, 8, 9
PTRACE_GETREGS, PTRACE_SETREGS, PTRACE_SETOPTIONS = 12, 13, 0x4200
TRACECLONE, EXITKILL = 0x8, 0x100000
WALL = 0x40000000
# struct user_regs_struct, <sys/user.h>.
REGISTERS = [
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi",
    "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs",
]  # fmt: skip
KEPT = ("rbp", "rbx", "r12", "r13", "r14", "r15")
FUNCTIONS = {"__vdso_clock_gettime", "__vdso_gettimeofday", "__vdso_time"}
BREAK = b"\xcc"
STACK_BYTES = 512

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def ptrace(request: int, tid: int, address: int = 0, data: int | ctypes.Array[ctypes.c_char] = 0) -> None:
    pointer = ctypes.addressof(data) if isinstance(data, ctypes.Array) else data
    if libc.ptrace(request, tid, address, pointer) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def traced() -> None:
    """In the child, before it executes."""
    libc.ptrace(PTRACE_TRACEME, 0, 0, 0)


@dataclass
class Captured:
    """Samples, and what the process had mapped when the last was taken."""

    pid: int
    samples: list[Sample]
    mappings: list[maps.Mapping]


class Capture:
    """A program that runs, step by step, to its vDSO. A context: at the end it is killed.

    `program`: what the command executes at last, where that is not its first word.
    """

    def __init__(
        self,
        words: Sequence[str | Path],
        *,
        program: str | Path | None = None,
        stack_bytes: int = STACK_BYTES,
    ) -> None:
        self.stack_bytes = stack_bytes
        self.pid = os.fork()
        if self.pid == 0:
            try:
                null = os.open(os.devnull, os.O_RDWR)
                for fd in (0, 1):
                    os.dup2(null, fd)
                traced()
                os.execv(words[0], [str(word) for word in words])
            finally:
                os._exit(127)
        wanted = str(program or os.path.realpath(words[0]))
        self._wait(self.pid)
        while os.readlink(f"/proc/{self.pid}/exe") != wanted:
            ptrace(PTRACE_CONT, self.pid)
            stopped = self._wait(self.pid)
            while stopped != signal.SIGTRAP:
                ptrace(PTRACE_CONT, self.pid, 0, stopped)
                stopped = self._wait(self.pid)
        ptrace(PTRACE_SETOPTIONS, self.pid, 0, TRACECLONE | EXITKILL)
        image = source.from_process(self.pid)
        assert image.address is not None
        self.entries = {
            image.address + image.offset(function): function.name
            for function in image.functions
            if function.name in FUNCTIONS
        }
        self.memory = os.open(f"/proc/{self.pid}/mem", os.O_RDWR)
        self.first = {address: os.pread(self.memory, 1, address) for address in self.entries}
        for address in self.entries:
            os.pwrite(self.memory, BREAK, address)
        self.threads = {self.pid}

    def __enter__(self) -> "Capture":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.memory)
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        while True:
            try:
                os.waitpid(-1 if len(self.threads) > 1 else self.pid, WALL)
            except ChildProcessError:
                return

    def take(
        self, count: int, wanted: Callable[[Sample], bool] = lambda _: True, tries: int = 100_000
    ) -> Captured:
        """So many samples of those that are wanted."""
        samples: list[Sample] = []
        tid, deliver = self.pid, 0
        ptrace(PTRACE_CONT, tid, 0, deliver)
        mappings: list[maps.Mapping] = []
        while len(samples) < count:
            tid, status = os.waitpid(-1, WALL)
            assert os.WIFSTOPPED(status) or tid != self.pid, f"the program has ended: {status:#x}"
            if not os.WIFSTOPPED(status):
                self.threads.discard(tid)
                continue
            self.threads.add(tid)
            stopped, deliver = os.WSTOPSIG(status), 0
            if stopped == signal.SIGTRAP and status >> 16 == 0:
                registers = self._registers(tid)
                address = registers["rip"] - 1
                if address in self.entries:
                    tries -= 1
                    assert tries > 0, "none of the samples is one of those that are wanted"
                    sample = self._sample(tid, address, registers)
                    if wanted(sample):
                        samples.append(sample)
                        if len(samples) == count:
                            mappings = maps.read(self.pid)
                    self._step_over(tid, address, registers)
                    if len(samples) == count:
                        break
            elif stopped not in (signal.SIGSTOP, signal.SIGTRAP):
                deliver = stopped
            ptrace(PTRACE_CONT, tid, 0, deliver)
        return Captured(self.pid, samples, mappings)

    def _sample(self, tid: int, address: int, registers: dict[str, int]) -> Sample:
        (back,) = struct.unpack("<Q", os.pread(self.memory, 8, registers["rsp"]))
        rsp, rbp = registers["rsp"] + 8, registers["rbp"]
        kept = {name: registers[name] for name in KEPT}
        stack = self._read(rsp)
        frame = b"" if rsp <= rbp < rsp + len(stack) else self._read(rbp)
        name = self.entries[address].removeprefix("__vdso_")
        clock = ctypes.c_int(registers["rdi"]).value if name == "clock_gettime" else None
        return Sample(self.pid, tid, name, clock, 1, {"rip": back, "rsp": rsp, **kept}, stack, frame)

    def _read(self, address: int) -> bytes:
        for size in (self.stack_bytes, min(self.stack_bytes, 4096 - address % 4096)):
            try:
                return os.pread(self.memory, size, address)
            except (OSError, OverflowError):
                continue
        return b""

    def _registers(self, tid: int) -> dict[str, int]:
        data = ctypes.create_string_buffer(8 * len(REGISTERS))
        ptrace(PTRACE_GETREGS, tid, 0, data)
        return dict(zip(REGISTERS, struct.unpack(f"<{len(REGISTERS)}Q", data.raw), strict=True))

    def _step_over(self, tid: int, address: int, registers: dict[str, int]) -> None:
        registers = {**registers, "rip": address}
        data = ctypes.create_string_buffer(struct.pack(f"<{len(REGISTERS)}Q", *registers.values()))
        ptrace(PTRACE_SETREGS, tid, 0, data)
        os.pwrite(self.memory, self.first[address], address)
        ptrace(PTRACE_SINGLESTEP, tid)
        self._wait(tid)
        os.pwrite(self.memory, BREAK, address)

    def _wait(self, tid: int) -> int:
        _, status = os.waitpid(tid, WALL)
        assert os.WIFSTOPPED(status), f"the program has ended: {status:#x}"
        return os.WSTOPSIG(status)
