"""One sampled clock call: what its caller's registers and stack were, for who asks later where it came from.

Only what was seen; whose code that is, vdso.measure.sites finds out.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """A call of the vDSO's `function`, standing for `weight` calls; `clock` is None where it takes none.

    `registers`: rip, rsp, rbp, rbx, r12, r13, r14, r15 as the caller has them once the function has returned,
    so that rip is the return address. `stack`: the memory from rsp upwards, as much as could be had. `frame`:
    the same from rbp upwards where that is another stack than rsp's: Go's runtime calls the vDSO on a stack
    that holds nothing of its caller; empty where it was not looked at. `raw`: no call of the vDSO, but a
    system call that the program made past it; only rip, behind its instruction, and rsp are known.
    """

    pid: int
    tid: int
    function: str
    clock: int | None
    weight: int
    registers: Mapping[str, int]
    stack: bytes
    frame: bytes = b""
    raw: bool = False
