"""A name and what it leads to: one publisher, generations, readers in other processes."""

import multiprocessing
import os
import pickle
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from forked import run_child
from layouts import Pair, Quote, Wide

import vdso
from vdso import errors
from vdso.pages.publisher import remove
from vdso.pages.reader import Reader


def files(where: Path) -> list[str]:
    return sorted(os.listdir(where))


# ---- Publishing ----


def test_a_page_is_there_when_it_is_whole(tmp_path: Path) -> None:
    with vdso.publish("pair", Pair, directory=tmp_path, initial=Pair(1.0)) as publisher:
        generation = os.path.basename(publisher.path)
        assert files(tmp_path) == [".pair.lock", generation, "pair.so"]
        assert os.readlink(tmp_path / "pair.so") == generation
        assert stat.S_IMODE(os.stat(publisher.path).st_mode) == 0o644
        assert stat.S_IMODE(os.stat(tmp_path / ".pair.lock").st_mode) == 0o600
        reader = vdso.open("pair", directory=tmp_path)
        assert (reader.a, reader.b, reader.version) == (1.0, 7.0, 1)
        assert reader.publisher_alive
        assert 0 <= (reader.age or -1) < 60
        assert not reader.replaced
        about = reader.page
        assert (about.name, about.path, about.slots) == ("pair", publisher.path, 4)
        assert (about.publisher_pid, about.notifies) == (os.getpid(), True)
        assert {"a", "b", "snapshot", "watch"} <= set(dir(reader))
    assert not reader.publisher_alive
    assert reader.page.publisher_pid == 0
    assert reader.a == 1.0
    reader.close()
    reader.close()
    for use in (
        lambda: reader.a,
        reader.snapshot,
        lambda: reader.wait(timeout=0),
        lambda: next(iter(reader.watch())),
        lambda: (reader.version,),
        lambda: (reader.age,),
        lambda: (reader.replaced,),
        lambda: (reader.publisher_alive,),
        lambda: (reader.page,),
    ):
        with pytest.raises(errors.PageClosed):
            use()
    assert repr(reader) == "<reader of pair, closed>"
    assert reader.reopen().a == 1.0
    assert pickle.loads(pickle.dumps(reader)).a == 1.0
    with pytest.raises(errors.PageClosed):
        publisher.update(a=1.0)


def test_a_page_without_a_record(tmp_path: Path) -> None:
    with vdso.publish("pair", Pair, directory=tmp_path) as publisher:
        reader = vdso.open("pair", directory=tmp_path)
        assert (reader.version, reader.age) == (0, None)
        for use in (lambda: reader.a, reader.snapshot):
            with pytest.raises(errors.PageNeverWritten):
                use()
        assert publisher.update(a=2.0) == 1
        assert reader.snapshot().astuple() == (
            2.0,
            7.0,
        )  # b is the class's own


def test_one_publisher_a_name(tmp_path: Path) -> None:
    with vdso.publish("pair", Pair, directory=tmp_path) as publisher:
        for schema in (Pair, Wide):
            with pytest.raises(errors.WriterActive) as caught:
                vdso.publish("pair", schema, directory=tmp_path)
            assert caught.value.pid == os.getpid()
            assert isinstance(caught.value, errors.PageBusy)
        # Nothing of that has touched the first one's lock: another process is refused too.
        assert run_child(_publish_and_say, tmp_path) == f"WriterActive {os.getpid()}"
        # Nor has reading in the publisher's own process, as any loader may.
        vdso.open("pair", directory=tmp_path).close()
        with open(publisher.path, "rb"):
            pass
        assert run_child(_publish_and_say, tmp_path) == f"WriterActive {os.getpid()}"
        with vdso.publish("other", Pair, directory=tmp_path):
            pass
    assert run_child(_publish_and_say, tmp_path) == "published"
    with vdso.publish("pair", Pair, directory=tmp_path):
        pass


def _publish_and_say(where: Path) -> str:
    try:
        with vdso.publish("pair", Pair, directory=where):
            return "published"
    except errors.WriterActive as error:
        return f"WriterActive {error.pid}"


def test_a_forked_child_does_not_publish(tmp_path: Path) -> None:
    with vdso.publish("quotes", Quote, directory=tmp_path) as publisher:
        publisher.update(bid=1.0)
        reader = vdso.open("quotes", directory=tmp_path)

        def child() -> list[str]:
            said = []
            for use in (
                lambda: publisher.update(bid=2.0),
                lambda: publisher.set({}),
                lambda: publisher.edit().__enter__(),
                lambda: publisher.version,
                lambda: vdso.publish("quotes", Quote, directory=tmp_path),
            ):
                try:
                    use()
                    said.append("fine")
                except errors.PageError as error:
                    said.append(type(error).__name__)
            publisher.close()  # only the child's own
            said.append(str(reader.bid))
            return said

        assert run_child(child) == [*["NotPublisher"] * 4, "WriterActive", "1.0"]
        publisher.update(bid=3.0)
        assert reader.bid == 3.0
        assert reader.publisher_alive
        assert run_child(_publish_and_say_name, tmp_path) == "WriterActive"


def _publish_and_say_name(where: Path) -> str:
    try:
        vdso.publish("quotes", Quote, directory=where).close()
    except errors.WriterActive:
        return "WriterActive"
    return "published"


def test_one_publisher_a_name_in_all_interpreters(tmp_path: Path) -> None:
    """Locks are the process's, and an interpreter knows nothing of the others."""
    script = '''if True:
        import os, subprocess, sys, vdso
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters

        body = """if True:
            import sys, vdso
            One = vdso.page(type("One", (), {"__annotations__": {"a": int}}))
            try:
                vdso.publish("one", One, directory=WHERE).close()
                print("published", flush=True)
            except vdso.errors.WriterActive as error:
                print("refused", error.pid == PID, flush=True)
        """.replace("WHERE", repr(sys.argv[1])).replace("PID", str(os.getpid()))
        One = vdso.page(type("One", (), {"__annotations__": {"a": int}}))
        publisher = vdso.publish("one", One, directory=sys.argv[1])
        other = interpreters.create()
        interpreters.run_string(other, body)
        subprocess.run([sys.executable, "-c", body], check=True)  # which has not cost us the lock
        publisher.close()
        interpreters.run_string(other, body)
        interpreters.destroy(other)
        vdso.publish("one", One, directory=sys.argv[1]).close()
    '''
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stderr, done.stdout) == ("", "refused True\nrefused True\npublished\n")


def test_other_slots_keep_the_last_record(tmp_path: Path) -> None:
    for slots, initial, expected in ((4, (1.0, 2.0), 1.0), (8, (3.0, 4.0), 1.0), (2, None, 1.0)):
        with vdso.publish("pair", Pair, directory=tmp_path, slots=slots, initial=initial) as publisher:
            reader = vdso.open("pair", directory=tmp_path)
            assert (reader.a, reader.b, reader.version, reader.page.slots) == (expected, 2.0, 1, slots)
            assert publisher.update(b=2.0) == 2
    # Where there was none, there is none.
    vdso.publish("other", Pair, directory=tmp_path).close()
    with vdso.publish("other", Pair, directory=tmp_path, slots=8) as publisher:
        assert publisher.version == 0
    # And of other fields nothing is kept.
    with vdso.publish("pair", Wide, directory=tmp_path) as publisher:
        assert publisher.version == 0


def test_a_publisher_does_not_travel(tmp_path: Path) -> None:
    with vdso.publish("pair", Pair, directory=tmp_path) as publisher, pytest.raises(errors.NotPublisher):
        pickle.dumps(publisher)


def test_a_publisher_that_nobody_keeps_signs_off(tmp_path: Path) -> None:
    publisher = vdso.publish("pair", Pair, directory=tmp_path)
    reader = vdso.open("pair", directory=tmp_path)
    del publisher
    assert not reader.publisher_alive
    vdso.publish("pair", Pair, directory=tmp_path).close()


@pytest.mark.parametrize(
    "more",
    [
        {"slots": 3},
        {"slots": 1},
        {"slots": 8192},
        {"mode": 0o666},
        {"mode": 0o4644},
        {"mode": 0o444},
        {"mode": 0},
    ],
)
def test_what_publish_refuses(tmp_path: Path, more: dict[str, int]) -> None:
    with pytest.raises(errors.UsageError):
        vdso.publish("pair", Pair, directory=tmp_path, **more)  # type: ignore[arg-type]
    assert files(tmp_path) == []


@pytest.mark.parametrize("name", ["", "a/b", "..", ".a", "1a", "-a", "a b", "a.b", "ä", "a\0", "a" * 65])
def test_no_name_for_a_page(tmp_path: Path, name: str) -> None:
    for use in (
        lambda: vdso.publish(name, Pair, directory=tmp_path),
        lambda: vdso.open(name, directory=tmp_path),
        lambda: remove(name, directory=tmp_path),
    ):
        with pytest.raises(errors.BadPageName):
            use()


def test_an_initial_record_that_cannot_be_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(errors.BadValue):
        vdso.publish("pair", Pair, directory=tmp_path, initial={"a": "x", "b": 1})
    assert files(tmp_path) == [".pair.lock"]
    vdso.publish("pair", Pair, directory=tmp_path).close()


# ---- Republishing ----


def test_the_same_record_goes_on_in_the_same_page(tmp_path: Path) -> None:
    with vdso.publish("pair", Pair, directory=tmp_path, initial=Pair(1.0)) as publisher:
        path = publisher.path
    reader = vdso.open("pair", directory=tmp_path)
    with vdso.publish("pair", Pair, directory=tmp_path, initial=Pair(5.0), mode=0o600) as publisher:
        assert publisher.path == path
        assert (reader.a, reader.version) == (1.0, 1)  # the first record of a page is its first publisher's
        publisher.update(a=2.0)
        assert reader.snapshot().astuple() == (2.0, 7.0)
        assert reader.version == 2
        assert not reader.replaced
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


@pytest.mark.parametrize("more", [{"schema": Wide}, {"slots": 8}])
def test_another_layout_is_another_file(tmp_path: Path, more: dict[str, Any]) -> None:
    with vdso.publish("pair", Pair, directory=tmp_path, initial=Pair(1.0)) as publisher:
        old = publisher.path
    reader = vdso.open("pair", directory=tmp_path)
    schema = more.pop("schema", Pair)
    with vdso.publish("pair", schema, directory=tmp_path, initial=schema(3.0, 4.0), **more) as publisher:
        assert publisher.path != old
        assert files(tmp_path) == [".pair.lock", os.path.basename(publisher.path), "pair.so"]
        assert reader.replaced
        assert reader.a == 1.0
        assert not reader.publisher_alive
        assert not reader.wait(timeout=60)
        new = reader.reopen()
        # The same fields in other slots: the last record has come along.
        assert (new.a, new.b) == ((3.0, 4.0) if schema is Wide else (1.0, 7.0))
        assert not new.replaced
        assert reader.a == 1.0


def test_a_page_of_another_kind_is_noticed_at_open(tmp_path: Path) -> None:
    with vdso.publish("pair", Pair, directory=tmp_path, initial=Pair(1.0)):
        vdso.open("pair", directory=tmp_path, expect=Pair)
        with pytest.raises(errors.PageDiffers, match="pair is another record: c is not there") as caught:
            vdso.open("pair", directory=tmp_path, expect=Wide)
        assert caught.value.differences == ["c is not there"]
        reader = vdso.open("pair", directory=tmp_path, expect=Pair)
    vdso.publish("pair", Wide, directory=tmp_path, initial=Wide(1, 2)).close()
    with pytest.raises(errors.PageDiffers, match="c is new"):
        reader.reopen()


def test_what_a_killed_publisher_left_is_cleared(tmp_path: Path) -> None:
    with vdso.publish("pair", Pair, directory=tmp_path, initial=Pair(1.0)) as publisher:
        old = os.path.basename(publisher.path)
    reader = vdso.open("pair", directory=tmp_path)
    # It died after moving the link and before telling the old page's readers; another while making one.
    os.link(tmp_path / old, tmp_path / "pair.aaaaaaaaaaaa.so")
    os.unlink(tmp_path / old)
    (tmp_path / ".pair.bbbbbbbbbbbb.so").write_bytes(b"half")
    (tmp_path / ".pair.link").symlink_to("pair.cccccccccccc.so")
    (tmp_path / "pairs.dddddddddddd.so").write_bytes(b"another name's")
    with vdso.publish("pair", Pair, directory=tmp_path, initial=Pair(2.0)) as publisher:
        mine = os.path.basename(publisher.path)
        assert files(tmp_path) == [".pair.lock", mine, "pair.so", "pairs.dddddddddddd.so"]
        assert reader.replaced
        assert reader._state == 1
        assert reader.reopen().a == 2.0


def test_rm(tmp_path: Path) -> None:
    with vdso.publish("pair", Pair, directory=tmp_path, initial=Pair(1.0)):
        with pytest.raises(errors.WriterActive):
            remove("pair", directory=tmp_path)
        reader = vdso.open("pair", directory=tmp_path)
    remove("pair", directory=tmp_path)
    assert files(tmp_path) == []
    assert reader.replaced
    assert reader.a == 1.0
    for use in (lambda: remove("pair", directory=tmp_path), reader.reopen):
        with pytest.raises(errors.PageNotThere):
            use()


# ---- Other processes ----


def test_a_reader_travels_by_its_name(tmp_path: Path) -> None:
    with vdso.publish("pair", Pair, directory=tmp_path, initial=Pair(1.0)):
        reader = vdso.open("pair", directory=tmp_path, expect=Pair)
        assert run_child(lambda: reader.a) == 1.0
        again = pickle.loads(pickle.dumps(reader))
        assert (again.a, again.page) == (1.0, reader.page)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.apply(read_a, (reader,)) == (1.0, Pair(1.0))


def read_a(reader: Reader) -> tuple[float, Any]:
    return reader.a, reader.snapshot().as_(Pair)


def test_closing_under_those_who_publish(tmp_path: Path) -> None:
    """On an interpreter without a GIL a check that close() could overtake read memory that was gone."""
    for _ in range(100):
        publisher = vdso.publish("pair", Pair, directory=tmp_path, initial=Pair(0.0))
        started = threading.Barrier(4)
        said: list[str] = []

        def use(body: Any, started: threading.Barrier = started, said: list[str] = said) -> None:
            started.wait()
            try:
                while True:
                    body()
            except errors.PageClosed:
                said.append("closed")

        bodies = [
            lambda publisher=publisher: publisher.update(a=1.0),
            lambda publisher=publisher: publisher.set((1.0, 2.0)),
            lambda publisher=publisher: (publisher._here, publisher.version),
        ]
        threads = [threading.Thread(target=use, args=(body,)) for body in bodies]
        for thread in threads:
            thread.start()
        started.wait()
        publisher.close()
        for thread in threads:
            thread.join()
        assert said == ["closed"] * 3


# ---- The package ----


def test_importing_costs_a_name() -> None:
    script = """
import sys, vdso
assert "open" not in vdso.__all__ and set(vdso.__all__) <= set(dir(vdso)) and "open" in dir(vdso)
assert not {"vdso._core", "vdso.pages", "dataclasses", "typing_extensions"} & set(sys.modules)
from vdso import *
assert open is __builtins__.open and F64 and publish and Str[3]
assert not {"numpy", "ctypes", "asyncio"} & set(sys.modules)
try:
    vdso.nothing
except AttributeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("module 'vdso' has no attribute 'nothing'\n", "")


# ---- Without memory ----


def test_a_reader_that_finds_no_memory_closes_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("_testcapi")
    script = """if True:
        import os, sys, _testcapi
        from vdso import _core
        from vdso.pages import fieldtable, records
        fd = os.open(sys.argv[1], os.O_RDONLY)
        offset, _, _, at, size = _core.page_find(fd)
        record = records.record_of_table(os.pread(fd, size, at))
        before = os.fstat(0)
        found = []
        for first in range(200):
            try:
                _testcapi.set_nomemory(first, first + 1)
                reader = _core.RecordReader(os.dup(fd), offset, record)
                _testcapi.remove_mem_hooks()
                break
            except MemoryError:
                _testcapi.remove_mem_hooks()
                found.append(first)
            assert os.fstat(0) == before
        print("failed" if found else "never")
    """
    with vdso.publish("pair", Pair, directory=tmp_path, initial=Pair(1.0)) as publisher:
        done = subprocess.run(
            [sys.executable, "-c", script, publisher.path],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.stderr, done.stdout) == ("", "failed\n")
