"""A server whose processes travel: the workers that were forked before keep their time."""

import signal
import socket
import sys
from pathlib import Path

from harness import Start, lacking, read_until

CONFIGURATION = """
import time
import vdso

workers = 1

def on_starting(server):
    with vdso.travel(0):  # so that the first worker is forked with the page in its place
        pass

def nworkers_changed(server, new_value, old_value):
    if old_value is not None:
        vdso.travel("2030-01-01").start()
"""
APPLICATION = """
import os
import time

def app(environ, start_response):
    start_response("200 OK", [])
    return [f"{os.getpid()} {time.gmtime().tm_year}".encode()]
"""


def ask(path: Path) -> tuple[int, int]:
    """The pid of the worker that answers, and the year that it is on."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(path))
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    pid, year = answer.rpartition(b"\r\n\r\n")[2].split()
    return int(pid), int(year)


def test_workers_forked_before_and_after(start: Start, tmp_path: Path) -> None:
    try:
        import gunicorn  # noqa: F401
    except ImportError:
        lacking("gunicorn is not installed")
    (tmp_path / "configuration.py").write_text(CONFIGURATION)
    (tmp_path / "application.py").write_text(APPLICATION)
    path = tmp_path / "socket"
    words = [sys.executable, "-m", "gunicorn", "-c", "configuration.py", "-b", f"unix:{path}"]
    server = start([*words, "application:app"], cwd=tmp_path)
    assert server.stderr is not None
    read_until(server.stderr.fileno(), r"Booting worker")
    first, year = ask(path)
    assert year < 2030
    server.send_signal(signal.SIGTTIN)
    years = {first: {year}}
    while len(years) < 2:
        pid, year = ask(path)
        years.setdefault(pid, set()).add(year)
    second = next(pid for pid in years if pid != first)
    assert years[second] == {2030}
    assert years[first] == {ask_of(path, first)}


def ask_of(path: Path, wanted: int) -> int:
    while True:
        pid, year = ask(path)
        if pid == wanted:
            return year
