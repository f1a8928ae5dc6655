"""refusing.py WHAT COMMAND...: runs the command where the kernel refuses something, as containers do.

WHAT: ptrace, setting or reading (of clocks), seccomp, getfd, pidfd, memfd, waitv or affinity (EPERM, by a
seccomp filter), or listener (a filter whose listener is not vdso's).
"""

import ctypes
import errno
import os
import struct
import sys

LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, NOTIFY, REFUSE = 0x7FFF0000, 0x7FC00000, 0x00050000 | errno.EPERM
NR, FIRST_ARGUMENT = 0, 16
PRCTL, SECCOMP, PTRACE, ACCT, SETAFFINITY, PIDFD_GETFD = 157, 317, 101, 163, 203, 438
MEMFD_CREATE, PIDFD_OPEN = 319, 434
SETTIMEOFDAY, CLOCK_SETTIME, CLOCK_GETTIME, FUTEX_WAITV = 164, 227, 228, 449
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 22, 38
SET_MODE_FILTER, NEW_LISTENER = 1, 8

FILTERS = {
    "ptrace": [(LOAD, 0, 0, NR), (EQUAL, 0, 1, PTRACE), (RETURN, 0, 0, REFUSE), (RETURN, 0, 0, ALLOW)],
    "setting": [
        (LOAD, 0, 0, NR),
        (EQUAL, 2, 0, CLOCK_SETTIME),
        (EQUAL, 1, 0, SETTIMEOFDAY),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, REFUSE),
    ],
    "reading": [
        (LOAD, 0, 0, NR),
        (EQUAL, 0, 1, CLOCK_GETTIME),
        (RETURN, 0, 0, REFUSE),
        (RETURN, 0, 0, ALLOW),
    ],
    "seccomp": [
        (LOAD, 0, 0, NR),
        (EQUAL, 3, 0, SECCOMP),
        (EQUAL, 0, 3, PRCTL),
        (LOAD, 0, 0, FIRST_ARGUMENT),
        (EQUAL, 0, 1, PR_SET_SECCOMP),
        (RETURN, 0, 0, REFUSE),
        (RETURN, 0, 0, ALLOW),
    ],
    "affinity": [(LOAD, 0, 0, NR), (EQUAL, 0, 1, SETAFFINITY), (RETURN, 0, 0, REFUSE), (RETURN, 0, 0, ALLOW)],
    "getfd": [(LOAD, 0, 0, NR), (EQUAL, 0, 1, PIDFD_GETFD), (RETURN, 0, 0, REFUSE), (RETURN, 0, 0, ALLOW)],
    "memfd": [(LOAD, 0, 0, NR), (EQUAL, 0, 1, MEMFD_CREATE), (RETURN, 0, 0, REFUSE), (RETURN, 0, 0, ALLOW)],
    "pidfd": [(LOAD, 0, 0, NR), (EQUAL, 0, 1, PIDFD_OPEN), (RETURN, 0, 0, REFUSE), (RETURN, 0, 0, ALLOW)],
    "waitv": [(LOAD, 0, 0, NR), (EQUAL, 0, 1, FUTEX_WAITV), (RETURN, 0, 0, REFUSE), (RETURN, 0, 0, ALLOW)],
    "listener": [(LOAD, 0, 0, NR), (EQUAL, 0, 1, ACCT), (RETURN, 0, 0, NOTIFY), (RETURN, 0, 0, ALLOW)],
}


def main(what: str, command: list[str]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in FILTERS[what])
    program = struct.pack("=Hxxxxxx", len(code) // 8) + struct.pack(
        "=Q", ctypes.addressof(keep := buffer(code))
    )
    assert keep
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    flags = NEW_LISTENER if what == "listener" else 0
    fd = libc.syscall(SECCOMP, SET_MODE_FILTER, flags, program)
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    if flags:
        os.set_inheritable(fd, True)  # the command itself keeps it alive
    os.execvp(command[0], command)


def buffer(code: bytes) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(code, len(code))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
