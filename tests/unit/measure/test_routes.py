"""Routes to the clocks: what is made of an observation, and what this machine's C library does."""

import os

import pytest

from vdso import _core
from vdso.measure import routes


@pytest.mark.parametrize(
    ("vdso", "caller", "route"),
    [
        (1, _core.CALLER_NOBODY, "vdso"),
        (0, _core.CALLER_NOBODY, "library"),
        (-1, _core.CALLER_NOBODY, "user"),
        (1, _core.CALLER_VDSO, "vdso-syscall"),
        (0, _core.CALLER_LIBRARY, "syscall"),
        (1, _core.CALLER_LIBRARY, "syscall"),
        (0, _core.CALLER_VSYSCALL, "vsyscall"),
        (-1, -1, "unknown"),
    ],
)
def test_words_for_what_was_seen(vdso: int, caller: int, route: str) -> None:
    assert routes.classify(vdso, caller) == route
    assert route in routes.ROUTES


def test_this_c_library() -> None:
    found = routes.observe()
    by_label = {call.label: call for call in found.calls}
    assert len(by_label) == len(found.calls)
    assert found.library
    # No vDSO serves the CPU-time clocks, on any kernel.
    for clock in ("PROCESS_CPUTIME_ID", "THREAD_CPUTIME_ID"):
        call = by_label[f"clock_gettime({clock})"]
        assert call.route in ("syscall", "vdso-syscall")
        assert call.syscall == "clock_gettime"
    for call in found.calls:
        assert (call.syscall is None) == (call.route in ("vdso", "library", "user"))


def restrictions() -> list[str]:
    with open("/proc/self/status", encoding="ascii") as status:
        return [line for line in status if line.startswith(("NoNewPrivs", "Seccomp"))]


def test_leaves_no_child_and_no_filter() -> None:
    before = restrictions()
    routes.observe()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert restrictions() == before
