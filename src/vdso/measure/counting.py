"""Counts the clock calls of a command and of what it starts, or of a running process and of what it forks.

A counting is started, read as often as one likes, and stopped. What it reads are counts by thread; what they
cost and mean is vdso.measure.stat's.
"""

import os
import select
import signal
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from vdso import _core
from vdso.errors import CallRefused, NoSuchProcess, VdsoError
from vdso.kernel import maps
from vdso.measure.calls import CALLS, Call
from vdso.measure.entries import Entries
from vdso.swap import count
from vdso.swap.child import Statuses, need_pidfd, pidfd

if TYPE_CHECKING:
    from vdso.measure.sampling import Sampled, Sampling

START_PATIENCE_S = 0.5  # for the command's exec, where we see it
LOOK_S = 0.1  # so often it is looked whether a process still counts


class Kind(Enum):
    """How a call was made."""

    VDSO = "vdso"  # of the vDSO's function, whatever that did then
    RAW = "raw"  # by a system call of the program's own


@dataclass(frozen=True, slots=True)
class Counted:
    """What one thread has called so far; tid 0: threads of the program that have no cell of their own.

    `program` and `name` are what /proc calls the program and the thread, "" where it had gone before it was
    looked at.
    """

    pid: int
    tid: int
    program: str
    name: str
    kind: Kind
    calls: Mapping[Call, int]


@dataclass(frozen=True, slots=True)
class Counts:
    """All that was counted so far, in `seconds`.

    `programs`: how many were exec'd. `full`: there were more threads than cells, and those are counted by
    their program alone. `raw`: system calls that were made past the vDSO, by whichever thread.
    """

    seconds: float
    programs: int
    threads: tuple[Counted, ...]
    full: bool
    raw: Mapping[Call, int]

    def since(self, before: "Counts") -> "Counts":
        """What was counted after that."""
        then: Counter[tuple[int, int, Kind, Call]] = Counter()
        for one in before.threads:
            for call, number in one.calls.items():
                then[one.pid, one.tid, one.kind, call] += number
        threads = []
        for one in self.threads:
            calls = {}
            for call, number in one.calls.items():
                key = (one.pid, one.tid, one.kind, call)
                calls[call] = max(0, number - then[key])
                then[key] = max(0, then[key] - number)  # the rest is of another cell of the thread's
            calls = {call: number for call, number in calls.items() if number}
            threads.append(replace(one, calls=calls))
        raw = {call: number - before.raw.get(call, 0) for call, number in self.raw.items()}
        return Counts(
            self.seconds - before.seconds,
            self.programs,
            tuple(one for one in threads if one.calls),
            self.full,
            {call: number for call, number in raw.items() if number > 0},
        )

    def totals(self) -> Counter[tuple[Call, Kind]]:
        """How often each call was made, by all together."""
        sums: Counter[tuple[Call, Kind]] = Counter(
            {(call, Kind.RAW): number for call, number in self.raw.items()}
        )
        for one in self.threads:
            for call, number in one.calls.items():
                sums[call, one.kind] += number
        return sums


@dataclass(frozen=True, slots=True)
class Program:
    """One that was exec'd. `cell` tells it from what its process was before and became later; `calls` are
    those of its threads, and of what it has forked."""

    cell: int
    pid: int
    name: str
    calls: int


class Names:
    """What threads are called, as long as they are there to be asked; remembered afterwards."""

    def __init__(self, inode: int) -> None:
        self._mapped = f" {inode} "  # of the counts, which every process that counts has mapped
        self._ours: dict[int, bool] = {}
        self._known: dict[tuple[int, int], str] = {}

    def of(self, pid: int, tid: int) -> str:
        """ "" where it had gone before it was ever asked for."""
        try:
            with open(f"/proc/{pid}/task/{tid}/comm", encoding="utf-8", errors="replace") as stream:
                name = stream.read().rstrip("\n")
            if pid not in self._ours:
                self._ours[pid] = self._counts(pid)
            if self._ours[pid]:
                self._known[pid, tid] = name
        except OSError:
            pass
        return self._known.get((pid, tid), "")

    def _counts(self, pid: int) -> bool:
        """Whether it is one of ours: its id may have come to another process."""
        with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as stream:
            return any("/memfd:vdso-counts" in line and self._mapped in line for line in stream)


class Counting(ABC):
    """Clock calls that are being counted: start(), read(), stop(). Between them wait() has to be called.

    `sites`: samples are taken too, of who calls. Raises CallRefused where there can be no memory for counts.
    """

    def __init__(self, *, sites: bool = False) -> None:
        self.pid = 0  # of the command, once it is started, or of the process
        self.status: int | None = None  # as waitpid has it, once a command has ended
        self.ended = False
        self._there = _counts()
        self._names = Names(os.fstat(self._there.fd).st_ino)
        self._sampling = _sampling(self._there) if sites else None
        self._began_s = self._ended_s = 0.0
        self._pidfd = -1

    @abstractmethod
    def start(self) -> None:
        """Begins to count. Raises a VdsoError where that cannot be."""

    @abstractmethod
    def stop(self) -> Counts:
        """Ends counting, and says what was counted."""

    def wait(self, timeout_s: float) -> bool:
        """Waits so long for the program's end, and says whether it has ended."""
        until_s = time.monotonic() + timeout_s
        while not self.ended:
            left_s = max(0.0, until_s - time.monotonic())
            if self._sampling is not None:
                self._sampling.take()
                left_s = min(left_s, self._sampling.every_s)
            if select.select([self._pidfd], [], [], left_s)[0]:
                self._end()
            elif time.monotonic() >= until_s:
                return False
        return True

    @property
    def _since_s(self) -> float:
        return self._began_s

    def _end(self) -> None:
        if not self.ended:
            self.ended, self._ended_s = True, time.monotonic()

    def read(self) -> Counts:
        """What was counted until now."""
        cells = self._there.cells()
        seconds = (self._ended_s if self.ended else time.monotonic()) - self._since_s
        kinds = {_core.CELL_RAW: Kind.RAW}
        names = {program: name for kind, _, _, program, name, _ in cells if kind == _core.CELL_PROGRAM}
        threads = []
        for kind, pid, tid, program, _, numbers in cells:
            calls = {CALLS[slot]: number for slot, number in enumerate(numbers) if number and slot in CALLS}
            if calls:
                name = names.get(program, b"").decode("utf-8", "replace")
                thread = self._names.of(pid, tid)
                threads.append(Counted(pid, tid, name, thread, kinds.get(kind, Kind.VDSO), calls))
        return Counts(seconds, len(names) - 1, tuple(threads), self._there.full, {})

    def programs(self) -> tuple[Program, ...]:
        """Those that were exec'd until now, in that order, as far as they are counted."""
        cells = self._there.cells()
        calls: Counter[int] = Counter()
        for _, _, _, program, _, numbers in cells:
            calls[program] += sum(numbers)
        return tuple(
            Program(program, pid, name.decode("utf-8", "replace"), calls[program])
            for kind, pid, _, program, name, _ in cells
            if kind == _core.CELL_PROGRAM and pid
        )

    def sampled(self, counts: Counts) -> "Sampled | None":
        """Who called, of these counts, after stop(); None where no samples were asked for. Raises
        ExtraMissing."""
        if self._sampling is None:
            return None
        totals = counts.totals()
        return self._sampling.stop(
            {(call, kind is Kind.RAW): number for (call, kind), number in totals.items()}
        )


def _counts() -> _core.Counts:
    try:
        return _core.Counts()
    except OSError as error:
        CallRefused.check("memfd_create", error)
        raise


def _sampling(counts: _core.Counts) -> "Sampling":
    from vdso.measure.sampling import Sampling

    return Sampling(counts)


class OfCommand(Counting):
    """A command, and what it starts.

    `raw_calls`: the system calls that a program makes past the vDSO are counted too, and take longer then.
    `exits`: what programs have mapped when they end is kept, for mapped().
    `mask`: the signals that it has blocked, where they are not ours.
    """

    def __init__(
        self,
        command: list[str],
        *,
        sites: bool = False,
        raw_calls: bool = True,
        exits: bool = False,
        mask: Collection[int] | None = None,
    ) -> None:
        super().__init__(sites=sites)
        self.command = tuple(command)
        self.left: list[count.Left] = []  # what it has started and still runs, once it has ended
        self._raw_calls = raw_calls
        self._exits = exits or sites
        self._mask = mask
        self._statuses = Statuses()
        self._started: count.Started | None = None

    @property
    def followed(self) -> bool:
        """Once it has begun: whether what it execs is counted, and its raw calls, if that was asked for."""
        return self._there.followed

    @property
    def _since_s(self) -> float:
        """From its exec on, whenever it was that we saw that."""
        return self._there.began_ns / 1e9 or self._began_s

    def start(self) -> None:
        """Starts the command. Raises as vdso.swap.run.run()."""
        need_pidfd()
        self._statuses.keep()
        self._began_s = time.monotonic()
        self._started = count.start(
            list(self.command),
            self._there.fd,
            raw_calls=self._raw_calls,
            exits=self._exits,
            mask=self._mask,
            inherit=self._statuses.inherit,
        )
        self.pid = self._started.pid
        self._pidfd = pidfd(self.pid)
        if select.select([self._started.said_fd], [], [], START_PATIENCE_S)[0]:
            self._listen()

    def _listen(self) -> None:
        """Whether the command was started. Raises what kept it."""
        if self._started is None:
            return
        error = count.failure(self._started)
        self._started = None
        if error is not None:
            self._end()
            raise error

    def _end(self) -> None:
        super()._end()
        if self.status is None:
            _, self.status = os.waitpid(self.pid, 0)
            self._statuses.let_go()
            self._listen()

    def mapped(self) -> dict[int, frozenset[str]]:
        """The files that processes had mapped as code when they ended or exec'd, by process id; none of one
        that a signal has ended. Raises SourceError."""
        found: dict[int, frozenset[str]] = {}
        for pid, text in self._there.left():
            names = frozenset(one.name for one in maps.decode(text) if one.name.startswith("/"))
            found[pid] = found.get(pid, frozenset()) | names
        return found

    def signal(self, number: signal.Signals) -> None:
        """Sends the command a signal, if it has not ended."""
        if self.status is None:
            signal.pidfd_send_signal(self._pidfd, number)

    def stop(self) -> Counts:
        """Once the command has ended: waits for that. What still runs then is counted until then."""
        while not self.wait(3600):
            pass
        counts = self.read()
        self.left = count.leave(self._there)
        return counts


class OfProcess(Counting):
    """A running process, and what it forks from then on; what they exec is not counted.

    `passed_on`: the kernel's vDSO makes system calls here for clocks that it answers elsewhere.
    """

    def __init__(self, pid: int, *, sites: bool = False, passed_on: bool = False) -> None:
        super().__init__(sites=sites)
        self.pid = pid
        self.gone = False  # it has ended by itself
        self.executed = False  # another program, and nothing that it had forked counts any more
        self.why_not_raw = ""  # why its own system calls cannot be counted
        self._passed_on = passed_on
        self._entries: Entries | None = None
        self.left: list[VdsoError] = []  # of processes that go on counting, though nobody asks
        self._place: count.Place | None = None

    def start(self) -> None:
        """Raises as vdso.swap.attach.attach()."""
        try:
            self._pidfd = pidfd(self.pid)
        except ProcessLookupError:
            raise NoSuchProcess(f"there is no process {self.pid}", "in this PID namespace") from None
        self._place = count.attach(self.pid, self._there)
        self._began_s = time.monotonic()
        try:
            self._entries = Entries(self.pid)
        except OSError as error:
            self.why_not_raw = (error.strerror or str(error)).lower()

    def wait(self, timeout_s: float) -> bool:
        """Also for its end as a program that counts: see `executed`."""
        until_s = time.monotonic() + timeout_s
        while not super().wait(max(0.0, min(LOOK_S, until_s - time.monotonic()))):
            if self._place is not None and not count.anyone_counts(self._place):
                self.executed = not super().wait(0)  # it may have ended just now
                self._end()
            elif time.monotonic() >= until_s:
                return False
        return True

    def read(self) -> Counts:
        """What was counted until now."""
        entered = {} if self._entries is None else self._entries.read()
        counts = super().read()
        if self._passed_on:
            for (call, _), number in counts.totals().items():
                if call in entered:
                    entered[call] = max(0, entered[call] - number)
        raw = {call: number for call, number in entered.items() if number}
        return Counts(counts.seconds, counts.programs, counts.threads, counts.full, raw)

    def stop(self) -> Counts:
        """Leaves the process, and what it has forked."""
        before, self.gone = self.read(), self.ended and not self.executed
        self._end()
        if self._entries is not None:
            self._entries.close()
            self._entries = None
        if self._place is not None:
            self.left = count.detach(self._place)
            self._place = None
        return before
