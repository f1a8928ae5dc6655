"""What this host is, from trees of files that are another host's."""

import os
from pathlib import Path

import pytest

from vdso.measure import machine

FILES = {
    "proc/cpuinfo": "".join(f"processor\t: {n}\nmodel name\t: Some  CPU @ 2 GHz\n\n" for n in (0, 1)),
    "proc/sys/kernel/hostname": "elsewhere\n",
    "proc/sys/kernel/osrelease": "5.10.0-42-amd64\n",
    "sys/devices/system/clocksource/clocksource0/current_clocksource": "hpet\n",
    "proc/self/status": "Name:\tvdso\nTracerPid:\t4711\nSeccomp:\t2\nSeccomp_filters:\t3\n",
    "proc/4711/comm": "gdb\n",
    "proc/loadavg": "2.50 1.00 0.50 3/100 12345\n",
    "proc/stat": "cpu  10 0 10 80 0 0 0 20 5 0\ncpu0 1 0 1 8 0 0 0 2 0 0\ncpu1 5 0 5 40 0 0 0 10 5 0\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "powersave\n",
    "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "5000000\n",
    "sys/devices/system/cpu/cpu1/cpufreq/cpuinfo_max_freq": "5000000\n",
    "sys/devices/system/cpu/cpu2/cpufreq/cpuinfo_max_freq": "3000000\n",
}


@pytest.fixture
def root(tmp_path: Path) -> str:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(tmp_path)


def test_another_machine(root: str) -> None:
    found = machine.machine(root)
    assert (found.host, found.kernel, found.clocksource) == ("elsewhere", "5.10.0-42-amd64", "hpet")
    assert (found.cpu_model, found.cpus) == ("Some CPU @ 2 GHz", 2)


def test_another_state(root: str) -> None:
    found = machine.conditions(1, root)
    assert (found.tracer_pid, found.tracer) == (4711, "gdb")
    assert (found.seccomp_filters, found.load_1min, found.governor) == (3, 2.5, "powersave")
    assert machine.conditions(0, root).governor == ""


def test_a_kernel_that_does_not_count_its_filters(root: str) -> None:
    (Path(root) / "proc/self/status").write_text("TracerPid:\t0\nSeccomp:\t2\n")
    assert machine.conditions(1, root).seccomp_filters == 1
    (Path(root) / "proc/self/status").write_text("TracerPid:\t0\nSeccomp:\t0\n")
    assert machine.conditions(1, root).seccomp_filters == 0


def test_nothing_there_is_unknown_and_no_error(tmp_path: Path) -> None:
    found = machine.machine(str(tmp_path))
    assert (found.clocksource, found.cpu_model) == ("", "")
    assert found.cpus >= 1
    state = machine.conditions(None, str(tmp_path))
    assert (state.load_1min, state.tracer_pid, state.seccomp_filters, state.governor) == (0, 0, 0, "")


def test_stolen_time(root: str) -> None:
    before = machine.ticks(1, root)
    # Guest time is within user's: 5 + 5 + 40 + 10.
    assert before == (10, 60)
    assert machine.ticks(None, root) == (20, 120)
    assert machine.stolen_percent(before, (15, 160)) == 5
    assert machine.stolen_percent(before, before) == 0
    assert machine.stolen_percent((0, 0), machine.ticks(99, root)) == 0


def test_the_fastest_cpu_that_may_be_used(root: str) -> None:
    assert machine.choose_cpu({0, 1, 2}, root) == 1
    assert machine.choose_cpu({0, 2}, root) == 0
    assert machine.choose_cpu({2}, root) == 2
    # Without cpufreq: the last.
    assert machine.choose_cpu({3, 4}, root) == 4


def test_this_host() -> None:
    assert machine.machine().kernel == os.uname().release
    assert machine.image() in ("kernel", "none")
