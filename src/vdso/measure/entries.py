"""How often a running process enters the system calls that read clocks, by the kernel's tracepoints.

What its vDSO has not passed on, it has made past it. Takes CAP_PERFMON, and CAP_SYS_ADMIN to find them; while
they are on, every system call of the host takes some 0.1 us longer.
"""

import contextlib
import os
import resource
import struct

from vdso import _core
from vdso.measure.calls import CALLS, Call

# By clock where a vDSO may answer; what it never answers it passes on, and so every program's are there.
BY_CLOCK = (0, 1, 4, 5, 6, 7, 11)
FUNCTIONS = ("gettimeofday", "time")
# Their own names, in /proc/PID/comm: what follows a program reads the clock by system calls.
FOLLOWING = ("vdso-follower", "vdso-guard")
ROUNDS = 10  # of looks at which threads there are


class Entries:
    """Counters of one process, and of what it starts from then on. `from_exec`: only of programs that it
    executes, or has executed by what it forks, and not of those that follow them for us. Raises OSError where
    there are none.
    """

    def __init__(self, pid: int, *, from_exec: bool = False) -> None:
        self._from_exec = from_exec
        self._fds: dict[Call, list[int]] = {}
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        numbers = {name: _core.tracepoint_find(name) for name in ("clock_gettime", *FUNCTIONS)}
        wanted: list[tuple[Call, int, str | None]] = []
        others = [f'COMM != "{name}"' for name in FOLLOWING] if from_exec else []
        for call in CALLS.values():
            if call.function == "clock_gettime" and call.clock_id in BY_CLOCK:
                which = [f"which_clock == {call.clock_id}", *others]
                wanted.append((call, numbers["clock_gettime"], " && ".join(which)))
            elif call.function in FUNCTIONS:
                wanted.append((call, numbers[call.function], " && ".join(others) or None))
        seen: set[int] = set()
        try:
            for _ in range(ROUNDS):
                new = {int(tid) for tid in os.listdir(f"/proc/{pid}/task")} - seen
                if not new:
                    return
                for tid in new:
                    self._open(tid, wanted)
                seen |= new
        except OSError:
            self.close()
            raise

    def _open(self, tid: int, wanted: list[tuple[Call, int, str | None]]) -> None:
        for call, number, words in wanted:
            # A thread that has ended meanwhile calls nothing any more.
            with contextlib.suppress(ProcessLookupError):
                self._fds.setdefault(call, []).append(
                    _core.tracepoint_open(number, words, tid, self._from_exec)
                )

    def read(self) -> dict[Call, int]:
        """How often each was entered since then."""
        return {
            call: sum(struct.unpack("=Q", os.read(fd, 8))[0] for fd in fds) for call, fds in self._fds.items()
        }

    def close(self) -> None:
        for fds in self._fds.values():
            for fd in fds:
                os.close(fd)
        self._fds.clear()
