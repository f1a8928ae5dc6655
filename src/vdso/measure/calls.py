"""The calls that are counted: functions of the vDSO, with the clocks that they are asked for."""

from dataclasses import dataclass

from vdso import _core
from vdso.kernel.clocks import clock_name

CPU_TIME_BY_ID = "CPU time by id"
DEVICE = "a device's"
AUXILIARY = "auxiliary"
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Call:
    """A function, and the clock that it is asked for: by name, and by number or one that stands for all such.

    "" and None where it takes none, or where all count together.
    """

    function: str
    clock: str = ""
    clock_id: int | None = None


# By what c/include/counting.h numbers.
CALLS = {
    **{number: Call("clock_gettime", clock_name(number), number) for number in range(_core.COUNT_IDS)},
    _core.COUNT_CPU: Call("clock_gettime", CPU_TIME_BY_ID, -6),
    _core.COUNT_DEVICE: Call("clock_gettime", DEVICE, -5),
    _core.COUNT_AUXILIARY: Call("clock_gettime", AUXILIARY, 16),
    _core.COUNT_UNKNOWN: Call("clock_gettime", UNKNOWN, 15),
    _core.COUNT_GETTIMEOFDAY: Call("gettimeofday"),
    _core.COUNT_TIME: Call("time"),
    _core.COUNT_GETCPU: Call("getcpu"),
    _core.COUNT_GETRES: Call("clock_getres"),
    _core.COUNT_GETRANDOM: Call("getrandom"),
}
