"""Where pages are: directories that are to be trusted, and what is listed in them."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
from forked import run_child
from layouts import Pair, Wide

import vdso
from vdso import errors
from vdso.commands.pages import main as list_pages
from vdso.pages import catalogue, directory
from vdso.pages.publisher import remove


def test_where_pages_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert directory.own_candidates()[0] == f"{tmp_path}/vdso"
    monkeypatch.setenv("XDG_RUNTIME_DIR", "relative")
    assert directory.own_candidates()[0] == "/run/vdso"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert directory.own_candidates() == ["/run/vdso", f"/dev/shm/vdso-{os.geteuid()}"]


def test_memory_is_preferred_and_a_disk_never_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {"disk": (False, False), "noexec": (True, True), "good": (False, True)}
    for name in kinds:
        (tmp_path / name).mkdir()

    def filesystem(path: str) -> tuple[bool, bool]:
        return next(kind for name, kind in kinds.items() if path.startswith(f"{tmp_path}/{name}"))

    monkeypatch.setattr("vdso._core.filesystem", filesystem)

    def candidates(*names: str) -> None:
        monkeypatch.setattr(
            directory, "own_candidates", lambda: [f"{tmp_path}/{name}/vdso" for name in names]
        )

    candidates("disk", "noexec", "good")
    assert directory.for_publishing(None) == directory.Place(f"{tmp_path}/good/vdso", False, True)
    candidates("missing", "disk", "noexec")
    kinds["missing"] = (False, True)
    assert directory.for_publishing(None) == directory.Place(f"{tmp_path}/noexec/vdso", True, True)
    candidates("disk")
    with pytest.raises(errors.NoDirectory):
        directory.for_publishing(None)
    assert not (tmp_path / "disk" / "vdso").exists()
    assert not directory.for_publishing(tmp_path / "disk" / "asked").volatile


def test_a_page_left_elsewhere_is_not_in_a_live_ones_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    monkeypatch.setattr(directory, "reading_candidates", lambda: [str(first), str(second)])
    vdso.publish("pair", Pair, directory=first, initial=Pair(1.0)).close()
    assert vdso.open("pair").a == 1.0
    with vdso.publish("pair", Pair, directory=second, initial=Pair(2.0)):
        assert vdso.open("pair").a == 2.0
    assert vdso.open("pair").a == 1.0


def test_a_refused_place_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vdso").mkdir()
    (tmp_path / "vdso").chmod(0o777)
    monkeypatch.setattr(directory, "own_candidates", lambda: [f"{tmp_path}/vdso"])
    monkeypatch.setattr("vdso._core.filesystem", lambda _path: (False, True))
    with pytest.raises(errors.NoDirectory, match="vdso: others can write in the directory"):
        vdso.publish("pair", Pair)


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757])
def test_a_directory_that_others_write_in_is_refused(tmp_path: Path, mode: int) -> None:
    where = tmp_path / "open"
    where.mkdir()
    vdso.publish("pair", Pair, directory=where).close()
    where.chmod(mode)
    with pytest.raises(errors.DirectoryRefused):
        vdso.publish("pair", Pair, directory=where)
    with pytest.raises(errors.PageNotThere, match="others can write"):
        vdso.open("pair", directory=where)
    with pytest.raises(errors.DirectoryRefused):
        remove("pair", directory=where)


def test_a_directory_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(errors.DirectoryRefused, match="link: not a directory"):
        vdso.publish("pair", Pair, directory=tmp_path / "link")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/proc/zz", "/proc/zz: no such file or directory"),
        ("/etc/passwd", "/etc/passwd: file exists"),
        ("/etc/passwd/more", "/etc/passwd/more: not a directory"),
        (b"/etc/passwd/more", "/etc/passwd/more: not a directory"),
        ("/proc/self", "/proc/self: "),
        ("a" * 300, "file name too long"),
        ("a\0b", "zero character"),
        ("", "the directory's name is empty"),
        (b"", "the directory's name is empty"),
    ],
)
def test_no_directory_for_pages(path: Any, says: str) -> None:
    with pytest.raises(errors.DirectoryRefused, match=says) as caught:
        vdso.publish("pair", Pair, directory=path)
    assert caught.value.exit_code == 1
    with pytest.raises(errors.DirectoryRefused):
        catalogue.published(path)
    for use in (vdso.open, remove):
        with pytest.raises((errors.DirectoryRefused, errors.PageNotThere)):
            use("pair", directory=path)


def test_arguments_of_another_type(tmp_path: Path) -> None:
    for more, says in [
        ({"slots": "4"}, "slots is a whole number, not str"),
        ({"slots": 4.0}, "slots is a whole number, not float"),
        ({"slots": None}, "slots is a whole number, not NoneType"),
        ({"slots": 10**5000}, "slots is a power of two"),
        ({"mode": "644"}, "mode is a whole number, not str"),
        ({"mode": None}, "mode is a whole number, not NoneType"),
    ]:
        arguments: dict[str, Any] = more
        with pytest.raises(errors.UsageError, match=says):
            vdso.publish("pair", Pair, directory=tmp_path, **arguments)
    for name in (5, None, b"pair", ["a"]):
        page_name: Any = name
        for use in (lambda name: vdso.publish(name, Pair), vdso.open, remove):
            with pytest.raises(errors.BadPageName, match="a page's name is text, not"):
                use(page_name)
    for where in (5, ["a"]):
        path: Any = where
        with pytest.raises(TypeError, match="PathLike"):
            vdso.publish("pair", Pair, directory=path)
    assert os.listdir(tmp_path) == []


def test_nothing_there(tmp_path: Path) -> None:
    for where in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(errors.PageNotThere, match="no page is called pair"):
            vdso.open("pair", directory=where)


def test_the_catalogue(tmp_path: Path) -> None:
    with vdso.publish("pair", Pair, directory=tmp_path, initial=Pair(1.0)):
        (tmp_path / "broken.so").symlink_to("broken.aaaaaaaaaaaa.so")
        (tmp_path / "alien.so").write_bytes(b"")
        vdso.publish("done", Wide, directory=tmp_path).close()
        found = {page.name: page for page in catalogue.published(tmp_path, rate_s=0.01)}
    assert set(found) == {"alien", "broken", "done", "pair"}
    pair, done = found["pair"], found["done"]
    assert (pair.publisher_pid, pair.alive, pair.version, pair.versions_per_s) == (os.getpid(), True, 1, 0)
    assert (pair.fields, pair.record_bytes, pair.slots) == ({"a": "f64", "b": "f64"}, 16, 4)
    assert (done.alive, done.publisher_pid, done.age_s, done.version) == (False, None, None, 0)
    assert "gone" in str(found["broken"].error)
    assert "not a page's link" in str(found["alien"].error)


def test_the_catalogue_maps_nobodys_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner may truncate it at any moment, and who has mapped it then dies."""
    with vdso.publish("short", Pair, directory=tmp_path, initial=Pair(1.0)) as publisher:
        path = publisher.path
    with vdso.publish("whole", Pair, directory=tmp_path, initial=Pair(1.0)):
        found = catalogue.published(tmp_path, rate_s=0)
        assert [(page.version, page.versions_per_s, page.error) for page in found] == [(1, None, None)] * 2

        def list_while_it_shrinks() -> list[tuple[str | None, bool]]:
            monkeypatch.setattr(time, "sleep", lambda _: os.truncate(path, 0))
            return [(page.error, page.alive) for page in catalogue.published(tmp_path)]

        (error, alive), whole = run_child(list_while_it_shrinks)
        assert error
        assert not alive
        assert whole == (None, True)


def test_pages_says_how_those_of_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "\x1b[2J.so").symlink_to("nowhere")
    monkeypatch.setattr(catalogue, "all_directories", lambda: [str(tmp_path)])
    with vdso.publish("theirs", Pair, directory=tmp_path, initial=Pair(1.0)):
        for words, told in (([], True), (["--directory", str(tmp_path)], False)):
            assert list_pages(words) == 0
            out = capsys.readouterr().out
            (line,) = (line for line in out.splitlines() if line.startswith("theirs"))
            assert line.rstrip().endswith(f"--directory {tmp_path}") == told
            assert r"\x1b[2J" in out
            assert "\x1b" not in out
