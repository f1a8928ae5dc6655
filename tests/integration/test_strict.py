"""`vdso run --strict`: system calls that read a clock, answered with the session's time."""

import sys
from pathlib import Path

import pytest
from harness import OFFSET_S, Programs, Way

from vdso.swap import run

WALL = {"realtime", "coarse", "tai", "gettimeofday", "time"}


@pytest.fixture
def raw(programs: Programs) -> Path:
    return programs.c("raw_clocks")


def apart(text: str) -> dict[str, int]:
    return {name: int(seconds) for name, seconds in (line.split() for line in text.splitlines())}


def test_without_it_they_are_the_host_s(way: Way, raw: Path) -> None:
    done = way.run(raw)
    assert (done.returncode, done.stderr) == (0, "")
    for name, seconds in apart(done.stdout).items():
        assert abs(seconds + (OFFSET_S if name in WALL else 0)) < 20, name


@pytest.mark.parametrize(
    "options",
    [["--offset", "+1000d"], ["--offset", "-1000d", "--clocks", "all"], ["--freeze"], ["--no-follow"]],
    ids=["ahead", "behind", "frozen", "not-followed"],
)
def test_they_are_the_session_s(way: Way, raw: Path, options: list[str]) -> None:
    done = way.run(raw, offset=None, options=["--strict", *options])
    assert (done.returncode, done.stderr) == (0, "")
    assert all(abs(seconds) < 20 for seconds in apart(done.stdout).values()), done.stdout


def test_with_all_clocks_at_their_rate(privileged: Way, raw: Path) -> None:
    """A hundred thousand times as fast: what is not answered is far behind."""
    words = ["--strict", "--clocks", "all", "--rate", "100000"]
    done = privileged.run("sh", "-c", f"sleep .1; exec {raw}", offset=None, options=words)
    assert done.returncode == 0
    # Between the two readings lie microseconds, and so some seconds of the clock's: a slow machine's minutes.
    assert all(0 <= seconds < 10000 for name, seconds in apart(done.stdout).items() if name in ("tai", "raw"))
    plain = privileged.run("sh", "-c", f"sleep .1; exec {raw}", offset=None, options=words[1:])
    assert all(apart(plain.stdout)[name] < -9000 for name in ("realtime", "monotonic", "raw", "boottime"))


def test_the_image_s_own_are_let_through(privileged: Way) -> None:
    """An ALARM clock is no vDSO's: the image's way to it is a system call, and not moved twice."""
    script = "import time; print(time.clock_gettime(8) - time.time())"
    done = privileged.run(sys.executable, "-c", script, options=["--strict"])
    if done.returncode == 0:  # where there is a real-time clock
        assert abs(float(done.stdout)) < 20


def test_a_clock_that_is_set(privileged: Way, raw: Path) -> None:
    set_it = f"{sys.executable} -c 'import time; time.clock_settime(0, 1e9)'"
    done = privileged.run("sh", "-c", f"{set_it} && {raw} && date +%s", options=["--strict"], offset=None)
    assert done.returncode == 0, done.stderr
    *lines, seconds = done.stdout.splitlines()
    assert abs(int(seconds) - 10**9) < 20
    assert all(abs(apart(line)[line.split()[0]]) < 20 for line in lines)


def test_where_the_kernel_s_vdso_makes_them_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        run._core, "observe_calls", lambda: [("clock_gettime", 0, 1, run._core.CALLER_VDSO, "clock_gettime")]
    )
    with pytest.raises(run.SeccompRefused):
        run.run(["true"], raw_calls=True)
