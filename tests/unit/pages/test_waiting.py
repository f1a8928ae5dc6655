"""Waiting for a version: by sleeping, by watching, and in asyncio."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from forked import run_child
from layouts import Pair, Wide

import vdso
from vdso import errors
from vdso.pages.publisher import remove
from vdso.pages.reader import Reader


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
