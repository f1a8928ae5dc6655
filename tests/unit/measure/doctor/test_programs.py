"""Which of a command's programs is diagnosed, and what is said where that one had ended."""

from pathlib import Path
from typing import Any

import elves
import hosts
import pytest

from vdso.kernel.image import Image
from vdso.measure.counting import Program
from vdso.measure.doctor.examination import Examination, conclude
from vdso.measure.doctor.observation import Observed
from vdso.measure.doctor.programs import LATER_S, Looks, main, pauses_s
from vdso.measure.doctor.result import FAST, UNKNOWN, Diagnosis

SHELL, SERVER, CHILD = 7, 8, 9


def program(cell: int, pid: int, name: str, calls: int = 0) -> Program:
    return Program(cell, pid, name, calls)


@pytest.mark.parametrize(
    ("programs", "cell"),
    [
        ([program(1, SHELL, "sh", 2), program(2, SERVER, "server", 900)], 2),
        # Who calls no more than another is not the one that somebody asks about, except for the command.
        ([program(1, SHELL, "sh"), program(2, SERVER, "sleep")], 1),
        ([program(1, SHELL, "env"), program(2, SHELL, "sleep"), program(3, CHILD, "true")], 2),
    ],
)
def test_who_makes_most_of_the_calls(programs: list[Program], cell: int) -> None:
    found = main(programs, SHELL)
    assert found is not None
    assert found.cell == cell


def test_looks_come_seldom_after_a_while() -> None:
    pauses = pauses_s()
    first = [next(pauses) for _ in range(12)]
    assert first[0] < 0.01
    assert first[-1] == LATER_S


def concluded(root: Path, mapped: dict[int, frozenset[str]], **host: Any) -> Diagnosis:
    """Of a shell that was held and looked at, and has started a server, which was not."""
    view = hosts.view(root, image=Image.from_bytes(bytes(elves.build())), pid=SHELL, **host)
    examined = Examination(view.measured)
    examined.look(view)
    looks = Looks(examined, held=True)
    looks.take(SHELL, lambda: (program(1, SHELL, "sh", 2),))
    both = (program(1, SHELL, "sh", 2), program(2, SERVER, "server", 900))
    looks.settle(Observed(hosts.observed(hosts.row(900)), "", "exit status 0", both, mapped))
    examined.looked.run(view, examined.used)
    return conclude(examined, quick=True, begun=1_900_000_000 * 10**9, started_ns=0)


def library(root: Path) -> str:
    path = root / "fake.so"
    path.write_bytes(bytes(elves.build(symbols=(elves.Symbol("clock_gettime", 0, 16),))))
    return str(path)


def test_one_that_has_ended_and_had_nothing_in_between(tmp_path: Path) -> None:
    found = concluded(tmp_path, {SERVER: frozenset(["/usr/bin/server", "/usr/lib/libc.so.6"])})
    assert found.verdict == FAST
    [missed] = [one for one in found.unseen if "server" in one.what]
    assert missed.what == "server (process 8, 900 of 902 calls)"
    # As the tree of files calls the shell.
    assert missed.why == "it had ended: what is said of a program is of server"


def test_one_that_has_ended_and_had_a_library(tmp_path: Path) -> None:
    name = library(tmp_path)
    found = concluded(tmp_path, {SERVER: frozenset(["/usr/bin/server", name])})
    assert (found.verdict, found.cost) == (UNKNOWN, None)
    assert found.reason.endswith(f"it had {name} mapped, which takes clock functions")


def test_one_that_was_killed_may_have_had_one(tmp_path: Path) -> None:
    found = concluded(tmp_path, {SHELL: frozenset(["/usr/bin/sh"])})
    assert (found.verdict, found.cost) == (UNKNOWN, None)
    assert found.reason.startswith("server (process 8, 900 of 902 calls) could not be looked at")


def test_a_library_that_the_shell_has_too_was_looked_at(tmp_path: Path) -> None:
    name = library(tmp_path)
    files = {"proc/self/environ": f"LD_PRELOAD={name}\0", f"proc/7/root/{name}": Path(name).read_bytes()}
    found = concluded(tmp_path, {SERVER: frozenset([name])}, files=files)
    assert "server (process 8" not in found.reason
