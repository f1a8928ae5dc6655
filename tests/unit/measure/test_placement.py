"""Where the vDSO lands: what is made of addresses, and what the kernel does in fact."""

import os
import signal
from pathlib import Path

import pytest

from vdso.errors import HelperMissing, VdsoError
from vdso.measure import placement


def test_entropy_is_of_the_places_between() -> None:
    found = placement.summarise([0x7F00_0000_1000, 0x7F00_0000_2000, 0x7F00_0000_1000, 0x7F00_0040_0000])
    assert (found.execs, found.distinct, found.shared, found.without_vdso) == (4, 3, 1, 0)
    assert found.entropy_bits == 10.0  # pages 1 to 1024
    assert (found.lowest, found.highest) == (0x7F00_0000_1000, 0x7F00_0040_0000)
    assert found.moves


def test_bits_that_never_change_are_no_entropy() -> None:
    # 2 MiB apart at least: 8 places, whatever the page is.
    assert placement.summarise([0x7F00_0000_0000 + n * 0x20_0000 for n in (0, 1, 7)]).entropy_bits == 3.0


def test_one_place_is_no_entropy() -> None:
    found = placement.summarise([0x7FFF_F7FC_1000] * 5)
    assert (found.distinct, found.shared, found.entropy_bits, found.moves) == (1, 4, 0, False)


def test_no_vdso_at_all() -> None:
    found = placement.summarise([0] * 3)
    assert (found.without_vdso, found.distinct, found.lowest, found.highest) == (3, 0, None, None)
    assert not found.moves


def test_this_kernel_moves_it() -> None:
    if placement.setting() == 0 or placement.switched_off():
        pytest.skip("randomisation is off here")
    found = placement.measure(64)
    assert (found.execs, found.without_vdso) == (64, 0)
    assert found.entropy_bits >= 8
    assert found.lowest is not None
    assert found.lowest % os.sysconf("SC_PAGESIZE") == 0


def test_children_are_not_left_behind() -> None:
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as listed:
        before = listed.read()
        placement.measure(20)
        listed.seek(0)
        assert listed.read() == before


def test_measures_while_children_are_ignored() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert placement.measure(20).execs == 20
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_program_that_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(placement, "BASE_PROGRAM", str(tmp_path / "gone"))
    with pytest.raises(HelperMissing, match="gone is missing"):
        placement.measure(3)


def test_program_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "BASE_PROGRAM", "/bin/true")
    with pytest.raises(VdsoError, match="/bin/true"):
        placement.measure(3)
