"""The auxiliary vector: what the kernel tells a program at its start, the vDSO's address among it.

getauxval(3) and include/uapi/linux/auxvec.h have the keys.
"""

import struct
import sys
from collections.abc import Mapping

from vdso.errors import SourceError
from vdso.kernel import process

AT_NULL = 0
AT_IGNORE = 1
AT_EXECFD = 2
AT_PHDR = 3
AT_PHENT = 4
AT_PHNUM = 5
AT_PAGESZ = 6
AT_BASE = 7
AT_FLAGS = 8
AT_ENTRY = 9
AT_NOTELF = 10
AT_UID = 11
AT_EUID = 12
AT_GID = 13
AT_EGID = 14
AT_PLATFORM = 15
AT_HWCAP = 16
AT_CLKTCK = 17
AT_SECURE = 23
AT_BASE_PLATFORM = 24
AT_RANDOM = 25
AT_HWCAP2 = 26
AT_RSEQ_FEATURE_SIZE = 27
AT_RSEQ_ALIGN = 28
AT_HWCAP3 = 29
AT_HWCAP4 = 30
AT_EXECFN = 31
AT_SYSINFO = 32
AT_SYSINFO_EHDR = 33
AT_MINSIGSTKSZ = 51

# No key comes near. The first 8 bytes of a vector of 4-byte words are a key and its value, never 0 there,
# which as one number is above it.
KEY_MAX = 0xFFFF


def read(pid: int | None = None) -> Mapping[int, int]:
    """Key to value, of a process or (None) of this one, from /proc/PID/auxv.

    A 32-bit process's vector is known by its 4-byte words. Raises SourceError: no such process, not ours to
    look into, a kernel thread, a zombie.
    """
    data = process.read(pid, "auxv")
    if not data:
        raise process.why_empty(pid)
    return decode(data, name=f"{process.named(pid)}'s auxiliary vector")


def decode(
    data: bytes,
    *,
    bits: int | None = None,
    little_endian: bool = sys.byteorder == "little",
    name: str = "the auxiliary vector",
) -> Mapping[int, int]:
    """Key to value of a vector's bytes; `bits`: 32 or 64, None to find out. Raises SourceError."""
    for width in (64, 32) if bits is None else (bits,):
        vector = _decode(data, ("<" if little_endian else ">") + ("QQ" if width == 64 else "II"))
        if vector is not None:
            return vector
    raise SourceError(f"{name} is none: its keys are not of the kernel's")


def _decode(data: bytes, pair: str) -> dict[int, int] | None:
    vector: dict[int, int] = {}
    size = struct.calcsize(pair)
    for key, value in struct.iter_unpack(pair, data[: len(data) // size * size]):
        if key == AT_NULL:
            break
        if key > KEY_MAX:
            return None
        vector[key] = value
    return vector
