"""Publishes numpy arrays, a thousand a second: python publish.py [SECONDS]."""

import sys
import time

from scope import NAME, Frame, samples_of

import vdso

PERIOD_S = 0.001


def main(seconds: float) -> None:
    with vdso.publish(NAME, Frame) as scope:
        print(f"publishing {scope.path}; read it with read.py", flush=True)
        due = time.monotonic()
        end = due + seconds
        number = 0
        while due < end:
            number += 1
            # All fields of one call are one version: nobody sees these samples under another number.
            scope.update(number=number, taken_ns=time.monotonic_ns(), samples=samples_of(number))
            due += PERIOD_S
            time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else float("inf"))
