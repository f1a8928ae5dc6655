"""`vdso claims`, whole: on this machine, and where there is nothing to check."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from harness import Programs, Way, finish, want

VERDICTS = {"holds", "does not hold here", "cannot be checked here"}


def test_json(vdso: str) -> None:
    done = finish([vdso, "claims", "--json"])
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    for warning in document["warnings"]:
        assert set(warning) == {"id", "text", "advice"}
    found = document["claims"]
    assert len(found) == 15
    for claim in found:
        assert set(claim) == {"id", "says", "holds_if", "verdict", "measured", "why"}
        assert claim["verdict"] in VERDICTS
        assert claim["measured"] or claim["why"]


def test_what_people_read(vdso: str) -> None:
    done = finish([vdso, "claims"])
    assert (done.returncode, done.stderr) == (0, "")
    assert "its address is randomised" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_a_process_that_is_told_of_no_vdso(vdso: str, programs: Programs) -> None:
    done = finish([programs.c("without_vdso"), vdso, "claims", "--json"])
    assert (done.returncode, done.stderr) == (0, "")
    found = {claim["id"]: claim for claim in json.loads(done.stdout)["claims"]}
    assert found["clocks"]["verdict"] == "does not hold here"
    assert found["aslr"]["verdict"] in VERDICTS


def claims(*words: str | Path, **more: Any) -> tuple[dict[str, dict[str, str]], set[str]]:
    """The claims by id, and the ids of the warnings."""
    done = finish([*words, "claims", "--json"], timeout=120, **more)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    return {claim["id"]: claim for claim in found["claims"]}, {one["id"] for one in found["warnings"]}


TIMED = ("transition", "vdso-cost", "ratio", "vsyscall-slow", "under-25", "core-saved")


def test_under_a_tracer_nothing_is_timed(vdso: str) -> None:
    found, warnings = claims(want("strace", "strace"), "-f", "-o", os.devnull, vdso)
    assert "tracer" in warnings
    for name in TIMED:
        assert found[name]["verdict"] == "cannot be checked here"
        assert "tracer is attached" in found[name]["why"]
    assert found["page-size"]["verdict"] != "cannot be checked here"
    done = finish([want("strace", "strace"), "-f", "-o", os.devnull, vdso, "claims"], timeout=120)
    assert "warning: a debugger or tracer is attached" in done.stdout


def test_on_an_image_of_ours_nothing_is_said_of_the_kernels(privileged: Way) -> None:
    found, warnings = claims(*privileged.words(privileged.vdso, offset=None))
    assert "our-image" in warnings
    for name in (*TIMED, "page-size", "functions", "arm64", "clocks"):
        assert found[name]["verdict"] == "cannot be checked here"
        assert "one of ours, not the kernel's" in found[name]["why"]
    assert found["vsyscall-address"]["verdict"] != "cannot be checked here"


@pytest.mark.usefixtures("as_root")
def test_without_proc(vdso: str) -> None:
    words = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh", vdso]
    found, _ = claims(*words)
    unchecked = {name for name, claim in found.items() if claim["verdict"] == "cannot be checked here"}
    assert unchecked >= {*TIMED, "page-size", "wait-free", "getpid", "clocks"} - {"transition"}
    assert {found[name]["why"] for name in unchecked} == {"/proc is not mounted"}


def test_usage(vdso: str) -> None:
    done = finish([vdso, "claims", "what"])
    assert (done.returncode, done.stdout) == (2, "")
    assert "vdso claims --help" in done.stderr
