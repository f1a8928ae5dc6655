"""A diagnosis that nobody made, and counts that nobody counted, for what is done with them."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from vdso.measure.doctor.result import (
    CRITICAL,
    FORMAT,
    KIND,
    NOTE,
    SLOW,
    Clock,
    Cost,
    Counter,
    Diagnosis,
    Figures,
    Finding,
    Host,
    Observation,
    Subject,
    Unseen,
)
from vdso.measure.result import Machine
from vdso.measure.sites import Frame
from vdso.measure.stat import RAW, THROUGH, VDSO, Caller, Row, Stat, Unknown

DiagnosisOf = Callable[..., Diagnosis]
StatOf = Callable[..., Stat]


@pytest.fixture(scope="session")
def diagnosis_of(stat_of: StatOf) -> DiagnosisOf:
    """diagnosis_of(**fields): of a program, by which everything that can be shown is shown."""

    def make(**fields: Any) -> Diagnosis:
        found = Diagnosis(
            kind=KIND,
            format=FORMAT,
            version="0.1.0",
            taken_at="2026-11-25T14:00:00Z",
            duration_s=3.1,
            quick=False,
            verdict=SLOW,
            reason="the clocksource <hpet> has no vDSO path",
            cost=Cost(290.0, 291.5, 25.0, 1.2e6, True, 0.318, "each clock read costs 290 ns instead of 25"),
            host=Host(
                Machine("host", "x86_64", "A CPU <of> some & sort", 2, "6.18.0", "hpet", "", "glibc 2.36"),
                "KVM",
                "a product",
                ("tsc", "hpet"),
                "",
                ("constant_tsc",),
                "none",
                "btf",
            ),
            subject=Subject(
                "command",
                77,
                "a\x1b[31m\udcff<b>",
                "/bin/a",
                64,
                "musl",
                "kernel",
                "xonly",
                2,
                "",
                (),
                False,
                False,
                "SIGKILL",
            ),
            figures=Figures(
                150,
                1,
                (
                    Clock("REALTIME", 289.1, 290.2, 291.3, "vdso-syscall", 1, 280),
                    Clock("MONOTONIC_COARSE", 5.25, None, 2345.6, None, 4_000_000, None),
                ),
                95.0,
                Counter(9.1, 15.2, 1, 1000, 0, 0, True),
                (),
            ),
            aslr=None,
            observation=Observation(stat_of(), whole=True, slowed=False),
            findings=(
                Finding(
                    "a-check",
                    CRITICAL,
                    "it <is> slow",
                    "because & so",
                    "echo tsc >there",
                    "https://kernel.org/a",
                ),
                Finding("b-check", NOTE, "to be known", "as it is", "nothing to do", "time(7)"),
            ),
            unseen=(Unseen("the <log>", "it is root's", ("c-check", "d-check")),),
            checks=("a-check", "b-check", "e-check"),
        )
        return dataclasses.replace(found, **fields)

    return make


@pytest.fixture(scope="session")
def stat_of() -> StatOf:
    """stat_of(**fields): of the same program, every kind of row and of caller in it."""

    def frame(function: str | None, of: str) -> Frame:
        return Frame(of, 0x1234, function, None if function is None else 0x1C, ".symtab")

    def make(**fields: Any) -> Stat:
        found = Stat(
            kind="vdso-stat",
            format=1,
            version="0.1.0",
            command=("a",),
            pid=78,
            ended="exit status 3",
            seconds=2.0,
            programs=1,
            processes=1,
            threads=2,
            calls=1_000_016,
            calls_per_s=500_008.0,
            cores=0.0123,
            rows=(
                Row("clock_gettime", "REALTIME", VDSO, "", 800_000, 400_000.0, 20.75, 0.0083),
                Row(
                    "clock_gettime",
                    "REALTIME",
                    RAW,
                    "it makes it <itself>",
                    200_000,
                    100_000.0,
                    150.25,
                    0.015,
                ),
                Row("clock_gettime", "PROCESS_CPUTIME_ID", THROUGH, "CPU time & so", 12, 6.0, None, None),
                Row("getcpu", "", VDSO, "", 4, 2.0, 3.0, 0.000006),
            ),
            by="all",
            groups=(),
            callers=(
                Caller(
                    "clock_gettime",
                    "REALTIME",
                    750_000,
                    700,
                    frame("tick<int>", "/bin/a"),
                    (frame("clock_gettime", "/lib/libc.so.6"), frame("now", "/lib/b.so")),
                    (frame("main", "/bin/a"),),
                    "",
                ),
                Caller("getcpu", "", 249_990, 30, frame(None, "/bin/c"), (), (), ""),
                Caller("time", "", 10, 1, None, (), (), "no <unwind> information"),
            ),
            unknown=(Unknown("what <32-bit> code does", "nobody counts it"),),
        )
        return dataclasses.replace(found, **fields)

    return make
