"""`vdso claims`, whole: on this machine, and where there is nothing to check."""

import json

from harness import Programs, finish

VERDICTS = {"holds", "does not hold here", "cannot be checked here"}


def test_json(vdso: str) -> None:
    done = finish([vdso, "claims", "--json"])
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)["claims"]
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


def test_usage(vdso: str) -> None:
    done = finish([vdso, "claims", "what"])
    assert (done.returncode, done.stdout) == (2, "")
    assert "vdso claims --help" in done.stderr
