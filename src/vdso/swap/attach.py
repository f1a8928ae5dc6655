"""Attaches running processes to a clock page, and detaches them.

Decides, and says why not; the mechanism is libexec/vdso-attach (c/core/attach.c). Knows nothing of
sessions: it is given the descriptor of a clock page.
"""

import contextlib
import errno
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from vdso import _core
from vdso.errors import (
    CallRefused,
    HelperEnded,
    HelperMissing,
    Interrupted,
    SwapError,
    UnsupportedMachine,
    VdsoError,
)
from vdso.swap.following import Follower, FollowerEnded, Following, Restraints, restraints, started
from vdso.swap.process import process_name, yama_scope
from vdso.swap.refusal import Report, failure
from vdso.swap.run import COUNTING_IMAGE, IMAGE, PACKAGE

FOLLOWED_ANEW, FOLLOWED_LOST = 1, 4  # VDSO_FOLLOWED_* of c/include/attachment.h
OPTIONAL = {_core.FILTER_READS: "--strict", _core.FILTER_ALL: "--clocks all"}
HELPER = os.path.join(PACKAGE, "libexec", "vdso-attach")
TIMEOUT_S = 2.0
LEFT_S = (
    0.1  # in which what a killed vdso-attach has left running has ended: 2 * VDSO_INJ_PATIENCE_NS, and more
)
NS_PER_S = 1_000_000_000
PR_SET_PTRACER = 0x59616D61


@dataclass(frozen=True, slots=True)
class Attached:
    """What attaching or detaching came to."""

    pid: int
    name: str  # of the program, as /proc has it
    threads: int  # that were stopped
    tries: int
    stood_ns: int  # for how long the process stood still
    longest_ns: int  # and at the longest, of all tries
    followed: bool = False  # a follower answers for it and swaps what it executes
    no_new_privs: bool = False  # set for the filter's sake
    lacking: tuple[str, ...] = ()  # options that the filter, which it has from before, knows nothing of
    unready: bool = False  # its follower is there, and has not said in time that it answers
    left: bool = False  # detached from a `vdso stat` that has started it: its image stays, and counts no more


def clock_page(offset_ns: int) -> "_core.ClockPage":
    """A clock page of its own, with REALTIME moved by that much.

    Its version begins somewhere: where a process is attached anew, a thread that has been in a signal handler
    since the last time sees by the version that it is another page.
    """
    try:
        page = _core.ClockPage.create("vdso-clock")
    except OSError as error:
        CallRefused.check("memfd_create", error)
        raise
    sec, nsec = divmod(offset_ns, NS_PER_S)
    for _ in range(1 + secrets.randbelow(64)):
        page.set_offset(sec, nsec)
    page.release()
    return page


def attach(
    pid: int,
    page_fd: int,
    *,
    flags: int = 0,
    counts_fd: int = -1,
    program: int = 0,
    timeout_s: float = TIMEOUT_S,
    follow: Following | None = None,
    powerless: bool = False,
) -> Attached:
    """Puts a running process on the clock page that page_fd has open for reading; it stays the caller's.

    Its children by fork are on it too; it may be the own process. `flags`: VDSO_PROCESS_* of
    c/include/process.h. `counts_fd`, of a _core.Counts: it counts its clock calls there from now on, as
    `program`. With `follow`, and not with that, a filter is put into it, for good, and a follower swaps what
    it and its children execute from then on and answers what they ask of the clock. While the process cannot
    be stopped at once it is tried again for timeout_s. `powerless`: it may not set the host's clock, which is
    looked at again while it stands still (MaySetClock). Raises NoSuchProcess, NotAttachable, AlreadyAttached,
    ProcessBusy, PtraceRefused, SeccompRefused, HelperMissing, HelperEnded; Interrupted.
    """
    image = IMAGE if counts_fd < 0 else COUNTING_IMAGE
    try:
        image_fd = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HelperMissing(f"{image}: {error.strerror}") from None
    words = ["attach", str(pid), "--clock", str(page_fd), "--image", str(image_fd), "--flags", str(flags)]
    fds = [page_fd, image_fd]
    try:
        if counts_fd >= 0:
            words += ["--counts", str(counts_fd), "--program", str(program)]
            fds.append(counts_fd)
        if powerless:
            words += ["--powerless", "1"]
        if follow is None:
            with _what_is_so(pid):
                return _read(pid, _run(words, timeout_s, fds), detach=False)
        words += ["--filter", str(follow.filter), "--counter", str(int(follow.counter))]
        with started(pid, image_fd, page_fd, follow) as follower:
            return _follow(pid, words, timeout_s, fds, follow.filter, follower)
    finally:
        os.close(image_fd)


def _follow(
    pid: int, words: list[str], timeout_s: float, fds: list[int], wanted: int, follower: Follower
) -> Attached:
    """The same, with one that waits to follow it. The error says what stays with the process, too."""
    before = restraints(pid)
    try:
        try:
            with _what_is_so(pid):
                report, after = _try(pid, words, timeout_s, fds, before, follower)
                done = _read(pid, report, detach=False, wanted=wanted)
        except VdsoError as error:
            raise type(error)(error.message + _left(pid, before, follower), error.hint) from None
        gained = after.no_new_privs > before.no_new_privs
        return replace(done, no_new_privs=gained, unready=not _answers(done, report, follower))
    except KeyboardInterrupt as interrupt:
        raise Interrupted(told(interrupt, pid).message + _left(pid, before, follower)) from None


def _try(
    pid: int, words: list[str], timeout_s: float, fds: list[int], before: Restraints, follower: Follower
) -> tuple[Report, Restraints]:
    for last in (False, True):
        ways = [follower.way, follower.talk]
        report = _run([*words, "--follower", str(ways[0]), "--talk", str(ways[1])], timeout_s, [*fds, *ways])
        after = restraints(pid)
        # A first try that came too late may have put the filter in, and its follower have ended since.
        if last or report.outcome != "follower" or after.filters <= before.filters:
            break
        with contextlib.suppress(FollowerEnded):
            follower.is_ready()
    return report, after


def told(interrupt: KeyboardInterrupt, pid: int) -> Interrupted:
    """The same, which says what is so of a process that was being attached or detached."""
    if isinstance(interrupt, Interrupted):
        return interrupt
    return Interrupted(f"interrupted: {_standing(pid)}")


@contextlib.contextmanager
def _what_is_so(pid: int) -> Iterator[None]:
    """Where nobody is left to say what has come of attaching or detaching, the error says what there is.

    Raises HelperEnded and Interrupted with that.
    """
    try:
        yield
    except HelperEnded as ended:
        time.sleep(LEFT_S)
        hint = f"vdso detach {pid} gives it the host's clock back" if _is_attached(pid) else "try again"
        raise HelperEnded(f"{ended.message}: {_standing(pid)}", hint) from None
    except KeyboardInterrupt as interrupt:
        raise told(interrupt, pid) from None


def _standing(pid: int) -> str:
    return f"process {pid} ({process_name(pid)}) is {'' if _is_attached(pid) else 'not '}attached"


def _is_attached(pid: int) -> bool:
    try:
        return _core.clock_inode(pid) != 0
    except OSError:  # it has ended
        return False


def _left(pid: int, before: Restraints, follower: Follower) -> str:
    """The rest of a sentence on why it could not be attached, or whether it has been."""
    ret = ""
    after = restraints(pid)
    if after.filters > before.filters:
        ret += "; a filter stays in it, for good, "
        attached = _is_attached(pid)
        try:
            if not follower.is_ready():
                ret += "whose follower has not said yet that it is there"
            elif attached:
                ret += "and its follower answers for it"
            else:
                ret += "by which its follower lets everything pass"
        except FollowerEnded:
            ret += "and what it executes fails with ENOSYS until it is attached again with --follow"
    if after.no_new_privs > before.no_new_privs:
        ret += "; it has no_new_privs from now on, and starts setuid programs without their privilege"
    return ret


def _answers(done: Attached, report: Report, follower: Follower) -> bool:
    """Whether its follower has said that it does; False: not yet. Raises SwapError where there is none."""
    try:
        if report.followed == FOLLOWED_LOST:
            raise FollowerEnded
        return report.followed != FOLLOWED_ANEW or follower.is_ready()
    except FollowerEnded:
        raise SwapError(
            f"process {done.pid} ({done.name}) is attached with a filter that nobody answers: what it "
            "executes and its deadlines fail with ENOSYS",
            f"vdso attach {done.pid} --follow gives it another filter, with a follower",
        ) from None


def detach(pid: int, *, timeout_s: float = TIMEOUT_S) -> Attached:
    """Gives an attached process the host's clock back; one that counts since its exec counts no more.

    Raises as attach(), and NotAttached.
    """
    with _what_is_so(pid):
        return _read(pid, _run(["detach", str(pid)], timeout_s, []), detach=True)


def _run(words: list[str], timeout_s: float, fds: list[int]) -> Report:
    if os.uname().machine != "x86_64":
        raise UnsupportedMachine(f"no clock image for {os.uname().machine}")
    words = [HELPER, *words, "--timeout-ms", str(round(timeout_s * 1000))]
    own = words[2] == str(os.getpid())
    go, ours = os.pipe2(os.O_CLOEXEC)
    try:
        with subprocess.Popen(
            [*words, "--go", str(go)],
            pass_fds=(*fds, go),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        ) as helper:
            try:
                if own:
                    _let_trace(helper.pid)
                os.write(ours, b"g")
                said, _ = helper.communicate()
            except BaseException:  # by a signal's handler: it tries no more, and what it has begun it ends
                helper.send_signal(signal.SIGINT)
                os.write(ours, b"g")  # where it still waits for that
                helper.wait()
                raise
    except OSError as error:
        raise HelperMissing(f"{HELPER}: {error.strerror}") from None
    finally:
        os.close(go)
        os.close(ours)
        if own:
            _let_trace(0)
    found = dict(word.split("=", 1) for word in said.decode().split())
    if helper.returncode != 0 or not found:
        raise HelperEnded(f"{os.path.basename(HELPER)} ended with status {helper.returncode}")
    outcome, what = found.pop("outcome"), found.pop("what")
    report = Report(outcome=outcome, what=what, **{key: int(value) for key, value in found.items()})
    if outcome == "failed" and report.error == errno.EOWNERDEAD:
        raise HelperEnded(f"{os.path.basename(HELPER)} was ended in the middle of a try")
    return report


def _let_trace(pid: int) -> None:
    """Where Yama lets only ancestors trace, a process may name who else may trace it; 0: nobody."""
    if yama_scope() != 1:
        return
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PTRACER, ctypes.c_ulong(pid), 0, 0, 0)


def _read(pid: int, report: Report, *, detach: bool, wanted: int = 0) -> Attached:
    if report.outcome != "done":
        raise failure(pid, report, detach)
    return Attached(
        pid=pid,
        name=process_name(pid),
        threads=report.threads,
        tries=report.tries,
        stood_ns=report.stood_ns,
        longest_ns=report.longest_ns,
        followed=report.followed != 0,
        lacking=tuple(option for flag, option in OPTIONAL.items() if wanted & ~report.filter & flag),
        left=detach and report.what == "stat",
    )
