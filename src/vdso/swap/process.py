"""What /proc says of a process, to those who trace it: who it is, and what it may do.

Imports next to nothing: `vdso run` pays for each import.
"""

import os

CAP_SYS_PTRACE = 19
CAP_SYS_TIME = 25
FIRST_USER_NAMESPACE = "user:[4026531837]"  # PROC_USER_INIT_INO of include/linux/proc_ns.h
YAMA_SCOPE = "/proc/sys/kernel/yama/ptrace_scope"


def process_name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as stream:
            return stream.read().rstrip("\n")
    except OSError:
        return "?"


def status(tid: int) -> dict[str, str]:
    """Its lines by their names. Raises OSError."""
    with open(f"/proc/{tid}/status", encoding="utf-8", errors="replace") as stream:
        return {name: value.strip() for name, _, value in (line.partition(":") for line in stream)}


def threads_of(pid: int) -> list[int]:
    """Raises OSError."""
    return [int(word) for word in os.listdir(f"/proc/{pid}/task")]


def users(pid: int) -> list[int]:
    """Real, effective, saved and file system user, or nothing."""
    try:
        return [int(word) for word in status(pid)["Uid"].split()]
    except (OSError, KeyError):
        return []


def user_name(number: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def namespace(pid: int, kind: str) -> str:
    """Its name, or nothing."""
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return ""


def has_capability(number: int) -> bool:
    """Whether this process has that capability in effect (capabilities(7))."""
    return bool(int(status(os.getpid()).get("CapEff", "0"), 16) >> number & 1)


def may_set_host_clock(pid: int) -> bool:
    """Whether any of its threads has CAP_SYS_TIME, or may take it, in the first user namespace.

    What cannot be seen of one that is there counts as yes. c/core/privilege.c looks again while it stands
    still.
    """
    if namespace(pid, "user") not in ("", FIRST_USER_NAMESPACE):
        return False
    try:
        threads = threads_of(pid)
    except OSError as error:
        return not _is_gone(error)
    return any(_may_set_clock(tid) for tid in threads)


def _may_set_clock(tid: int) -> bool:
    try:
        said = status(tid)
    except OSError as error:
        return not _is_gone(error)
    return any(int(said.get(kind, "0"), 16) >> CAP_SYS_TIME & 1 for kind in ("CapPrm", "CapEff"))


def _is_gone(error: OSError) -> bool:
    return isinstance(error, FileNotFoundError | ProcessLookupError)


def yama_scope() -> int:
    try:
        with open(YAMA_SCOPE, encoding="ascii") as stream:
            return int(stream.read())
    except (OSError, ValueError):
        return 0
