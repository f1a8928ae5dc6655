"""In Python: this process at another time, and a record that another process reads."""

import sqlite3
import subprocess
import sys
import time
from datetime import datetime

import vdso
from vdso.errors import VdsoError

READS = 200_000
READER = f"""
import time, vdso
page = vdso.open("demo-quotes")
start = time.perf_counter_ns()
for _ in range({READS}): page.bid
print(page.bid, page.venue, round((time.perf_counter_ns() - start) / {READS}))
"""


@vdso.page
class Quote:
    bid: vdso.F64
    venue: vdso.Str[16]


def at_another_time() -> None:
    print('This process, inside of "with vdso.travel(...)"')
    database = sqlite3.connect(":memory:")
    try:
        with vdso.travel("2030-01-01T12:00:00Z"):
            now = database.execute("select datetime('now')").fetchone()[0]
            print(f"  datetime.now()                       {datetime.now():%Y-%m-%d %H:%M:%S}")
            print(f"  SQLite's datetime('now'), in C       {now}")
        start = time.perf_counter_ns()
        for _ in range(100):
            with vdso.travel("2030-01-01T12:00:00Z"):
                pass
        print(f"  entering and leaving                 {(time.perf_counter_ns() - start) / 1e5:.1f} us")
    except VdsoError as error:
        print(f"  not possible here: {error.message}")
    finally:
        database.close()
    print()


def a_record_for_others() -> None:
    print("A live page: one process publishes a record, another reads it")
    try:
        with vdso.publish("demo-quotes", Quote) as quotes:
            quotes.update(bid=99.5, venue="XPAR")
            done = subprocess.run(
                [sys.executable, "-c", READER], capture_output=True, text=True, timeout=20, check=True
            )
    except (VdsoError, OSError, subprocess.SubprocessError) as error:
        print(f"  not possible here: {error}")
    else:
        bid, venue, ns = done.stdout.split()
        print(f"  read there                           bid {bid}, venue {venue}")
        print(f"  a read of one field, from Python     {ns} ns")
    print()
