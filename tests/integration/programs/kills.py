"""kills.py DIRECTORY COUNT: a publisher is killed again and again under four readers; prints what came of it.

The outcome is JSON.
Each time a successor stands by, which is forked before the kill and told to publish after it. Every record is
one number in all its words, so that whoever has a record knows whether it was published so.
"""

import contextlib
import json
import mmap
import os
import random
import signal
import struct
import sys
import time
from array import array
from typing import NoReturn

import vdso

WORDS = 8191
READERS = 4
TRIES = 300
CYCLE_S = 0.0003  # about what a version takes


@vdso.page
class Big:
    number: vdso.U64
    words: vdso.Array[vdso.U64, WORDS]


def whole(snapshot: object) -> int:
    """The record's number; 0 when it is not one record."""
    data = bytes(memoryview(snapshot))  # type: ignore[arg-type]
    number: int = struct.unpack_from("=Q", data)[0]
    return number if data == data[:8] * (WORDS + 1) else 0


def read(where: str, counts: mmap.mmap, index: int) -> NoReturn:
    """Counts its reads at 8 * index, and what it found wrong at 8 * (READERS + index)."""
    os.nice(15)  # four of them leave the two who are measured no core
    reader = vdso.open("big", directory=where)
    last = reads = wrong = 0
    while counts[8 * 3 * READERS] == 0:
        snapshot = reader.snapshot()
        number = whole(snapshot)
        if number == 0 or number != snapshot.version or number < last:
            wrong += 1
        last = number
        reads += 1
        struct.pack_into("=Q", counts, 8 * index, reads)
        struct.pack_into("=Q", counts, 8 * (READERS + index), wrong)
    os._exit(0)


def publish(where: str, go: int, done: int) -> NoReturn:
    os.read(go, 1)
    start = time.monotonic()
    publisher = vdso.publish("big", Big, directory=where)
    version = publisher.version + 1
    publisher.update(number=version, words=array("Q", [version]) * WORDS)
    os.write(done, struct.pack("=dQ", time.monotonic() - start, version))
    while True:
        version += 1
        publisher.update(number=version, words=array("Q", [version]) * WORDS)


def fork(body: object, *arguments: object) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            body(*arguments)  # type: ignore[operator]
        except BaseException as error:
            print(f"{body}: {error!r}", file=sys.stderr, flush=True)
        os._exit(1)
    return pid


def reads_of(counts: mmap.mmap) -> list[int]:
    return list(struct.unpack_from(f"={READERS}Q", counts))


def main(where: str, count: int) -> None:
    with vdso.publish("big", Big, directory=where) as publisher:
        publisher.update(number=1, words=array("Q", [1]) * WORDS)
    mine = vdso.open("big", directory=where)
    counts = mmap.mmap(-1, 8 * (3 * READERS + 1))
    readers = [fork(read, where, counts, index) for index in range(READERS)]
    children = set(readers)
    middle, takeovers, stood_still, missed = 0, [], 0, 0

    def stand_by() -> tuple[int, int, int]:
        go, told = os.pipe()
        answer, done = os.pipe()
        pid = fork(publish, where, go, done)
        os.close(go)
        os.close(done)
        children.add(pid)
        return pid, told, answer

    try:
        pid, told, answer = stand_by()
        os.write(told, b"!")
        for _ in range(count):
            seconds, version = struct.unpack("=dQ", os.read(answer, 16))
            takeovers.append(seconds)
            os.close(told)
            os.close(answer)
            successor = stand_by()
            while mine.version <= version:
                os.sched_yield()
            # Stopped until it is in the middle of a record, most of the time.
            for _ in range(TRIES):
                os.kill(pid, signal.SIGSTOP)
                os.waitpid(pid, os.WUNTRACED)
                head = mine.version
                if max(mine._slot_versions) > head:
                    break
                os.kill(pid, signal.SIGCONT)
                while mine.version == head:
                    os.sched_yield()
                # Wherever it is by then.
                end = time.monotonic() + random.random() * CYCLE_S
                while time.monotonic() < end:
                    pass
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            children.discard(pid)
            head = mine.version
            middle += max(mine._slot_versions) > head
            missed += whole(mine.snapshot()) != head or mine.publisher_alive
            # Everybody goes on reading while there is no publisher.
            before, end = reads_of(counts), time.monotonic() + 10
            while not all(now >= then + 2 for now, then in zip(reads_of(counts), before, strict=True)):
                if time.monotonic() > end:
                    stood_still += 1
                    break
                os.sched_yield()
            pid, told, answer = successor
            os.write(told, b"!")
        os.read(answer, 16)
        counts[8 * 3 * READERS] = 1
        for reader in readers:
            missed += os.waitpid(reader, 0)[1] != 0
            children.discard(reader)
    finally:
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
    wrong = list(struct.unpack_from(f"={READERS}Q", counts, 8 * READERS))
    result = {"kills": count, "in_the_middle": middle, "wrong": wrong, "reads": reads_of(counts)}
    print(
        json.dumps({**result, "stood_still": stood_still, "missed": missed, "takeover_s": sorted(takeovers)})
    )


main(sys.argv[1], int(sys.argv[2]))
