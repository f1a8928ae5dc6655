"""How this process's C library reaches each clock: observed in a child, see c/core/observe.h.

Says what happened to one call each, not what a version or a symbol lets expect.
"""

import os
import platform
from dataclasses import dataclass

from vdso import _core
from vdso.errors import SeccompRefused, VdsoError
from vdso.kernel import process
from vdso.kernel.clocks import clock_name

# What was seen, in words.
ROUTES = {
    "vdso": "the vDSO",
    "vdso-syscall": "the vDSO, which makes the system call",
    "vdso-then-syscall": "the vDSO, then a system call by the C library",
    "syscall": "system call",
    "vsyscall": "the vsyscall page",
    "library": "the C library itself, neither vDSO nor kernel",
    "user": "stays out of the kernel; whether by the vDSO could not be seen",
    "unknown": "did not come back",
}


@dataclass(frozen=True, slots=True)
class Route:
    """Where one call of the C library went. `route` is a key of ROUTES; `syscall` names what was entered."""

    call: str
    clock: str | None
    route: str
    syscall: str | None

    @property
    def label(self) -> str:
        return self.call if self.clock is None else f"{self.call}({self.clock})"


@dataclass(frozen=True, slots=True)
class Routes:
    """Every observed call, and the C library that made them, such as "glibc 2.36"."""

    library: str
    calls: tuple[Route, ...]


def library() -> str:
    """The C library of this process, by its own word where it gives one."""
    try:
        name = os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):
        name = None
    if name:
        return name
    found = " ".join(filter(None, platform.libc_ver()))
    return found or "not glibc"


def classify(vdso: int, caller: int) -> str:
    """The key of ROUTES for what c/core/observe.c reports of a call."""
    if caller == _core.CALLER_NOBODY:
        return {1: "vdso", 0: "library"}.get(vdso, "user")
    if caller == _core.CALLER_LIBRARY and vdso == 1:
        return "vdso-then-syscall"
    return {
        _core.CALLER_LIBRARY: "syscall",
        _core.CALLER_VDSO: "vdso-syscall",
        _core.CALLER_VSYSCALL: "vsyscall",
    }.get(caller, "unknown")


def observe() -> Routes:
    """Makes each call once in a child. Raises SeccompRefused, VdsoError."""
    try:
        calls = _core.observe_calls()
    except PermissionError as error:
        raise SeccompRefused(
            "the filter that sees system calls is refused",
            "in a container: --security-opt seccomp=unconfined",
        ) from error
    except OSError as error:
        if not process.proc_mounted():
            raise VdsoError(process.NOT_MOUNTED) from None
        raise VdsoError(f"no child to observe calls in: {(error.strerror or str(error)).lower()}") from error
    return Routes(
        library(),
        tuple(
            Route(call, None if clock < 0 else clock_name(clock), classify(vdso, caller), syscall)
            for call, clock, vdso, caller, syscall in calls
        ),
    )
