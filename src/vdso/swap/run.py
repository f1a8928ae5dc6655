"""Runs a command on a clock of ours: makes the page, starts keeper and follower, and becomes the command.

Decides; the mechanism is c/core. Imports as little as it can, since `vdso run` pays for it.
"""

import errno
import os
import sys

from vdso import _core
from vdso.errors import (
    BadWhen,
    CallRefused,
    CommandNotExecutable,
    CommandNotFound,
    CounterRefused,
    HelperMissing,
    KeeperFailed,
    NotCountable,
    PtraceRefused,
    SeccompRefused,
    SessionExists,
    UnsupportedMachine,
    VdsoError,
)
from vdso.swap.process import CAP_SYS_PTRACE, has_capability, yama_scope

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from typing import NoReturn
else:
    # The same functions and numbers, without the enums that `signal` makes: 4 of the 19 ms of a whole run.
    import _signal as signal

NS_PER_S = 1_000_000_000
RATE_ONE = 1 << 32
CLOCK_REALTIME = 0
FIRST_OWN_DESCRIPTOR = 3

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
IMAGE = os.path.join(PACKAGE, "vdso-clock.so")
COUNTING_IMAGE = os.path.join(PACKAGE, "vdso-count.so")
FOLLOWER = os.path.join(PACKAGE, "libexec", "vdso-follower")
KEEPER = os.path.join(PACKAGE, "libexec", "vdso-keeper")


def run(
    command: list[str],
    *,
    clock: str = "kernel",
    offset_ns: int | None = None,
    at_ns: int | None = None,
    follow: bool = True,
    strict: bool = False,
    rate: int | None = None,
    everything: bool | None = None,
    session: str | None = None,
    raw_calls: bool = False,
    counts_fd: int = -1,
    exits: bool = False,
) -> int:
    """Becomes `command` on a session, or runs it where Yama lets only a parent trace.

    Returns an exit status only in the second case, and raises a VdsoError when nothing was run. `clock`
    is "kernel" or "tsc"; `at_ns` is REALTIME since 1970, `offset_ns` is added to it; `rate` is 32.32;
    `everything`: MONOTONIC and its like at that rate too; `session`: the name of one, old or new,
    else our process id, which becomes the command's; `raw_calls`: system calls that read a moved clock are
    answered too.

    `counts_fd`, of a _core.Counts: the command and what it starts count their clock calls there, on the
    host's clock, or it is not run; `raw_calls` are counted then, and `exits`: what programs have mapped when
    they end is noted there.
    """
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        raise UnsupportedMachine(f"no clock image for {sys.platform} on {os.uname().machine}")
    keep_low_descriptors()
    counting = counts_fd >= 0
    if raw_calls and not counting:
        check_raw_calls()
    counter = clock == "tsc"
    if counter and at_ns is not None:
        # By the system call: this process may itself run on a session whose REALTIME is moved.
        offset_ns = at_ns - _core.kernel_clock_ns(CLOCK_REALTIME)
    image_fd = _open_image(COUNTING_IMAGE if counting else IMAGE)
    sec, nsec = divmod(offset_ns or 0, NS_PER_S)
    asked = not (at_ns is offset_ns is rate is everything is None)

    def make(name: str) -> _core.ClockPage:
        # Nobody is to find the one of what is only counted.
        try:
            page = _core.ClockPage.create(f"{'vdso-clock-stat' if counting else 'vdso-clock'}:{name}")
        except OSError as error:
            CallRefused.check("memfd_create", error)
            raise
        # A keeper writes the first record itself: after one of ours its lines would start above the clock.
        if not counter and (asked or session is not None):
            _begin(page, at_ns, offset_ns, rate, everything)
        elif not counter:
            page.set_identity()
        page.release()
        return page

    page, joined, lock = (
        (make(str(os.getpid())), False, -1)
        if session is None
        else join_or_make(session, asked or counter, make)
    )
    if joined:
        counter = page.state()[7]
    keep = counter and not joined

    above = _core.adopt(page.reader_fd, counter, strict)
    if above is not None and counting:
        raise NotCountable(
            "this is inside of a `vdso run`, or of another `vdso stat`", "start it outside of that"
        )
    if above is not None:
        _join(above)
        if raw_calls:
            _warn("the `vdso run` around this one decides what is answered: --strict is left out")
        if keep:  # nobody who outlives the command would hold anything for us
            start_keeper(page, sec, nsec, life=os.pidfd_open(os.getpid()))
        restore_locale()
        _become(command, strict)
    life_fd = start_keeper(page, sec, nsec) if keep else -1
    restore_locale()

    filter_flags = _core.FILTER_EXEC if follow else _core.FILTER_LAST
    if not counting:
        # Also where nothing is moved yet: the clock may be set while the command runs.
        filter_flags |= _core.FILTER_DEADLINES
    if raw_calls:
        filter_flags |= _core.FILTER_READS
    if exits:
        filter_flags |= _core.FILTER_EXITS
    if page.state()[6] or counting:
        filter_flags |= _core.FILTER_ALL
    try:
        front = _only_ancestors_trace()
    except PtraceRefused as refused:
        if strict or counting:
            raise
        _run_untouched(command, refused)

    def launch(flags: int) -> tuple[int, int, int]:
        return _core.launch(
            FOLLOWER,
            image_fd,
            page.reader_fd,
            flags,
            life_fd,
            counts_fd,
            counter,
            strict,
            command if front else None,
        )

    if front and lock >= 0:
        os.close(lock)  # who is in front goes on holding the page
    with_python_signals = _restore_signals()
    error, step, status = launch(filter_flags)
    if error and step == _core.LAUNCH_FILTER:
        if strict and follow:
            raise SeccompRefused(f"no seccomp filter can be installed here: {os.strerror(error)}")
        if follow:
            fate = "are not counted" if counting else "keep the host's clock"
            _warn(
                f"no seccomp filter can be installed here ({os.strerror(error)}): "
                f"programs that the command starts {fate}"
            )
        error, step, status = launch(_core.FILTER_NONE)
    if error == errno.EPERM and step == _core.LAUNCH_HOLD and not strict and not counting:
        _run_untouched(command, _launch_error(error, step))
    if error:
        _restore_signals(with_python_signals)
        raise _launch_error(error, step)
    if front:
        _core.end_as(status)
    _become(command, strict)


def check_raw_calls() -> None:
    """Where the kernel's own vDSO makes system calls, they cannot be told from a program's.

    Raises SeccompRefused.
    """
    for call, clock_id, _, caller, _ in _core.observe_calls():
        if call == "clock_gettime" and clock_id == CLOCK_REALTIME and caller == _core.CALLER_VDSO:
            raise SeccompRefused(
                "--strict cannot tell a program's system calls from those that the kernel's vDSO makes here",
                "see /sys/devices/system/clocksource/clocksource0/current_clocksource, or do without",
            )


def _begin(
    page: _core.ClockPage,
    at_ns: int | None,
    offset_ns: int | None,
    rate: int | None,
    everything: bool | None,
) -> None:
    how = _core.TIME_OFFSET if at_ns is None else _core.TIME_AT
    sec, nsec = divmod((offset_ns or 0) if at_ns is None else at_ns, NS_PER_S)
    try:
        page.begin(bool(everything), how, sec, nsec, _core.RATE_SET, RATE_ONE if rate is None else rate)
    except OSError as error:
        if error.errno != errno.ERANGE:
            raise
        raise BadWhen("no clock goes so far", "some two billion years from today are the limit") from None


def join_or_make(
    name: str, asked: bool, make: "Callable[[str], _core.ClockPage]"
) -> tuple[_core.ClockPage, bool, int]:
    """The page of that name's session, whether there was one, and a lock to hold until ours can be found.

    Two command lines that look at once do so one after the other: the lock is on a file that everybody has.
    It goes with the exec, by which time a follower holds the page. Raises SessionExists where there was one
    and something is `asked` of its clock.
    """
    import fcntl

    from vdso.clocks.holders import open_named

    lock = os.open(IMAGE, os.O_RDONLY | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_EX)
    # By this name another command line finds us and our page, as long as nobody else holds it.
    with open("/proc/self/comm", "w", encoding="ascii") as comm:
        comm.write("vdso-run")
    page = open_named(name)
    if page is None:
        return make(name), False, lock
    if asked:
        raise SessionExists(
            f"the session {name} runs already, on a clock of its own", f"vdso time {name} ... adjusts it"
        )
    os.close(lock)
    return page, True, -1


def _run_untouched(command: list[str], reason: VdsoError) -> "NoReturn":
    """Becomes the command on the host's clock, which it may still not set."""
    _warn(f"{reason.message}: the command runs on the host's clock")
    if reason.hint and sys.stderr is not None:
        sys.stderr.write(f"  {reason.hint}\n")
    try:
        _core.refuse_clock_setting()
    except OSError as error:
        raise SeccompRefused(
            f"nothing keeps the command from setting the host's clock: {error.strerror}"
        ) from None
    _restore_signals()
    _become(command, False)


def keep_low_descriptors() -> None:
    """Where the caller has closed 0, 1 or 2, nothing of ours may take its place; closed again at the exec."""
    while os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC) < FIRST_OWN_DESCRIPTOR:
        pass


def _open_image(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise HelperMissing(f"{path}: {error.strerror}") from None


def start_keeper(page: "_core.ClockPage", sec: int, nsec: int, life: int = -1) -> int:
    """A descriptor whose last copy, once closed, ends the keeper; or it ends with the pidfd `life`."""
    ours = -1
    if life < 0:
        life, ours = os.pipe2(os.O_CLOEXEC)
    answer, ready = os.pipe2(os.O_CLOEXEC)
    words = ["vdso-keeper", "--page", str(page.fd), "--offset-sec", str(sec), "--offset-nsec", str(nsec)]
    words += ["--life", str(life), "--ready", str(ready)]
    try:
        _core.launch_apart(KEEPER, words, [page.fd, life, ready])
    except OSError as error:
        raise HelperMissing(f"{KEEPER}: {error.strerror}") from None
    os.close(ready)
    os.close(life)
    with open(answer, encoding="utf-8") as stream:
        line = stream.read().strip()
    if line == "ok":
        return ours
    if line:
        raise CounterRefused(f"the CPU's counter is no clock here: {line}")
    raise KeeperFailed("the keeper of the tsc clock ended without a word")


def _join(error: int) -> None:
    """A follower above us has taken the session over, or has said why not."""
    if error == errno.EOPNOTSUPP:
        raise SeccompRefused(
            "this is inside of a `vdso stat`, whose programs stay on the host's clock",
            "the other way round is not possible either: count without, or set the clock without",
        )
    if error == errno.ENOEXEC:
        raise SeccompRefused(
            "this is inside of a `vdso run --no-follow`, which does not see what is executed",
            "leave --no-follow out there",
        )
    if error == errno.ENOSPC:
        raise SeccompRefused("the `vdso run` around this one follows as many sessions as it can", "")
    if error:
        raise SeccompRefused(
            f"the `vdso run` around this one did not take the session: {os.strerror(error)}", ""
        )


def _only_ancestors_trace() -> bool:
    """Whether only a parent may trace: Yama's scope 1, without the capability that overrides it."""
    scope = yama_scope()
    if scope <= 0 or (scope < 3 and has_capability(CAP_SYS_PTRACE)):
        return False
    if scope >= 3:
        raise PtraceRefused(
            f"Yama lets nobody trace until the next boot (kernel.yama.ptrace_scope is {scope})", ""
        )
    if scope == 2:
        raise PtraceRefused(
            "Yama lets nobody without CAP_SYS_PTRACE trace (kernel.yama.ptrace_scope is 2)",
            "run as root, or: sysctl kernel.yama.ptrace_scope=1",
        )
    return True


def _restore_signals(handlers: dict[int, object] | None = None) -> dict[int, object]:
    """Undoes what the interpreter has set for itself, or with `handlers` does it again."""
    before: dict[int, object] = {}
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
        wanted = signal.SIG_DFL if handlers is None else handlers[number]
        # An ignored SIGINT was ignored before us (nohup, a background job of a shell): it stays so.
        if handlers is None and number == signal.SIGINT and signal.getsignal(number) == signal.SIG_IGN:
            before[number] = signal.SIG_IGN
            continue
        before[number] = signal.signal(number, wanted)  # type: ignore[arg-type]
    return before


def restore_locale() -> None:
    """Undoes the interpreter's choice of a UTF-8 locale, which it makes in the environment (PEP 538)."""
    if os.environ.get("LC_CTYPE") not in ("C.UTF-8", "C.utf8", "UTF-8"):
        return
    with open("/proc/self/environ", "rb") as stream:
        given = [word for word in stream.read().split(b"\0") if word.startswith(b"LC_CTYPE=")]
    if given:
        os.environb[b"LC_CTYPE"] = given[0].partition(b"=")[2]
    else:
        del os.environ["LC_CTYPE"]


def _launch_error(error: int, step: int) -> VdsoError:
    reason = os.strerror(error)
    if step == _core.LAUNCH_START:
        missing = error in (errno.ENOENT, errno.EACCES, errno.ENOEXEC)
        return HelperMissing(f"{FOLLOWER}: {reason}", None if missing else "")
    if step == _core.LAUNCH_FILTER:
        return SeccompRefused(f"neither a seccomp filter nor dropping CAP_SYS_TIME is allowed here: {reason}")
    if error == errno.EPERM:
        return PtraceRefused(f"the command cannot be traced: {reason}")
    return PtraceRefused(f"the follower could not take hold of the command: {reason}", "")


def _warn(line: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(f"vdso: {line}\n")
        sys.stderr.flush()


def _become(command: list[str], strict: bool) -> "NoReturn":
    try:
        try:
            os.execvp(command[0], command)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            # The C library's execvp, and so env, nohup and the way with a front, leave it to the shell.
            os.execv("/bin/sh", ["/bin/sh", find_program(command[0]), *command[1:]])
    except FileNotFoundError:
        raise CommandNotFound(command[0]) from None
    except NotADirectoryError:
        raise CommandNotFound(command[0]) from None
    except OSError as error:
        if strict and error.errno == errno.EPERM:  # the follower's answer, which has said why
            raise PtraceRefused(f"{command[0]} cannot be swapped, and is not started") from None
        raise CommandNotExecutable(command[0], (error.strerror or "cannot be executed").lower()) from None


def find_program(name: str) -> str:
    """The file that execvp has found."""
    for directory in os.get_exec_path() if "/" not in name else ():
        path = os.path.join(directory, name)
        if os.access(path, os.X_OK) and not os.path.isdir(path):
            return path
    return name
