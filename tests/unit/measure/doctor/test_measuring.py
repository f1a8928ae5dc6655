"""What is measured here, where another way to the same figure is at hand."""

import os
import signal
import time
from pathlib import Path

import pytest

from vdso import _core
from vdso.measure.doctor import measuring
from vdso.measure.doctor.patient import held

CLOCK_MONOTONIC_COARSE = 6


def test_a_coarse_clock_moves_by_its_resolution() -> None:
    """Or, where this process did not run meanwhile, by some of them at once."""
    resolution = time.clock_getres(CLOCK_MONOTONIC_COARSE) * 1e9
    ticks = _core.clock_step(CLOCK_MONOTONIC_COARSE, 1_000_000_000) / resolution
    assert round(ticks) >= 1
    assert ticks == pytest.approx(round(ticks), rel=0.01)


def test_a_fine_clock_moves_with_each_read() -> None:
    assert 0 < _core.clock_step(time.CLOCK_MONOTONIC, 100_000_000) < 100_000


def test_a_clock_that_there_is_not() -> None:
    with pytest.raises(OSError, match="Invalid"):
        _core.clock_step(99, 1000)
    assert measuring.step(99) is None
    assert measuring.resolution(99) is None


def test_a_clock_that_is_given_no_time_has_not_moved() -> None:
    assert _core.clock_step(time.CLOCK_MONOTONIC, 0) == 0


def test_the_counters() -> None:
    pairs, handovers, warps, widest, compared, pairwise = _core.counter_compare(20_000_000)
    cpus = len(os.sched_getaffinity(0))
    assert pairs <= cpus * (cpus - 1) // 2 if pairwise else pairs <= cpus - 1
    assert pairwise or cpus > 2
    assert (widest > 0) == (warps > 0)
    assert not compared or pairs == 0 or handovers > 0


def test_everything_at_once() -> None:
    found = measuring.measure(True)
    assert found.figures is not None
    assert found.counter_allowed
    assert {clock.clock for clock in found.figures.clocks} >= {"REALTIME", "MONOTONIC", "MONOTONIC_COARSE"}
    clock = found.figures.clock("MONOTONIC")
    assert clock
    assert clock.syscall_ns
    assert found.figures.rounds >= 10


def test_a_program_is_held_before_its_first_instruction(tmp_path: Path) -> None:
    """It is there to be looked at, and never does anything."""
    witness = tmp_path / "witness"
    with held(["touch", str(witness)]) as (pid, why):
        assert why == ""
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        assert state == "t"
        assert os.path.basename(os.readlink(f"/proc/{pid}/exe")) == "touch"
        assert b"[vdso]" in Path(f"/proc/{pid}/maps").read_bytes()
        assert b"libc" not in Path(f"/proc/{pid}/maps").read_bytes()
    assert not Path(f"/proc/{pid}").exists()
    assert not witness.exists()


def test_what_ends_before_it_is_held() -> None:
    pid = os.fork()
    if pid == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    assert not _core.held_wait(pid)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
