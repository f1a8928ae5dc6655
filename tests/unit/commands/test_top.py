"""What `vdso top` draws, without a terminal."""

import io
from typing import Any

import pytest
from rich.console import Console

from vdso.clocks.session import State
from vdso.commands import top
from vdso.kernel.tick import Beat
from vdso.measure.readers import Program
from vdso.measure.top import Look, Page

DAY_NS = 86_400_000_000_000


def state(name: str, **fields: Any) -> State:
    values: dict[str, Any] = {
        "name": name,
        "clock": "kernel",
        "clocks": "wall",
        "realtime_ns": 1_900_000_000_000_000_000,
        "host_realtime_ns": 1_800_000_000_000_000_000,
        "offset_ns": 1000 * DAY_NS,
        "rate": 1.0,
        "thaw_rate": 1.0,
        "frozen": False,
        "holder_pid": 1,
        "programs": (4, 5),
    }
    return State(**(values | fields))


def look(sessions: Any = 1, pages: Any = 1, programs: Any = 1, **fields: Any) -> Look:
    """Each so many, or these."""
    values: dict[str, Any] = {
        "taken_ns": 1_800_000_000_000_000_000,
        "seconds": 1.0,
        "mode": "tsc",
        "kernel": Beat(1234, 250, 1.0, 250.0),
        "kernel_why": "",
        "sessions": sessions
        if isinstance(sessions, tuple)
        else tuple(state(f"session-{at}") for at in range(sessions)),
        "pages": pages
        if isinstance(pages, tuple)
        else tuple(Page(f"page-{at}", 0, 77, True, 9000 + at, 0.004, 512.3, None) for at in range(pages)),
        "programs": programs
        if isinstance(programs, tuple)
        else tuple(
            Program(at, f"program-{at}", "session-0", True, 10**7, 1234567.8, "clock_gettime REALTIME")
            for at in range(1000, 1000 + programs)
        ),
        "processes_why": "",
    }
    return Look(**(values | fields))


def drawn(one: Look, width: int = 120, height: int = 50) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(top.view(one, width, height))
    return out.getvalue().rstrip("\n").split("\n")


def test_all_of_it() -> None:
    text = "\n".join(drawn(look()))
    for said in (
        "2027-01-15T08:00:00Z",
        "kernel's page: 250 updates/s, sequence 1234, mode tsc",
        "sessions 1",
        "session-0  2030-03-17T17:46:40Z  +1000d0h0m0s  1            2",
        "page-0  root  77         4 ms     9000       512",
        "1000  program-1000  session-0  1,234,568  clock_gettime REALTIME",
    ):
        assert said in text


def test_what_is_not_counted_says_so() -> None:
    idle = Program(7, "sleep", "s", False, None, None, "")
    new = Program(8, "cat", "s", True, 3, None, "time")
    text = "\n".join(drawn(look(programs=(idle, new))))
    assert "7  sleep    s        not counted" in text
    assert "programs 2" in text


def test_a_page_that_cannot_be_read_and_a_kernel_without_one() -> None:
    bad = Page("bad", 0, None, False, 0, None, None, "no page")
    text = "\n".join(drawn(look(kernel=None, kernel_why="there is no vDSO", pages=(bad,))))
    assert "kernel's page: there is no vDSO" in text
    assert "no page" in text


def test_a_frozen_clock() -> None:
    text = "\n".join(drawn(look(sessions=(state("s", frozen=True, rate=0.0),))))
    assert "frozen" in text


@pytest.mark.parametrize("height", [10, 12, 24, 60])
def test_no_more_lines_than_there_are(height: int) -> None:
    lines = drawn(look(40, 40, 40), height=height)
    assert len(lines) <= height
    text = "\n".join(lines)
    assert "sessions 40, " in text
    assert "programs 40, " in text


def test_what_is_left_is_shared() -> None:
    assert top.shares(9, [1, 100, 100]) == [1, 4, 4]
    assert top.shares(3, [5, 5, 5]) == [1, 1, 1]
    assert top.shares(100, [5, 0, 7]) == [5, 0, 7]
    assert top.shares(-4, [5, 0, 7]) == [0, 0, 0]


def test_nothing_is_left_out_where_there_is_room() -> None:
    text = "\n".join(drawn(look(3, 30, 3), height=60))
    assert "shown" not in text
    assert "page-29" in text


@pytest.mark.parametrize("width", [20, 40, 59, 60])
def test_no_wider_than_the_terminal(width: int) -> None:
    assert max(map(len, drawn(look(2, 2, 2), width))) <= width


def test_names_are_no_commands_to_the_terminal() -> None:
    text = "\n".join(drawn(look(programs=(Program(1, "a\x1b[31m[red]b", "s", False, None, None, ""),))))
    assert "a\\x1b[31m[red]b" in text


def test_other_numbers_than_one_second() -> None:
    assert top.seconds("0.5") == 0.5
    assert top.count("3") == 3
