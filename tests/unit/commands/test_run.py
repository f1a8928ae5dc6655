"""The command line of `vdso run`, as parsed and as a person meets it."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import vdso
from vdso.commands.run import parse
from vdso.errors import UsageError

VDSO = str(Path(sys.executable).parent / "vdso")


def vdso_command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([VDSO, *words], capture_output=True, text=True, timeout=30, check=False)


def test_defaults() -> None:
    options = parse(["date", "-u"])
    assert options.command == ["date", "-u"]
    assert (options.clock, options.at_ns, options.offset_ns) == ("kernel", None, None)
    assert (options.follow, options.strict) == (True, False)


@pytest.mark.parametrize(
    ("words", "offset_s"),
    [
        (["--offset", "-2h30m", "--", "date"], -9000),
        (["--offset=-2h30m", "date"], -9000),
        (["--offset", "+90s", "date"], 90),
    ],
)
def test_a_value_may_begin_with_a_minus(words: list[str], offset_s: int) -> None:
    assert parse(words).offset_ns == offset_s * 10**9


def test_options_end_at_the_command() -> None:
    assert parse(["--no-follow", "env", "--offset", "--"]).command == ["env", "--offset", "--"]
    assert parse(["--", "--strange-name"]).command == ["--strange-name"]
    assert parse(["--", "sh", "--", "x"]).command == ["sh", "--", "x"]


def test_flags() -> None:
    options = parse(["--strict-swap", "--no-follow", "--clock=tsc", "--at", "@1893456000.25", "date"])
    assert (options.strict, options.follow, options.clock) == (True, False, "tsc")
    assert options.at_ns == 1893456000_250000000
    assert parse(["--strict", "date"]).raw_calls
    options = parse(["--session", "a.b-c_1", "--clocks=all", "--rate", "0.5", "date"])
    assert (options.session, options.everything, options.rate) == ("a.b-c_1", True, 1 << 31)
    assert parse(["--freeze", "date"]).rate == 0


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--"],
        [""],
        ["--offset"],
        ["--offset", "--", "date"],
        ["--offset", "90", "date"],
        ["--at", "@0", "--offset", "1s", "date"],
        ["--clock", "sun", "date"],
        ["--clock=", "date"],
        ["--rate", "fast", "date"],
        ["--rate", "2", "--freeze", "date"],
        ["--clocks", "some", "date"],
        ["--session", "a/b", "date"],
        ["--clock", "tsc", "--freeze", "date"],
        ["--nonsense", "date"],
        ["--no-follow=yes", "date"],
        ["-x", "date"],
    ],
)
def test_refused(words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        parse(words)
    assert caught.value.hint
    result = vdso_command("run", *words)
    assert result.returncode == 2
    assert result.stdout == ""
    first, second = result.stderr.splitlines()
    assert first.startswith("vdso: ")
    assert second.startswith("  ")


def test_help_and_version() -> None:
    assert vdso_command("--version").stdout == f"vdso {vdso.__version__}\n"
    assert version("vdso") == vdso.__version__
    assert "run " in vdso_command("--help").stdout
    text = vdso_command("run", "--help").stdout
    for word in (
        "--clock",
        "--session",
        "--rate",
        "--freeze",
        "--clocks",
        "vdso time",
        "--at",
        "--offset",
        "--no-follow",
        "--strict-swap",
        "example",
        "not moved",
        "D-Bus",
    ):
        assert word in text
    assert max(len(line) for line in text.splitlines()) <= 110


def test_no_such_command() -> None:
    result = vdso_command("fly")
    assert result.returncode == 2
    assert result.stderr.startswith("vdso: no such command: fly\n")


def test_an_argument_that_is_no_text() -> None:
    result = subprocess.run([VDSO.encode(), b"\xff"], capture_output=True, timeout=30, check=False)
    assert result.returncode == 2
    assert b"Traceback" not in result.stderr


def test_the_way_to_run_imports_little() -> None:
    script = (
        "import sys; before = set(sys.modules)\n"
        "import vdso.cli, vdso.commands.run, vdso._core\n"
        "vdso.commands.run.parse(['--offset', '+1d', 'x'])\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    command = [sys.executable, "-I", "-S", "-c", script]
    site = str(Path(vdso.__file__).parent.parent)
    command[-1] = f"import sys; sys.path.insert(0, {site!r})\n" + script
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert [name for name in loaded if name != "vdso" and not name.startswith("vdso.")] == []
