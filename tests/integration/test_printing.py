"""A JVM and a Node process that print the time without end, while the rate of their session changes."""

import itertools
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from harness import SOURCES, TIMEOUT_S, Programs, Start, Way, finish, want

MS = 10**6
RATES = [1000, 0.5, 100, 0, 20, 1]
LINES = 400  # under each rate, at least
LAG_MS = 20  # after which a rate is in force for every clock


class Line(NamedTuple):
    """MONOTONIC, REALTIME and MONOTONIC again, in ns, as the program read them one after the other."""

    before: int
    real: int
    after: int


class Rate(NamedTuple):
    """One that was asked for, and when; in ns of MONOTONIC."""

    rate: float
    asked: int
    settled: int


class Printed:
    """What the program has printed so far, read by a thread that waits for more."""

    def __init__(self, stream: object) -> None:
        self.stream = stream
        self.lines: list[Line] = []
        self.more = threading.Condition()
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self) -> None:
        for text in self.stream:  # type: ignore[attr-defined]
            line = Line(*map(int, text.split()))
            with self.more:
                self.lines.append(line)
                self.more.notify()

    def await_lines(self, since_ns: int) -> None:
        """Until some have been read that the program has begun after that time of MONOTONIC."""

        def enough() -> bool:
            return len(self.lines) > LINES and self.lines[-LINES].before > since_ns

        with self.more:
            assert self.more.wait_for(enough, TIMEOUT_S)


def java(programs: Programs) -> tuple[list[str | Path], int]:
    return [*programs.java("Printing")], 1


def node(_: Programs) -> tuple[list[str | Path], int]:
    return [want("node", "nodejs"), SOURCES / "printing.js"], MS  # whole ms


@pytest.mark.parametrize("attached", [False, True], ids=["run", "attached"])
@pytest.mark.parametrize("of", [java, node])
def test_no_jump_and_the_rate_as_asked(
    of: Callable[[Programs], tuple[list[str | Path], int]],
    attached: bool,
    programs: Programs,
    start: Start,
    privileged: Way,
) -> None:
    command, grain = of(programs)
    session = f"printing-{of.__name__}-{attached}-{os.getpid()}"

    def say(*words: str) -> None:
        done = finish([privileged.vdso, *words])
        # Root may set the host's clock, which attaching says.
        said = re.sub(r"vdso: .*(may set the host's clock|is not followed).*\n", "", done.stderr)
        assert (done.returncode, said) == (0, "")

    if attached:
        process = start(command)
    else:
        process = start(privileged.words(*command, offset=None, options=["--session", session]))
    printed = Printed(process.stdout)
    printed.await_lines(0)
    if attached:
        say("attach", str(process.pid), "--session", session, "--timeout", "20")
    rates = [Rate(1, 0, 0)]
    for rate in RATES:
        asked = time.monotonic_ns()
        say("time", session, "--rate", str(rate))
        rates.append(Rate(rate, asked, time.monotonic_ns() + LAG_MS * MS))
        printed.await_lines(rates[-1].settled)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(TIMEOUT_S) == 0
    printed.reader.join(TIMEOUT_S)
    assert not printed.reader.is_alive()

    lines = printed.lines
    ends = [*(rate.asked for rate in rates[1:]), lines[-1].after]
    overs = [*(rate.settled for rate in rates[1:]), lines[-1].after + 1]
    for last, line in itertools.pairwise(lines):
        assert line.real >= last.real, "a step back"
        fastest = max(
            rate.rate
            for rate, over in zip(rates, overs, strict=True)
            if rate.asked < line.after and last.before < over
        )
        assert line.real - last.real <= fastest * (line.after - last.before) + grain, "a jump"
    for rate, end in zip(rates[1:], ends[1:], strict=True):
        inside = [line for line in lines if rate.settled < line.before and line.after < end]
        first, final = inside[0], inside[-1]
        least, most = final.before - first.after, final.after - first.before
        assert rate.rate * least - grain <= final.real - first.real <= rate.rate * most + grain
