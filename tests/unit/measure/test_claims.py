"""Verdicts on what is said of the vDSO, from evidence as it may be anywhere."""

import dataclasses
from typing import Any

import pytest

from vdso.kernel import maps
from vdso.kernel.image import Image
from vdso.kernel.vsyscall import Vsyscall
from vdso.measure import claims, placement
from vdso.measure.claims import FAILS, HOLDS, UNCHECKED, Evidence
from vdso.measure.result import BenchResult, Caution, Row, saving
from vdso.measure.rounds import bench
from vdso.measure.routes import Route, Routes


def row(call: str, route: str, ns: float | None, clock: str = "") -> Row:
    return Row(call, clock, route, "" if ns else "none here", 1, 1, ns, ns, ns, (ns,) if ns else ())


@pytest.fixture(scope="module")
def run() -> BenchResult:
    """A run whose rows are to be replaced."""
    return bench(quick=True, rounds=10, limit_s=0.01)


def with_rows(run: BenchResult, *rows: Row) -> Evidence:
    return Evidence(bench=dataclasses.replace(run, rows=rows, saving=saving(rows)))


def monotonic(run: BenchResult, vdso: float | None, syscall: float) -> Evidence:
    return with_rows(
        run,
        row("clock_gettime", "vdso", vdso, "MONOTONIC"),
        row("clock_gettime", "syscall", syscall, "MONOTONIC"),
        row("getppid", "syscall", syscall),
    )


def routes(*calls: tuple[str, str | None, str, str | None]) -> Routes:
    return Routes("glibc 2.36", tuple(Route(*call) for call in calls))


@pytest.mark.parametrize(
    ("vdso", "syscall", "verdicts"),
    [
        (15.0, 120.0, (HOLDS, HOLDS, HOLDS, HOLDS)),
        (25.0, 290.0, (FAILS, FAILS, FAILS, HOLDS)),
        (15.0, 99.6, (FAILS, HOLDS, HOLDS, FAILS)),
        (None, 120.0, (HOLDS, UNCHECKED, UNCHECKED, UNCHECKED)),
    ],
)
def test_costs(run: BenchResult, vdso: float | None, syscall: float, verdicts: tuple[str, ...]) -> None:
    found = monotonic(run, vdso, syscall)
    judges = (claims.transition, claims.vdso_cost, claims.ratio, claims.core_saved)
    assert tuple(judge(found).verdict for judge in judges) == verdicts
    if vdso is None:
        assert claims.vdso_cost(found).why == "none here"


@pytest.mark.parametrize(
    ("slowest_vdso", "quickest_syscall", "verdict"),
    [(22.0, 90.0, HOLDS), (26.0, 90.0, FAILS), (22.0, 24.0, FAILS), (200.0, 210.0, FAILS)],
)
def test_under_25(run: BenchResult, slowest_vdso: float, quickest_syscall: float, verdict: str) -> None:
    found = with_rows(
        run,
        row("time", "vdso", 3.0),
        row("clock_gettime", "vdso", slowest_vdso, "REALTIME"),
        row("clock_gettime", "vdso", 600.0, "PROCESS_CPUTIME_ID"),
        row("time", "syscall", quickest_syscall),
        row("clock_gettime", "syscall", 300.0, "REALTIME"),
    )
    assert claims.under_25(found).verdict == verdict


@pytest.mark.parametrize(("vsyscall", "verdict"), [(400.0, HOLDS), (80.0, FAILS), (None, UNCHECKED)])
def test_vsyscall_is_slow(run: BenchResult, vsyscall: float | None, verdict: str) -> None:
    found = with_rows(run, row("time", "vsyscall", vsyscall), row("time", "syscall", 90.0))
    assert claims.vsyscall_slow(found).verdict == verdict


@pytest.mark.parametrize(
    ("page", "verdict"),
    [
        (Vsyscall("xonly", 0xFFFFFFFFFF600000, 4096, "--xp"), HOLDS),
        (Vsyscall("none", None, None, None), FAILS),
        (None, UNCHECKED),
    ],
)
def test_vsyscall_is_where_it_was(page: Vsyscall | None, verdict: str) -> None:
    assert claims.vsyscall_address(Evidence(vsyscall=page)).verdict == verdict


@pytest.mark.parametrize(
    ("route", "syscall", "verdict"),
    [
        ("syscall", "getpid", HOLDS),
        ("library", None, FAILS),
        ("user", None, UNCHECKED),
        ("unknown", None, UNCHECKED),
    ],
)
def test_getpid(route: str, syscall: str | None, verdict: str) -> None:
    assert claims.getpid(Evidence(routes=routes(("getpid", None, route, syscall)))).verdict == verdict


def test_clocks() -> None:
    both = [("clock_gettime", name, "vdso", None) for name in ("REALTIME", "MONOTONIC")]
    cpu = ("clock_gettime", "THREAD_CPUTIME_ID", "vdso-syscall", "clock_gettime")
    found = claims.clocks(Evidence(routes=routes(*both, cpu)))
    assert (found.verdict, found.measured) == (HOLDS, "REALTIME, MONOTONIC")
    assert "THREAD_CPUTIME_ID" in found.why
    slow = ("clock_gettime", "MONOTONIC", "vdso-syscall", "clock_gettime")
    assert claims.clocks(Evidence(routes=routes(both[0], slow))).verdict == FAILS


@pytest.mark.parametrize(
    ("addresses", "verdict"),
    [([0x1000, 0x2000, 0x3000], HOLDS), ([0x1000, 0x1000, 0x2000], FAILS), ([0, 0], UNCHECKED)],
)
def test_aslr(addresses: list[int], verdict: str) -> None:
    assert claims.aslr(Evidence(aslr=placement.summarise(addresses))).verdict == verdict


def test_image() -> None:
    image = Image.from_process()
    small = dataclasses.replace(image, size_bytes=4096)
    assert claims.page_size(Evidence(image=small)).verdict == HOLDS
    assert claims.page_size(Evidence(image=dataclasses.replace(image, size_bytes=8192))).verdict == FAILS
    bare = dataclasses.replace(
        image, functions=tuple(f for f in image.functions if not f.name.endswith("getcpu"))
    )
    assert claims.functions(Evidence(image=bare)).measured == "lacks getcpu"
    assert claims.functions(Evidence(image=dataclasses.replace(image, machine="i386"))).verdict == UNCHECKED
    none = dataclasses.replace(image, machine="arm64", functions=())
    assert claims.arm64(Evidence(image=none)).verdict == FAILS
    assert claims.arm64(Evidence(image=image)).verdict == UNCHECKED


@pytest.mark.parametrize("name", ["tracer", "emulator"])
def test_times_that_say_nothing(run: BenchResult, name: str) -> None:
    found = monotonic(run, 15.0, 120.0)
    assert found.bench is not None
    caution = Caution(name, f"there is {name}", "")
    found = dataclasses.replace(found, bench=dataclasses.replace(found.bench, warnings=(caution,)))
    verdicts = {claim.id: claim for claim in claims.check(found)}
    for claim in claims.TIMED:
        assert (verdicts[claim].verdict, verdicts[claim].why) == (UNCHECKED, f"there is {name}")


def test_an_image_that_is_not_the_kernels(run: BenchResult) -> None:
    conditions = dataclasses.replace(run.conditions, image="vdso run")
    image = Image.from_process()
    found = Evidence(bench=dataclasses.replace(run, conditions=conditions, warnings=()), image=image)
    verdicts = {claim.id: claim for claim in claims.check(found)}
    for claim in claims.OF_THE_IMAGE:
        assert verdicts[claim].verdict == UNCHECKED
        assert "one of ours" in verdicts[claim].why
    kernels = dataclasses.replace(run.conditions, image="kernel")
    found = dataclasses.replace(found, bench=dataclasses.replace(run, conditions=kernels, warnings=()))
    assert {claim.id: claim.verdict for claim in claims.check(found)}["page-size"] != UNCHECKED


def test_one_address_is_one() -> None:
    assert claims.aslr(Evidence(aslr=placement.summarise([0x1000] * 3))).measured.startswith(
        "1 address in 3 "
    )


def test_the_data_is_that_of_the_image() -> None:
    found = claims.gather()
    area = maps.area()
    assert found.image is not None
    assert area.image is not None
    assert found.image.address == area.image.start
    assert found.data_bytes == sum(page.size for page in area.pages) > 0


def test_nothing_found_is_nothing_said() -> None:
    lacking = {name: f"no {name} here" for name in ("bench", "image", "routes", "aslr", "page")}
    for claim in claims.check(Evidence(lacking=lacking)):
        assert (claim.verdict, claim.measured) == (UNCHECKED, "")
        assert claim.why


def test_every_sentence_once(run: BenchResult) -> None:
    found: Any = claims.check(monotonic(run, 15.0, 120.0))
    assert len({claim.id for claim in found}) == len(found) == 15
