"""A run in a file: back as it was, whole or not at all; and files of anybody's."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vdso.commands.output import plain
from vdso.errors import SourceError
from vdso.measure import saved
from vdso.measure.result import FORMAT, BenchResult

RunOf = Callable[..., BenchResult]


def text(result: Any) -> str:
    return json.dumps(plain(result))


def test_a_run_comes_back_as_it_was(run_of: RunOf, tmp_path: Path) -> None:
    result = run_of()
    path = tmp_path / "run.json"
    path.write_text(text(result))
    assert saved.load(str(path)) == result


def damage(value: Any, how: str) -> Any:
    path, _, new = how.partition("=")
    *parts, name = path.split(".")
    place = value
    for part in parts:
        place = place[int(part)] if part.isdigit() else place[part]
    if new:
        place[name] = json.loads(new)
    else:
        del place[name]
    return value


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("kind", "no saved bench"),
        ('kind="perf"', "no saved bench"),
        ("format=0", f"saved in another version's format (0; this one reads {FORMAT})"),
        (
            f"format={FORMAT + 1}",
            f"saved in a newer version's format ({FORMAT + 1}; this one reads {FORMAT})",
        ),
        ("format", "saved in another version's format (none"),
        ('format="1"', "saved in another version's format (none"),
        ("rows", "a damaged bench: no rows"),
        ("rows={}", "a damaged bench: rows is no list"),
        ("machine=[]", "a damaged bench: machine is no object"),
        ("machine.kernel", "a damaged bench: no machine.kernel"),
        ("machine.cpus=true", "a damaged bench: machine.cpus is no int"),
        ("machine.cpus=2.5", "a damaged bench: machine.cpus is no int"),
        ('rows.0.median_ns="20"', "a damaged bench: rows[0].median_ns is no float"),
        ("rows.0.median_ns=null", "figures without rounds, or rounds without figures"),
        ("rows.0.rounds=3", "3 rounds and 200 values"),
        ("rows.0.rounds_ns=[1e999]", "not JSON, or cut off|is no float"),
        ('rows.1.route="vdso"', "a row is there twice"),
        ("timer_ns=1" + "0" * 400, "timer_ns is no float"),
    ],
)
def test_a_damaged_file_is_one_line(run_of: RunOf, tmp_path: Path, how: str, said: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(damage(plain(run_of()), how)))
    with pytest.raises(SourceError) as caught:
        saved.load(str(path))
    assert any(part in caught.value.message for part in said.split("|")), caught.value.message
    assert caught.value.message.startswith(f"{path}: ")
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"\x7fELF", b"[" * 100_000, b'{"kind": NaN}', b"1" * 10_000],
)
def test_a_foreign_file_is_one_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(data)
    with pytest.raises(SourceError, match="no saved bench"):
        saved.load(str(path))


def test_a_file_that_is_not_there_and_a_directory(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(SourceError, match=str(path)):
            saved.load(str(path))


def test_a_huge_file_is_refused_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as stream:
        stream.truncate(1 << 33)
    with pytest.raises(SourceError, match="larger than"):
        saved.load(str(path))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_changed_is_read_or_refused(run_of: RunOf, data: st.DataObject) -> None:
    whole = bytearray(text(run_of(rounds=12)).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        what = data.draw(st.sampled_from(["byte", "cut", "double"]))
        if what == "byte":
            whole[at] = data.draw(st.integers(0, 255))
        elif what == "cut":
            del whole[at : at + data.draw(st.integers(1, 200))]
        else:
            whole[at:at] = whole[at : at + data.draw(st.integers(1, 200))]
        if not whole:
            break
    with contextlib.suppress(SourceError):
        saved.loads(bytes(whole), "file")


def test_what_cannot_be_written_is_known_before(tmp_path: Path) -> None:
    for path, said in (
        (tmp_path, "is a directory"),
        (tmp_path / "none" / "run.json", "no such directory"),
        (tmp_path / ("x" * 300), "too long"),
        ("a\0b", "null"),
    ):
        with pytest.raises(SourceError, match=said):
            saved.check_writable(str(path))
    saved.check_writable(str(tmp_path / "new"))
    assert list(tmp_path.iterdir()) == []


def test_texts_that_a_terminal_would_obey(run_of: RunOf, tmp_path: Path) -> None:
    value = plain(run_of())
    value["machine"] |= {"host": "\x1b[2Jhost", "cpu_model": "a\nb", "kernel": "\ud800"}
    path = tmp_path / "run.json"
    path.write_text(json.dumps(value))
    machine = saved.load(str(path)).machine
    assert (machine.host, machine.cpu_model, machine.kernel) == ("\\x1b[2Jhost", "a\\nb", "\\ud800")
