"""Reads what publish.py publishes, and says each second how that goes: python read.py [SECONDS]."""

import sys
import time

import numpy
from scope import NAME, Frame

import vdso


def main(seconds: float) -> None:
    scope = vdso.open(NAME, expect=Frame)
    end = time.monotonic() + seconds
    first, seen, late_us = 0, 0, []
    for frame in scope.watch(timeout=2):
        late_us.append((time.monotonic_ns() - frame.taken_ns) / 1000)
        # A numpy array of the reader's own: it stays as it is while the publisher goes on.
        rms = float(numpy.sqrt(numpy.mean(numpy.square(frame.samples))))
        first, seen = first or frame.number, seen + 1
        if seen == 1000 or time.monotonic() > end:
            missed = frame.number - first + 1 - seen
            print(
                f"frame {frame.number}: {seen} seen, {missed} missed, rms {rms:.3f}, "
                f"{numpy.median(late_us):.0f} us after they were taken",
                flush=True,
            )
            first, seen, late_us = 0, 0, []
        if time.monotonic() > end:
            return
    print("nobody publishes")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else float("inf"))
