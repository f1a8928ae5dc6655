"""The vsyscall page: what the vDSO replaced, at one address in every process of every x86-64 host.

Its mode is the kernel's (vsyscall= on its command line; arch/x86/entry/vsyscall/vsyscall_64.c) and shows in
the page's permissions.
"""

from dataclasses import dataclass

from vdso.kernel import maps

ADDRESS = 0xFFFFFFFFFF600000

# By the permissions that /proc/PID/maps gives it. Up to Linux 5.2 a readable page could also be "native".
MODES = {"r-xp": "emulate", "--xp": "xonly"}


@dataclass(frozen=True, slots=True)
class Vsyscall:
    """`mode`: "emulate" (readable, a call traps into the kernel), "xonly" (the same, not readable), "none".

    `address`, `size` (bytes) and `permissions` are None where the process has no such page.
    """

    mode: str
    address: int | None
    size: int | None
    permissions: str | None


def of(mapping: maps.Mapping | None) -> Vsyscall:
    """What that mapping of a process makes it; None: it has none."""
    if mapping is None:
        return Vsyscall("none", None, None, None)
    mode = MODES.get(mapping.permissions, f"unknown ({mapping.permissions})")
    return Vsyscall(mode, mapping.start, mapping.size, mapping.permissions)
