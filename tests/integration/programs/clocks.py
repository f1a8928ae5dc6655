"""Prints what each of Python's ways of reading a clock says, from threads and from the main one."""

import datetime
import threading
import time

lines = []


def read():
    lines.append(f"wall {time.time()}")
    lines.append(f"wall {time.time_ns() / 1e9}")
    lines.append(f"wall {datetime.datetime.now(datetime.UTC).timestamp()}")
    lines.append(f"wall {time.mktime(time.localtime())}")
    lines.append(f"wall {time.clock_gettime(time.CLOCK_REALTIME)}")
    lines.append(f"tai {time.clock_gettime(time.CLOCK_TAI)}")
    lines.append(f"monotonic {time.monotonic()}")
    lines.append(f"boottime {time.clock_gettime(time.CLOCK_BOOTTIME)}")


threads = [threading.Thread(target=read) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
# Waits that a moved MONOTONIC would make last for ever, or not at all.
threading.Event().wait(0.01)
read()
print("\n".join(lines))
