"""What is written for time-machine and for freezegun runs with vdso in their place; what differs is meant."""

import importlib.util
import json
import os
import re
import subprocess
import sys

import pytest
from harness import SOURCES, finish, lacking

SWAPPED = """
import sys, types, vdso
sys.modules["time_machine"] = vdso
sys.modules["freezegun"] = types.SimpleNamespace(freeze_time=vdso.freeze)
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""
PYTEST = ["-q", "-p", "no:cacheprovider", "-p", "no:time_machine", "-c", os.devnull]


def peer(name: str) -> None:
    if importlib.util.find_spec(name) is None:
        lacking(f"{name} is not installed")


@pytest.mark.parametrize("name", ["time_machine", "freezegun"])
def test_tests_that_were_written_for_it(name: str) -> None:
    peer(name)
    path = SOURCES / f"with_{name}.py"

    def passed(*words: str) -> int:
        # The zone for freezegun, whose local time is UTC on every machine.
        done = finish([*words, *PYTEST, path], env={**os.environ, "TZ": "UTC"})
        assert done.returncode == 0, done.stdout
        [count] = re.findall(r"^(\d+) passed", done.stdout, re.MULTILINE)
        return int(count)

    assert passed(sys.executable, "-m", "pytest") == passed(sys.executable, "-c", SWAPPED) > 20


# docs/travel.md has it as a table.
BAD, THIS = "BadWhen", "this year"
DIFFERENT: dict[str, tuple[object, object, object]] = {
    # time-machine, freezegun, vdso
    "text without a zone, UTC hour": (16, 12, 12),
    "datetime without a zone, UTC hour": (12, 12, 12),
    "datetime.now().hour in New York": (8, 12, 8),
    "monotonic stands still": (False, True, False),
    "types stay": (True, False, True),
    "SQLite": (THIS, THIS, 2030),
    "fork": (2030, 2030, 2030),
    "subprocess": (THIS, THIS, THIS),
    "clock() gives the time": (False, True, False),
    "Jan 14th, 2030": (2030, 2030, BAD),
    "year 2500": (2500, 2500, BAD),
    "generator function": (THIS, [2030, 2030], [2030, 2030]),
    "class that is no TestCase": ("TypeError", 2030, 2030),
}


@pytest.mark.parametrize("name", ["time_machine", "freezegun", "vdso"])
def test_what_differs(name: str) -> None:
    peer(name)
    done: subprocess.CompletedProcess[str] = finish([sys.executable, SOURCES / "peers_differ.py", name])
    assert done.returncode == 0, done.stderr
    column = ["time_machine", "freezegun", "vdso"].index(name)
    assert json.loads(done.stdout) == {what: each[column] for what, each in DIFFERENT.items()}
