"""The report: everything that was found stands on it, as words and as figures, whatever could not be had."""

import dataclasses
import re
from collections.abc import Callable

import pytest
from strict_html import parsed

from vdso.measure.doctor.result import FAST, UNKNOWN, Diagnosis, Observation
from vdso.measure.report import taking, whole
from vdso.measure.report.taking import Report
from vdso.measure.result import BenchResult
from vdso.measure.stat import Stat

RunOf = Callable[..., BenchResult]
DiagnosisOf = Callable[..., Diagnosis]
StatOf = Callable[..., Stat]

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def page(diagnosis_of: DiagnosisOf, run_of: RunOf) -> str:
    return whole.document(Report(diagnosis_of(), run_of()))


def of_stat(stat: Stat, diagnosis: Diagnosis, **more: bool) -> str:
    fields = {"whole": True, "slowed": False} | more
    return whole.document(
        Report(dataclasses.replace(diagnosis, observation=Observation(stat, **fields)), None)
    )


def words(page: str) -> str:
    return " ".join("".join(parsed(page).text).split())


def test_the_verdict_is_on_top(page: str) -> None:
    head = page[page.index("<h1>") : page.index("</h1>")]
    assert head == '<h1><span class="badge bad">slow</span>The clocksource &lt;hpet&gt; has no vDSO path'
    assert page.index("290.0 ns") < page.index("<h2>Findings")
    assert "0.32 cores" in words(page)
    assert "1,200,000 reads a second, counted" in words(page)


@pytest.mark.parametrize(("verdict", "badge"), [(FAST, "good"), (UNKNOWN, "warn")])
def test_each_verdict_has_its_colour(diagnosis_of: DiagnosisOf, verdict: str, badge: str) -> None:
    page = whole.document(Report(diagnosis_of(verdict=verdict), None))
    assert f'<span class="badge {badge}">{verdict}</span>' in page


def test_every_finding_with_its_remedy_and_source(page: str) -> None:
    for said in (
        "it <is> slow",
        "critical, a-check",
        "because & so",
        "To mend it: echo tsc >there",
        "note, b-check",
    ):
        assert said in words(page)
    assert '<a href="https://kernel.org/a">' in page
    assert page.count("<a ") == 1  # time(7) is no address
    assert "the <log>: it is root's (c-check, d-check)" in words(page)
    assert "3 checks have looked a-check, b-check, e-check" in words(page)


def test_every_figure_is_in_a_table(page: str) -> None:
    rows = [cells for cells in parsed(page).cells if cells]
    assert ["REALTIME", "289.1", "290.2", "291.3", "1.0", "1 ns", "280 ns"] in rows
    assert ["MONOTONIC_COARSE", "5.2", "none", "2346", "none", "4 ms", "none"] in rows
    assert ["clock_gettime REALTIME", "", "800,000", "400,000", "20.8", "0.008"] in rows
    assert ["clock_gettime REALTIME", "", "200,000", "100,000", "150.2", "0.015"] in rows
    assert ["clock_gettime PROCESS_CPUTIME_ID", "", "12", "6.0", "unknown", "unknown"] in rows
    assert ["getcpu", "", "4", "2.0", "3.0", "< 0.001"] in rows


def drawn(page: str, title: str) -> list[tuple[str, str]]:
    """(width in percent, colour) of each bar of a section."""
    section = page[page.index(f"<h2>{title}") :]
    section = section[: section.index("</section>")]
    return re.findall(r'width="([\d.]+)" height="10" class="f-(\w+)"', section)


def test_counts_are_drawn_to_scale(page: str) -> None:
    bars = [("100.00", "vdso"), ("25.00", "vsyscall"), ("0.40", "syscall"), ("0.40", "vdso")]
    assert drawn(page, "How it calls the clock") == bars
    text = words(page)
    assert "Together 500,008 calls a second, 0.012 cores, in 2.00 s, by 2 threads of 1 process." in text
    assert "clock_gettime REALTIME: it makes it <itself>" in text
    assert "clock_gettime PROCESS_CPUTIME_ID: CPU time & so" in text
    assert "not known: what <32-bit> code does: nobody counts it" in text


def test_who_called(page: str) -> None:
    text = words(page)
    what = "clock_gettime REALTIME through now (b.so), clock_gettime (libc.so.6), called by main (a)"
    assert f"tick<int> (a){what}75.0 %750,000" in text
    assert "c+0x1234getcpu25.0 %249,990" in text
    # What is hardly any is named together.
    assert "1 other place: 10 calls." in text
    assert drawn(page, "Who calls") == [("75.00", "vdso"), ("25.00", "vdso")]
    # Of the calls that were counted, those are others.
    assert "counted and not sampled, and are in no share: 200,000 calls." in text


def test_a_caller_that_was_not_found(diagnosis_of: DiagnosisOf, stat_of: StatOf) -> None:
    callers = stat_of().callers
    assert callers is not None
    page = of_stat(stat_of(callers=callers[2:]), diagnosis_of())
    assert "not found: no <unwind> informationtime100.0 %10" in words(page)


def test_a_program_that_calls_no_clock(diagnosis_of: DiagnosisOf, stat_of: StatOf) -> None:
    text = words(of_stat(stat_of(rows=(), callers=(), unknown=()), diagnosis_of()))
    assert "No clock call in 2.00 s." in text
    assert "Who calls" not in text


def test_what_is_known_in_part(diagnosis_of: DiagnosisOf, stat_of: StatOf) -> None:
    nothing = words(of_stat(stat_of(rows=(), callers=None), diagnosis_of(), whole=False))
    assert "No system call that reads a clock in 2.00 s." in nothing
    outside = stat_of(callers=None, processes=None, threads=None)
    text = words(of_stat(outside, diagnosis_of(), whole=False, slowed=True))
    assert "0.012 cores, in 2.00 s." in text
    assert "Counting its own system calls has slowed it" in text


def test_the_rounds_are_drawn_for_both_widths(page: str) -> None:
    assert page.count('viewBox="0 0 880 ') == 1
    assert page.count('viewBox="0 0 370 ') == 1


def test_whatever_a_program_calls_itself(page: str) -> None:
    assert r"77, a\x1b[31m\xff<b>, 64 bits" in words(page)
    assert "<b>," not in page
    page.encode()  # a file's name may be no text


def test_without_figures_and_counts(diagnosis_of: DiagnosisOf) -> None:
    nothing = diagnosis_of(cost=None, figures=None, observation=None, findings=(), unseen=())
    page = whole.document(Report(nothing, None))
    found = parsed(page)
    assert "svg" not in found.names
    assert "table" not in found.names
    assert "None. 3 checks have looked." in words(page)


def test_one_bench_for_all(monkeypatch: pytest.MonkeyPatch, run_of: RunOf) -> None:
    """What the doctor says of each clock is from the rounds that are drawn."""
    runs = []

    def bench(**_: object) -> BenchResult:
        runs.append(run_of())
        return runs[-1]

    monkeypatch.setattr(taking, "bench", bench)
    report = taking.take(quick=True)
    assert len(runs) == 1
    assert report.bench is runs[0]
    assert report.diagnosis.figures is not None
    clock = report.diagnosis.figures.clock("REALTIME")
    row = runs[0].row("clock_gettime", "vdso", "REALTIME")
    assert clock is not None
    assert row is not None
    assert clock.vdso_ns == row.median_ns
