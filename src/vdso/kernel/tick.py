"""The kernel's updates of its data page, one by one, and how often they come.

The sequence is even between updates and grows by two with each, so that its difference counts them, seen or
not. When one came is known to within the pause between two looks; how far it moved the page's own time on is
exact, by cycle_last.
"""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from vdso import _core
from vdso.errors import VvarUnproven
from vdso.kernel import vvar
from vdso.kernel.datapage import Vvar
from vdso.kernel.layout import PAGE_BYTES

NS_PER_S = 1_000_000_000
# A tick is 1 to 10 ms (CONFIG_HZ 1000 to 100). Looks come at a tenth of it at first, and closer where it is
# expected.
FIRST_POLL_NS = 400_000
POLL_NS_MIN, POLL_NS_MAX = 50_000, 1_000_000
POLLS_A_TICK = 32
ASLEEP = 7 / 8  # of a tick, before the looks begin
WAIT_NS = 250_000_000  # then a caller may see whether to go on


@dataclass(frozen=True, slots=True)
class Tick:
    """One update, or several of which the last was seen. `interval_ns`: since the one before was seen, None
    for the first; the update itself is up to `late_ns` older than `seen_ns` (CLOCK_MONOTONIC). `moved_ns`:
    how far it moved the page's time on, None where the page has no counter."""

    sequence: int
    updates: int
    seen_ns: int
    late_ns: int
    interval_ns: int | None
    moved_ns: int | None


@dataclass(frozen=True, slots=True)
class Rate:
    """What was measured over `seconds`: `updates` by the sequence, and so `updates_per_s`, None before the
    first; `unseen` of them fell between two looks. Of the intervals between one update and the next, both
    seen: percentiles and extremes in ns, each known to within `resolution_ns` (the median pause between the
    looks)."""

    seconds: float
    updates: int
    unseen: int
    updates_per_s: float | None
    intervals: int
    min_ns: int | None
    p5_ns: int | None
    median_ns: int | None
    p95_ns: int | None
    max_ns: int | None
    resolution_ns: int | None


@dataclass(frozen=True, slots=True)
class Beat:
    """The page at one look: its sequence, and the `updates` since the look before, `seconds` ago."""

    sequence: int
    updates: int
    seconds: float
    updates_per_s: float


class Pulse:
    """Counts the updates of the page that `page` is a reading of from look to look, and waits for none.

    Raises VvarUnproven: the page is not where it was.
    """

    def __init__(self, page: Vvar) -> None:
        self._clock = reader_of(page)
        self._sequence, _ = self._clock.snapshot()
        self._looked_ns = time.monotonic_ns()

    def look(self) -> Beat:
        (sequence, _), now_ns = self._clock.snapshot(), time.monotonic_ns()
        updates = (sequence - self._sequence) % (1 << 32) // 2
        seconds = (now_ns - self._looked_ns) / NS_PER_S
        beat = Beat(sequence, updates, seconds, updates / seconds if seconds > 0 else 0.0)
        self._sequence, self._looked_ns = sequence, now_ns
        return beat


@dataclass(slots=True)
class Watch:
    """Follows the page that `page` is a reading of. `every_ns`: look only so often, so that the looks
    themselves do not keep an idle machine ticking."""

    page: Vvar
    every_ns: int | None = None
    started_ns: int = 0
    seen_ns: int = 0
    updates: int = 0
    seen: int = 0
    # By the microsecond, as a day has 20 million of them at HZ=250.
    intervals: Counter[int] = field(default_factory=Counter)
    late: Counter[int] = field(default_factory=Counter)

    def ticks(self) -> Iterator[Tick | None]:
        """Each update as it is seen; None now and then while there is none. Raises VvarUnproven: the page is
        not there any more."""
        clock = reader_of(self.page)
        sequence, _ = clock.snapshot()
        self.started_ns = self.seen_ns = looked_ns = time.monotonic_ns()
        last_cycles: int | None = None
        tick_ns = 0
        while True:
            first_ns, poll_ns = self._pauses(tick_ns, looked_ns)
            found = clock.wait(sequence, looked_ns, first_ns, poll_ns, max(WAIT_NS, poll_ns))
            if found is None:
                yield None
                continue
            now, cycles, seen_ns, late_ns = found
            updates = (now - sequence) % (1 << 32) // 2
            moved_ns = None if last_cycles is None else self._ns(cycles - last_cycles)
            interval_ns = seen_ns - self.seen_ns if self.seen else None
            if interval_ns is not None and updates == 1:
                self.intervals[interval_ns // 1000] += 1
            if self.seen:
                self.late[late_ns // 1000] += 1
                self.updates += updates
            else:  # from here on: what came before was not waited for
                self.started_ns = seen_ns
            if moved_ns and (not tick_ns or moved_ns // updates < tick_ns):
                tick_ns = moved_ns // updates
            self.seen += 1
            self.seen_ns = looked_ns = seen_ns
            sequence, last_cycles = now, cycles
            yield Tick(now, updates, seen_ns, late_ns, interval_ns, moved_ns)

    def rate(self) -> Rate:
        """What the ticks so far amount to, from the first to the last that was seen."""
        span_ns = self.seen_ns - self.started_ns
        percentiles = [percentile(self.intervals, percent) for percent in (0, 5, 50, 95, 100)]
        min_ns, p5_ns, median_ns, p95_ns, max_ns = percentiles
        return Rate(
            seconds=span_ns / NS_PER_S,
            updates=self.updates,
            unseen=self.updates - max(self.seen - 1, 0),
            updates_per_s=self.updates * NS_PER_S / span_ns if span_ns else None,
            intervals=self.intervals.total(),
            min_ns=min_ns,
            p5_ns=p5_ns,
            median_ns=median_ns,
            p95_ns=p95_ns,
            max_ns=max_ns,
            resolution_ns=percentile(self.late, 50),
        )

    def _pauses(self, tick_ns: int, seen_ns: int) -> tuple[int, int]:
        """How long to sleep at once, and then from look to look, in ns."""
        gone_ns = time.monotonic_ns() - seen_ns
        if self.every_ns is not None and self.seen:
            return max(self.every_ns - gone_ns, 0), self.every_ns
        if not tick_ns:
            return 0, FIRST_POLL_NS
        poll_ns = min(max(tick_ns // POLLS_A_TICK, POLL_NS_MIN), POLL_NS_MAX)
        return max(int(tick_ns * ASLEEP) - gone_ns, 0), poll_ns

    def _ns(self, cycles: int) -> int | None:
        clock = self.page.clocks[0]
        if clock.mult is None or clock.shift is None or clock.mask is None:
            return None
        return (cycles & clock.mask) * clock.mult >> clock.shift


def reader_of(page: Vvar) -> _core.VvarClock:
    """What reads that page's first clock. Raises VvarUnproven: the page is not where it was."""
    where = vvar.place()
    first = page.clocks[0].address - page.layout.clocks
    home, rest = divmod(first - where.vvar.start, PAGE_BYTES)
    if rest or not 0 <= home < where.vvar.size // PAGE_BYTES:
        raise VvarUnproven("the page is not where it was read")
    return vvar.reader(where, page.layout, home, 0)


def percentile(counts: Counter[int], percent: int) -> int | None:
    """In ns, of times counted by the microsecond; by the nearest rank."""
    rank = (counts.total() - 1) * percent // 100
    for time_us in sorted(counts):
        rank -= counts[time_us]
        if rank < 0:
            return time_us * 1000
    return None
