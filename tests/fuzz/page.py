"""A coverage-guided fuzz target: `make fuzz`. What it finds becomes a test in tests/unit/pages/test_lies.py.

Its first byte says what the rest is: a page's file, or a field table. The corpus lies under build/fuzz and
starts with files that are in order.
"""

import contextlib
import os
import sys
import tempfile
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parents[2]

with atheris.instrument_imports(include=["vdso.pages", "vdso.errors"]):
    import vdso
    from vdso.errors import PageError, PageUnreadable
    from vdso.pages import fieldtable, schema
    from vdso.pages.reader import reader_of_file

CORPUS = ROOT / "build" / "fuzz" / "page-corpus"


@vdso.page
class Level:
    price: vdso.F64
    orders: vdso.U8


@vdso.page
class Seed:
    bid: vdso.F64
    venue: vdso.Str[5]
    depth: vdso.Array[vdso.F32, 3]
    levels: vdso.Array[Level, 2, 2]
    on: bool


def use(data: bytes) -> None:
    """Opens a file of these bytes and reads all that there is."""
    descriptor = os.memfd_create("page")
    os.write(descriptor, data)
    with contextlib.suppress(PageError), reader_of_file(descriptor, "page", "page") as reader:
        for field in reader.page.layout.fields:
            getattr(reader, field.name)
        reader.snapshot().asdict()
        reader.wait(0, timeout=0)


def table(data: bytes) -> None:
    with contextlib.suppress(PageUnreadable):
        if fieldtable.encode(fieldtable.decode(data)) != data:
            raise AssertionError("two tables for one layout")


def target(data: bytes) -> None:
    if data[:1] == b"p":
        use(data[1:])
    elif data[:1] == b"t":
        table(data[1:])


def seed() -> None:
    CORPUS.mkdir(parents=True, exist_ok=True)
    (CORPUS / "table").write_bytes(b"t" + fieldtable.encode(schema.layout_of(Seed)))
    with tempfile.TemporaryDirectory() as where:
        for slots in (2, 4):
            with vdso.publish("seed", Seed, directory=where, slots=slots) as publisher:
                publisher.update(bid=1.0, venue="XLON")
                (CORPUS / f"page-{slots}").write_bytes(b"p" + Path(publisher.path).read_bytes())


if __name__ == "__main__":
    seed()
    atheris.Setup([*sys.argv, "-max_len=32768", str(CORPUS)], target)
    atheris.Fuzz()
