"""Sessions: a clock that has a name, shared by the programs that run on it, and adjusted while they run.

A session is its clock page, a memfd whose own name carries the session's. Nothing of it is in a file system,
so nothing of it can stay behind: it lives as long as somebody holds the page open, which is the follower of
each `vdso run` on it, its guard, for a tsc clock its keeper, and a `vdso-session` for processes that were
attached to it, since these have no descriptor; their own follower, if they have one, beside it. Another
process finds the page among their descriptors in /proc, and may open it where the kernel lets it look
there: as the same user, or as root. It writes for a moment, under a lock that the kernel drops should it
die.

Knows nothing of how a program comes to run on a session: that is vdso.swap's.
"""

import errno
import os
import time
from dataclasses import dataclass

from vdso import _core
from vdso.clocks.holders import MEMFD, check_name, held, inode_of, open_held, pids_on
from vdso.clocks.transform import NS_PER_S, RATE_ONE
from vdso.errors import (
    BadWhen,
    CallRefused,
    PageBusy,
    SessionAmbiguous,
    SessionError,
    SessionNotThere,
    SessionRefused,
)

# A process that is attached anew finds out by its page's version that it is another one (c/core/attach.c).
_VERSIONS = 64

_LOOKS, _PAUSE_S = 2, 0.01

_PATIENCE_S = 2.0  # for another writer of the page to be done


@dataclass(frozen=True, slots=True)
class Found:
    """A session that some process holds."""

    name: str
    inode: int
    holder_pid: int
    uid: int
    path: str  # of the holder's descriptor
    programs: tuple[int, ...]  # pids of what runs on it


@dataclass(frozen=True, slots=True)
class State:
    """What a session's clock says, at one instant. `rate` 1.0 is the host's pace; `thaw_rate` is what a thaw
    goes back to; `offset_ns` is REALTIME less the host's."""

    name: str
    clock: str  # "kernel" or "tsc"
    clocks: str  # "wall" or "all"
    realtime_ns: int
    host_realtime_ns: int
    offset_ns: int
    rate: float
    thaw_rate: float
    frozen: bool
    holder_pid: int
    programs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What is to change: one of the times (ns) at most, and one of `rate` (32.32; 0 freezes) and `thaw`."""

    at_ns: int | None = None
    offset_ns: int | None = None
    shift_ns: int | None = None
    rate: int | None = None
    thaw: bool = False

    def words(self) -> tuple[int, int, int, int, int]:
        """As _core.ClockPage takes it."""
        how, ns = _core.TIME_KEEP, 0
        for kind, given in (
            (_core.TIME_AT, self.at_ns),
            (_core.TIME_OFFSET, self.offset_ns),
            (_core.TIME_SHIFT, self.shift_ns),
        ):
            if given is not None:
                how, ns = kind, given
        pace = _core.RATE_THAW if self.thaw else _core.RATE_KEEP if self.rate is None else _core.RATE_SET
        return (how, *divmod(ns, NS_PER_S), pace, self.rate or 0)


RESET = Adjustment(offset_ns=0, rate=RATE_ONE)


def create(name: str, first: Adjustment | None = None, *, everything: bool = False) -> _core.ClockPage:
    """The page of a new session, which lives as long as a holder has it open.

    `first`: what its clock says from the outset; `everything`: MONOTONIC, BOOTTIME and RAW follow the rate
    too. Whether there is a session of that name is for the caller to see to. Raises UsageError, BadWhen.
    """
    return _create(check_name(name), first, everything)


def create_for(pid: int, first: Adjustment | None = None, *, everything: bool = False) -> _core.ClockPage:
    """The same for a session without a name, which goes by the id of its first process. Raises BadWhen."""
    return _create(str(pid), first, everything)


def _create(name: str, first: Adjustment | None, everything: bool) -> _core.ClockPage:
    try:
        page = _core.ClockPage.create(MEMFD + name)
    except OSError as error:
        CallRefused.check("memfd_create", error)
        raise
    try:
        for _ in range(1 + os.urandom(1)[0] % _VERSIONS):
            page.begin(everything, *(first or Adjustment()).words())
    except (OSError, OverflowError) as error:
        raise as_error(error) from None
    page.release()
    return page


# ---- finding ----


def sessions() -> list[Found]:
    """Every session whose holder this user may look into, by name."""
    holders = list(held())
    running = pids_on({inode for holder in holders for inode in holder.pages})
    found: dict[int, Found] = {}
    for holder in holders:
        for inode, (name, path) in holder.pages.items():
            programs = tuple(running.get(inode, ()))
            if not holder.is_sure() and not programs:
                continue
            try:
                uid = os.stat(f"/proc/{holder.pid}").st_uid
            except OSError:
                continue
            found.setdefault(inode, Found(name, inode, holder.pid, uid, path, programs))
    return sorted(found.values(), key=lambda session: (session.name, session.inode))


def find(name: str | None) -> Found:
    """The session of that name, of this user before another's, or the one that the process of that id runs
    on; without a name the one that this process runs on, or the only one. Raises SessionNotThere,
    SessionAmbiguous."""
    there = sessions()
    for _ in range(_LOOKS if name is not None else 0):
        if any(one.name == name or _is_on(one, name) for one in there):
            break
        # One that has just begun, or lost its follower, may have gone from hand to hand while we looked.
        time.sleep(_PAUSE_S)
        there = sessions()
    if name is None:
        own = inode_of(os.getpid())
        there = [one for one in there if one.inode == own] or there
        if not there:
            raise SessionNotThere(
                "there is no session", "vdso run --session NAME -- COMMAND and vdso attach PID start one"
            )
        if len(there) > 1:
            names = ", ".join(one.name for one in there)
            raise SessionAmbiguous(f"which session? there are {names}", "name one: vdso time NAME ...")
        return there[0]
    # Where it runs now goes before a name: a process that was detached and attached again has had two.
    named = [one for one in there if _is_on(one, name)] or [one for one in there if one.name == name]
    if not named:
        raise SessionNotThere(f"there is no session {name}")
    return min(named, key=lambda one: one.uid != os.geteuid())


def _is_on(session: Found, name: str | None) -> bool:
    return name is not None and name in map(str, session.programs)


def of_process(pid: int) -> Found | None:
    """The session that a process runs on, if it can be found."""
    return next((one for one in sessions() if pid in one.programs), None)


# ---- adjusting ----


def find_open(name: str | None) -> tuple[Found, _core.ClockPage]:
    """find(), and its page as open_page() has it. Looks again where whoever held it has ended in between:
    another may hold it by then."""
    for _ in range(_LOOKS):
        found = find(name)
        try:
            return found, open_page(found)
        except SessionNotThere:
            time.sleep(_PAUSE_S)
    found = find(name)
    return found, open_page(found)


def open_page(found: Found) -> _core.ClockPage:
    """The session's page, to read and to adjust. Raises SessionNotThere, SessionError."""
    return open_held(found.name, found.path, found.inode)


def adjust(page: _core.ClockPage, adjustment: Adjustment) -> None:
    """Adjusts a session's clock and gives its page free again.

    A time is a step and holds from the next read on; a rate goes on from where the clock is, some 2 ms later.
    Raises BadWhen (no clock goes so far), SessionRefused (a keeper's clock), SessionError.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            page.adjust(*adjustment.words())
            if adjustment.rate == RATE_ONE or adjustment.thaw:
                page.settle()
            return
        except PageBusy as busy:
            if page.state()[7]:
                raise _refused_tsc() from None
            if time.monotonic() > deadline:
                raise SessionError(
                    f"process {busy.pid} is writing the session's clock, and goes on", ""
                ) from None
            time.sleep(0.001)
        except (OSError, OverflowError) as error:
            raise as_error(error) from None
        finally:
            page.release()


def as_error(error: OSError | OverflowError) -> Exception:
    """What an adjustment that failed means."""
    if isinstance(error, OverflowError) or error.errno == errno.ERANGE:
        return BadWhen("no clock goes so far", "some two billion years from today are the limit")
    if error.errno == errno.EOPNOTSUPP:
        return _refused_tsc()
    if error.errno == errno.ETIMEDOUT:
        return SessionError("this machine is too busy to change the rate within its 2 ms", "try again")
    return error


def _refused_tsc() -> SessionRefused:
    return SessionRefused(
        "a tsc session's clock is its keeper's alone",
        "say --at or --offset when it starts, or start it with --clock kernel",
    )


def state(found: Found, page: _core.ClockPage) -> State:
    """What the session's clock says now."""
    host_s, host_ns, now_s, now_ns, rate, thawed, everything, counter, _ = page.state()
    host, now = host_s * NS_PER_S + host_ns, now_s * NS_PER_S + now_ns
    return State(
        name=found.name,
        clock="tsc" if counter else "kernel",
        clocks="all" if everything else "wall",
        realtime_ns=now,
        host_realtime_ns=host,
        offset_ns=now - host,
        rate=rate / RATE_ONE,
        thaw_rate=thawed / RATE_ONE,
        frozen=rate == 0,
        holder_pid=found.holder_pid,
        programs=found.programs,
    )
