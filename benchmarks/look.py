"""What the project promises of looking at a vDSO: `python benchmarks/look.py [--vmlinuz FILE]`.

Each row is measured by itself, after warming, and is the median of its rounds. Prints a table, with what
was asked beside what was measured; --json FILE writes all values.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

VDSO = [sys.executable, "-m", "vdso"]


@dataclass
class Row:
    """One line of the table: `asked` at most, None for what stands beside the others."""

    name: str
    asked: float | None
    unit: str
    values: list[float] = field(repr=False)

    @property
    def measured(self) -> float:
        return sorted(self.values)[len(self.values) // 2]


def rounds_ms(work: Callable[[], object], count: int, warm: int = 3) -> list[float]:
    """How long each of `count` rounds takes, in ms."""
    values = []
    for index in range(-warm, count):
        start = time.perf_counter_ns()
        work()
        if index >= 0:
            values.append((time.perf_counter_ns() - start) / 1e6)
    return values


def command(*words: str | Path) -> None:
    subprocess.run([*VDSO, *map(str, words)], stdout=subprocess.DEVNULL, check=True)


def zstd_kernel(path: Path) -> None:
    """A bzImage of 10 MB, packed by zstd as hard as the kernel's build does, that holds this machine's
    image.
    """
    import kernels
    import zstandard

    from vdso.kernel import Image

    # Half of it random, half of it of few values: some 50 MB that become 10.
    noise = os.urandom(10_200_000)
    body = bytearray(noise + noise[:32] * (40_000_000 // 32))
    image = Image.from_process().data
    body[0x900000 : 0x900000 + len(image)] = image
    packed = zstandard.ZstdCompressor(level=19, write_content_size=False).compress(
        kernels.vmlinux(bytes(body))
    )
    path.write_bytes(kernels.bzimage(packed))


def measure(vmlinuz: Path | None) -> list[Row]:
    from vdso.kernel import Image, source

    data = Image.from_process().data
    rows = [
        Row("parse one image", 3, "ms", rounds_ms(lambda: Image.from_bytes(data), 300)),
        Row("read and parse one's own", None, "ms", rounds_ms(Image.from_process, 300)),
    ]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "vmlinuz")
        zstd_kernel(path)
        name = f"images of a {path.stat().st_size / 1e6:.1f} MB zstd vmlinuz"
        rows.append(Row(name, None, "ms", rounds_ms(lambda: source.read(str(path)), 5, 1)))
        rows.append(
            Row("vdso look vmlinuz, that one", 2000, "ms", rounds_ms(lambda: command("look", path), 5, 1))
        )
        if vmlinuz is not None:
            size = vmlinuz.stat().st_size / 1e6
            work = rounds_ms(lambda: command("look", vmlinuz), 5, 1)
            rows.append(Row(f"vdso look {vmlinuz.name} ({size:.1f} MB)", 2000, "ms", work))
        rows.append(Row("vdso look", 250, "ms", rounds_ms(lambda: command("look"), 15)))
        rows.append(Row("vdso dump", None, "ms", rounds_ms(lambda: command("dump", "-o", path), 15)))
    rows.append(Row("vdso disasm", None, "ms", rounds_ms(lambda: command("disasm"), 10)))
    rows.append(
        Row("vdso diff self self", None, "ms", rounds_ms(lambda: command("diff", "self", "self"), 10))
    )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--vmlinuz", type=Path, help="a kernel image of one's own, beside the one that is made"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = measure(options.vmlinuz)
    width = max(len(row.name) for row in rows)
    for row in rows:
        asked = (
            ""
            if row.asked is None
            else f"  at most {row.asked:g}{'' if row.measured <= row.asked else '  MISSED'}"
        )
        print(f"{row.name:<{width}}  {row.measured:9.2f} {row.unit}{asked}")
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
