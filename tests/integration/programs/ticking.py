"""Prints the time for each line that it reads, while other threads read it too."""

import sys
import threading
import time


def read() -> None:
    while True:
        time.time()


for _ in range(4):
    threading.Thread(target=read, daemon=True).start()
print("ready", flush=True)
for _ in sys.stdin:
    print("wall", time.time(), "monotonic", time.monotonic(), flush=True)
