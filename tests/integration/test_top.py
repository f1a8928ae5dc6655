"""`vdso top` on a real terminal: what it shows, and that the terminal is as it was however it ends."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from harness import TIMEOUT_S, Start, Terminal, finish

from vdso.pages.publisher import remove

INTO, OUT_OF = "\x1b[?1049h", "\x1b[?1049l"
HIDDEN, SHOWN = "\x1b[?25l", "\x1b[?25h"
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
DRAWN = r"programs \d+"  # the last of what is drawn begins so


@dataclass
class Watched:
    """`vdso top`, on a terminal of its own. `text`: what it has written so far."""

    process: "subprocess.Popen[str]"
    fd: int
    before: list[Any]
    text: str = ""

    def screens(self) -> list[str]:
        """Each time that it was drawn, as letters; the last may be half of it."""
        return [CONTROL.sub("", one).replace("\r", "") for one in self.text.split("\x1b[H")[1:]]

    def expect(self, pattern: str, screens: int = 1) -> str:
        """Reads until what was drawn last matches, so many screens from the first at least."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            drawn = self.screens()
            if len(drawn) >= screens and re.search(pattern, drawn[-1]):
                return drawn[-1]
            ready, _, _ = select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"nothing like {pattern!r} in {drawn[-1:]}"
            self.text += os.read(self.fd, 65536).decode()

    def ended(self) -> str:
        """All that it wrote, to its end. The terminal is as it was before."""
        fcntl.fcntl(self.fd, fcntl.F_SETFL, os.O_NONBLOCK)
        with contextlib.suppress(OSError):
            while select.select([self.fd], [], [], 0.05)[0] or self.process.poll() is None:
                with contextlib.suppress(BlockingIOError):
                    self.text += os.read(self.fd, 65536).decode()
        self.process.wait(TIMEOUT_S)
        assert termios.tcgetattr(self.fd) == self.before
        return self.text


Watch = Callable[..., Watched]


@pytest.fixture
def watch(vdso: str, start: Start) -> Iterator[Watch]:
    """watch(*options, columns=80, words=the command): drawn once already."""
    opened: list[int] = []

    def begin(
        *options: str, columns: int = 80, lines: int = 24, words: list[str] | None = None, term: str = "xterm"
    ) -> Watched:
        fd, inner = pty.openpty()
        opened.extend((fd, inner))
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        before = termios.tcgetattr(fd)
        process = start(
            [*(words or [vdso, "top"]), *options],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env={**os.environ, "TERM": term},
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        return Watched(process, fd, before)

    yield begin
    for fd in opened:
        with contextlib.suppress(OSError):
            os.close(fd)


def assert_given_back(text: str) -> None:
    """The last word on each is that it is as usual."""
    assert text.rindex(OUT_OF) > text.rindex(INTO)
    assert text.rindex(SHOWN) > text.rindex(HIDDEN)
    assert "Traceback" not in text


# ---- every way out ----


@pytest.mark.parametrize("key", ["q", "Q", "\x03"])
def test_a_key(watch: Watch, key: str) -> None:
    top = watch()
    top.expect(DRAWN)
    now = termios.tcgetattr(top.fd)
    assert not now[3] & (termios.ICANON | termios.ECHO)
    os.write(top.fd, key.encode())
    out = top.ended()
    assert top.process.returncode == 0
    assert_given_back(out)


@pytest.mark.parametrize(
    "number",
    [
        *(signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT),
        *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGABRT, signal.SIGXCPU, signal.SIGRTMAX),
    ],
)
def test_a_signal(watch: Watch, number: signal.Signals) -> None:
    top = watch()
    top.expect(DRAWN)
    top.process.send_signal(number)
    out = top.ended()
    assert top.process.returncode == (0 if number == signal.SIGINT else -number)
    assert_given_back(out)


def test_something_inside_fails(watch: Watch) -> None:
    script = (
        "from vdso.commands import top; from vdso.measure.top import Top; look = Top.look; seen = []\n"
        "def fail(self):\n"
        "    if seen: raise ZeroDivisionError('of the test')\n"
        "    seen.append(1); return look(self)\n"
        "Top.look = fail; top.main([])"
    )
    top = watch(words=[sys.executable, "-c", script])
    out = top.ended()
    assert top.process.returncode == 1
    assert out.rindex(OUT_OF) > out.rindex(INTO)
    assert out.rindex(SHOWN) > out.rindex(HIDDEN)
    # What went wrong is told on the terminal that is there again.
    assert out.index("ZeroDivisionError: of the test") > out.rindex(OUT_OF)


def test_stopped_and_going_on(terminal: Terminal, vdso: str) -> None:
    before = termios.tcgetattr(terminal.fd)
    terminal.type(f"'{vdso}' top\n")
    out = terminal.expect(DRAWN)
    terminal.type("\x1a")
    out += terminal.expect(terminal.PROMPT)
    assert "Stopped" in out
    assert_given_back(out)
    assert termios.tcgetattr(terminal.fd) == before
    terminal.type("fg\n")
    out = terminal.expect(DRAWN)
    assert INTO in out
    assert not termios.tcgetattr(terminal.fd)[3] & termios.ICANON
    terminal.type("q")
    out += terminal.expect(terminal.PROMPT)
    assert_given_back(out)
    assert termios.tcgetattr(terminal.fd) == before
    assert terminal.command("echo $?").strip() == "0"


def test_the_terminal_goes(watch: Watch) -> None:
    top = watch()
    top.expect(DRAWN)
    os.close(top.fd)
    assert top.process.wait(TIMEOUT_S) in (-signal.SIGHUP, 1)


def test_the_terminal_goes_and_nobody_says_so(watch: Watch) -> None:
    top = watch(words=["sh", "-c", f"trap '' HUP; exec '{Path(sys.executable).parent}/vdso' top -d 0.05"])
    top.expect(DRAWN)
    os.close(top.fd)
    assert top.process.wait(TIMEOUT_S) in (0, 1)


# ---- what it shows ----


def test_sessions_and_programs(watch: Watch, start: Start, vdso: str) -> None:
    name = f"top-{os.getpid()}"
    program = start([vdso, "run", "--session", name, "--offset", "+1000d", "--freeze", "--", "cat"])
    assert program.stdin is not None
    assert program.stdout is not None
    program.stdin.write("up\n")
    program.stdin.flush()
    assert program.stdout.readline() == "up\n"
    top = watch("-d", "0.1", columns=120, lines=60)
    shown = top.expect(rf"cat +{name} +not counted")
    assert re.search(rf"{name} +20[^\n]* frozen +1\b", shown)
    assert re.search(r"kernel's page: \d+ updates/s, sequence \d+, mode \w+", shown)
    program.stdin.close()
    program.wait(TIMEOUT_S)
    top.expect(rf"^((?!{name}).|\n)*programs \d+\b((?!{name}).|\n)*$", len(top.screens()) + 2)


def test_who_is_counted(vdso: str, start: Start) -> None:
    """By the counts that `vdso stat` keeps, from outside: two looks differ by what the program did."""
    script = (
        "import sys, time\n"
        "for line in sys.stdin:\n"
        "    [time.time() for _ in range(int(line))]\n"
        "    print(flush=True)"
    )
    counting = start([vdso, "stat", "--", sys.executable, "-c", script])
    watching = start([vdso, "top", "-d", "0.05", "-n", "1000000", "--json"])
    assert counting.stdin is not None
    assert counting.stdout is not None
    assert watching.stdout is not None

    def reads(count: int) -> None:
        assert counting.stdin is not None
        assert counting.stdout is not None
        counting.stdin.write(f"{count}\n")
        counting.stdin.flush()
        assert counting.stdout.readline() == "\n"

    def look() -> dict[str, Any]:
        """The program's line, of a look that was begun later than now."""
        assert watching.stdout is not None
        now_ns = time.time_ns()
        for line in watching.stdout:
            found = json.loads(line)
            mine = [one for one in found["programs"] if one["pid"] in children(counting.pid)]
            if found["taken_ns"] > now_ns and mine:
                return mine[0] | {"seconds": found["seconds"]}
        raise AssertionError("it has ended")

    reads(1)
    before = look()
    assert before["counted"]
    reads(50_000)
    after = look()
    assert after["calls"] - before["calls"] == pytest.approx(50_000, abs=50)
    reads(0)
    assert look()["calls_per_s"] < 10_000


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_versions_of_a_live_page(watch: Watch, start: Start) -> None:
    name = f"top-{os.getpid()}"
    script = (
        "import time, vdso\n"
        "Page = vdso.page(type('Page', (), {'__annotations__': {'n': vdso.U64}}))\n"
        f"with vdso.publish('{name}', Page) as page:\n"
        "    for n in range(10 ** 9): page.update(n=n); time.sleep(0.002)"
    )
    publisher = start([sys.executable, "-c", script])
    top = watch("-d", "0.2", columns=120, lines=60)
    try:
        top.expect(rf"{name} .* [1-9]\d\d? *\n")
    finally:
        publisher.kill()
        publisher.wait(TIMEOUT_S)
        remove(name)


@pytest.mark.parametrize("columns", [20, 40, 200])
def test_as_wide_and_high_as_the_terminal(watch: Watch, start: Start, vdso: str, columns: int) -> None:
    start([vdso, "run", "--session", "a-session-with-quite-a-long-name", "--", "sleep", "100"])
    top = watch("-d", "0.1", columns=columns, lines=12)
    top.expect("sessions [1-9]", 3)
    for screen in top.screens()[:-1]:
        lines = screen.split("\n")
        assert max(map(len, lines)) <= columns
        assert len(lines) <= 12


def test_another_size(watch: Watch) -> None:
    top = watch("-d", "100", columns=80)
    top.expect(DRAWN, 2)
    fcntl.ioctl(top.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 10, 20, 0, 0))
    top.process.send_signal(signal.SIGWINCH)
    shown = top.expect("sessions", 3)
    assert max(map(len, shown.split("\n"))) <= 20


# ---- off a terminal ----


def test_in_a_pipe_it_looks_once(vdso: str) -> None:
    done = finish([vdso, "top", "-d", "0.1"])
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert re.search(r"kernel's page: \d+ updates/s", done.stdout)
    assert re.search(r"^sessions \d+$", done.stdout, re.MULTILINE)


def test_json(vdso: str) -> None:
    done = finish([vdso, "top", "-d", "0.2", "-n", "2", "--json"])
    assert (done.returncode, done.stderr) == (0, "")
    looks = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(looks) == 2
    for look in looks:
        assert look["seconds"] >= 0.19
        assert set(look) >= {"kernel", "sessions", "pages", "programs", "mode"}
    assert looks[1]["kernel"]["updates"] > 0
    assert looks[1]["kernel"]["sequence"] > looks[0]["kernel"]["sequence"]


def test_once_on_a_terminal_it_stays_there(watch: Watch) -> None:
    top = watch("--once", "-d", "0.1")
    out = top.ended()
    assert top.process.returncode == 0
    assert INTO not in out
    assert re.search(DRAWN, out)


def test_on_a_terminal_that_can_do_nothing_it_looks_once(watch: Watch) -> None:
    top = watch("-d", "0.1", term="dumb")
    assert "\x1b" not in top.ended()
    assert top.process.returncode == 0
    assert re.search(DRAWN, top.text)


def test_nobody_reads_it(vdso: str) -> None:
    read, write = os.pipe()
    os.close(read)
    done = finish([vdso, "top", "-d", "0.1", "-n", "3"], stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    "words", [["-d", "0"], ["-d", "x"], ["-d", "nan"], ["-n", "0"], ["-n", "x"], ["here"]]
)
def test_what_cannot_be_meant(vdso: str, words: list[str]) -> None:
    done = finish([vdso, "top", *words])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("vdso: ")
