"""A process's address space: this one's."""

import ctypes
import dataclasses
import mmap
import os

import pytest
from programs import BASE, TEXT, build

from vdso.errors import SourceError
from vdso.kernel import maps
from vdso.measure.callers import space as spaces
from vdso.measure.callers.space import Library


def code_of_libc() -> tuple[maps.Mapping, list[maps.Mapping]]:
    mappings = maps.read()
    address = ctypes.cast(ctypes.CDLL(None).getpid, ctypes.c_void_p).value
    assert address is not None
    found = maps.find(mappings, address)
    assert found is not None
    return found, mappings


def test_addresses_of_files() -> None:
    libc, mappings = code_of_libc()
    with Library() as library:
        point = library.space(os.getpid(), mappings).at(libc.start + 64)
        assert point is not None
        assert point.code is not None
        assert (point.name, point.address) == (libc.name, point.code.object.address(libc.offset + 64))


def test_what_is_mapped_and_no_file() -> None:
    mappings = maps.read()
    with Library() as library:
        space = library.space(os.getpid(), mappings)
        assert space.at(0x1000) is None
        assert space.at(id(space)) is None, "data is no code"
        image = next((one for one in mappings if one.name == "[vdso]"), None)
        if image is not None:
            point = space.at(image.start + 16)
            assert point is not None
            assert (point.name, point.address, point.why) == ("[vdso]", 16, "the kernel's own code")


def test_code_that_is_mapped_later(monkeypatch: pytest.MonkeyPatch) -> None:
    with Library() as library:
        space = library.space(os.getpid())
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        protection = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
        area = mmap.mmap(-1, 4096, private, protection)
        # call *%rax, and behind it the return address
        area[14:16] = b"\xff\xd0"
        address = ctypes.addressof(ctypes.c_char.from_buffer(area)) + 16
        monkeypatch.setattr(spaces, "LOOK_AGAIN_S", 3600)
        assert space.at(address) is None
        monkeypatch.setattr(spaces, "LOOK_AGAIN_S", 0)
        assert space.at(address + 1) is not None
        point = space.at(address)
        assert point is not None
        assert (point.name, point.why) == ("generated code [anon]", "generated code")
        assert point.call is not None, "it is read from memory"


def test_a_process_that_is_not_there() -> None:
    with Library() as library, pytest.raises(SourceError):
        library.space(1 << 22)


def test_a_file_of_the_same_number_on_another_device() -> None:
    """As on btrfs and overlayfs: it is the one if memory begins as it does."""
    libc, mappings = code_of_libc()
    other = [dataclasses.replace(one, device="ff:ff") if one.inode == libc.inode else one for one in mappings]
    # Nothing is mapped at exactly these addresses, so that the kernel has no link to follow.
    elsewhere = dataclasses.replace(libc, start=libc.start + 4096, offset=libc.offset + 4096, device="ff:ff")
    with Library() as library:
        point = library.space(os.getpid(), [elsewhere, *other]).at(elsewhere.start + 16)
        assert point is not None
        assert point.code is not None


def test_what_cannot_be_opened_is_said() -> None:
    libc, _ = code_of_libc()
    gone = dataclasses.replace(
        libc, start=libc.start + 4096, inode=libc.inode + 1, name=libc.name + " (deleted)"
    )
    with Library() as library:
        point = library.space(os.getpid(), [gone]).at(gone.start)
        assert point is not None
        assert point.code is None
        assert point.name == libc.name
        assert point.why == "its file has been deleted or replaced, and only privilege can read it as it was"


def test_names_are_printable() -> None:
    libc, _ = code_of_libc()
    with Library() as library:
        odd = dataclasses.replace(libc, start=libc.start + 4096, inode=libc.inode + 1, name="/a\x1b[31m\nb")
        point = library.space(os.getpid(), [odd]).at(odd.start)
        assert point is not None
        assert point.name == "/a\\x1b[31m\\nb"


def test_an_object_is_its_own_addresses() -> None:
    from vdso.measure.callers.objects import Object

    made = Object("made", build(b"\xc3" * 64).data)
    assert made.address(TEXT + 5) == BASE + TEXT + 5
    assert made.at(BASE + TEXT, 4) == b"\xc3" * 4
    assert made.at(BASE + TEXT + 10**6, 4) == b""
    assert made.address(1 << 40) is None
