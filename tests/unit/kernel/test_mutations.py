"""Real images and others, changed at random: reading them gives an image or one SourceError, and ends."""

import contextlib
import struct
from functools import cache

import elves
import exercise
import kernels
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vdso.errors import SourceError
from vdso.kernel import Image
from vdso.kernel.comparison import compare

# How long an example takes depends on the machine; what ends is enough.
SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
NUMBERS = [
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    0x10,
    0x18,
    0x40,
    0x7F,
    0x80,
    0xFF,
    0x100,
    0xFFF,
    0x1000,
    0x2000,
    0x7FFF,
    0x8000,
]
NUMBERS += [0xFFFF, 0x10000, 99_999, 100_001, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFF0, 0xFFFF_FFFF, 1 << 32]
NUMBERS += [1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 0x1000, (1 << 64) - 1]


@cache
def own() -> bytes:
    return Image.from_process().data


@cache
def seeds() -> dict[str, bytes]:
    found = {"own": own()}
    for machine in elves.MACHINES:
        for hashes in (("sysv",), ("gnu",), ("sysv", "gnu")):
            found[f"{machine} {'+'.join(hashes)}"] = bytes(
                elves.build(machine, hashes=hashes, code=bytes(range(96)))
            )
    return found


@st.composite
def changes(draw: st.DrawFn, data: bytes) -> bytes:
    """The data with a few numbers overwritten, pieces moved, or its end cut off."""
    result = bytearray(data)
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["number", "number", "number", "byte", "copy", "cut"]))
        # Tables and headers stand in front, where most changes should fall.
        at = draw(st.one_of(st.integers(0, min(len(result), 1400) - 1), st.integers(0, len(result) - 1)))
        if kind == "number":
            size = draw(st.sampled_from([1, 2, 4, 8]))
            at = at // size * size
            order = draw(st.sampled_from(["little", "big"]))
            value = draw(st.one_of(st.sampled_from(NUMBERS), st.integers(0, len(data))))
            result[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, order)
        elif kind == "byte":
            result[at] = draw(st.integers(0, 255))
        elif kind == "copy":
            size = draw(st.integers(1, 64))
            to = draw(st.integers(0, len(result) - 1))
            result[to : to + size] = result[at : at + size]
        else:
            del result[max(at, 1) :]
    return bytes(result)


# All of its code is decoded and compared, which takes ten times as long as the others.
@settings(SETTINGS, max_examples=50)
@given(st.data())
def test_this_machines_image(data: st.DataObject) -> None:
    changed = exercise.image(data.draw(changes(own())))
    if changed is not None:
        with contextlib.suppress(SourceError):
            compare(changed, Image.from_bytes(own()))


@SETTINGS
@given(st.data())
def test_images_of_every_machine(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(seeds())))
    exercise.image(data.draw(changes(seeds()[name])))


@SETTINGS
@given(st.data())
def test_cores(data: st.DataObject) -> None:
    bits, order = data.draw(st.sampled_from([(64, "<"), (32, "<"), (64, ">"), (32, ">")]))
    exercise.file(data.draw(changes(elves.core(seeds()["x86-64 sysv"], 0xF7FC_0000, bits=bits, order=order))))


@cache
def packed(packing: str, shape: str) -> bytes:
    body = kernels.kernel(seeds()["x86-64 gnu"], seeds()["i386 sysv"], size=64 << 10)
    payload = kernels.PACK[packing](kernels.vmlinux(body))
    return {"bzimage": kernels.bzimage, "zboot": kernels.zboot}[shape](payload)


@SETTINGS
@given(st.data())
def test_kernel_images(data: st.DataObject) -> None:
    packing = data.draw(st.sampled_from(sorted(kernels.PACK)))
    exercise.file(data.draw(changes(packed(packing, data.draw(st.sampled_from(["bzimage", "zboot"]))))))


@SETTINGS
@given(st.data())
def test_vmlinux(data: st.DataObject) -> None:
    body = kernels.kernel(seeds()["x86-64 gnu"], seeds()["s390x sysv"], size=64 << 10)
    exercise.file(data.draw(changes(kernels.vmlinux(body))))


@SETTINGS
@given(st.binary(max_size=4096))
def test_any_bytes(data: bytes) -> None:
    exercise.image(data)
    exercise.image(b"\x7fELF\x02\x01\x01" + data)
    exercise.file(data)
    exercise.texts(data)


@SETTINGS
@given(st.lists(st.tuples(st.sampled_from(NUMBERS), st.sampled_from(NUMBERS)), max_size=8))
def test_any_vector(pairs: list[tuple[int, int]]) -> None:
    exercise.texts(b"".join(struct.pack("<QQ", *(number % (1 << 64) for number in pair)) for pair in pairs))


@pytest.mark.parametrize("name", sorted(seeds()))
def test_unchanged(name: str) -> None:
    """The seeds are images: else all of the above would test nothing."""
    assert exercise.image(seeds()[name]) is not None
