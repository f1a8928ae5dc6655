"""Why a process could not be attached or detached: an error for each outcome, with what to do about it.

Knows what /proc says of the process and of this machine, and tries nothing.
"""

import errno
import os
from dataclasses import dataclass

from vdso.errors import (
    AlreadyAttached,
    MaySetClock,
    NoSuchProcess,
    NotAttachable,
    NotAttached,
    ProcessBusy,
    PtraceRefused,
    SeccompRefused,
    SwapError,
    VdsoError,
)
from vdso.swap.process import (
    CAP_SYS_PTRACE,
    has_capability,
    namespace,
    process_name,
    user_name,
    users,
    yama_scope,
)

RESTART = "the counting image, and its filter, stay with it until it ends: start it anew to be rid of both"


@dataclass(frozen=True, slots=True)
class Report:
    """What the mechanism came to: struct vdso_attach_report of c/core/attach.h."""

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
    what: str


def failure(pid: int, report: Report, detach: bool) -> VdsoError:
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
            return SwapError(f"the follower of {this} has ended", "try again")
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
        case "swapped" if report.what == "stat":
            return AlreadyAttached(
                f"{this} was started by `vdso stat`, and is counted",
                f"vdso detach {pid} ends that, and leaves it on the counting image",
            )
        case "swapped" if report.what == "left":
            return AlreadyAttached(
                f"{this} was started by `vdso stat`, and is on its image, which counts no more", RESTART
            )
        case "swapped":
            return AlreadyAttached(
                f"{this} was started by `vdso run`, and is on a clock of ours since",
                "change its session: vdso time",
            )
        case "already" if detach and report.what == "left":
            return NotAttached(
                f"{this} is on the host's clock already: `vdso stat` has started it, and counts it no more",
                RESTART,
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
        case "gained":
            return MaySetClock(
                f"{this} may set the host's clock now (CAP_SYS_TIME)", "--follow has it set the session's"
            )
        case "shared":
            return ProcessBusy(
                f"{this} shares its address space with process {other} ({process_name(other)})",
                "both would be attached: try again when that one has ended",
            )
        case "call_failed" if report.error == errno.EMFILE:
            return SwapError(
                f"{this} is at its limit of open files: attaching takes up to five for a moment",
                f"prlimit --pid {pid} --nofile=N:N raises it",
            )
        case "call_failed" if report.what in ("seccomp", "ask"):
            return _not_followed(this, report)
        case "call_failed":
            return SwapError(
                f"{report.what} failed in {this}: {reason}",
                "its seccomp filter, its security module or its memory limit refuses it",
            )
    return SwapError(f"{this} could not be {'detached' if detach else 'attached'}: {reason}")


def _not_followed(this: str, report: Report) -> VdsoError:
    """A filter could not be put in: nothing has been changed."""
    hint = "--no-follow attaches it, and leaves what it executes alone"
    match errno.errorcode.get(report.error):
        case "ESRCH":
            why = "one of its threads has a seccomp filter of its own"
        case "EINVAL":
            why = "that takes Linux 5.7"
        case "ENOSPC":
            why = "its follower has as many sessions as it can"
        case "ENOEXEC":
            why = "it is under a `vdso run --no-follow`, which does not see what is executed"
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


def _late(this: str, report: Report) -> VdsoError:
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
    if report.other:
        return ProcessBusy(
            f"what attaching does in {this} was not done within the 45 ms that it may stand still ({how})",
            "the machine is busy: try a longer --timeout",
        )
    return ProcessBusy(f"{this} kept changing while it was looked at ({how})", "try a longer --timeout")


def _refused(pid: int, report: Report) -> VdsoError:
    """Why ptrace was refused: what is true of this process first, then of this machine."""
    this = f"process {pid} ({process_name(pid)})"
    scope = yama_scope()
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
    owners, ours = users(pid), users(os.getpid())
    if not capable and owners and set(owners) != {ours[1]}:
        return PtraceRefused(
            f"{this} is another user's ({user_name(owners[0])})", "run as that user, or as root"
        )
    if not capable and scope == 1:
        return PtraceRefused(
            f"Yama lets only an ancestor trace {this} (kernel.yama.ptrace_scope is 1)",
            "run as root, or: sysctl kernel.yama.ptrace_scope=0",
        )
    if namespace(pid, "user") not in (
        "",
        namespace(os.getpid(), "user"),
    ):  # "": that is not for us to see, either
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
