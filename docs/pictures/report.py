"""Takes the README's picture of `vdso report`: report.png, beside this file, of a report of this machine."""

import io
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests" / "support"))

from browser import Browser  # noqa: E402

WIDTH, HEIGHT = 960, 1400  # further down it is more pictures, and tables

# What it is a report of: a program that reads the clock in the ways in which many do.
PROGRAM = """
import datetime, time
for _ in range(200_000):
    time.monotonic()
    if _ % 4 == 0: time.time()
    if _ % 10 == 0: datetime.datetime.now()
    if _ % 50 == 0: time.process_time()
"""
COLOURS = 192  # a flat page needs no more, and takes a third of the bytes


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        page = Path(directory) / "report.html"
        vdso = Path(sys.executable).parent / "vdso"
        subprocess.run([vdso, "report", "-o", page, "--", sys.executable, "-c", PROGRAM], check=True)
        with Browser("chromium") as browser:
            browser.open(page, WIDTH, HEIGHT)
            picture = Image.open(io.BytesIO(browser.picture())).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(HERE / "report.png", optimize=True)
    print(HERE / "report.png", picture.size, (HERE / "report.png").stat().st_size, "bytes")


if __name__ == "__main__":
    main()
