"""The benchmark of pages runs, whatever of its peers is installed. One round of it says nothing of speed."""

import json
import os
import sys
from pathlib import Path

import pytest
from harness import finish, lacking, want

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
HIDING = """
import runpy, sys

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name in {"iceoryx2", "lmdb", "redis"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Hide())
sys.path.insert(0, sys.argv[1])
sys.argv[:] = [sys.argv[1] + "/pages.py", *sys.argv[2:]]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_pages_without_peers(tmp_path: Path) -> None:
    want("cc", "gcc")
    if len(os.sched_getaffinity(0)) < 2:
        lacking("a reader and a writer want a CPU each")
    out, picture = tmp_path / "pages.json", tmp_path / "pages.svg"
    words = [sys.executable, "-c", HIDING, BENCHMARKS, "--rounds", "1", "--out", out, "--picture", picture]
    done = finish(words)
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(out.read_text())
    for peer in (
        "LMDB, held transaction",
        "LMDB, fresh transaction",
        "iceoryx2 blackboard",
        "Redis, unix socket",
    ):
        assert any(line.startswith(f"{peer}: left out: ") for line in document["missing"])
        assert f"{peer}: left out: " in done.stdout
    names = [row["name"] for row in document["rows"]]
    assert "one field: vdso" in names
    assert "8 fields, a tuple: multiprocessing.Value(lock=True)" in names
    assert not any("Redis" in name for name in names)
    assert all(row["count"] > 0 for row in document["rows"])
    pytest.importorskip("matplotlib")
    assert "prefers-color-scheme:dark" in picture.read_text()
    assert "#0101" not in picture.read_text(), "every mark has become a colour"
