"""Files that commands write: whole or not at all."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from vdso.commands.output import printable, table_or_lines, write_file
from vdso.errors import OutputRefused


def test_what_was_there_stays_until_the_new_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.json"
    path.write_text("before")

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_file(str(path), "after")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_ended_while_it_writes_it_leaves_no_part(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from vdso.commands import output\n"
        "sync = os.fsync\n"
        "def end(fd): os.kill(os.getpid(), signal.SIGTERM); sync(fd)\n"
        "os.fsync = end; output.write_file(sys.argv[1], 'whole'); print('not reached')"
    )
    path = tmp_path / "file"
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, b"")
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "whole"


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputRefused, match="no space left"):
        write_file(str(tmp_path / "run.json"), "after")
    assert list(tmp_path.iterdir()) == []


def test_a_link_stays_a_link_and_a_mode_stays(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("before")
    real.chmod(0o640)
    link.symlink_to(real)
    write_file(str(link), "after")
    assert link.is_symlink()
    assert real.read_text() == "after"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


def test_a_new_file_has_the_mode_that_open_would_give(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_file(str(tmp_path / "new"), "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    write_file(str(path), "text")
    assert os.read(reader, 100) == b"text"
    os.close(reader)
    assert path.is_fifo()


def test_text_of_others_stays_in_its_line() -> None:
    assert printable("ä \u3000 \\n") == "ä \u3000 \\n"
    assert printable("\x1b[1m\r\n\x9b\x7f\u2028\u202e\udc80") == r"\x1b[1m\r\n\x9b\x7f\u2028\u202e\udc80"


ROWS = [("clock_gettime MONOTONIC", "8,000,000", "19.7", "vDSO"), ("time", "3", "", "own system call")]


def printed(width: int) -> list[str]:
    import io

    from rich.console import Console

    out = Console(file=io.StringIO(), width=width)
    with out.capture() as taken:
        out.print(table_or_lines(("", "calls", "ns", "by"), ROWS, width, right=(1, 2)))
    return [line.rstrip() for line in taken.get().splitlines()]


def test_a_table_where_there_is_room() -> None:
    assert printed(59) == [
        "                             calls    ns  by",
        "clock_gettime MONOTONIC  8,000,000  19.7  vDSO",
        "time                             3        own system call",
    ]


def test_no_figure_is_left_out_where_there_is_none() -> None:
    assert printed(20) == [
        "clock_gettime MONOTO",
        "NIC",
        "  calls 8,000,000",
        "  ns 19.7  by vDSO",
        "time",
        "  calls 3",
        "  by own system call",
    ]


def test_a_dash_is_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    write_file("-", "text")
    write_file("-", b"\xff")
    assert capfdbinary.readouterr().out == b"text\xff"
