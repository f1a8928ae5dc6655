"""`vdso bench`'s words and tables, without a run."""

import dataclasses
import io
import sys

import pytest

from vdso.commands import bench
from vdso.errors import UsageError
from vdso.measure.report import bench as page
from vdso.measure.result import FORMAT, KIND, BenchResult, Caution, Conditions, Machine, Row, Saving


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--compare"], "expected at least one argument"),
        (["--compare", "a", "b", "c"], "--compare takes one file or two"),
        (["--compare", "a", "b", "--quick"], "--quick with two files"),
        (["--compare", "a", "b", "--save", "c"], "--save with two files"),
        (["--save", ""], "empty word"),
        (["--save"], "expected one argument"),
        (["--qick"], "unrecognized"),
        (["clock"], "unrecognized"),
    ],
)
def test_what_cannot_be_meant(words: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        bench.options(words)


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: vdso bench")
    assert "example:" in out
    assert "exit status:" in out


def row(call: str, clock: str, route: str, ns: float | None) -> Row:
    if ns is None:
        return Row(call, clock, route, "there is none", 0, 0, None, None, None, ())
    return Row(call, clock, route, "", 100, 10, ns, 0.9 * ns, 1.3 * ns, (ns,) * 10)


def result() -> BenchResult:
    costs = {"vdso": 20.7, "libc": 21.7, "syscall": 154.4, "vsyscall": None}
    rows = [
        row("clock_gettime", clock, route, ns)
        for clock in ("MONOTONIC_COARSE", "PROCESS_CPUTIME_ID")
        for route, ns in costs.items()
    ]
    rows += [row("time", "", route, ns) for route, ns in {**costs, "vsyscall": 1234.5}.items()]
    rows += [row("getppid", "", "syscall", 95.0), row("lfence; rdtsc", "", "cpu", 15.7)]
    return BenchResult(
        KIND,
        FORMAT,
        "0.1.0",
        "2026-11-25T14:00:00Z",
        3.0,
        False,
        10,
        1,
        200.0,
        0.3,
        0.0,
        Machine("host", "x86_64", "CPU [bold]of[/] mine", 2, "6.18", "tsc", "", "glibc 2.36"),
        Conditions(0, 0, "", 0, "", "kernel", ""),
        tuple(rows),
        Saving("clock_gettime", "MONOTONIC", 10_000_000, 0.207, 1.604, 1.397),
        (),
    )


def shown(width: int) -> list[str]:
    from rich.console import Console

    out = io.StringIO()
    bench.show(Console(file=out, width=width, highlight=False), result())
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [44, 60, 72, 80, 106, 10_000])
def test_a_table_fits_its_terminal(width: int) -> None:
    lines = shown(width)
    assert max(map(len, lines)) <= max(width, 44)
    assert not [line for line in lines if "…" in line]


def test_a_wide_table_has_p5_to_p95_and_a_narrow_one_fewer_columns() -> None:
    assert "20.7 18.6-26.9" in "\n".join(shown(10_000))
    middling = "\n".join(shown(80))
    assert "20.7 ±20%" in middling
    assert "vsyscall" in middling
    assert "C library" not in "\n".join(shown(60))


def test_what_does_not_exist_is_said() -> None:
    text = "\n".join(shown(80))
    assert "none" in text
    assert "none: clock_gettime by vsyscall: there is none" in text


def test_it_ends_with_what_it_means() -> None:
    assert shown(10_000)[-1] == (
        "At 10 million reads of the clock a second the vDSO saves 1.4 cores: 0.21 busy instead of 1.60."
    )
    nothing = dataclasses.replace(
        result(), saving=Saving("clock_gettime", "MONOTONIC", 10_000_000, 1.6, 1.62, 0.02)
    )
    assert "saves nothing here" in bench.sentence(nothing)
    unknown = dataclasses.replace(result(), saving=None)
    assert "cannot be said" in bench.sentence(unknown)
    none = dataclasses.replace(unknown, conditions=Conditions(0, 0, "", 0, "", "none", ""))
    assert bench.sentence(none).startswith("Without a vDSO every read")


@pytest.mark.parametrize("name", ["tracer", "emulator", "our-image"])
def test_nothing_is_concluded_from_worthless_figures(name: str) -> None:
    caution = Caution(name, f"there is {name}", "advice")
    run = dataclasses.replace(result(), warnings=(Caution("load", "others", "advice"), caution))
    assert bench.sentence(run) == f"What the vDSO saves cannot be said by this run: there is {name}."
    assert page.heading(run) == "What a call costs, by each route"
    assert page.figures(run) == []
    assert page.figures(result())


def test_an_output_without_the_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bench.plus_minus() == "±"
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert bench.plus_minus() == "+-"


def test_names_are_no_markup() -> None:
    assert "CPU [bold]of[/] mine" in shown(10_000)[0]
