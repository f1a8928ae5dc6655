"""Starts a command whose clock calls are counted, on the counting image; puts a running process there, and
leaves it.

Knows nothing of what the counts mean.
"""

import contextlib
import json
import os
import signal
from collections.abc import Callable, Collection
from dataclasses import dataclass

from vdso import _core
from vdso.errors import AlreadyAttached, NoSuchProcess, NotAttached, SourceError, VdsoError
from vdso.kernel import maps, process
from vdso.swap import attach as attaching
from vdso.swap.process import process_name
from vdso.swap.run import run

ROUNDS = 10  # of looks for children that were forked meanwhile


@dataclass(frozen=True, slots=True)
class Started:
    """A command that is about to begin: our child, and a pipe on which it says why it did not."""

    pid: int
    said_fd: int


def start(
    command: list[str],
    counts_fd: int,
    *,
    raw_calls: bool,
    exits: bool,
    mask: Collection[int] | None = None,
    inherit: Callable[[], None] = lambda: None,
) -> Started:
    """Runs the command as a child of this process, as vdso.swap.run.run() does with `counts_fd`; with `mask`
    as the signals that it has blocked. `inherit` is called in the child."""
    said, ours = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        status = VdsoError.exit_code
        try:
            os.close(said)
            inherit()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if callable(signal.getsignal(number)):  # ours, and not the command's
                    signal.signal(number, signal.SIG_DFL)
            if mask is not None:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            status = run(command, counts_fd=counts_fd, raw_calls=raw_calls, exits=exits)
        except VdsoError as error:
            _say(ours, error.message, error.hint, error.exit_code)
        except OSError as error:
            _say(ours, (error.strerror or str(error)).lower(), "", VdsoError.exit_code)
        finally:
            os._exit(status)
    os.close(ours)
    return Started(pid, said)


def _say(fd: int, message: str, hint: str, code: int) -> None:
    os.write(fd, json.dumps([message, hint, code]).encode())


def failure(started: Started) -> VdsoError | None:
    """Why the command was not started, once `said_fd` can be read; None: it has been. Closes it."""
    with open(started.said_fd, "rb") as stream:
        said = stream.read()
    if not said:
        return None
    message, hint, code = json.loads(said)
    error = VdsoError(message, hint)
    error.exit_code = code
    return error


@dataclass(frozen=True, slots=True)
class Place:
    """A process that counts, with what it has forked: those that have this page mapped."""

    pid: int
    page: _core.ClockPage
    inode: int


def attach(pid: int, counts: _core.Counts) -> Place:
    """Has a running process count its calls. Raises as vdso.swap.attach.attach()."""
    page = attaching.clock_page(0)
    try:
        with open(f"/proc/{pid}/comm", "rb") as stream:
            name = stream.read().rstrip(b"\n")
    except OSError:
        name = b""  # what is wrong with it attaching says
    try:
        attaching.attach(pid, page.reader_fd, counts_fd=counts.fd, program=counts.program(pid, name))
    except AlreadyAttached as already:
        raise AlreadyAttached(
            already.message,
            "only what is on the host's clock, and not counted yet, can be counted; "
            f"vdso detach {pid} ends either",
        ) from None
    return Place(pid, page, os.fstat(page.reader_fd).st_ino)


@dataclass(frozen=True, slots=True)
class Left:
    """A process that has outlived the command that started it, on the counting image. `why`: why it goes on
    counting, "" where it does not."""

    pid: int
    name: str
    why: str


def leave(counts: _core.Counts) -> list[Left]:
    """What a command has started and still runs counts no more, nor does what it executes from now on."""
    counts.end()
    inode = os.fstat(counts.fd).st_ino
    found: dict[int, Left] = {}
    for _ in range(ROUNDS):
        new = [pid for pid in _having(inode) if pid not in found]
        for pid in new:
            name, why = process_name(pid), ""
            try:
                attaching.detach(pid)
            except NoSuchProcess:
                continue
            except NotAttached:
                pass  # forked by one that had been left
            except VdsoError as error:
                why = error.message
            found[pid] = Left(pid, name, why)
        if not new:
            break
    return sorted(found.values(), key=lambda one: one.pid)


def _having(inode: int) -> list[int]:
    """Whoever has these counts mapped."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError, SourceError):
            # To read all that is mapped, of all there is, would take long.
            if _inode(int(entry)) != 0 and any(
                one.inode == inode for one in maps.read(process.living(int(entry)))
            ):
                found.append(int(entry))
    return found


def anyone_counts(place: Place) -> bool:
    """False: the process has exec'd, and whatever it had forked has, or has ended."""
    try:
        if _inode(place.pid) == place.inode:
            return True
    except PermissionError:
        return True  # it cannot be seen any more
    except OSError:
        pass
    return bool(_counting(place.inode))


def detach(place: Place) -> list[VdsoError]:
    """Leaves the process and what it has forked. Returns what could not be left, and why."""
    failed: dict[int, VdsoError] = {}
    for _ in range(ROUNDS):
        there = [pid for pid in _counting(place.inode) if pid not in failed]
        for pid in there:
            try:
                attaching.detach(pid)
            except (NoSuchProcess, NotAttached):
                pass  # it has ended, or exec'd
            except VdsoError as error:
                failed[pid] = error
        if not there:
            break
    return list(failed.values())


def _counting(inode: int) -> list[int]:
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _is_on(pid, inode)]


def _is_on(pid: int, inode: int) -> bool:
    try:
        return _inode(pid) == inode
    except OSError:
        return False


def _inode(pid: int) -> int:
    """As _core.clock_inode(), also of a process whose first thread has ended."""
    task = process.living(pid)
    return _core.clock_inode(task or pid)
