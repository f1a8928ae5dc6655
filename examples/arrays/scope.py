"""A record with an array in it: a thousand samples and which thousand they are."""

import numpy

import vdso

NAME = "scope"
SAMPLES = 1000
RATE_HZ = 1_000_000  # so a frame is a millisecond of signal


@vdso.page
class Frame:
    number: vdso.U64
    taken_ns: vdso.I64  # CLOCK_MONOTONIC
    samples: vdso.Array[vdso.F32, SAMPLES]


def samples_of(number: int) -> numpy.ndarray:
    """What a device would have measured: a tone that wanders."""
    at = (number * SAMPLES + numpy.arange(SAMPLES)) / RATE_HZ
    tone = numpy.sin(2 * numpy.pi * 5000 * at) * (1.5 + numpy.sin(2 * numpy.pi * 0.5 * at))
    return tone.astype("f4")
