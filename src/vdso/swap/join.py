"""Attaches a running process to a session: one that there is, or a new one.

vdso.swap.attach does the attaching, and is given a clock page; here is decided which, and who holds it.
"""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

from vdso import _core
from vdso.clocks.session import Adjustment, create, create_for, of_process
from vdso.errors import AlreadyAttached, HelperMissing, MaySetClock, SeccompRefused, SessionError
from vdso.swap.attach import TIMEOUT_S, Attached, attach
from vdso.swap.following import READY_S, Following
from vdso.swap.process import may_set_host_clock, namespace
from vdso.swap.run import PACKAGE, check_raw_calls, join_or_make

PATIENCE_S = 10.0  # less than that of a holder that looks for who runs on the page

HOLDER = os.path.join(PACKAGE, "libexec", "vdso-session")


@dataclass(frozen=True, slots=True)
class Joined:
    """What attaching to a session came to."""

    session: str  # its name
    done: Attached
    warnings: tuple[str, ...]  # a line each


def join(
    pid: int,
    *,
    session: str | None = None,
    first: Adjustment | None = None,
    everything: bool | None = None,
    timeout_s: float = TIMEOUT_S,
    follow: bool | None = None,
    raw_calls: bool = False,
) -> Joined:
    """Puts a running process on a session's clock, with whatever it forks from then on.

    `session`: the name of one, old or new, else a new one by the process's id. `first` and `everything`: what
    a new one says; None is the host's time, and wall clocks alone. `follow`: what it executes too, its
    deadlines, and what it sets; None: if it could set the host's clock. `raw_calls`, with that: system calls
    that read a moved clock are answered too. Raises SessionExists where a clock is given for a session that
    there is, BadWhen, and what vdso.swap.attach.attach() does.
    """
    if raw_calls:
        check_raw_calls()
    dangerous = may_set_host_clock(pid)

    def make(name: str) -> _core.ClockPage:
        return create(name, first, everything=bool(everything))

    asked = first is not None or everything is not None
    if session is None:
        page, lock = create_for(pid, first, everything=bool(everything)), -1
    else:
        page, _, lock = join_or_make(session, asked, make)
    if lock >= 0:
        os.close(lock)  # by now it can be found, and we hold it until the end
    # Before anything is done to the process: what nobody can find nobody could change.
    hold(page)
    *_, all_clocks, counter, moved = page.state()
    flags = _core.PROCESS_NO_COUNTER if counter and not _shares_time_namespace(pid) else 0
    following = Following(_filter(raw_calls, all_clocks), counter)

    def put(dangerous: bool) -> Attached:
        implied = follow is None and dangerous
        try:
            return attach(
                pid,
                page.reader_fd,
                flags=flags,
                timeout_s=timeout_s,
                follow=following if follow or implied else None,
                powerless=not dangerous and follow is None,
            )
        except AlreadyAttached as already:
            raise _where_it_is(pid, already) from None
        except SeccompRefused as refused:
            if implied:
                refused.hint = "it may set the host's clock, and so has to be followed; --no-follow lets it"
            raise

    began_s = time.monotonic()
    try:
        done = put(dangerous)
    except MaySetClock:  # since it was looked at
        dangerous = True
        done = put(dangerous)
    if time.monotonic() - began_s > PATIENCE_S:
        hold(page)
    warnings = tuple(_warnings(done, dangerous=dangerous, asked=follow, moved=moved))
    return Joined(session or str(pid), done, warnings)


def _filter(raw_calls: bool, all_clocks: bool) -> int:
    """What is notified: as `vdso run` has it."""
    ret = _core.FILTER_EXEC | _core.FILTER_DEADLINES
    if raw_calls:
        ret |= _core.FILTER_READS
    if all_clocks:
        ret |= _core.FILTER_ALL
    return ret


def _warnings(done: Attached, *, dangerous: bool, asked: bool | None, moved: bool) -> Iterator[str]:
    this = f"{done.name} (pid {done.pid})"
    if not done.followed and dangerous:
        yield f"{this} may set the host's clock (CAP_SYS_TIME), and --no-follow lets it"
    if not done.followed and not dangerous and asked is None and moved:
        yield f"{this} is not followed: its waits to an absolute time go by the host's clock (see --follow)"
    if done.followed and asked is None:
        yield f"{this} may set the host's clock (CAP_SYS_TIME): it is followed, so that it sets the session's"
    if done.no_new_privs:
        yield f"{this} starts setuid programs without their privilege from now on: it needs no_new_privs"
    if done.unready:
        yield (
            f"the follower of {this} has not answered within {READY_S:.0f} s (is the machine busy?): "
            "what that executes waits for it"
        )
    if done.lacking:
        options = " and ".join(done.lacking)
        yield f"{this} has its filter from before, which knows nothing of {options}: that is left out"


def hold(page: _core.ClockPage) -> None:
    """Has somebody hold a session's page as long as any process has it mapped (c/core/session_main.c).

    Raises HelperMissing, SessionError.
    """
    answer, ready = os.pipe2(os.O_CLOEXEC)
    words = ["vdso-session", "--page", str(page.fd), "--ready", str(ready)]
    try:
        _core.launch_apart(HOLDER, words, [page.fd, ready])
    except OSError as error:
        os.close(answer)
        raise HelperMissing(f"{HOLDER}: {error.strerror}") from None
    finally:
        os.close(ready)
    with open(answer, encoding="ascii") as stream:
        if stream.read() != "ok\n":
            raise SessionError("the session's holder ended without a word", "")


def _shares_time_namespace(pid: int) -> bool:
    """Only where a tsc clock's keeper is (it is found where we are) its counter is right."""
    return namespace(pid, "time") == namespace(os.getpid(), "time") != ""


def _where_it_is(pid: int, already: AlreadyAttached) -> AlreadyAttached:
    """The same with what to do: a session that can be found can be adjusted."""
    found = of_process(pid)
    if found is None:
        return already
    others = len(found.programs) - 1
    shared = f", and that of {others} other{'s' if others > 1 else ''}" if others else ""
    return AlreadyAttached(already.message, f"vdso time {found.name} ... changes its clock{shared}")
