"""waiting.py SECONDS: as wait_until.cpp, in the ways that Python has: by time.monotonic() all of them."""

import asyncio
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from os import times


def report(name: str, wait: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    began = times().elapsed  # by a system call, in hundredths of a second: no session scales it
    good = wait()
    print(
        name, int(good), int(time.monotonic() >= deadline), int((times().elapsed - began) * 1e6), flush=True
    )


def condition() -> bool:
    waited = threading.Condition()
    with waited:
        return not waited.wait(seconds)


def lock() -> bool:
    held = threading.Lock()
    held.acquire()
    return not held.acquire(timeout=seconds)


def get() -> bool:
    try:
        queue.Queue[int]().get(timeout=seconds)
    except queue.Empty:
        return True
    return False


def simple_get() -> bool:
    try:
        queue.SimpleQueue[int]().get(timeout=seconds)
    except queue.Empty:
        return True
    return False


def put() -> bool:
    full = queue.Queue[int](1)
    full.put(1)
    try:
        full.put(2, timeout=seconds)
    except queue.Full:
        return True
    return False


def join() -> bool:
    thread = threading.Thread(target=time.sleep, args=(seconds * 100,), daemon=True)
    thread.start()
    thread.join(seconds)
    return thread.is_alive()


def timer() -> bool:
    done = threading.Event()
    threading.Timer(seconds, done.set).start()
    return done.wait()


def child() -> bool:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            return True
    return False


def asyncio_wait_for() -> bool:
    async def late() -> bool:
        try:
            await asyncio.wait_for(asyncio.Event().wait(), seconds)
        except TimeoutError:
            return True
        return False

    return asyncio.run(late())


def asyncio_sleep() -> bool:
    asyncio.run(asyncio.sleep(seconds))
    return True


WAITS = {
    "steady-condition": condition,
    "steady-event": lambda: not threading.Event().wait(seconds),
    "steady-semaphore": lambda: not threading.Semaphore(0).acquire(timeout=seconds),
    "steady-lock": lock,
    "steady-join": join,
    "steady-timer": timer,
    "steady-queue-get": get,
    "steady-simple-queue-get": simple_get,
    "steady-queue-put": put,
    "steady-child": child,
    "steady-asyncio-wait-for": asyncio_wait_for,
    "steady-asyncio-sleep": asyncio_sleep,
    "steady-sleep": lambda: time.sleep(seconds) is None,
}

if __name__ == "__main__":
    seconds = float(sys.argv[1])
    for name, wait in WAITS.items():
        report(name, wait)
