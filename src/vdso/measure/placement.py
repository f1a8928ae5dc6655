"""Where the kernel puts the vDSO, exec after exec: what address space layout randomisation does with it.

Measured: nothing is concluded from settings, which are shown beside it.
"""

import math
import os
from dataclasses import dataclass

from vdso import _core
from vdso.errors import HelperMissing, VdsoError

BASE_PROGRAM = os.path.join(os.path.dirname(os.path.dirname(__file__)), "libexec", "vdso-base")
ADDR_NO_RANDOMIZE = 0x0040000  # linux/personality.h


@dataclass(frozen=True, slots=True)
class Placement:
    """The vDSO's addresses in `execs` executions of a small program.

    `entropy_bits`: log2 of the places between the lowest and the highest that were seen, which is what a
    uniform choice among them is worth. `lowest` and `highest` are addresses, None without a vDSO.
    """

    execs: int
    without_vdso: int
    distinct: int
    shared: int
    entropy_bits: float
    lowest: int | None
    highest: int | None
    randomize_va_space: int | None
    randomization_off: bool | None

    @property
    def moves(self) -> bool:
        return self.distinct > 1


def setting() -> int | None:
    """/proc/sys/kernel/randomize_va_space (proc_sys_kernel(5)): 0 off, 1 and 2 on; None: not to be read."""
    try:
        with open("/proc/sys/kernel/randomize_va_space", encoding="ascii") as stream:
            return int(stream.read())
    except (OSError, ValueError):
        return None


def switched_off(pid: int | None = None) -> bool | None:
    """Whether ADDR_NO_RANDOMIZE is on (personality(2), `setarch -R`). None: not to be read."""
    try:
        with open(f"/proc/{pid or 'self'}/personality", encoding="ascii") as stream:
            return bool(int(stream.read(), 16) & ADDR_NO_RANDOMIZE)
    except (OSError, ValueError):
        return None


def summarise(addresses: list[int]) -> Placement:
    """What a list of the vDSO's addresses says; 0 stands for a process without one."""
    present = [address for address in addresses if address]
    varying = 0
    for address in present:
        varying |= address ^ present[0]
    lowest, highest = min(present, default=None), max(present, default=None)
    # Places lie as far apart as the lowest bit that ever changes.
    places = (highest - lowest) // (varying & -varying) + 1 if lowest and highest and varying else 1
    distinct = len(set(present))
    return Placement(
        execs=len(addresses),
        without_vdso=len(addresses) - len(present),
        distinct=distinct,
        shared=len(present) - distinct,
        entropy_bits=round(math.log2(places), 1),
        lowest=lowest,
        highest=highest,
        randomize_va_space=setting(),
        randomization_off=switched_off(),
    )


def measure(execs: int = 200) -> Placement:
    """Executes a small program that often. Raises HelperMissing, VdsoError."""
    try:
        return summarise(_core.placement(BASE_PROGRAM, execs))
    except FileNotFoundError as error:
        raise HelperMissing(f"{BASE_PROGRAM} is missing") from error
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise VdsoError(f"{BASE_PROGRAM} cannot be executed: {why}") from error
