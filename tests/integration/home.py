"""The host's clock, for tests of who travels away from it."""

import ctypes
import datetime as dt
import time

T_2030 = 1893456000  # 2030-01-01T00:00:00Z
NEW_YEAR = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
SECOND = 10**9

libc = ctypes.CDLL(None, use_errno=True)
libc.time.restype = ctypes.c_long


def at_home() -> bool:
    """Whether REALTIME is the host's, by the system call itself."""
    spec = (ctypes.c_long * 2)()
    assert libc.syscall(228, time.CLOCK_REALTIME, spec) == 0
    return abs(spec[0] - time.time()) < 5
