"""adjtimex inside a session: the kernel's bounds, units and answers, for the session's clock."""

import errno
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from harness import (
    SOURCES,
    TIMEOUT_S,
    Start,
    Way,
    couple,
    finish,
    holders,
    kill_follower_at,
    read_until,
    until,
    without_time,
)

from vdso.clocks.session import Adjustment, find_open, state

OFFSET, FREQUENCY, MAXERROR, ESTERROR, STATUS, TIMECONST = 0x1, 0x2, 0x4, 0x8, 0x10, 0x20
TAI, SETOFFSET, MICRO, NANO, TICK = 0x80, 0x100, 0x1000, 0x2000, 0x4000
SINGLESHOT, SS_READ = 0x8001, 0xA001
STA_PLL, STA_UNSYNC, STA_NANO = 0x1, 0x40, 0x2000
TIME_OK, TIME_ERROR = 0, 5
PPM = 1 << 16
AT_S = 1_000_000_000
SETTABLE_END_S = 9223372036 - 30 * 365 * 86400
UNKNOWN_US = 16_000_000


@pytest.fixture(autouse=True)
def _host_stays() -> Iterator[None]:
    def beyond() -> float:
        return time.clock_gettime(time.CLOCK_REALTIME) - time.clock_gettime(time.CLOCK_BOOTTIME)

    before = beyond()
    yield
    assert abs(beyond() - before) < 1, "the host's clock was set"


class Tuned:
    """A program that calls adjtimex, on a frozen or a running clock of its own."""

    def __init__(self, way: Way, start: Start, *options: str, name: str | None = None) -> None:
        self.name = name or f"tuned-{os.getpid()}-{time.monotonic_ns()}"
        self.vdso = way.vdso
        command = ["python3", SOURCES / "adjtimex.py"]
        self.process = start(way.words(*command, offset=None, options=["--session", self.name, *options]))

    def __call__(self, modes: int = 0, **fields: int) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"modes": modes, **fields}) + "\n")
        self.process.stdin.flush()
        said = json.loads(read_until(self.process.stdout.fileno(), r"\n"))
        assert isinstance(said, dict)
        return said

    def time(self, *words: str) -> None:
        done = finish([self.vdso, "time", self.name, *words])
        assert (done.returncode, done.stderr) == (0, "")

    def clock(self) -> tuple[int, float]:
        """Seconds, and the rate."""
        shown = state(*find_open(self.name))
        return shown.realtime_ns // 10**9, shown.rate


FROZEN = ("--at", f"@{AT_S}", "--freeze")

REFUSED = {
    "before-1970": (SETOFFSET, {"sec": -AT_S - 1}),
    "beyond-2262": (SETOFFSET, {"sec": SETTABLE_END_S - AT_S}),
    "far": (SETOFFSET, {"sec": 2**63 - 1}),
    "far-back": (SETOFFSET, {"sec": -(2**63)}),
    "negative": (SETOFFSET, {"usec": -1}),
    "a-second": (SETOFFSET, {"usec": 10**6}),
    "a-second-in-ns": (SETOFFSET | NANO, {"usec": 10**9}),
    "slew-before-1970": (SINGLESHOT, {"offset": -(AT_S + 1) * 10**6}),
    "slew-far": (SINGLESHOT, {"offset": 2**63 - 1}),
    "slew-far-back": (SINGLESHOT, {"offset": -(2**63)}),
    "no-singleshot": (0x8000, {"offset": 1}),
    "tick": (TICK, {"tick": 8999}),
    "tick-above": (TICK, {"tick": 11001}),
    "frequency": (FREQUENCY, {"freq": 2**62}),
    "frequency-below": (FREQUENCY, {"freq": -(2**62)}),
    "with-good-ones": (SETOFFSET | FREQUENCY | STATUS, {"sec": -AT_S - 1, "freq": PPM, "status": STA_PLL}),
}


def test_what_the_kernel_refuses(privileged: Way, start: Start) -> None:
    """And then nothing of it is done."""
    tuned = Tuned(privileged, start, *FROZEN)
    before = tuned()
    for name, (modes, fields) in REFUSED.items():
        said = tuned(modes, **fields)
        assert (said["ret"], said["errno"]) == (-1, errno.EINVAL), name
    assert tuned() == before
    assert tuned.clock() == (AT_S, 0)


def test_steps(privileged: Way, start: Start) -> None:
    tuned = Tuned(privileged, start, *FROZEN)
    assert tuned(SETOFFSET, sec=-AT_S)["sec"] == 0
    assert tuned(SETOFFSET, sec=SETTABLE_END_S - 1)["sec"] == SETTABLE_END_S - 1
    tuned.time("--at", f"@{AT_S}")
    said = tuned(SETOFFSET | NANO, sec=-1, usec=999_999_999)
    assert (said["sec"], said["usec"]) == (AT_S - 1, 999_999_999)
    assert tuned(MICRO)["usec"] == 999_999
    said = tuned(SINGLESHOT, offset=-2_500_000)
    assert (said["sec"], said["usec"], said["offset"]) == (AT_S - 3, 499_999, 0)
    assert tuned(SS_READ)["offset"] == 0, "nothing is left to be slewed"
    # Without a phase-locked loop an offset is nothing; with one, half a second at the most.
    assert tuned(OFFSET, offset=1000)["usec"] == 499_999
    assert tuned(OFFSET | STATUS, status=STA_PLL, offset=100_000)["usec"] == 599_999
    said = tuned(OFFSET, offset=-900_000)
    assert (said["sec"], said["usec"]) == (AT_S - 3, 99_999)
    said = tuned(OFFSET | NANO, offset=-100)
    assert (said["sec"], said["usec"]) == (AT_S - 3, 99_999_899)


def test_what_it_remembers(privileged: Way, start: Start) -> None:
    tuned = Tuned(privileged, start)
    said = tuned()
    assert (said["ret"], said["status"]) == (TIME_ERROR, STA_UNSYNC)
    assert (said["maxerror"], said["esterror"], said["freq"], said["tick"]) == (
        UNKNOWN_US,
        UNKNOWN_US,
        0,
        10000,
    )
    assert (said["precision"], said["tolerance"]) == (1, 500 * PPM)
    modes = STATUS | MAXERROR | ESTERROR | TIMECONST | FREQUENCY
    said = tuned(modes, status=STA_PLL, maxerror=1000, esterror=10, constant=6, freq=600 * PPM)
    assert (said["ret"], said["status"], said["esterror"]) == (TIME_OK, STA_PLL, 10)
    assert (said["freq"], said["constant"]) == (500 * PPM, 10), "what the kernel makes of them"
    assert tuned(NANO | TIMECONST, constant=6)["constant"] == 6
    assert tuned(MAXERROR, maxerror=-5)["maxerror"] == 0
    deadline = time.monotonic() + 30
    while tuned()["maxerror"] < 500:  # 500 us a second
        assert time.monotonic() < deadline
    assert tuned(TAI, constant=37)["tai"] == 37
    assert tuned(TAI, constant=-1)["tai"] == 37
    # Whoever sets the clock has nobody know how right it is.
    said = tuned(SETOFFSET, sec=1)
    assert (said["ret"], said["status"] & STA_UNSYNC) == (TIME_ERROR, STA_UNSYNC)
    assert said["maxerror"] == UNKNOWN_US
    assert tuned(STATUS, status=STA_PLL)["ret"] == TIME_OK
    assert tuned(STATUS, status=0)["status"] & STA_NANO == 0, "the end of the loop"


def test_a_rate_is_whoever_s_who_sets_it(privileged: Way, start: Start) -> None:
    """`vdso time` gives the rate as it says; what adjtimex was told of a frequency is over then."""
    tuned = Tuned(privileged, start)
    tuned(FREQUENCY | TICK, freq=100 * PPM, tick=11000)
    assert tuned.clock()[1] == pytest.approx(1.1 * 1.0001, abs=1e-9)
    tuned.time("--reset")
    assert tuned.clock()[1] == 1
    said = tuned()
    assert (said["freq"], said["tick"]) == (0, 10000)
    tuned(FREQUENCY, freq=-100 * PPM)
    assert tuned.clock()[1] == pytest.approx(0.9999, abs=1e-9)
    tuned.time("--rate", "10")
    assert (tuned.clock()[1], tuned()["freq"]) == (10, 0)
    for _ in range(20):  # what it comes to does not drift
        tuned(FREQUENCY, freq=33 * PPM)
        tuned(FREQUENCY, freq=0)
    assert tuned.clock()[1] == 10
    tuned.time("--freeze")
    assert tuned(FREQUENCY, freq=100 * PPM)["freq"] == 0, "a frozen clock has none"
    assert tuned.clock()[1] == 0
    tuned.time("--thaw")
    assert tuned.clock()[1] == 10
    assert tuned(FREQUENCY, freq=100 * PPM)["freq"] == 100 * PPM
    tuned.time("--freeze")
    assert tuned()["freq"] == 100 * PPM
    tuned.time("--thaw")
    assert tuned.clock()[1] == pytest.approx(10.001, abs=1e-8)
    assert tuned()["freq"] == 100 * PPM


def test_one_clock_of_two_followers(privileged: Way, start: Start) -> None:
    """What is told to a session by a program of one `vdso run` is what those of another are told of it."""
    tuned = Tuned(privileged, start, "--at", "2001-09-09T01:46:40Z", "--freeze")
    tuned.time("--thaw")
    other = Tuned(privileged, start, name=tuned.name)
    assert other()["status"] & STA_UNSYNC
    tuned(FREQUENCY | TICK | STATUS | NANO | ESTERROR | MAXERROR, freq=PPM, tick=10001, status=0, esterror=7)
    said = other()
    assert (said["ret"], said["freq"], said["tick"], said["esterror"]) == (TIME_OK, PPM, 10001, 7)
    other(FREQUENCY, freq=-PPM)
    assert tuned.clock()[1] == pytest.approx(1.0001 * 0.999999, abs=1e-9), "on top of the same rate"
    assert (tuned()["freq"], tuned()["tick"]) == (-PPM, 10001)
    assert other(FREQUENCY | TICK, freq=0, tick=10000)["ret"] == TIME_OK
    assert tuned.clock()[1] == 1
    other(SETOFFSET, sec=1)
    assert tuned()["maxerror"] == UNKNOWN_US


def test_what_is_only_read_waits_for_nobody(privileged: Way, start: Start) -> None:
    """While another process has the page to write, and be it stopped."""
    tuned = Tuned(privileged, start, *FROZEN)
    set_to = tuned(STATUS | MAXERROR | ESTERROR | TAI, status=STA_PLL, esterror=7, constant=37)
    assert (set_to["ret"], set_to["esterror"], set_to["tai"]) == (TIME_OK, 7, 37)
    _, page = find_open(tuned.name)
    page.adjust(*Adjustment(shift_ns=0).words())  # and has it from then on
    try:
        for modes in (0, SS_READ):
            said = tuned(modes)
            assert {**said, "modes": 0, "maxerror": 0} == {**set_to, "modes": 0, "maxerror": 0}
    finally:
        page.release()


# ---- once, also where a follower is killed over it ----

# At which of its system calls, from its wait on: before the clock is adjusted, once it has been, once the
# page is closed, before the program's memory is written, and before the call is answered.
KILLED_AT = ["futex:1", "futex:2", "munmap:2", "process_vm_writev,pwrite64:1", "ioctl:3"]


@pytest.mark.parametrize("where", KILLED_AT)
def test_an_adjustment_is_carried_out_once(privileged: Way, start: Start, where: str) -> None:
    tuned = Tuned(privileged, start, "--at", f"@{AT_S}")
    began = time.monotonic()
    assert tuned(STATUS | FREQUENCY, status=STA_PLL, freq=50 * PPM)["ret"] == TIME_OK
    victim, _ = couple(tuned.name)
    kill_follower_at(start, tuned.name, where)
    said = tuned(SETOFFSET | OFFSET | FREQUENCY | TICK, sec=1000, offset=400_000, freq=100 * PPM, tick=10010)
    assert victim not in holders(tuned.name)
    assert (said["ret"], said["errno"], said["freq"], said["tick"]) == (TIME_ERROR, 0, 100 * PPM, 10010)
    assert said["offset"] == 0, "what its memory says is the answer"
    assert tuned.clock()[1] == pytest.approx(1.001 * 1.0001, abs=1e-9)
    moved = said["sec"] - AT_S - (time.monotonic() - began)
    assert moved == pytest.approx(1000, abs=TIMEOUT_S)
    # And what is called for then is another call.
    assert tuned(SETOFFSET, sec=1000)["sec"] == pytest.approx(AT_S + 2000, abs=TIMEOUT_S)
    assert tuned(FREQUENCY | TICK, freq=0, tick=10000)["errno"] == 0
    assert tuned.clock()[1] == 1


SETS = """
import sys, time
print("ready", flush=True)
for line in sys.stdin:
    time.clock_settime(time.CLOCK_REALTIME, int(line))
    print(int(time.time()), flush=True)
"""


@pytest.mark.parametrize("other", [False, True])
def test_what_came_after_a_set_is_not_set_back(privileged: Way, start: Start, other: bool) -> None:
    """Who answers a call that has been carried out may come to it late: here, once the clock was moved on."""
    name = f"late-{os.getpid()}-{time.monotonic_ns()}"
    way = Way(privileged.vdso, [*privileged.prefix, *without_time()])
    options = ["--session", name, "--at", f"@{AT_S}"]
    process = start(way.words(sys.executable, "-c", SETS, offset=None, options=options))
    assert process.stdin is not None
    assert process.stdout is not None
    read_until(process.stdout.fileno(), "ready\n")
    follower, guard = couple(name)
    kill_follower_at(start, name, "futex:2")
    os.kill(guard, signal.SIGSTOP)
    try:
        process.stdin.write(f"{2 * AT_S}\n")
        process.stdin.flush()
        until(lambda: follower not in holders(name), "it is not killed")
        if other:  # by a follower of its own, which leaves the call of the other in the record
            for _ in range(3):
                tuned = Tuned(privileged, start, name=name)
                assert tuned(SETOFFSET, sec=1000)["sec"] == pytest.approx(2 * AT_S, abs=3000 + TIMEOUT_S)
        else:
            assert finish([way.vdso, "time", name, "--shift", "+3000s"]).returncode == 0
    finally:
        os.kill(guard, signal.SIGCONT)
    said = int(read_until(process.stdout.fileno(), r"\n"))
    assert said == pytest.approx(2 * AT_S + 3000, abs=TIMEOUT_S)
