"""Files that lie about what they are: one clear error each, no crash, and nothing read that is not theirs."""

import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layouts import Quote

import vdso
from vdso import _core, errors
from vdso.pages.reader import Reader

HEADER = struct.Struct("<QIIIIQQQQQ")
MAGIC, FORMAT, SLOTS, RECORD, STRIDE, FIELDS_AT, FIELDS_SIZE, HASH, SIZE, _ = range(10)


class Forged:
    """A page's file to be changed, and opened under its name."""

    def __init__(self, where: Path) -> None:
        self.where = where
        with vdso.publish("quotes", Quote, directory=where) as publisher:
            publisher.update(bid=1.0)
            self.path = Path(publisher.path)
        self.data = self.path.read_bytes()
        descriptor = os.open(self.path, os.O_RDONLY)
        self.offset, *_ = _core.page_find(descriptor)
        os.close(descriptor)

    def write(self, data: bytes) -> None:
        """Another file in its place: the one that a reader has mapped stays as it is."""
        self.path.unlink()
        self.path.write_bytes(data)

    def change(self, **words: int) -> bytes:
        found = list(HEADER.unpack_from(self.data, self.offset))
        for name, value in words.items():
            found[globals()[name]] = value
        return self.data[: self.offset] + HEADER.pack(*found) + self.data[self.offset + HEADER.size :]

    def header(self, word: int) -> int:
        value: int = HEADER.unpack_from(self.data, self.offset)[word]
        return value

    def open(self) -> Reader:
        return vdso.open("quotes", directory=self.where)

    def use(self) -> None:
        """Opens it and reads everything, which may be refused and may not do anything else."""
        try:
            reader = self.open()
        except errors.PageNotThere:
            return
        try:
            reader.snapshot().asdict()
            assert reader.bid is not None
            assert [reader.depth, reader.levels, reader.best.price, reader.venue]
        except (errors.PageNeverWritten, errors.PageLapped, AttributeError):
            pass
        assert isinstance(reader.version, int)
        assert reader.page.slots >= 2
        assert reader.publisher_alive in (True, False)
        reader.age  # noqa: B018
        reader.wait(reader.version, timeout=0)
        reader.close()


@pytest.fixture(scope="module")
def forged(tmp_path_factory: pytest.TempPathFactory) -> Forged:
    return Forged(tmp_path_factory.mktemp("lies"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"MAGIC": 0x454741504F534457}, "no page"),
        ({"MAGIC": 0}, "no page"),
        ({"FORMAT": 0}, "format"),
        ({"FORMAT": 2}, "format"),
        ({"SLOTS": 0}, "no page"),
        ({"SLOTS": 1}, "no page"),
        ({"SLOTS": 3}, "no page"),
        ({"SLOTS": 1 << 31}, "no page"),
        ({"SLOTS": 8}, "no page"),
        ({"RECORD": 0}, "no page"),
        ({"RECORD": 1 << 31}, "no page"),
        ({"RECORD": 8}, "no page"),
        ({"STRIDE": 0}, "no page"),
        ({"STRIDE": 1 << 31}, "no page"),
        ({"SIZE": 1 << 40}, "no page"),
        ({"SIZE": 0}, "no page"),
        ({"SLOTS": 4096, "SIZE": "fitting"}, "claims more"),
        ({"FIELDS_AT": 0}, "no field table"),
        ({"FIELDS_SIZE": 0}, "no field table"),
        ({"FIELDS_SIZE": 1 << 40}, "claims more"),
        ({"FIELDS_SIZE": 5}, "field table"),
        ({"FIELDS_AT": 1 << 62}, "claims more"),
        ({"FIELDS_AT": 1 << 63}, "claims more"),
        ({"FIELDS_AT": 8}, "field table"),
    ],
)
def test_a_header_that_lies(forged: Forged, words: dict[str, Any], says: str) -> None:
    if words.get("SIZE") == "fitting":
        words = {**words, "SIZE": 192 + 4096 * forged.header(STRIDE)}
    forged.write(forged.change(**words))
    with pytest.raises(errors.PageUnreadable, match=says):
        forged.open()


def test_a_record_of_another_size_than_its_fields_say(forged: Forged) -> None:
    record = forged.header(RECORD) + 8
    stride = (record + 8 + 63) // 64 * 64
    forged.write(forged.change(RECORD=record, STRIDE=stride, SIZE=192 + 4 * stride) + bytes(4 * 64))
    with pytest.raises(errors.PageUnreadable, match="disagree"):
        forged.open()


def test_every_length(forged: Forged) -> None:
    for size in [*range(0, len(forged.data), 97), forged.offset, forged.offset + 191, forged.offset + 193]:
        forged.write(forged.data[:size])
        if size - forged.offset < forged.header(SIZE):
            with pytest.raises(errors.PageUnreadable):
                forged.open()
    forged.write(forged.data)
    assert forged.open().bid == 1.0


def test_what_is_no_file(forged: Forged, monkeypatch: pytest.MonkeyPatch) -> None:
    path = forged.path

    def put(make: Any) -> None:
        path.unlink()
        make()
        with pytest.raises(errors.PageUnreadable):
            forged.open()

    put(lambda: os.mkfifo(path))
    put(lambda: path.symlink_to("/etc/passwd"))
    put(lambda: path.symlink_to(path.name))
    sock = socket.socket(socket.AF_UNIX)
    monkeypatch.chdir(path.parent)
    put(lambda: sock.bind(path.name))
    sock.close()
    path.unlink()
    path.mkdir()
    with pytest.raises(errors.PageUnreadable):
        forged.open()
    path.rmdir()
    with pytest.raises(errors.PageUnreadable, match="gone"):
        forged.open()
    forged.path.write_bytes(forged.data)
    path.chmod(0o666)
    with pytest.raises(errors.PageUnreadable, match="others can write"):
        forged.open()


ELSEWHERE = [
    "/etc/passwd",
    "../quotes.aaaaaaaaaaaa.so",
    "quotes.so",
    "other.aaaaaaaaaaaa.so",
    "quotes.AAAAAAAAAAAA.so",
]


@pytest.mark.parametrize("target", ELSEWHERE)
def test_a_link_that_leads_elsewhere(tmp_path: Path, target: str) -> None:
    (tmp_path / "quotes.so").symlink_to(target)
    with pytest.raises(errors.PageUnreadable, match="elsewhere"):
        vdso.open("quotes", directory=tmp_path)
    # Its owner's next publisher puts it right.
    with vdso.publish("quotes", Quote, directory=tmp_path) as publisher:
        publisher.update(bid=3.0)
        assert vdso.open("quotes", directory=tmp_path).bid == 3.0


def test_a_damaged_file_gives_way_to_the_next_publisher(tmp_path: Path) -> None:
    forged = Forged(tmp_path)
    for data in (b"", forged.change(SLOTS=0), forged.data[: forged.offset + 300]):
        forged.write(data)
        with vdso.publish("quotes", Quote, directory=tmp_path) as publisher:
            publisher.update(bid=3.0)
            assert forged.open().bid == 3.0
            forged.path = Path(publisher.path)


def test_a_header_that_changes_after_it_was_checked(tmp_path: Path) -> None:
    """A reader goes by what it checked: where it reads is not for the publisher to say later."""
    forged = Forged(tmp_path)
    reader = forged.open()
    for words in ({"SLOTS": 1 << 31, "STRIDE": 1 << 31}, {"SLOTS": 0, "STRIDE": 0}, {"RECORD": 1 << 31}):
        header = forged.change(**words)[forged.offset : forged.offset + HEADER.size]
        with open(forged.path, "r+b") as file:
            file.seek(forged.offset)
            file.write(header)
        assert reader.bid == 1.0
        assert reader.snapshot().bid == 1.0
        assert reader.page.slots == 4


def test_a_version_that_leads_nowhere(tmp_path: Path) -> None:
    forged = Forged(tmp_path)
    reader = forged.open()
    for head in (2, 5, 2**63, 2**64 - 1):
        with open(forged.path, "r+b") as file:
            file.seek(forged.offset + _core.PAGE_HEAD_OFFSET)
            file.write(struct.pack("<Q", head))
        with pytest.raises(errors.PageLapped):
            reader.snapshot()
        with pytest.raises(errors.PageLapped):
            _ = reader.bid


def test_a_version_that_leads_nowhere_in_a_large_record(tmp_path: Path) -> None:
    """Neither for hours, nor deaf to signals."""
    script = """if True:
        import signal, struct, sys, vdso
        from vdso import _core, errors

        size = 8 << 20
        Big = vdso.page(type("Big", (), {"__annotations__": {"data": vdso.Bytes[size], "more": int}}))
        with vdso.publish("big", Big, directory=sys.argv[1], slots=2) as publisher:
            publisher.update(data=b"x")
            path = publisher.path
        reader = vdso.open("big", directory=sys.argv[1])
        assert reader.data[:1] == b"x" and len(reader.snapshot().data) == size
        with open(path, "r+b") as file:
            file.seek(_core.page_find(file.fileno())[0] + _core.PAGE_HEAD_OFFSET)
            file.write(struct.pack("<Q", 77777))
        for read in (lambda: reader.data, lambda: reader.more, reader.snapshot, lambda: reader.snapshot()):
            try:
                read()
                print("read")
            except errors.PageLapped:
                print("lapped")
        # A read takes far longer than this, and the handler's turn comes in the middle of it.
        def handler(*_):
            raise InterruptedError
        signal.signal(signal.SIGALRM, handler)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            reader.snapshot()
        except InterruptedError:
            print("interrupted")
    """
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stderr, done.stdout.split()) == ("", [*["lapped"] * 4, "interrupted"])


def test_text_that_is_none(tmp_path: Path) -> None:
    forged = Forged(tmp_path)
    reader = forged.open()
    slot = forged.offset + 192 + forged.header(STRIDE)
    field = next(field for field in reader.page.layout.fields if field.name == "venue")
    with open(forged.path, "r+b") as file:
        file.seek(slot + field.offset)
        file.write(b"\xff\xfe\x80ab")
    assert reader.venue == "\ufffd\ufffd\ufffdab"
    flag = next(field for field in reader.page.layout.fields if field.name == "flag")
    with open(forged.path, "r+b") as file:
        file.seek(slot + flag.offset)
        file.write(b"\x07")
    assert reader.flag is True


def test_a_file_that_is_replaced_while_it_is_opened(tmp_path: Path) -> None:
    """By names and layouts that change all the time: each time one of them, whole."""

    @vdso.page
    class Other:
        bid: vdso.F64
        more: vdso.F64

    stop = threading.Event()

    def replace() -> None:
        while not stop.is_set():
            for schema in (Quote, Other):
                with vdso.publish("quotes", schema, directory=tmp_path) as publisher:
                    publisher.update(bid=1.0)

    with vdso.publish("quotes", Quote, directory=tmp_path) as publisher:
        publisher.update(bid=1.0)
    thread = threading.Thread(target=replace)
    thread.start()
    try:
        for _ in range(300):
            reader = vdso.open("quotes", directory=tmp_path)
            try:
                assert reader.bid == 1.0
            except errors.PageNeverWritten:
                assert reader.version == 0
    finally:
        stop.set()
        thread.join()


# ---- Any change at all ----


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(st.data())
def test_any_damage(forged: Forged, data: st.DataObject) -> None:
    changed = bytearray(forged.data)
    interesting = st.one_of(
        st.integers(0, 63),  # the ELF header
        st.integers(64, 63 + 56 * 12),  # its segments
        st.integers(forged.offset, forged.offset + 191),
        st.integers(0, len(changed) - 1),
    )
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(interesting)
        value = data.draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
        width = data.draw(st.sampled_from([1, 4, 8]))
        changed[at : at + width] = bytes([value]) * min(width, len(changed) - at)
    if data.draw(st.booleans()):
        del changed[data.draw(st.integers(0, len(changed))) :]
    forged.write(bytes(changed))
    forged.use()
