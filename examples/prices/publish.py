"""Publishes prices, a thousand versions a second, for read.c and whoever else opens the page.

python publish.py [SECONDS [DIRECTORY]]
"""

import random
import sys
import time

import vdso

PERIOD_S = 0.001


@vdso.page
class Prices:
    bid: vdso.F64
    ask: vdso.F64
    size: vdso.U32
    venue: vdso.Str[16]
    depth: vdso.Array[vdso.F64, 10]


def main(seconds: float, directory: str | None) -> None:
    with vdso.publish("prices", Prices, directory=directory) as prices:
        print(f"publishing {prices.path}; read it with read.c, or: vdso watch prices", flush=True)
        bid, end = 100.0, time.monotonic() + seconds
        while time.monotonic() < end:
            bid += random.uniform(-0.01, 0.01)
            depth = [bid - 0.01 * level for level in range(10)]
            prices.update(bid=bid, ask=bid + 0.02, size=random.randrange(1, 500), venue="XETR", depth=depth)
            time.sleep(PERIOD_S)


if __name__ == "__main__":
    words = dict(enumerate(sys.argv))
    main(float(words.get(1, "inf")), words.get(2))
