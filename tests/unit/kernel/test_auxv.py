"""The auxiliary vector, of this process and of others, in both widths."""

import ctypes
import os
import struct

import pytest

from vdso.errors import SourceError
from vdso.kernel import auxv


def test_of_this_process() -> None:
    getauxval = ctypes.CDLL(None).getauxval
    getauxval.restype = ctypes.c_ulong
    getauxval.argtypes = [ctypes.c_ulong]
    vector = auxv.read()
    assert vector == auxv.read(os.getpid())
    for key in (auxv.AT_SYSINFO_EHDR, auxv.AT_PAGESZ, auxv.AT_RANDOM, auxv.AT_ENTRY):
        assert vector[key] == getauxval(key)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("letters", ["QQ", "II"])
def test_its_width_shows(order: str, letters: str) -> None:
    pairs = {
        auxv.AT_SYSINFO: 0xF7FC_1000,
        auxv.AT_SYSINFO_EHDR: 0xF7FC_0000,
        auxv.AT_PAGESZ: 4096,
        auxv.AT_FLAGS: 0,
    }
    data = b"".join(struct.pack(order + letters, *pair) for pair in pairs.items())
    data += struct.pack(order + letters, 0, 0) + b"\xff" * 64
    assert auxv.decode(data, little_endian=order == "<") == pairs
    bits = 64 if letters == "QQ" else 32
    assert auxv.decode(data, bits=bits, little_endian=order == "<") == pairs


def test_no_vector() -> None:
    with pytest.raises(SourceError):
        auxv.decode(b"\xff" * 64)
    assert auxv.decode(b"") == {}
    assert auxv.decode(b"\x06") == {}
