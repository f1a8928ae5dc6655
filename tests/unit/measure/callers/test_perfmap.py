"""What a program says of the code that it generates."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from vdso.measure.callers import perfmap

TEXT = b"""\
7f0000001000 40 LazyCompile:~later /tmp/e.js:1
7f0000001040 10 nobody
 garbage
7f0000001040 20 Interpreter\x1b[0m
zz 10 no number
7f0000002000 100
"""


def test_lines() -> None:
    known = perfmap.PerfMap(TEXT)
    assert known.find(0x7F0000001000) == ("LazyCompile:~later /tmp/e.js:1", 0x7F0000001000)
    assert known.find(0x7F000000105F) == ("Interpreter\\x1b[0m", 0x7F0000001040)
    for address in (0, 0x7F0000000FFF, 0x7F0000001060, 0x7F0000002001):
        assert known.find(address) is None


@pytest.fixture
def own() -> Iterator[Path]:
    """This process's map, which nobody else can be using."""
    path = Path(f"/tmp/perf-{os.getpid()}.map")
    yield path
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def test_whose_file_it_is(own: Path, tmp_path: Path) -> None:
    assert perfmap.read(os.getpid(), os.geteuid()) is None
    own.write_bytes(TEXT)
    assert perfmap.read(os.getpid(), os.geteuid()) is not None
    assert perfmap.read(os.getpid(), os.geteuid() + 1) is None, "somebody else's"
    own.unlink()
    (tmp_path / "map").write_bytes(TEXT)
    own.symlink_to(tmp_path / "map")
    assert perfmap.read(os.getpid(), os.geteuid()) is None, "a link may lead anywhere"
    own.unlink()
    os.mkfifo(own)
    assert perfmap.read(os.getpid(), os.geteuid()) is None
