"""A name and what it leads to: one publisher, generations, directories that are to be trusted."""

import asyncio
import contextlib
import multiprocessing
import os
import pickle
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from layouts import Quote

import vdso
from vdso import errors
from vdso.commands.pages import main as list_pages
from vdso.pages import catalogue, directory
from vdso.pages.publisher import remove
from vdso.pages.reader import Reader


@vdso.page
class Pair:
    a: vdso.F64
    b: vdso.F64 = 7.0


@vdso.page
class Wide:
    a: vdso.F64
    b: vdso.F64
    c: vdso.F64 = 1.5


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


def run_child(body: Any, *arguments: Any) -> Any:
    """What a function gives in a forked child."""
    inner, outer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        with contextlib.suppress(BaseException):
            os.write(outer, pickle.dumps(body(*arguments)))
            status = 0
        os._exit(status)
    os.close(outer)
    with open(inner, "rb") as stream:
        data = stream.read()
    assert os.waitpid(pid, 0)[1] == 0
    return pickle.loads(data)


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


# ---- Waiting ----


def test_wait_and_watch(tmp_path: Path) -> None:
    with vdso.publish("pair", Pair, directory=tmp_path, initial=Pair(0.0)) as publisher:
        reader = vdso.open("pair", directory=tmp_path)
        assert not reader.wait(timeout=0.01)
        assert reader.wait(0, timeout=0)
        assert reader.wait(0, timeout=float("inf"))
        seen = []

        def watch() -> None:
            for snapshot in reader.watch():
                seen.append(snapshot.a)
                if snapshot.a < 0:
                    return

        thread = threading.Thread(target=watch)
        thread.start()
        for number in range(1, 6):
            while len(seen) < number:
                time.sleep(0.001)
            publisher.update(a=float(number))
        while len(seen) < 6:
            time.sleep(0.001)
        publisher.update(a=-1.0)
        thread.join(30)
        assert seen == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, -1.0]
        assert [snapshot.a for snapshot in reader.watch(timeout=0.02)] == [-1.0]


@pytest.mark.parametrize("notify", [True, False])
def test_closing_ends_waiting(tmp_path: Path, notify: bool) -> None:
    with vdso.publish("pair", Pair, directory=tmp_path, initial=Pair(0.0), notify=notify):
        reader = vdso.open("pair", directory=tmp_path)
        said: list[str] = []

        def wait() -> None:
            try:
                reader.wait()
            except errors.PageClosed:
                said.append("closed")

        def watch() -> None:
            try:
                for _ in reader.watch():
                    said.append("one")
            except errors.PageClosed:
                said.append("closed")

        threads = [threading.Thread(target=body, daemon=True) for body in (wait, watch)]
        for thread in threads:
            thread.start()
        while said != ["one"]:
            time.sleep(0.001)
        reader.close()
        for thread in threads:
            thread.join(30)
        assert said == ["one", "closed", "closed"]


def test_a_watch_goes_on_with_the_new_page(tmp_path: Path) -> None:
    publisher = vdso.publish("pair", Pair, directory=tmp_path, initial=Pair(1.0))
    watch = iter(vdso.open("pair", directory=tmp_path).watch(timeout=30))
    assert next(watch).a == 1.0
    publisher.close()
    publisher = vdso.publish("pair", Wide, directory=tmp_path, initial=Wide(2.0, 3.0))
    assert next(watch).astuple() == (2.0, 3.0, 1.5)
    publisher.close()
    remove("pair", directory=tmp_path)
    publisher = vdso.publish("pair", Pair, directory=tmp_path, initial=Pair(4.0))
    assert next(watch).astuple() == (4.0, 7.0)
    publisher.close()


def test_a_publisher_that_does_not_wake_is_noticed(tmp_path: Path) -> None:
    with vdso.publish("pair", Pair, directory=tmp_path, initial=Pair(0.0), notify=False) as publisher:
        reader = vdso.open("pair", directory=tmp_path)
        assert not reader.page.notifies
        threading.Timer(0.05, lambda: publisher.update(a=1.0)).start()
        assert reader.wait(timeout=30)
        assert reader.a == 1.0


def test_watching_in_asyncio(tmp_path: Path) -> None:
    async def watch(reader: Reader) -> list[float]:
        seen = []
        async for snapshot in reader.watch():
            seen.append(snapshot.a)
            publisher.update(a=snapshot.a + 1)
            if len(seen) == 5:
                break
        return seen

    async def both(reader: Reader) -> list[float]:
        task = asyncio.ensure_future(watch(reader))
        idle = asyncio.ensure_future(anext(aiter(vdso.open("idle", directory=tmp_path).watch())))
        seen = await task
        idle.cancel()  # a watch that is called off is gone at once
        with pytest.raises(asyncio.CancelledError):
            await idle
        assert [item async for item in reader.watch(timeout=0.01)] != []
        return seen

    vdso.publish("idle", Pair, directory=tmp_path).close()
    with vdso.publish("pair", Pair, directory=tmp_path, initial=Pair(0.0)) as publisher:
        assert asyncio.run(both(vdso.open("pair", directory=tmp_path))) == [0.0, 1.0, 2.0, 3.0, 4.0]


class Untouched(ThreadPoolExecutor):
    """An event loop's own threads, which a watch has no business with."""

    def submit(self, *_: Any, **__: Any) -> Any:
        raise AssertionError


def assert_no_watching_threads() -> None:
    for thread in threading.enumerate():
        if thread.name == "vdso-watch":
            thread.join(30)
            assert not thread.is_alive()


def test_idle_watches_leave_the_loop_its_threads(tmp_path: Path) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_default_executor(Untouched(1))
        watches = [aiter(vdso.open("pair", directory=tmp_path).watch()) for _ in range(30)]
        first = await asyncio.wait_for(asyncio.gather(*map(anext, watches)), 30)
        assert [snapshot.a for snapshot in first] == [0.0] * 30
        waiting = asyncio.gather(*map(anext, watches))
        await asyncio.sleep(0)
        publisher.update(a=1.0)
        assert [snapshot.a for snapshot in await asyncio.wait_for(waiting, 30)] == [1.0] * 30
        # Some are let go of, some are closed, some are called off, and some are left waiting.
        del watches[20:]
        for watch in watches[10:]:
            await watch.aclose()
        tasks = [asyncio.ensure_future(anext(watch)) for watch in watches[:10]]
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="waited for already"):
            await anext(watches[0])
        for task in tasks[:5]:
            task.cancel()

    with vdso.publish("pair", Pair, directory=tmp_path, initial=Pair(0.0)) as publisher:
        asyncio.run(main())
        assert_no_watching_threads()


def test_a_step_that_is_called_off_loses_no_version(tmp_path: Path) -> None:
    async def main() -> None:
        loop, found = asyncio.get_running_loop(), threading.Event()
        watch = reader.watch()
        steps = aiter(watch)
        assert (await anext(steps)).a == 0.0
        task = asyncio.ensure_future(anext(steps))
        await asyncio.sleep(0)
        hand_over = loop.call_soon_threadsafe

        def handing_over(*words: Any, **more: Any) -> Any:
            found.set()
            return hand_over(*words, **more)

        loop.call_soon_threadsafe = handing_over  # type: ignore[method-assign]
        publisher.update(a=1.0)
        assert found.wait(30)  # it is on its way, and nobody is there to take it
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await anext(aiter(watch))).a == 1.0
        for again in (steps, aiter(watch)):  # and gives none twice
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(anext(again), 0.01)

    with vdso.publish("pair", Pair, directory=tmp_path, initial=Pair(0.0)) as publisher:
        reader = vdso.open("pair", directory=tmp_path)
        asyncio.run(main())
        assert_no_watching_threads()


def test_a_watch_goes_on_in_another_loop_and_in_a_child(tmp_path: Path) -> None:
    with vdso.publish("pair", Pair, directory=tmp_path, initial=Pair(0.0)) as publisher:
        steps = aiter(vdso.open("pair", directory=tmp_path).watch(timeout=30))

        async def step() -> float:
            return float((await anext(steps)).a)

        async def fork_and_step() -> tuple[float, float]:
            first = await step()
            publisher.update(a=first + 1)
            child = run_child(lambda: ThreadPoolExecutor(1).submit(asyncio.run, step()).result())
            return child, await step()

        assert asyncio.run(fork_and_step()) == (1.0, 1.0)
        publisher.update(a=2.0)
        assert asyncio.run(step()) == 2.0
        asyncio.run(steps.aclose())
        assert_no_watching_threads()


def test_a_watch_of_no_time_looks_once(tmp_path: Path) -> None:
    with vdso.publish("pair", Pair, directory=tmp_path, initial=Pair(1.0)) as publisher:
        reader = vdso.open("pair", directory=tmp_path)
        watch = reader.watch(timeout=0)
        assert [snapshot.a for snapshot in watch] == [1.0]
        assert list(watch) == []
        publisher.update(a=2.0)
        assert [snapshot.a for snapshot in watch] == [2.0]
        with pytest.raises(errors.UsageError):
            reader.watch(timeout=float("nan"))


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


# ---- Directories ----


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
    assert files(tmp_path) == []


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
