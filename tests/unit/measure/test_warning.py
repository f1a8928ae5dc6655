"""The catalogue of warnings: each provoked, none without its reason."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from vdso.measure.result import BenchResult, Caution
from vdso.measure.warning import CATALOGUE, with_warnings

RunOf = Callable[..., BenchResult]


def changed(result: Any, part: str, **fields: Any) -> Any:
    return dataclasses.replace(result, **{part: dataclasses.replace(getattr(result, part), **fields)})


def slowed(result: Any, key: tuple[str, str, str], ns: float) -> Any:
    rows = [dataclasses.replace(row, median_ns=ns) if row.key == key else row for row in result.rows]
    return dataclasses.replace(result, rows=tuple(rows))


def spread(result: Any, to: float) -> Any:
    rows = [
        dataclasses.replace(row, p95_ns=row.median_ns * to) if row.median_ns is not None else row
        for row in result.rows
    ]
    return dataclasses.replace(result, rows=tuple(rows))


PROVOKED = {
    "tracer": (
        lambda r: changed(r, "conditions", tracer_pid=77, tracer="strace"),
        "a debugger or tracer is attached (strace, process 77): it may stop every system call",
    ),
    "seccomp": (
        lambda r: changed(r, "conditions", seccomp_filters=2),
        "2 seccomp filters on this process: each true system call goes through it first",
    ),
    "our-image": (
        lambda r: changed(r, "conditions", image="vdso run", seccomp_filters=1),
        "the vDSO of this process is one of ours, not the kernel's",
    ),
    "no-vdso": (
        lambda r: changed(r, "conditions", image="none"),
        "this process has no vDSO: every read of a clock is a system call",
    ),
    "no-vdso-path": (
        lambda r: changed(
            changed(r, "saving", vdso_cores=1.6, saved_cores=0.05), "machine", clocksource="hpet"
        ),
        "the vDSO makes the system call itself (clocksource hpet)",
    ),
    "emulator": (
        lambda r: changed(r, "machine", hypervisor="TCGTCGTCGTCG"),
        "an emulator (QEMU TCG) runs this machine: no figure is a CPU's",
    ),
    "trapped-counter": (
        # With it the vDSO saves nothing either, and still makes no system call.
        lambda r: changed(slowed(r, ("rdtsc", "", "cpu"), 1830.4), "saving", vdso_cores=18.4),
        "reading the counter takes 1830 ns: KVMKVMKVM intercepts it",
    ),
    "unpinned": (
        lambda r: dataclasses.replace(r, cpu=None),
        "pinning to a CPU was refused: the run may have moved between CPUs",
    ),
    "frequency-scaling": (
        lambda r: changed(r, "conditions", governor="powersave"),
        "CPU 1's frequency is scaled by the governor powersave",
    ),
    "preloaded": (
        lambda r: changed(r, "conditions", preloaded="libfaketime.so.1"),
        "LD_PRELOAD is set (libfaketime.so.1): the C library's column may be that library's",
    ),
    "stolen-time": (
        lambda r: dataclasses.replace(r, stolen_percent=7.4),
        "the hypervisor gave 7 % of the CPU's time to others",
    ),
    "load": (
        lambda r: changed(r, "conditions", load_1min=3.25),
        "the load average is 3.25 on 2 CPUs: others compete for them",
    ),
    "noisy-machine": (
        lambda r: spread(r, 1.6),
        "noisy: half of the rows vary by more than 61 % from p5 to p95",
    ),
    "cut-short": (
        lambda r: dataclasses.replace(r, rounds=40),
        "stopped after 40 of 200 rounds, at its limit of time",
    ),
}


def test_a_quiet_machine_has_none(run_of: RunOf) -> None:
    assert with_warnings(run_of(), rounds_asked=200).warnings == ()


def test_every_entry_is_provoked_here() -> None:
    assert {entry.id for entry in CATALOGUE} == set(PROVOKED)
    assert len({entry.id for entry in CATALOGUE}) == len(CATALOGUE)


@pytest.mark.parametrize("name", list(PROVOKED))
def test_one_is_provoked_alone(run_of: RunOf, name: str) -> None:
    provoke, said = PROVOKED[name]
    (found,) = with_warnings(provoke(run_of()), rounds_asked=200).warnings
    assert (found.id, found.text) == (name, said)
    assert found.advice


def test_advice_fits_the_options(run_of: RunOf) -> None:
    def advice(quick: bool) -> str:
        provoked = dataclasses.replace(spread(run_of(), 1.5), quick=quick)
        (found,) = with_warnings(provoked, rounds_asked=200).warnings
        assert isinstance(found, Caution)
        return found.advice

    assert "--quick" in advice(True)
    assert "--quick" not in advice(False)


def test_a_governor_that_does_not_scale_is_none(run_of: RunOf) -> None:
    fixed = changed(run_of(), "conditions", governor="performance")
    assert with_warnings(fixed, rounds_asked=200).warnings == ()
