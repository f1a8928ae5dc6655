"""Pages that a program in C reads by the functions of their libraries, some with a writer of their own."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import vdso
from measuring.peers import FIELDS
from measuring.turns import Talker
from vdso import _core
from vdso.pages import schema

SETTLE_S = 0.002  # for a writer that goes on, each round

Figures = dict[tuple[str, str], list[float]]  # (who, what): ns a round


@dataclass(frozen=True)
class CPages:
    """Programs that read a page each: nobody writes to `idle` and `large`, and `ticking` and `flat` have a
    writer of their own.
    """

    idle: Talker
    large: Talker
    ticking: Talker
    flat: Talker
    flat_writer: "subprocess.Popen[bytes]"
    flat_page: vdso.Reader


def layout(fields: tuple[str, ...]) -> schema.Layout:
    return schema.make("record", [(name, schema.scalar("f64")) for name in fields])


def lay(directory: Path, name: str, fields: tuple[str, ...]) -> tuple[str, str]:
    """A page with one version, whose publisher is gone; its file and where the page is in it."""
    with vdso.publish(name, layout(fields), directory=directory) as made:
        made.update(**{fields[0]: 1.0})
        path = made.path
    fd = os.open(path, os.O_RDONLY)
    try:
        return path, str(_core.page_find(fd)[0])
    finally:
        os.close(fd)


@contextlib.contextmanager
def c_pages(program: str, directory: Path, writing: int, reading: int) -> Iterator[CPages]:
    with ExitStack() as stack:

        def talker(name: str, fields: tuple[str, ...]) -> tuple[Talker, str, str]:
            path, at = lay(directory, name, fields)
            made = Talker([program, "read", path, name, fields[1], at, str(reading)])
            stack.callback(made.close)
            return made, path, at

        def writer(path: str, at: str, period_ns: int) -> "subprocess.Popen[bytes]":
            process = subprocess.Popen([program, "write", path, at, str(period_ns), str(writing)])
            stack.callback(process.wait, 10)
            stack.callback(process.kill)
            return process

        idle, _, _ = talker("idle", FIELDS)
        large, _, _ = talker("large", tuple(f"field{number}" for number in range(512)))
        ticking, *ticking_at = talker("ticking", FIELDS)
        flat, *flat_at = talker("flat", FIELDS)
        writer(*ticking_at, 1_000_000)
        flat_writer = writer(*flat_at, 0)
        flat_page = stack.enter_context(vdso.open("flat", directory=directory))
        before = flat_page.version
        while flat_page.version < before + 1000:
            time.sleep(SETTLE_S)
        yield CPages(idle, large, ticking, flat, flat_writer, flat_page)


def c_round(pages: CPages, figures: Figures) -> None:
    """One round of the readers in C, all of it by the reader code of the live libraries."""
    quiet = [
        (pages.idle, "empty", "empty 50000"),
        (pages.idle, "field", "field 50000"),
        (pages.idle, "empty batch", "empty-batch 2000"),
        (pages.idle, "unguarded", "unguarded-batch 2000"),
        (pages.idle, "64 bytes idle", "batch 2000"),
        (pages.ticking, "64 bytes 1 kHz", "batch 4000"),
        (pages.ticking, "64 bytes 1 kHz p99", "batch-p99 4000"),
        (pages.large, "4 KiB", "batch 200"),
        (pages.large, "4 KiB unguarded", "unguarded-batch 200"),
    ]
    for talker, what, line in quiet:
        figures.setdefault(("c", what), []).append(talker.ask(line))


def flat_out_round(pages: CPages, python_ns: Callable[[], float], figures: Figures) -> None:
    """One round behind a writer that never pauses, which goes on for it and stands still afterwards."""
    pages.flat_writer.send_signal(signal.SIGCONT)
    time.sleep(SETTLE_S)
    try:
        start, before = time.monotonic_ns(), pages.flat_page.version
        for what, line in (
            ("flat p50", "single-p50 10000"),
            ("flat p99", "single-p99 20000"),
            ("flat empty p99", "empty-single-p99 10000"),
            ("flat batch", "batch 1000"),
            ("retries", "retries 20000"),
        ):
            figures.setdefault(("c", what), []).append(pages.flat.ask(line))
        figures.setdefault(("vdso", "flat"), []).append(python_ns())
        written, spent = pages.flat_page.version - before, time.monotonic_ns() - start
        figures.setdefault(("c", "versions"), []).append(written / spent * 1e3)
    finally:
        pages.flat_writer.send_signal(signal.SIGSTOP)


def only_flat_out(figures: Figures) -> None:
    """Leaves out the rounds in which something else had the writer's CPU for more than a tenth of the time:
    a reader behind a writer that stands still would look fine.
    """
    rates = figures["c", "versions"]
    usual = sorted(rates)[len(rates) * 9 // 10]
    for key in [
        ("c", what) for what in ("flat p50", "flat p99", "flat empty p99", "flat batch", "retries")
    ] + [
        ("vdso", "flat"),
        ("c", "versions"),
    ]:
        figures[key] = [value for value, rate in zip(figures[key], rates, strict=True) if rate >= 0.9 * usual]
