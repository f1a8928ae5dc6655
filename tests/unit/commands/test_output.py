"""Files that commands write: whole or not at all."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from vdso.commands.output import printable, write_file
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
