"""Pages from Python: real processes read, write, fork and are killed."""

import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from vdso import _core, errors

WORDS = 32
RECORD = 8 * WORDS


def record(value: int) -> bytes:
    return struct.pack("=Q", value) * WORDS


def whole(data: bytes) -> int:
    """The value that the record repeats; a torn one repeats none."""
    values = set(struct.unpack(f"={WORDS}Q", data))
    assert len(values) == 1, f"torn: {sorted(values)}"
    return values.pop()


@contextmanager
def child(script: str, page: _core.Page) -> Iterator[subprocess.Popen[str]]:
    """A process that has the page as `page`, and is killed at the end if it still runs."""
    # The page's own descriptor, not a copy: closing one would take the lock from this process's writer.
    fd = page.fd
    head = f"import os, struct, sys\nfrom vdso import _core, errors\npage = _core.Page.from_fd({fd})\n"
    process = subprocess.Popen(
        [sys.executable, "-c", head + script], pass_fds=[fd], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def page() -> _core.Page:
    return _core.Page.create("test", RECORD)


def test_shape(page: _core.Page) -> None:
    assert (page.record_size, page.slots, page.schema_hash) == (RECORD, 4, 0)
    assert page.size == _core.PAGE_HEADER_BYTES + 4 * (RECORD + _core.LINE_BYTES)
    other = _core.Page.create("other", 8, slots=2, schema_hash=2**64 - 1)
    assert (other.record_size, other.slots, other.schema_hash) == (8, 2, 2**64 - 1)
    assert os.readlink(f"/proc/self/fd/{other.fd}").startswith("/memfd:other")


@pytest.mark.parametrize(
    ("size", "slots"), [(0, 4), (-8, 4), (12, 4), (2**40, 4), (8, 0), (8, 1), (8, 3), (8, 2**20)]
)
def test_shapes_that_are_none(size: int, slots: int) -> None:
    with pytest.raises(ValueError, match="not"):
        _core.Page.create("test", size, slots=slots)


def test_constants_are_the_headers(page: _core.Page) -> None:
    data = os.pread(page.fd, _core.PAGE_HEADER_BYTES, 0)
    assert struct.unpack_from("=QII", data) == (_core.PAGE_MAGIC, _core.PAGE_FORMAT, 4)
    with _core.PageWriter(page) as writer:
        writer.write(record(1))
        writer.beat(77)
        data = os.pread(page.fd, _core.PAGE_HEADER_BYTES, 0)
        assert struct.unpack_from("=Q", data, _core.PAGE_HEAD_OFFSET) == (1,)
        assert struct.unpack_from("=Q", data, _core.PAGE_HEARTBEAT_OFFSET) == (77,)
        assert struct.unpack_from("=Q", data, _core.PAGE_WRITER_PID_OFFSET) == (os.getpid(),)


def test_write_and_read(page: _core.Page) -> None:
    reader = _core.PageReader(page.reader_fd)
    assert reader.head == 0
    with _core.PageWriter(page) as writer:
        for version in range(1, 20):
            assert writer.write(record(version)) == version
            assert reader.read() == (version, record(version))
        assert reader.head == 19
        assert reader.writer_alive
    assert not reader.writer_alive
    assert reader.read() == (19, record(19))


def test_a_record_of_another_size(page: _core.Page) -> None:
    with _core.PageWriter(page) as writer:
        for data in (b"", record(1)[:-1], record(1) + b"x"):
            with pytest.raises(ValueError, match=f"has {RECORD} bytes"):
                writer.write(data)
        assert writer.write(record(1)) == 1
        # From the middle of something, where words are not aligned.
        assert writer.write(memoryview(b"x" + record(2))[1:]) == 2
    assert _core.PageReader(page.fd).read() == (2, record(2))


def test_staged_is_invisible_until_finished(page: _core.Page) -> None:
    reader = _core.PageReader(page.reader_fd)
    with _core.PageWriter(page) as writer:
        with pytest.raises(ValueError, match="nothing is staged"):
            writer.finish()
        writer.write(record(1))
        assert writer.stage(record(2)) == 2
        assert reader.read() == (1, record(1))
        assert max(reader.slot_versions) == 2
        assert writer.stage(record(3)) == 2
        assert writer.finish() == 2
        assert reader.read() == (2, record(3))


# ---- The four answers ----


def test_not_there(tmp_path: object) -> None:
    path = f"{tmp_path}/file"
    for content in (b"", b"x" * 100, b"x" * 4096):
        with open(path, "wb") as file:
            file.write(content)
        with open(path, "rb") as file:
            with pytest.raises(errors.PageNotThere):
                _core.PageReader(file.fileno())
            with pytest.raises(errors.PageNotThere):
                _core.Page.from_fd(file.fileno())
    with pytest.raises(OSError, match="Bad file descriptor"):
        _core.PageReader(10**6)


def test_a_page_that_claims_more_than_its_file_holds(page: _core.Page, tmp_path: object) -> None:
    with open(f"{tmp_path}/file", "w+b") as file:
        file.write(os.pread(page.fd, _core.PAGE_HEADER_BYTES, 0))
        file.flush()
        with pytest.raises(errors.PageNotThere, match="claims more"):
            _core.PageReader(file.fileno())


def test_never_written(page: _core.Page) -> None:
    with pytest.raises(errors.PageNeverWritten):
        _core.PageReader(page.reader_fd).read()


def test_stale(page: _core.Page) -> None:
    reader = _core.PageReader(page.reader_fd)
    with _core.PageWriter(page) as writer:
        writer.write(record(5))
        writer.beat()
        assert reader.read(max_age_ns=60 * 10**9) == (1, record(5))
        writer.beat(time.monotonic_ns() - 10**9)
        with pytest.raises(errors.PageStale) as caught:
            reader.read(max_age_ns=10**8)
        assert (caught.value.version, caught.value.record) == (1, record(5))
        assert reader.read() == (1, record(5))


def test_lapped(page: _core.Page) -> None:
    reader = _core.PageReader(page.reader_fd)
    with _core.PageWriter(page) as writer:
        writer.write(record(1))
    # As if the writer were always one lap ahead: the slot's version is never the one asked for.
    stride = RECORD + _core.LINE_BYTES
    os.pwrite(page.fd, struct.pack("=Q", 5), _core.PAGE_HEADER_BYTES + 2 * stride - 8)
    with pytest.raises(errors.PageLapped):
        reader.read()


# ---- Many processes ----


def read_against_a_writer(page: _core.Page, versions: int, seconds: float) -> tuple[int, int]:
    """(reads, versions seen), each read whole, none going back; for at least so many versions, so long."""
    script = (
        f"words = {WORDS}\nwriter = _core.PageWriter(page)\nprint('ready', flush=True)\nversion = 0\n"
        "while True:\n"
        "    version += 1\n"
        "    writer.write(struct.pack('=Q', version) * words)\n"
    )
    reader = _core.PageReader(page.reader_fd)
    reads = seen = last = 0
    with child(script, page) as process:
        assert first_line(process) == "ready"
        while reader.head == 0:
            time.sleep(0.001)
        start = time.monotonic()
        # Where both have one core between them, few reads find anything new.
        while (elapsed := time.monotonic() - start) < seconds or seen < versions:
            assert elapsed < seconds + 60, f"{seen} versions seen"
            for _ in range(1000):
                version, data = reader.read()
                assert whole(data) == version
                assert version >= last
                seen += version != last
                last = version
            reads += 1000
    return reads, seen


def test_no_torn_record_between_processes(page: _core.Page) -> None:
    reads, _ = read_against_a_writer(page, 500, 1.0)
    assert reads >= 1_000


@pytest.mark.soak
def test_no_torn_record_for_a_minute(page: _core.Page) -> None:
    reads, seen = read_against_a_writer(page, 10_000, 60.0)
    print(f"{reads} reads, {seen} versions, none torn")


def test_a_second_writer_is_refused_by_the_pid_of_the_first(page: _core.Page) -> None:
    script = "writer = _core.PageWriter(page)\nprint('ready', flush=True)\nimport time; time.sleep(60)"
    with child(script, page) as process:
        assert first_line(process) == "ready"
        assert page.holder() == process.pid
        with pytest.raises(errors.PageBusy, match=str(process.pid)) as caught:
            _core.PageWriter(page)
        assert caught.value.pid == process.pid
    with _core.PageWriter(page) as writer:
        assert writer.write(record(1)) == 1


def test_a_second_writer_in_the_same_process(page: _core.Page) -> None:
    writer = _core.PageWriter(page)
    with pytest.raises(errors.PageBusy) as caught:
        _core.PageWriter(page)
    assert caught.value.pid == os.getpid()
    # And the refusal has not cost the first one its lock.
    with child("print(page.holder())", page) as process:
        assert first_line(process) == str(os.getpid())
    assert writer.write(record(1)) == 1
    writer.close()
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.write(record(2))
    with child("print(page.holder())", page) as process:
        assert first_line(process) == "0"


def test_a_forked_child_may_not_write(page: _core.Page) -> None:
    writer = _core.PageWriter(page)
    writer.write(record(1))
    pid = os.fork()
    if pid == 0:
        refused = 0
        for attempt in (
            lambda: writer.write(record(9)),
            lambda: writer.stage(record(9)),
            writer.finish,
            writer.beat,
        ):
            try:
                attempt()
            except errors.ForkedWriter:
                refused += 1
        writer.close()
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4
    # The child has closed all it had, and the lock is still the parent's.
    with child("print(page.holder())", page) as process:
        assert first_line(process) == str(os.getpid())
    assert writer.write(record(2)) == 2
    assert _core.PageReader(page.reader_fd).read() == (2, record(2))
    writer.close()


def test_a_child_lets_the_lock_go_with_its_parent(page: _core.Page) -> None:
    script = (
        "writer = _core.PageWriter(page)\nwriter.write(bytes(page.record_size))\n"
        "if os.fork() == 0:\n    import time; time.sleep(60)\n"
        "print('ready', flush=True)\nos.kill(os.getpid(), 9)"
    )
    with child("os.setpgid(0, 0)\n" + script, page) as process:
        try:
            assert first_line(process) == "ready"
            process.wait()
            with _core.PageWriter(page) as writer:
                assert writer.write(record(2)) == 2
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_a_child_that_takes_over_keeps_the_lock(page: _core.Page) -> None:
    script = (
        "writer = _core.PageWriter(page)\nwriter.write(bytes(page.record_size))\n"
        "before = os.getpid()\ngone, living = os.pipe()\n"
        "if os.fork() != 0:\n    os.kill(before, 9)\n"
        "os.close(living)\nos.read(gone, 1)\n"
        "heir = _core.PageWriter(page)\nwriter.close()\ndel writer\n"
        "print(os.getpid(), flush=True)\nimport time; time.sleep(60)"
    )
    with child("os.setpgid(0, 0)\n" + script, page) as process:
        try:
            heir = int(first_line(process))
            assert page.holder() == heir
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_a_writer_killed_in_the_middle(page: _core.Page) -> None:
    reader = _core.PageReader(page.reader_fd)
    for round_ in range(20):
        head = reader.head
        script = (
            f"words = {WORDS}\nwriter = _core.PageWriter(page)\n"
            f"writer.write(struct.pack('=Q', {head + 1}) * words)\nwriter.stage(b'?' * words * 8)\n"
            "print('ready', flush=True)\nimport time; time.sleep(60)"
        )
        with child(script, page) as process:
            assert first_line(process) == "ready"
            assert reader.writer_alive
            process.kill()
            process.wait()
        assert reader.head == head + 1
        assert max(reader.slot_versions) == head + 2, "the kill was not in the middle of a write"
        assert not reader.writer_alive
        assert reader.read() == (head + 1, record(head + 1)), round_
        assert page.holder() == 0
        with _core.PageWriter(page) as successor:
            assert successor.write(record(head + 2)) == head + 2
        assert reader.read() == (head + 2, record(head + 2))


# ---- Waiting ----


def test_waiting_ends_with_the_next_version(page: _core.Page) -> None:
    reader = _core.PageReader(page.reader_fd)
    script = "writer = _core.PageWriter(page)\nprint('ready', flush=True)\nimport time; time.sleep(0.2)\n"
    with child(script + "writer.write(bytes(page.record_size), wake=True)\ntime.sleep(60)", page) as process:
        assert first_line(process) == "ready"
        assert reader.wait(0, 30 * 10**9)
        assert reader.head == 1
        assert reader.wait(0)
        before = time.monotonic()
        assert not reader.wait(1, 50_000_000)
        assert time.monotonic() - before >= 0.05


def test_waiting_is_interrupted_by_an_exception_from_a_signal(page: _core.Page) -> None:
    def handler(_signum: int, _frame: object) -> None:
        raise InterruptedError("enough")

    previous = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(InterruptedError, match="enough"):
            _core.PageReader(page.reader_fd).wait(0)
    finally:
        signal.signal(signal.SIGALRM, previous)


def test_waiting_leaves_other_threads_running(page: _core.Page) -> None:
    reader = _core.PageReader(page.reader_fd)
    with _core.PageWriter(page) as writer:
        timer = threading.Timer(0.1, lambda: writer.write(record(1), wake=True))
        timer.start()
        assert reader.wait(0, 30 * 10**9)
        timer.join()


# ---- Readers, descriptors ----


def test_readers_cannot_write() -> None:
    page = _core.Page.create("readers-only", RECORD)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.pwrite(page.reader_fd, b"x", 0)
    reader = _core.PageReader(page.reader_fd)
    with open("/proc/self/maps") as maps:
        rights = [line.split()[1] for line in maps if "/memfd:readers-only" in line]
    assert rights == ["r--s"]
    del reader


def test_a_page_cannot_shrink_under_its_readers(page: _core.Page) -> None:
    with pytest.raises(PermissionError):
        os.ftruncate(page.fd, 0)


# ---- The clock page ----


def test_clock_page() -> None:
    clock = _core.ClockPage.create("clock")
    reader = _core.PageReader(clock.reader_fd)
    clock.set_identity()
    version, identity = reader.read()
    assert version == 1
    assert len(identity) == _core.CLOCK_RECORD_BYTES
    clock.set_offset(86400, 0)
    assert reader.read()[0] == 2
    assert reader.read()[1] != identity
    assert reader.writer_alive
    clock.release()
    assert not reader.writer_alive
    clock.set_offset(0, -1)
    assert reader.read()[0] == 3


def test_a_released_clock_page_is_anothers_to_write() -> None:
    clock = _core.ClockPage.create("clock")
    clock.set_identity()
    clock.release()
    fd = clock.fd
    script = (
        f"from vdso import _core\nimport time\nwriter = _core.PageWriter(_core.Page.from_fd({fd}))\n"
        "print('ready', flush=True)\ntime.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], pass_fds=[fd], stdout=subprocess.PIPE, text=True
    )
    try:
        assert first_line(process) == "ready"
        with pytest.raises(errors.PageBusy) as caught:
            clock.set_identity()
        assert caught.value.pid == process.pid
    finally:
        process.kill()
        process.communicate()
    clock.set_identity()


def test_the_kernels_clocks() -> None:
    for clock in (time.CLOCK_REALTIME, time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME, time.CLOCK_TAI):
        before = time.clock_gettime_ns(clock)
        assert before <= _core.kernel_clock_ns(clock) <= time.clock_gettime_ns(clock)
    with pytest.raises(OSError, match="Invalid argument"):
        _core.kernel_clock_ns(99)
    with pytest.raises(OverflowError):
        _core.kernel_clock_ns(2**40)
