"""What the command line does where its output, or a package that it needs, is not there."""

import os
import subprocess
from pathlib import Path

import pytest
from harness import finish

COMMANDS = [
    ("look",),
    ("look", "--json"),
    ("dump", "-o", "-"),
    ("disasm", "time"),
    ("disasm",),
    ("diff", "self", "self"),
    ("diff", "self", "self", "--json"),
    ("--help",),
    ("look", "--help"),
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_full_device(vdso: str, words: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = finish([vdso, *words], stdout=full)
    # As with diff(1), 1 would say that they differ.
    assert done.returncode == (2 if words[0] == "diff" else 1)
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("vdso: ")
    assert "no space left on device" in done.stderr


def test_nothing_is_written_into_a_closed_output(vdso: str) -> None:
    done = finish(["sh", "-c", 'exec "$0" dump -o - >&-', vdso])
    assert (done.returncode, done.stderr) == (1, "vdso: standard output is closed\n")


def hiding(directory: Path, package: str) -> dict[str, str]:
    """An environment in which that package is not installed."""
    error = f"ModuleNotFoundError(\"No module named '{package}'\", name='{package}')"
    (directory / f"{package}.py").write_text(f"raise {error}\n")
    return {**os.environ, "PYTHONPATH": str(directory)}


@pytest.mark.parametrize(
    ("package", "words"),
    [
        ("rich", ("bench", "--quick")),
        ("rich", ("vvar",)),
        ("rich", ("pages",)),
        ("capstone", ("disasm", "time")),
        ("capstone", ("vvar", "--by", "code")),
    ],
)
def test_a_package_that_is_not_installed(
    vdso: str, tmp_path: Path, package: str, words: tuple[str, ...]
) -> None:
    done = finish([vdso, *words], env=hiding(tmp_path, package))
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert f"{package}" in lines[0]
    assert "not installed" in lines[0]


@pytest.mark.parametrize("words", [("look",), ("dump", "-o", "-"), ("vvar", "--json"), ("run", "--", "true")])
def test_what_needs_no_package(vdso: str, tmp_path: Path, words: tuple[str, ...]) -> None:
    hiding(tmp_path, "capstone")
    done = finish([vdso, *words], env=hiding(tmp_path, "rich"), text=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
