"""The programs that a command was and has started: which of them is diagnosed, and when each is looked at.

The one that has made most of the calls is: a launcher, a shell or `env` is not what reads the clock.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from vdso.errors import shown
from vdso.kernel import process
from vdso.measure.counting import Program
from vdso.measure.doctor import preload, program
from vdso.measure.doctor.observation import Observed, Programs
from vdso.measure.doctor.result import Unseen

if TYPE_CHECKING:
    from vdso.measure.doctor.examination import Examination

# From one look for what the command has become and started to the next.
SOON_S, LATER_S = 0.005, 1.0
LOOKS_MAX = 16


def pauses_s() -> Iterator[float]:
    """A program that ends soon has to be looked at soon, and one that runs for long need not be often."""
    pause_s = SOON_S
    while True:
        yield pause_s
        pause_s = min(2 * pause_s, LATER_S)


class Looks:
    """What was seen of them, by the cells that they are counted in."""

    def __init__(self, examined: "Examination", *, held: bool) -> None:
        self._examined = examined
        self._held = held  # what the command is first was, and has been looked at
        self._taken: dict[int, Examination] = {}
        self._pid = 0

    def take(self, pid: int, programs: Programs | None) -> None:
        """Looks at what makes most of the calls now, if that was not looked at. `pid`: the command's."""
        self._pid = pid
        one = main(programs(), pid) if programs else Program(0, pid, "", 0)
        if one is None or one.cell in self._taken or len(self._taken) == LOOKS_MAX:
            return
        before = self._examined
        if programs and self._is_held(one, programs()):
            return
        again = before.anew()
        called = f"{shown(one.name)} (process {one.pid})" if one.pid != pid else ""
        view = again.view_of(one.pid, command=True, counted=programs is not None, called=called)
        view.held, begin = before.view, process.started(one.pid)
        if not begin or (programs is None and program.path(view) in ("", before.subject.program)):
            return
        again.look(view)
        # It may have become another one meanwhile, or have ended.
        same = programs is None or one.cell == max(other.cell for other in programs() if other.pid == one.pid)
        if same and process.started(one.pid) == begin:
            self._taken[one.cell] = again

    def settle(self, seen: Observed) -> None:
        """Who is diagnosed; and if that one was not looked at, what is said of it."""
        before = self._examined
        before.subject = dataclasses.replace(before.subject, pid=self._pid or before.subject.pid)
        one = main(seen.programs, self._pid) if seen.programs else Program(0, self._pid, "", 0)
        again = self._taken.get(one.cell) if one else None
        if one is None or self._is_held(one, seen.programs):
            return
        if again is not None:
            before.view, before.looked = again.view, again.looked
            before.subject = dataclasses.replace(again.subject, pid=one.pid)
        elif one.calls:
            self._miss(one, seen)

    def _is_held(self, one: Program, programs: Iterable[Program]) -> bool:
        return self._held and one.cell == first(programs, self._pid)

    def _miss(self, one: Program, seen: Observed) -> None:
        """It had ended. What it had mapped then tells whether its reads of the clock go another way."""
        before = self._examined
        files = seen.mapped.get(one.pid)
        known = {library for library, _ in preload.takers_or_none(before.view)}
        takers = sorted(preload.taking_files(files or ())) if files is not None else []
        calls = sum(other.calls for other in seen.programs)
        what = f"{shown(one.name)} (process {one.pid}, {one.calls:,} of {calls:,} calls)"
        full = f"{LOOKS_MAX} others were looked at before it"
        gone = full if len(self._taken) == LOOKS_MAX else "it had ended"
        why = f"{gone}: what is said of a program is of {before.subject.name or 'the command'}"
        if takers:
            why += f"; it had {' and '.join(map(shown, takers))} mapped, which takes clock functions"
        before.looked.miss(what, why)
        if files is None or not known.issuperset(takers):
            before.looked.stranger = Unseen(what, why, ())


def first(programs: Iterable[Program], pid: int) -> int | None:
    """The cell of what the command was first, None where that is not counted."""
    return min((one.cell for one in programs if one.pid == pid), default=None)


def main(programs: Iterable[Program], pid: int) -> Program | None:
    """The one that has made most of the calls; without any what the command is by now."""
    return max(programs, key=lambda one: (one.calls, one.pid == pid, one.cell), default=None)
