"""What goes on here that has to do with the clock: the kernel's page, sessions, live pages, and who reads.

Looks from outside, by what /proc and the pages themselves say, as far as this user may; changes nothing, and
prints nothing.
"""

import time
from dataclasses import dataclass

from vdso.clocks import session
from vdso.errors import PageNeverWritten, ProcNotMounted, SessionError, VdsoError
from vdso.kernel import vvar
from vdso.kernel.process import need_proc
from vdso.kernel.tick import Beat, Pulse
from vdso.measure.readers import Program, Readers
from vdso.pages.catalogue import Published, published


@dataclass(frozen=True, slots=True)
class Page:
    """A live page, and how many versions have come a second since the last look, None at the first."""

    name: str
    user_id: int
    publisher_pid: int | None
    alive: bool
    version: int
    age_s: float | None
    versions_per_s: float | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Look:
    """Everything at one time (`taken_ns`: REALTIME), and rates since the look before, `seconds` ago.

    `kernel`: None where its page cannot be read, and `kernel_why` says why; `mode`: what the clocks go by.
    `sessions` and `programs`: None where they cannot be looked for, and `processes_why` says why.
    """

    taken_ns: int
    seconds: float
    mode: str
    kernel: Beat | None
    kernel_why: str
    sessions: tuple[session.State, ...] | None
    pages: tuple[Page, ...]
    programs: tuple[Program, ...] | None
    processes_why: str


class Top:
    """Looks again and again; the first look has no rates but the kernel's."""

    def __init__(self) -> None:
        self._mode, self._why = "", ""
        self._pulse: Pulse | None = None
        try:
            page = vvar.read()
            self._mode, self._pulse = page.mode, Pulse(page)
        except VdsoError as error:
            self._why = error.message
        self._looked_s = time.monotonic()
        self._versions: dict[str, int] = {}
        self._readers = Readers()

    def look(self) -> Look:
        now_s = time.monotonic()
        seconds, self._looked_s = now_s - self._looked_s, now_s
        found, why = session.sessions(), ""
        try:
            need_proc()
        except ProcNotMounted as error:
            why = error.message
        return Look(
            taken_ns=time.time_ns(),
            seconds=seconds,
            mode=self._mode,
            kernel=self._beat(),
            kernel_why=self._why,
            sessions=None if why else tuple(state for one in found if (state := state_of(one)) is not None),
            pages=self._pages(seconds),
            programs=None if why else self._readers.look(found),
            processes_why=why,
        )

    def _beat(self) -> Beat | None:
        if self._pulse is None:
            return None
        try:
            return self._pulse.look()
        except VdsoError as error:
            self._pulse, self._why = None, error.message
            return None

    def _pages(self, seconds: float) -> tuple[Page, ...]:
        """The busiest first."""
        before, self._versions = self._versions, {}
        pages = []
        for one in published(rate_s=0):
            self._versions[one.path] = one.version
            known = before.get(one.path)
            rate = None if known is None or seconds <= 0 else max(0, one.version - known) / seconds
            pages.append(page_of(one, rate))
        return tuple(sorted(pages, key=lambda page: (-(page.versions_per_s or 0), page.name)))


def page_of(one: Published, rate: float | None) -> Page:
    return Page(one.name, one.user_id, one.publisher_pid, one.alive, one.version, one.age_s, rate, one.error)


def state_of(found: session.Found) -> session.State | None:
    """None of one that has ended meanwhile, or has not begun."""
    try:
        return session.state(found, session.open_page(found))
    except (SessionError, PageNeverWritten):
        return None
