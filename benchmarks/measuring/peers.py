"""The same record of eight doubles by other means, each as its own documentation has one read it.

A peer says in statements how one field, the whole record and an update are written; what stands in them are
the names in `names`. One that is not installed raises Missing, and the benchmark goes on without it.
"""

import contextlib
import ctypes
import importlib
import mmap
import multiprocessing
import os
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import vdso

FIELDS = ("bid", "ask", "last", "volume", "high", "low", "mean", "spread")
BEGIN = tuple(100.0 + number for number in range(len(FIELDS)))
RECORD = struct.Struct(f"{len(FIELDS)}d")
TWO = struct.Struct("2d")


class Missing(Exception):
    """A peer that is not installed; says what would install it."""


@dataclass(frozen=True)
class Peer:
    """Statements, by what they do.

    `field`: one field as a Python number. `lazy`: a copy of the record as the library gives it, its fields
    not yet Python's. `whole`: all fields as a tuple of Python numbers. `update`: two fields changed.
    `guard`: what keeps a record whole while it is written; "": nothing does.
    """

    name: str
    guard: str
    names: dict[str, Any]
    field: str = ""
    lazy: str = ""
    whole: str = ""
    update: str = ""

    def statements(self) -> dict[str, str]:
        found = {"field": self.field, "lazy": self.lazy, "whole": self.whole, "update": self.update}
        return {what: statement for what, statement in found.items() if statement}


@vdso.page
class Quote:
    bid: vdso.F64
    ask: vdso.F64
    last: vdso.F64
    volume: vdso.F64
    high: vdso.F64
    low: vdso.F64
    mean: vdso.F64
    spread: vdso.F64


class CQuote(ctypes.Structure):
    _fields_ = [(name, ctypes.c_double) for name in FIELDS]


def attributes(of: str) -> str:
    return "(" + ", ".join(f"{of}.{name}" for name in FIELDS) + ")"


def wanted(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise Missing(f"{package} is not installed (make peers)") from error


# ---- ours ----


def ours(directory: Path, stack: ExitStack) -> Peer:
    """Without waking, as the peers below do not wake either."""
    publisher = stack.enter_context(
        vdso.publish("peer", Quote, initial=BEGIN, notify=False, directory=directory)
    )
    page = stack.enter_context(vdso.open("peer", directory=directory))
    return Peer(
        "vdso",
        "slots",
        {"page": page, "publisher": publisher, "a": 1.0, "b": 2.0},
        field="page.bid",
        lazy="page.snapshot()",
        whole="page.snapshot().astuple()",
        update="publisher.update(bid=a, ask=b)",
    )


# ---- the standard library, numpy ----


def value(lock: bool) -> Callable[[Path, ExitStack], Peer]:
    def made(_directory: Path, _stack: ExitStack) -> Peer:
        one = multiprocessing.Value(ctypes.c_double, 1.0, lock=lock)
        record: Any = multiprocessing.Value(CQuote, *BEGIN, lock=lock)
        names = {"one": one, "record": record, "a": 1.0, "b": 2.0}
        if not lock:
            return Peer(
                "multiprocessing.Value(lock=False)",
                "",
                names,
                field="one.value",
                whole=attributes("record"),
                update="record.bid = a; record.ask = b",
            )
        names |= {"lock": record.get_lock(), "record": record.get_obj()}
        return Peer(
            "multiprocessing.Value(lock=True)",
            "a lock",
            names,
            field="one.value",
            whole=f"with lock: {attributes('record')}",
            update="with lock: record.bid = a; record.ask = b",
        )

    return made


def shared(stack: ExitStack) -> shared_memory.SharedMemory:
    made = shared_memory.SharedMemory(create=True, size=RECORD.size)
    stack.callback(made.unlink)
    stack.callback(made.close)
    RECORD.pack_into(made.buf, 0, *BEGIN)
    return made


def shared_struct(_directory: Path, stack: ExitStack) -> Peer:
    return Peer(
        "shared_memory and struct",
        "",
        {
            "buffer": shared(stack).buf,
            "one": struct.Struct("d").unpack_from,
            "unpack": RECORD.unpack_from,
            "pack": TWO.pack_into,
            "a": 1.0,
            "b": 2.0,
        },
        field="one(buffer, 0)[0]",
        lazy="bytes(buffer)",
        whole="unpack(buffer)",
        update="pack(buffer, 0, a, b)",
    )


def numpy_array(_directory: Path, stack: ExitStack) -> Peer:
    numpy = wanted("numpy", "numpy")
    memory = shared(stack)
    # Copies of the memory's buffer would keep it open: the arrays go when the names do.
    names = {
        "fields": numpy.ndarray(len(FIELDS), "f8", memory.buf),
        "record": numpy.ndarray((), [(name, "f8") for name in FIELDS], memory.buf),
        "a": 1.0,
        "b": 2.0,
    }
    stack.callback(names.clear)
    return Peer(
        "numpy in shared_memory",
        "",
        names,
        field="fields[0]",
        whole="record.item()",
        update="fields[0] = a; fields[1] = b",
    )


def ctypes_mmap(directory: Path, stack: ExitStack) -> Peer:
    with open(directory / "ctypes", "w+b") as file:
        file.write(RECORD.pack(*BEGIN))
        file.flush()
        memory = mmap.mmap(file.fileno(), RECORD.size)
    names = {"record": CQuote.from_buffer(memory), "copy": CQuote.from_buffer_copy, "memory": memory}
    stack.callback(names.clear)
    return Peer(
        "ctypes over mmap",
        "",
        names | {"a": 1.0, "b": 2.0},
        field="record.bid",
        lazy="copy(memory)",
        whole=attributes("record"),
        update="record.bid = a; record.ask = b",
    )


# ---- libraries and servers ----


def lmdb_environment(directory: Path, stack: ExitStack) -> Any:
    lmdb = wanted("lmdb", "lmdb")
    path = directory / "lmdb"
    path.mkdir()
    # No sync: nothing here shall outlive the machine, and a commit would otherwise wait for the disk.
    made = stack.enter_context(lmdb.open(str(path), map_size=1 << 20, sync=False))
    with made.begin(write=True) as transaction:
        transaction.put(b"quote", RECORD.pack(*BEGIN))
        transaction.put(b"bid", struct.pack("d", BEGIN[0]))
    return made


def lmdb_held(directory: Path, stack: ExitStack) -> Peer:
    transaction = stack.enter_context(lmdb_environment(directory, stack).begin())
    return Peer(
        "LMDB, held transaction",
        "its snapshot",
        {
            "get": transaction.get,
            "one": struct.Struct("d").unpack,
            "unpack": RECORD.unpack,
            "bid": b"bid",
            "quote": b"quote",
        },
        field="one(get(bid))[0]",
        lazy="get(quote)",
        whole="unpack(get(quote))",
    )


def lmdb_fresh(directory: Path, stack: ExitStack) -> Peer:
    directory = directory / "fresh"
    directory.mkdir()
    environment = lmdb_environment(directory, stack)
    return Peer(
        "LMDB, fresh transaction",
        "its snapshot",
        {
            "begin": environment.begin,
            "one": struct.Struct("d").unpack,
            "unpack": RECORD.unpack,
            "pack": RECORD.pack,
            "bid": b"bid",
            "quote": b"quote",
            "values": BEGIN,
        },
        field="with begin() as transaction: one(transaction.get(bid))[0]",
        lazy="with begin() as transaction: transaction.get(quote)",
        whole="with begin() as transaction: unpack(transaction.get(quote))",
        update="with begin(write=True) as transaction: transaction.put(quote, pack(*values))",
    )


def iceoryx2(_directory: Path, stack: ExitStack) -> Peer:
    """Leaves /dev/shm/iox2_*.global_mgmt behind, 16 bytes that iceoryx2 keeps for all of its nodes: it is not
    ours to remove, as another program may be using it.
    """
    iox = wanted("iceoryx2", "iceoryx2")
    iox.set_log_level(iox.LogLevel.Error)
    key, one_key = ctypes.c_uint64(0), ctypes.c_uint64(1)
    node = iox.NodeBuilder.new().create(iox.ServiceType.Ipc)
    service = (
        node.service_builder(iox.ServiceName.new(f"vdso-bench-{os.getpid()}"))
        .blackboard_creator(ctypes.c_uint64)
        .add(key, CQuote(*BEGIN))
        .add(one_key, ctypes.c_double(BEGIN[0]))
        .create()
    )
    reader, writer = service.reader_builder().create(), service.writer_builder().create()
    names = {
        "entry": reader.entry(key, CQuote),
        "one": reader.entry(one_key, ctypes.c_double),
        "writing": writer.entry(key, CQuote),
        "Quote": CQuote,
        "Double": ctypes.c_double,
        "next": CQuote(*BEGIN),
        "a": 1.0,
        "b": 2.0,
    }

    def close() -> None:
        names.clear()
        for made in (reader, writer, service, node):
            with contextlib.suppress(AttributeError):
                made.delete()

    stack.callback(close)
    return Peer(
        "iceoryx2 blackboard",
        "two cells",
        names,
        field="one.get().decode_as(Double).value",
        lazy="entry.get().decode_as(Quote)",
        whole=f"quote = entry.get().decode_as(Quote); {attributes('quote')}",
        update="next.bid = a; next.ask = b; writing.update_with_copy(next)",
    )


def redis(_directory: Path, stack: ExitStack) -> Peer:
    client = redis_client(stack)
    client.set("bid", BEGIN[0])
    client.set("quote", RECORD.pack(*BEGIN))
    return Peer(
        "Redis, unix socket",
        "the server",
        {
            "get": client.get,
            "set": client.set,
            "unpack": RECORD.unpack,
            "pack": RECORD.pack,
            "values": BEGIN,
        },
        field="float(get('bid'))",
        lazy="get('quote')",
        whole="unpack(get('quote'))",
        update="set('quote', pack(*values))",
    )


def redis_client(stack: ExitStack) -> Any:
    """A client of a server of its own, which keeps nothing on a disk and ends with the stack."""
    module = wanted("redis", "redis")
    program = shutil.which("redis-server")
    if program is None:
        raise Missing("redis-server is not installed (Debian: redis-server)")
    # The path of a unix socket has 107 bytes at most.
    place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vdso-redis-")))
    path = place / "redis.sock"
    words = [program, "--port", "0", "--unixsocket", path, "--save", "", "--appendonly", "no", "--dir", place]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL)

    def stop() -> None:
        server.terminate()
        server.wait(10)

    stack.callback(stop)
    client = module.Redis(unix_socket_path=str(path))
    stack.callback(client.close)
    end = time.monotonic() + 10
    while True:
        try:
            client.ping()
            return client
        except module.exceptions.ConnectionError:
            if time.monotonic() > end or server.poll() is not None:
                raise Missing("redis-server did not start") from None
            time.sleep(0.02)


MAKERS: dict[str, Callable[[Path, ExitStack], Peer]] = {
    "multiprocessing.Value(lock=False)": value(False),
    "multiprocessing.Value(lock=True)": value(True),
    "ctypes over mmap": ctypes_mmap,
    "numpy in shared_memory": numpy_array,
    "shared_memory and struct": shared_struct,
    "LMDB, held transaction": lmdb_held,
    "LMDB, fresh transaction": lmdb_fresh,
    "iceoryx2 blackboard": iceoryx2,
    "Redis, unix socket": redis,
}


@contextlib.contextmanager
def all_peers(directory: Path) -> Iterator[tuple[list[Peer], list[str]]]:
    """Ours first; and a line for each that is missing."""
    with ExitStack() as stack:
        found, missing = [ours(directory, stack)], []
        for name, make in MAKERS.items():
            try:
                found.append(make(directory, stack))
            except Missing as error:
                missing.append(f"{name}: left out: {error}")
        yield found, missing
