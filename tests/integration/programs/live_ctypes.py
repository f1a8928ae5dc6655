"""live_ctypes FILE READS SCHEMA: as live.c, in Python by ctypes, without this package."""

import ctypes
import sys


class Level(ctypes.Structure):
    _fields_ = [("price", ctypes.c_double), ("count", ctypes.c_uint32)]


class Origin(ctypes.Structure):
    _fields_ = [("x", ctypes.c_int16), ("y", ctypes.c_int16)]


class Live(ctypes.Structure):
    _fields_ = [
        ("seq", ctypes.c_uint64),
        ("neg", ctypes.c_int64),
        ("half", ctypes.c_double),
        ("third", ctypes.c_float),
        ("low", ctypes.c_uint32),
        ("byte", ctypes.c_uint8),
        ("odd", ctypes.c_bool),
        ("venue", ctypes.c_char * 16),
        ("blob", ctypes.c_uint8 * 12),
        ("depth", ctypes.c_double * 10),
        ("levels", Level * 3),
        ("origin", Origin),
    ]


library = ctypes.CDLL(sys.argv[1])
reads, schema = int(sys.argv[2]), ctypes.c_uint64(int(sys.argv[3]))
library.live_half.restype = ctypes.c_double
library.live_version.restype = ctypes.c_uint64
r, seen = Live(), ctypes.c_uint64()
last = versions = tries = 0
while tries < reads or versions < 100:
    tries += 1
    answer = library.live_snapshot_of(ctypes.byref(r), schema, ctypes.byref(seen))
    if answer == 2:  # lapped
        continue
    n = seen.value
    assert answer == 0
    assert r.seq == n >= last
    assert (r.neg, r.half, r.third) == (-n, n / 2, n % 4096 / 4)
    assert (r.low, r.byte, r.odd) == (n % 2**32, n % 256, n % 2 == 1)
    assert r.venue.decode() == f"v{n % 100000000000000}"
    assert list(r.blob) == [n % 256] * 12
    assert list(r.depth) == [n + k for k in range(10)]
    assert [(level.price, level.count) for level in r.levels] == [
        (n * (k + 1), (n + k) % 2**32) for k in range(3)
    ]
    assert (r.origin.x % 65536, ~r.origin.y % 65536) == (n % 65536, n % 65536)
    before, value, after = library.live_version(), library.live_half(), library.live_version()
    assert before / 2 <= value <= after / 2
    versions += n != last
    last = n
print(versions)
