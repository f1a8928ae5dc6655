"""peers_differ.py time_machine|freezegun|vdso: what each does its own way, in one line of JSON."""

import datetime
import json
import os
import sqlite3
import subprocess
import sys
import time

os.environ["TZ"] = "America/New_York"
time.tzset()
DATETIME = [datetime.datetime]  # in a list, where nobody looks for it
WORDS = [sys.executable, "-S", "-c", "import time; print(time.gmtime().tm_year)"]


def year():
    return datetime.datetime.now(datetime.UTC).year


if sys.argv[1] == "time_machine":
    import time_machine

    def frozen(when):
        return time_machine.travel(when, tick=False)

elif sys.argv[1] == "freezegun":
    from freezegun import freeze_time as frozen
else:
    from vdso import freeze as frozen

THIS_YEAR = year()


def attempt(action):
    """What it gives, or the error's name."""
    try:
        return action()
    except Exception as error:
        return type(error).__name__


def with_text(text):
    with frozen(text):
        return year()


def forked():
    pid = os.fork()
    if pid == 0:
        os._exit(year() - 2000)
    return 2000 + os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@frozen("2030-06-01T12:00:00Z")
def generator():
    yield year()
    yield year()


def decorated_class():
    @frozen("2030-06-01T12:00:00Z")
    class Plain:
        def method(self):
            return year()

    return Plain().method()


said = {}
with frozen("2030-06-01T12:00:00"):
    said["text without a zone, UTC hour"] = time.gmtime().tm_hour
with frozen(datetime.datetime(2030, 6, 1, 12)) as clock:
    said["datetime without a zone, UTC hour"] = time.gmtime().tm_hour
    said["datetime.now().hour in New York"] = datetime.datetime.now().hour
    first = time.monotonic()
    time.sleep(0.001)
    said["monotonic stands still"] = time.monotonic() == first
    said["types stay"] = type(datetime.datetime.now()) is DATETIME[0]
    said["SQLite"] = int(sqlite3.connect(":memory:").execute("select strftime('%Y', 'now')").fetchone()[0])
    said["fork"] = forked()
    said["subprocess"] = int(subprocess.run(WORDS, capture_output=True, check=True).stdout)
    said["clock() gives the time"] = callable(clock)
said["Jan 14th, 2030"] = attempt(lambda: with_text("Jan 14th, 2030"))
said["year 2500"] = attempt(lambda: with_text("2500-01-01T00:00:00Z"))
said["generator function"] = list(generator())
said["class that is no TestCase"] = attempt(decorated_class)
for name, value in said.items():
    said[name] = "this year" if value == THIS_YEAR else value
    if value == [THIS_YEAR] * 2:
        said[name] = "this year"
print(json.dumps(said))
