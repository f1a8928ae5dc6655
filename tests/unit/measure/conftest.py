"""Runs that nobody measured, for what is done with runs."""

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import pytest

from vdso.measure.result import FORMAT, KIND, BenchResult, Conditions, Machine, Row, quantile, saving

MachineDoes = Callable[..., BenchResult]

COSTS = {
    ("clock_gettime", "REALTIME", "vdso"): 20.7,
    ("clock_gettime", "REALTIME", "libc"): 21.7,
    ("clock_gettime", "REALTIME", "syscall"): 154.4,
    ("clock_gettime", "REALTIME", "vsyscall"): None,
    ("clock_gettime", "MONOTONIC", "vdso"): 20.5,
    ("clock_gettime", "MONOTONIC", "libc"): 21.6,
    ("clock_gettime", "MONOTONIC", "syscall"): 160.5,
    ("clock_gettime", "MONOTONIC", "vsyscall"): None,
    ("time", "", "vdso"): 1.34,
    ("time", "", "libc"): 1.35,
    ("time", "", "syscall"): 88.8,
    ("time", "", "vsyscall"): 573.6,
    ("getppid", "", "syscall"): 95.4,
    ("rdtsc", "", "cpu"): 9.02,
    ("empty function", "", "cpu"): 0.67,
}


def row(key: tuple[str, str, str], values: list[float]) -> Row:
    if not values:
        return Row(*key, "no such <route> & never was", 0, 0, None, None, None, ())
    five, middle, ninety_five = (round(quantile(values, share), 3) for share in (0.05, 0.5, 0.95))
    return Row(*key, "", 500, len(values), middle, five, ninety_five, tuple(values))


def noise(rng: random.Random, ns: float, rounds: int, whole: float) -> list[float]:
    """Rounds as a real machine gives them: a level of the run's own, stretches that are slower, single
    outliers.
    """
    level = ns * (1 + rng.gauss(0, whole))
    values = []
    slow = 0
    for _ in range(rounds):
        if slow == 0 and rng.random() < 0.004:
            slow = rng.randrange(5, 60)
        slow = max(0, slow - 1)
        value = level * (1 + abs(rng.gauss(0, 0.01))) * (1.15 if slow else 1)
        values.append(round(value * (1 + 3 * rng.random()) if rng.random() < 0.01 else value, 3))
    return values


@pytest.fixture(scope="session")
def run_of() -> MachineDoes:
    """run_of(seed, rounds, factor={key: 1.2}, whole=0.01, **fields): one run of a machine that is always the
    same.
    """

    def make(
        seed: int = 1,
        rounds: int = 200,
        factor: dict[tuple[str, str, str], float] | None = None,
        whole: float = 0.01,
        **fields: Any,
    ) -> BenchResult:
        rng = random.Random(seed)
        rows = tuple(
            row(key, [] if ns is None else noise(rng, ns * (factor or {}).get(key, 1), rounds, whole))
            for key, ns in COSTS.items()
        )
        result = BenchResult(
            kind=KIND,
            format=FORMAT,
            version="0.1.0",
            taken_at="2026-11-25T14:00:00Z",
            duration_s=3.1,
            quick=False,
            rounds=rounds,
            cpu=1,
            timer_ns=200.0,
            loop_ns=0.3,
            stolen_percent=0.0,
            machine=Machine(
                "host", "x86_64", "A CPU <of> some & sort", 2, "6.18.0", "tsc", "KVMKVMKVM", "glibc 2.36"
            ),
            conditions=Conditions(0.2, 0, "", 0, "", "kernel", ""),
            rows=rows,
            saving=saving(rows),
            warnings=(),
        )
        return dataclasses.replace(result, **fields)

    return make
