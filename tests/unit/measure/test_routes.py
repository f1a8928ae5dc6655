"""Routes to the clocks: what is made of an observation, and what this machine's C library does."""

import os
import sys
import threading
import time

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
        (1, _core.CALLER_LIBRARY, "vdso-then-syscall"),
        (-1, _core.CALLER_LIBRARY, "syscall"),
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


def test_other_threads_go_on_meanwhile() -> None:
    """The children take some ms, and nobody else has to wait for them."""
    running = threading.Event()
    end = threading.Event()
    turns: list[float] = []

    def turn() -> None:
        while not end.is_set():
            turns.append(time.monotonic())
            running.set()
            time.sleep(0)

    # Nobody is made to give way: the other thread only runs while this one has let go by itself.
    interval = sys.getswitchinterval()
    thread = threading.Thread(target=turn)
    thread.start()
    try:
        running.wait(10)
        sys.setswitchinterval(10)
        start = time.monotonic()
        _core.observe_calls()
        stop = time.monotonic()
        during = sum(start < at < stop for at in tuple(turns))
    finally:
        sys.setswitchinterval(interval)
        end.set()
        thread.join()
    assert during > 0


def restrictions() -> list[str]:
    with open("/proc/self/status", encoding="ascii") as status:
        return [line for line in status if line.startswith(("NoNewPrivs", "Seccomp"))]


def children() -> str:
    """Their pids, ended ones too. Other tests may have left one that helps them."""
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as listed:
        return listed.read()


def test_leaves_no_child_and_no_filter() -> None:
    before = restrictions(), children()
    routes.observe()
    assert (restrictions(), children()) == before
