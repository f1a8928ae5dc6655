"""Attaches running processes to a clock page, and detaches them.

Decides, and says why not; the mechanism is libexec/vdso-attach (c/core/attach.c). Knows nothing of
sessions: it is given the descriptor of a clock page.
"""

import errno
import os
import secrets
import subprocess
from dataclasses import dataclass, replace

from vdso import _core
from vdso.errors import (
    AlreadyAttached,
    HelperMissing,
    NoSuchProcess,
    NotAttachable,
    NotAttached,
    ProcessBusy,
    PtraceRefused,
    SeccompRefused,
    SwapError,
    UnsupportedMachine,
    VdsoError,
)
from vdso.swap.following import Follower, FollowerEnded, Following, started
from vdso.swap.run import COUNTING_IMAGE, IMAGE, PACKAGE

FOLLOWED_ANEW, FOLLOWED_LOST = 1, 4  # VDSO_FOLLOWED_* of c/include/attachment.h
OPTIONAL = {_core.FILTER_READS: "--strict", _core.FILTER_ALL: "--clocks all"}
HELPER = os.path.join(PACKAGE, "libexec", "vdso-attach")
TIMEOUT_S = 2.0
NS_PER_S = 1_000_000_000
CAP_SYS_PTRACE = 19
CAP_SYS_TIME = 25
FIRST_USER_NAMESPACE = "user:[4026531837]"  # PROC_USER_INIT_INO of include/linux/proc_ns.h
PR_SET_PTRACER = 0x59616D61
YAMA_SCOPE = "/proc/sys/kernel/yama/ptrace_scope"


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


@dataclass(frozen=True, slots=True)
class _Report:
    outcome: str  # vdso_attach_outcome_name() of c/core/attach.c
    error: int  # errno, or 0
    other: int
    threads: int
    tries: int
    state: int
    stood_ns: int
    longest_ns: int
    followed: int  # VDSO_FOLLOWED_* of c/include/attachment.h
    filter: int
    no_new_privs: int
    what: str


def clock_page(offset_ns: int) -> "_core.ClockPage":
    """A clock page of its own, with REALTIME moved by that much.

    Its version begins somewhere: where a process is attached anew, a thread that has been in a signal handler
    since the last time sees by the version that it is another page.
    """
    page = _core.ClockPage.create("vdso-clock")
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
) -> Attached:
    """Puts a running process on the clock page that page_fd has open for reading; it stays the caller's.

    Its children by fork are on it too; it may be the own process. `flags`: VDSO_PROCESS_* of
    c/include/process.h. `counts_fd`, of a _core.Counts: it counts its clock calls there from now on, as
    `program`. With `follow`, and not with that, a filter is put into it, for good, and a follower swaps what
    it and its children execute from then on and answers what they ask of the clock. While the process cannot
    be stopped at once it is tried again for timeout_s. Raises NoSuchProcess, NotAttachable, AlreadyAttached,
    ProcessBusy, PtraceRefused, SeccompRefused, HelperMissing.
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
        if follow is None:
            return _read(pid, _run(words, timeout_s, fds), detach=False)
        with started(pid, image_fd, page_fd, follow) as follower:
            words += ["--follower", str(follower.way), "--talk", str(follower.talk)]
            words += ["--filter", str(follow.filter), "--counter", str(int(follow.counter))]
            report = _run(words, timeout_s, [*fds, follower.way, follower.talk])
            done = _read(pid, report, detach=False, wanted=follow.filter)
            return replace(done, unready=not _answers(done, report, follower))
    finally:
        os.close(image_fd)


def _answers(done: Attached, report: _Report, follower: Follower) -> bool:
    """Whether its follower has said that it does; False: not yet. Raises SwapError where there is none."""
    try:
        if report.followed == FOLLOWED_LOST:
            raise FollowerEnded
        return report.followed != FOLLOWED_ANEW or follower.is_ready()
    except FollowerEnded:
        raise SwapError(
            f"process {done.pid} ({done.name}) is attached with a filter that nobody answers: what it "
            "executes and its deadlines fail with ENOSYS",
            f"vdso detach {done.pid}, and attach it again with --follow, which gives it another filter",
        ) from None


def detach(pid: int, *, timeout_s: float = TIMEOUT_S) -> Attached:
    """Gives an attached process the host's clock back. Raises as attach(), and NotAttached."""
    return _read(pid, _run(["detach", str(pid)], timeout_s, []), detach=True)


def _run(words: list[str], timeout_s: float, fds: list[int]) -> _Report:
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
            if own:
                _let_trace(helper.pid)
            os.write(ours, b"g")
            said, _ = helper.communicate()
    except OSError as error:
        raise HelperMissing(f"{HELPER}: {error.strerror}") from None
    finally:
        os.close(go)
        os.close(ours)
        if own:
            _let_trace(0)
    found = dict(word.split("=", 1) for word in said.decode().split())
    if helper.returncode != 0 or not found:
        raise SwapError(f"{HELPER} ended with status {helper.returncode}")
    outcome, what = found.pop("outcome"), found.pop("what")
    return _Report(outcome=outcome, what=what, **{key: int(value) for key, value in found.items()})


def _let_trace(pid: int) -> None:
    """Where Yama lets only ancestors trace, a process may name who else may trace it; 0: nobody."""
    if _yama_scope() != 1:
        return
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PTRACER, ctypes.c_ulong(pid), 0, 0, 0)


def _read(pid: int, report: _Report, *, detach: bool, wanted: int = 0) -> Attached:
    if report.outcome != "done":
        raise _failure(pid, report, detach)
    return Attached(
        pid=pid,
        name=process_name(pid),
        threads=report.threads,
        tries=report.tries,
        stood_ns=report.stood_ns,
        longest_ns=report.longest_ns,
        followed=report.followed != 0,
        no_new_privs=report.no_new_privs != 0,
        lacking=tuple(option for flag, option in OPTIONAL.items() if wanted & ~report.filter & flag),
    )


def _failure(pid: int, report: _Report, detach: bool) -> VdsoError:
    """The error that says it: one for each outcome."""
    this = f"process {pid} ({process_name(pid)})"
    other = report.other
    reason = os.strerror(report.error)
    match report.outcome:
        case "no_process":
            return _no_process(pid)
        case "a_thread":
            return NoSuchProcess(
                f"{pid} is a thread of process {other} ({process_name(other)})", f"name the process: {other}"
            )
        case "kernel_thread":
            return NotAttachable(f"{this} is a thread of the kernel", "it runs no program, and reads no vDSO")
        case "zombie":
            return NotAttachable(f"{this} has ended, and waits for its parent to take its status", "")
        case "traced":
            return NotAttachable(
                f"{this} is being traced, by {other} ({process_name(other)})",
                "only one can: detach the debugger, or strace",
            )
        case "refused":
            return _refused(pid, report)
        case "seccomp":
            return SeccompRefused(
                f"{this} has a seccomp filter, which might end it for the system calls that attaching takes",
                "with CAP_SYS_ADMIN it is suspended meanwhile: run as root, outside of its container",
            )
        case "listener":
            return SeccompRefused(
                f"{this} has a seccomp filter with somebody else's listener, and there cannot be two",
                "--no-follow attaches it, and leaves what it executes alone",
            )
        case "follower":
            return SwapError(f"the follower of {this} has ended", "nothing has been changed: try again")
        case "foreign":
            return _foreign(pid)
        case "changed":
            return NotAttachable(
                f"somebody else has changed the vDSO of {this}", "another tool's hooks have to go first"
            )
        case "no_vdso":
            return NotAttachable(
                f"{this} has no vDSO: its clock reads are system calls", "see vdso=0 in /proc/cmdline"
            )
        case "swapped":
            return AlreadyAttached(
                f"{this} was started by `vdso run`, and is on a clock of ours since",
                "change its session: vdso time",
            )
        case "already" if detach:
            return NotAttached(f"{this} is on the host's clock: it is not attached")
        case "already":
            return AlreadyAttached(
                f"{this} is attached already", f"vdso detach {pid} first, or change its session"
            )
        case "no_site":
            return NotAttachable(
                f"this kernel's vDSO has no place for a jump in {report.what}()", "vdso run needs none"
            )
        case "no_room" if report.error:
            return NotAttachable(f"{this} has nothing free within 2 GiB of its vDSO", "")
        case "no_room":
            return NotAttachable(
                "this kernel's vDSO fills its pages: there is no room to work in", "vdso run needs none"
            )
        case "late":
            return _late(this, report)
        case "shared":
            return ProcessBusy(
                f"{this} shares its address space with process {other} ({process_name(other)})",
                "both would be attached: try again when that one has ended",
            )
        case "call_failed" if report.what in ("seccomp", "ask"):
            return _not_followed(this, report)
        case "call_failed":
            return SwapError(
                f"{report.what} failed in {this}: {reason}",
                "its seccomp filter, its security module or its memory limit refuses it",
            )
    return SwapError(f"{this} could not be {'detached' if detach else 'attached'}: {reason}")


def _not_followed(this: str, report: _Report) -> VdsoError:
    """A filter could not be put in: nothing has been changed."""
    hint = "--no-follow attaches it, and leaves what it executes alone"
    match errno.errorcode.get(report.error):
        case "ESRCH":
            why = "one of its threads has a seccomp filter of its own"
        case "EINVAL":
            why = "that takes Linux 5.7"
        case "ENOSPC":
            why = "its follower has as many sessions as it can"
        case "EOPNOTSUPP":
            why = "it is counted by a `vdso stat`, on the host's clock"
        case _:
            why = f"{report.what}: {os.strerror(report.error)}"
    return SeccompRefused(f"{this} cannot be followed: {why}", hint)


def _no_process(pid: int) -> VdsoError:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return PtraceRefused(
            f"process {pid} is another user's, and /proc hides it", "run as that user, or as root"
        )
    except (ProcessLookupError, OverflowError):
        return NoSuchProcess(f"there is no process {pid}", "in this PID namespace")
    return NoSuchProcess(f"process {pid} has ended", "")


def _foreign(pid: int) -> VdsoError:
    """A vDSO that is not this kernel's for 64-bit programs."""
    this = f"process {pid} ({process_name(pid)})"
    try:
        with open(f"/proc/{pid}/exe", "rb") as stream:
            bits = stream.read(5)[4:]
    except OSError:
        bits = b""
    if bits == b"\1":
        return NotAttachable(f"{this} is a 32-bit program", "only 64-bit programs can be attached")
    return NotAttachable(
        f"the vDSO of {this} is not this kernel's", "was it restored from a checkpoint of another kernel?"
    )


def _late(this: str, report: _Report) -> VdsoError:
    how = f"{report.tries} {'try' if report.tries == 1 else 'tries'}"
    if report.state:
        state = chr(report.state)
        what = f"thread {report.other} of {this} did not stop within 30 ms ({how}, state {state})"
        if state == "D":
            return ProcessBusy(
                what,
                "it waits in the kernel: for a disk or, after a vfork, for its child: try a longer --timeout",
            )
        return ProcessBusy(what, "the machine is busy, or the thread is: try a longer --timeout")
    return ProcessBusy(f"{this} kept changing while it was looked at ({how})", "try a longer --timeout")


def _refused(pid: int, report: _Report) -> VdsoError:
    """Why ptrace was refused: what is true of this process first, then of this machine."""
    this = f"process {pid} ({process_name(pid)})"
    scope = _yama_scope()
    if scope >= 3:
        return PtraceRefused("Yama lets nobody trace until the next boot (kernel.yama.ptrace_scope is 3)", "")
    capable = has_capability(CAP_SYS_PTRACE)
    if not capable and scope == 2:  # of whose process ever, and of a child of our own
        return PtraceRefused(
            f"Yama lets nobody without CAP_SYS_PTRACE trace {this} (kernel.yama.ptrace_scope is 2)",
            "run as root, or: sysctl kernel.yama.ptrace_scope=0",
        )
    if report.other:
        return PtraceRefused(
            "ptrace is refused here, also of a child of our own: most likely by a container's filter",
            "docker run --cap-add SYS_PTRACE, or attach from outside of the container",
        )
    owners, ours = _users(pid), _users(os.getpid())
    if not capable and owners and set(owners) != {ours[1]}:
        return PtraceRefused(f"{this} is another user's ({_user(owners[0])})", "run as that user, or as root")
    if not capable and scope == 1:
        return PtraceRefused(
            f"Yama lets only an ancestor trace {this} (kernel.yama.ptrace_scope is 1)",
            "run as root, or: sysctl kernel.yama.ptrace_scope=0",
        )
    if _namespace(pid, "user") != _namespace(os.getpid(), "user"):
        return PtraceRefused(
            f"{this} is in another user namespace, where we have no privilege",
            "attach from the host, as root",
        )
    if not capable:
        return PtraceRefused(
            f"{this} does not let itself be traced: it has privileges that we have not, or has asked for it",
            "run as root",
        )
    return PtraceRefused(f"ptrace of {this} is refused", "by a security module: see its log (dmesg, auditd)")


def _yama_scope() -> int:
    try:
        with open(YAMA_SCOPE, encoding="ascii") as stream:
            return int(stream.read())
    except (OSError, ValueError):
        return 0


def _status(pid: int, key: str) -> list[str]:
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as stream:
            for line in stream:
                if line.startswith(key):
                    return line.split()[1:]
    except OSError:
        pass
    return []


def _users(pid: int) -> list[int]:
    """Real, effective, saved and file system user, or nothing."""
    return [int(word) for word in _status(pid, "Uid:")]


def _user(number: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def may_set_host_clock(pid: int) -> bool:
    """Whether any of its threads has CAP_SYS_TIME where the kernel asks for it, in the first namespace."""
    if _namespace(pid, "user") not in ("", FIRST_USER_NAMESPACE):
        return False
    try:
        threads = [int(word) for word in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return False
    return any(
        int(word, 16) >> CAP_SYS_TIME & 1
        for tid in threads
        for kind in ("CapPrm:", "CapEff:")
        for word in _status(tid, kind)
    )


def has_capability(number: int) -> bool:
    """Whether this process has that capability in effect (capabilities(7))."""
    return any(int(word, 16) >> number & 1 for word in _status(os.getpid(), "CapEff:"))


def _namespace(pid: int, kind: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return ""


def process_name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as stream:
            return stream.read().rstrip("\n")
    except OSError:
        return "?"
