"""`vdso attach` and `vdso detach`: what processes read then, and that they go on as if nothing had been."""

import contextlib
import ctypes
import json
import os
import random
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import (
    OFFSET,
    OFFSET_S,
    SOURCES,
    TIMEOUT_S,
    Programs,
    Start,
    finish,
    host_clocks,
    parse_reading,
    want,
    without_time,
)

from vdso import _core
from vdso.errors import AlreadyAttached, NotAttached
from vdso.swap import attach as attaching
from vdso.swap.run import COUNTING_IMAGE

HOST = 0
PATIENCE = ["--timeout", "20"]  # a shared machine may keep a thread from stopping


@pytest.fixture
def start(start: Start) -> Start:
    """What cannot set the host's clock, and so is attached without being followed."""
    return lambda words, **more: start([*without_time(), *words], **more)


@pytest.fixture
def attach(vdso: str) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    def run(pid: int, *options: str, prefix: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
        given = ("--no-follow", *(options or ("--offset", OFFSET)), *PATIENCE)
        return finish([*prefix, vdso, "attach", str(pid), *given])

    return run


@pytest.fixture
def detach(vdso: str) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    def run(pid: int, *, prefix: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
        return finish([*prefix, vdso, "detach", str(pid), *PATIENCE])

    return run


Attach = Callable[..., "subprocess.CompletedProcess[str]"]


def line_of(process: "subprocess.Popen[str]") -> str:
    """The next line that it prints."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], TIMEOUT_S)
    assert ready, "says nothing"
    line: str = process.stdout.readline()
    assert line, f"ended with status {process.wait()}"
    return line


def ask(process: "subprocess.Popen[str]", what: str = "") -> str:
    assert process.stdin is not None
    process.stdin.write(what + "\n")
    process.stdin.flush()
    return line_of(process)


def assert_reads(process: "subprocess.Popen[str]", by_s: float, what: str = "") -> None:
    """What it prints when asked is the host's time, moved by that much."""
    before = host_clocks()
    line = ask(process, what)
    words = line.split()
    text = "".join(f"{words[i]} {words[i + 1]}\n" for i in range(0, len(words), 2))
    reading = parse_reading(text, before, host_clocks())
    for name, value in reading.lines:
        if name == "wall":
            assert round(reading.off(name, value) / 3600) * 3600 == by_s, line


def assert_done(done: "subprocess.CompletedProcess[str]", word: str) -> None:
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(rf"{word} \S+ \(pid \d+\); it stood still for [\d.]+ ms\n", done.stdout)


# ---- programs ----

TICKING: dict[str, Callable[[Programs], list[str | Path]]] = {
    "glibc": lambda programs: [programs.c("ticking")],
    "glibc-static": lambda programs: [programs.static("ticking")],
    "musl": lambda programs: [programs.musl("ticking")],
    "musl-static": lambda programs: [programs.musl("ticking", static=True)],
    "python": lambda programs: [sys.executable, programs.script("ticking.py")],
    "node": lambda _: [want("node", "nodejs"), "-e", NODE],
    "java": lambda programs: [*programs.java("Ticking")],
}

NODE = r"""
console.log("ready");
require("readline").createInterface({ input: process.stdin }).on("line", () =>
  console.log("wall " + Date.now() / 1000 + " monotonic " + Number(process.hrtime.bigint()) / 1e9));
setInterval(() => Date.now(), 1);
"""


@pytest.mark.parametrize("name", TICKING)
def test_a_program(name: str, programs: Programs, start: Start, attach: Attach, detach: Attach) -> None:
    process = start(TICKING[name](programs))
    assert line_of(process) == "ready\n"
    assert_reads(process, HOST)
    for _ in range(3):
        assert_done(attach(process.pid), "attached")
        assert_reads(process, OFFSET_S)
        assert_done(detach(process.pid), "detached")
        assert_reads(process, HOST)
    assert_done(attach(process.pid, "--offset", "-1000d"), "attached")
    assert_reads(process, -OFFSET_S)
    detach(process.pid)
    assert_done(attach(process.pid, "--at", "@999993600"), "attached")
    assert 999_993_600 <= float(ask(process).split()[1]) < 999_993_600 + TIMEOUT_S
    assert process.poll() is None


def test_children(programs: Programs, start: Start, attach: Attach, detach: Attach) -> None:
    """What it forks is attached with it, and can be detached alone; what it execs is the kernel's again."""
    process = start([programs.c("ticking")])
    line_of(process)
    attach(process.pid)
    assert_reads(process, OFFSET_S, "fork")
    assert_reads(process, HOST, "exec")
    assert_reads(process, OFFSET_S)
    assert_done(detach(process.pid), "detached")
    assert_reads(process, HOST, "fork")


def test_a_child_is_detached_alone(start: Start) -> None:
    parent = start([sys.executable, "-c", FORKING])
    child = int(line_of(parent))
    page = attaching.clock_page(OFFSET_S * 10**9)
    with pytest.raises(NotAttached):
        attaching.detach(child)
    attaching.attach(parent.pid, page.reader_fd, timeout_s=20)
    assert_reads(parent, OFFSET_S, "parent")
    assert_reads(parent, HOST, "child")
    second = int(ask(parent, "fork"))
    assert_reads(parent, OFFSET_S, "child")
    attaching.detach(second, timeout_s=20)
    assert_reads(parent, OFFSET_S, "parent")
    assert_reads(parent, HOST, "child")


FORKING = r"""
import os, sys, time

def child():
    down, up = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(down[1])
        while os.read(down[0], 1):
            os.write(up[1], b"wall %r\n" % time.time())
        os._exit(0)
    return pid, down[1], up[0]

pid, down, up = child()
print(pid, flush=True)
for line in sys.stdin:
    if line == "fork\n":
        pid, down, up = child()
        print(pid, flush=True)
    elif line == "child\n":
        os.write(down, b"x")
        print(os.read(up, 99).decode(), end="", flush=True)
    else:
        print("wall", time.time(), flush=True)
"""


def test_nobody_else_sees_the_jumps(programs: Programs, start: Start, attach: Attach, detach: Attach) -> None:
    """The vDSO's pages are the kernel's own memory, the same in every process: a write makes a copy."""
    one, other = start([programs.c("ticking")]), start([programs.c("ticking")])
    assert line_of(one) == line_of(other)
    before = ask(one, "sum")
    assert ask(other, "sum") == before
    attach(one.pid)
    assert ask(one, "sum") != before
    assert ask(other, "sum") == before
    assert_reads(other, HOST)
    detach(one.pid)
    assert ask(one, "sum") == before


@pytest.mark.usefixtures("as_root")
def test_in_a_chroot(programs: Programs, start: Start, attach: Attach, detach: Attach) -> None:
    """And in namespaces of its own: nothing reaches it by a path, a name or a number."""
    script = 'mount -t tmpfs none "$1" && cp "$2" "$1/program" && exec chroot "$1" /program'
    root = programs.directory / "root"
    root.mkdir(exist_ok=True)
    words = ["unshare", "-m", "-p", "-n", "-i", "-u", "-f", "sh", "-c", script, "sh", root]
    outer = start([*words, programs.static("ticking")])
    line_of(outer)
    [pid] = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text(encoding="ascii").split()
    assert_done(attach(int(pid)), "attached")
    assert_reads(outer, OFFSET_S)
    assert_done(detach(int(pid)), "detached")
    assert_reads(outer, HOST)


def refusing(what: str) -> tuple[str, ...]:
    return (sys.executable, str(SOURCES / "refusing.py"), what)


def test_where_no_descriptor_can_be_taken(
    programs: Programs, start: Start, attach: Attach, detach: Attach
) -> None:
    """In a container, or before Linux 5.6: the process connects to a name of ours then."""
    process = start([programs.c("ticking")])
    line_of(process)
    for _ in range(2):
        assert_done(attach(process.pid, prefix=refusing("getfd")), "attached")
        assert_reads(process, OFFSET_S)
        assert_done(detach(process.pid, prefix=refusing("getfd")), "detached")
        assert_reads(process, HOST)
    assert len(os.listdir(f"/proc/{process.pid}/fd")) == 3


def test_where_ptrace_is_refused(programs: Programs, start: Start, attach: Attach) -> None:
    process = start([programs.c("ticking")])
    line_of(process)
    done = attach(process.pid, prefix=refusing("ptrace"))
    assert_refused(done, 120, "ptrace is refused here, also of a child of our own: .*")


@pytest.mark.parametrize("scope", ["2", "3"])
def test_where_yama_lets_nobody_trace(scope: str, programs: Programs, start: Start, tmp_path: Path) -> None:
    """Nor a child of one's own: no container is to blame. By a file in the place of Yama's own."""
    process = start([programs.c("ticking")])
    line_of(process)
    said = tmp_path / "ptrace_scope"
    said.write_text(scope + "\n", encoding="ascii")
    program = (
        "import sys; from vdso.swap import process, refusal; process.YAMA_SCOPE = sys.argv[1]; "
        "refusal.has_capability = lambda number: False; "
        "from vdso.cli import main; sys.exit(main(sys.argv[2:]))"
    )
    words = ["attach", str(process.pid), "--offset", OFFSET]
    done = finish([*refusing("ptrace"), sys.executable, "-c", program, str(said), *words])
    assert_refused(done, 120, rf"Yama lets nobody .*\(kernel.yama.ptrace_scope is {scope}\)")


def test_of_an_unprivileged_user(
    programs: Programs, start: Start, attach: Attach, detach: Attach, unprivileged: list[str]
) -> None:
    process = start([*unprivileged, programs.c("ticking")])
    line_of(process)
    assert_done(attach(process.pid, prefix=tuple(unprivileged)), "attached")
    assert_reads(process, OFFSET_S)
    assert_done(detach(process.pid, prefix=tuple(unprivileged)), "detached")


def test_itself(start: Start) -> None:
    """A Python process that attaches itself, and detaches."""
    process = start([sys.executable, "-c", ITSELF])
    for by_s in (HOST, OFFSET_S, HOST):
        assert_reads(process, by_s)


ITSELF = f"""
import os, sys, threading, time
from vdso.swap.attach import attach, clock_page, detach

threading.Thread(target=lambda: [time.time() for _ in iter(int, 1)], daemon=True).start()

def tell():
    sys.stdin.readline()
    print("wall", time.time(), flush=True)

page = clock_page({OFFSET_S} * 10**9)
tell()
attach(os.getpid(), page.reader_fd, timeout_s=20)
tell()
detach(os.getpid(), timeout_s=20)
tell()
"""


# ---- in the middle of something ----


def rounds(pid: int, count: int) -> None:
    for _ in range(count):
        page = attaching.clock_page(OFFSET_S * 10**9)
        attaching.attach(pid, page.reader_fd, timeout_s=20)
        attaching.detach(pid, timeout_s=20)


def run_readers(programs: Programs, start: Start, count: int, *more: str) -> None:
    process = start([programs.c("readers"), "8", str(OFFSET_S), *more])
    assert line_of(process) == "ready\n"
    mappings = Path(f"/proc/{process.pid}/maps")
    rounds(process.pid, 2)
    before = len(mappings.read_text(encoding="utf-8").splitlines())
    rounds(process.pid, count)
    after = len(mappings.read_text(encoding="utf-8").splitlines())
    assert process.stdin is not None
    process.stdin.close()
    readings, moved, wrong, back, image, auxv = map(int, line_of(process).split())
    assert process.wait(TIMEOUT_S) == 0
    assert (wrong, back, image, auxv) == (0, 0, 1, 1)
    assert readings > moved > 0
    # Pages are used again, but for those whose version happens to be the new page's as well.
    assert after - before <= 8 * 4


@pytest.mark.parametrize("more", [(), ("profiled",)])
def test_eight_threads(programs: Programs, start: Start, more: tuple[str, ...]) -> None:
    """Reading the clocks flat out, and the same under a SIGPROF whose handler does so too."""
    run_readers(programs, start, 50, *more)


@pytest.mark.soak
@pytest.mark.parametrize("more", [(), ("profiled",)])
def test_eight_threads_for_long(programs: Programs, start: Start, more: tuple[str, ...]) -> None:
    run_readers(programs, start, 500, *more)


def test_calls_that_wait(programs: Programs, start: Start) -> None:
    """None ends early, late, or with EINTR, but for the one that a handler ends."""
    process = start([programs.c("waits")])
    line_of(process)
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        rounds(process.pid, 1)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    found = {}
    for line in process.stdout:
        name, *numbers = line.split()
        found[name] = [int(number) for number in numbers]
    timed = {"nanosleep", "clock_nanosleep", "poll", "ppoll", "select"}
    assert len(found) == 15
    for name, (result, error, elapsed_ms) in found.items():
        if name in timed:
            assert (result, error) == (0, 0), name
            assert elapsed_ms >= 2000, name
        elif name == "pause":
            assert (result, error) == (-1, 4)
        else:
            assert (result >= 0, error) == (True, 0), name


@pytest.mark.parametrize("how", ["thread", "frame", "aside", "nested"])
def test_standing_at_a_jump(
    how: str, programs: Programs, start: Start, attach: Attach, detach: Attach
) -> None:
    """It goes on where the jump came from: where the long ones stand, between functions, nothing is left."""
    process = start([programs.c("standing"), how])
    child = int(line_of(process))
    assert_done(attach(child), "attached")
    assert int(ask(process), 16) > 0, "it has not come to a jump"
    assert_done(detach(child), "detached")
    assert ask(process) == "rightly\n"


def test_a_stopped_process(programs: Programs, start: Start, attach: Attach) -> None:
    """It stays stopped."""
    process = start([programs.c("ticking")])
    line_of(process)
    os.kill(process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    assert_done(attach(process.pid), "attached")
    assert "State:\tT (stopped)" in Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    os.kill(process.pid, signal.SIGCONT)
    assert_reads(process, OFFSET_S)


def kill_at(seed: int, pid: int, page: "_core.ClockPage", counts: "_core.Counts | None") -> None:
    """Starts an attach or detach and kills it: after up to 5 ms, or up to 0.5 ms after it has taken hold."""
    chance = random.Random(seed)
    image = os.open(attaching.IMAGE if counts is None else COUNTING_IMAGE, os.O_RDONLY)
    counting = [] if counts is None else ["--counts", str(counts.fd)]
    if seed % 4:
        words = ["attach", str(pid), "--clock", str(page.reader_fd), "--image", str(image), *counting]
    else:
        words = ["detach", str(pid)]
    helper = subprocess.Popen(
        [attaching.HELPER, *words, "--timeout-ms", "0"],
        pass_fds=(page.reader_fd, image, *([] if counts is None else [counts.fd])),
        stdout=subprocess.DEVNULL,
    )
    if seed % 2:
        with open(f"/proc/{pid}/status", encoding="ascii") as status:
            while "TracerPid:\t0\n" in status.read() and helper.poll() is None:
                status.seek(0)
    end = time.perf_counter() + chance.random() * (0.0005 if seed % 2 else 0.005)
    while time.perf_counter() < end:
        pass
    helper.kill()
    helper.wait()
    os.close(image)


def run_kills(programs: Programs, start: Start, count: int, *, counting: bool = False) -> None:
    process = start([programs.c("readers"), "2", str(OFFSET_S)])
    line_of(process)
    for seed in range(count):
        # Another page each time, so that there is something to be mapped.
        page = attaching.clock_page(OFFSET_S * 10**9)
        counts = _core.Counts() if counting else None
        kill_at(seed, process.pid, page, counts)
        assert process.poll() is None
        if seed % 4 == 3:
            with contextlib.suppress(NotAttached):
                attaching.detach(process.pid, timeout_s=20)
    # Whatever the last one has left is soon no longer needed.
    for _ in range(2):
        with contextlib.suppress(AlreadyAttached):
            fd = -1 if counts is None else counts.fd
            attaching.attach(process.pid, page.reader_fd, counts_fd=fd, timeout_s=20)
        attaching.detach(process.pid, timeout_s=20)
    assert process.stdin is not None
    process.stdin.close()
    readings, moved, wrong, back, image, auxv = map(int, line_of(process).split())
    assert process.wait(TIMEOUT_S) == 0
    assert readings > moved
    assert (wrong, back, image, auxv) == (0, 0, 1, 1)


def test_the_attacher_is_killed(programs: Programs, start: Start) -> None:
    """At any moment: the process runs on, attached or not, and reads rightly."""
    run_kills(programs, start, 300)


def test_who_has_it_count_is_killed(programs: Programs, start: Start) -> None:
    run_kills(programs, start, 150, counting=True)


@pytest.mark.soak
def test_the_attacher_is_killed_for_long(programs: Programs, start: Start) -> None:
    run_kills(programs, start, 5000)
    run_kills(programs, start, 5000, counting=True)


# ---- refused ----


def assert_refused(done: "subprocess.CompletedProcess[str]", code: int, pattern: str) -> None:
    """One line and a hint, or one without."""
    assert re.match(rf"vdso: {pattern}\n", done.stderr), done.stderr
    assert (done.returncode, done.stdout) == (code, "")
    assert len(done.stderr.splitlines()) <= 2


def test_no_such_process(attach: Attach, detach: Attach) -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    for run in (attach, detach):
        assert_refused(run(gone.pid), 118, f"there is no process {gone.pid}")


@pytest.mark.parametrize("word", ["0", "-1", "1.5", "x", "", "99999999999"])
def test_no_process_id(vdso: str, word: str) -> None:
    assert finish([vdso, "detach", "--", word]).returncode == 2
    assert finish([vdso, "attach", "--offset", "1d", "--", word]).returncode == 2


@pytest.mark.parametrize(
    "options", [[], ["--offset", "1d", "--at", "@5"], ["--offset", "soon"], ["--at", "x"]]
)
def test_no_such_time(vdso: str, options: list[str]) -> None:
    assert finish([vdso, "attach", str(os.getpid()), *options]).returncode == 2


@pytest.mark.usefixtures("as_root")
def test_a_kernel_thread(attach: Attach) -> None:
    kernel = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it may have ended
            fields = Path(f"/proc/{name}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
            if int(fields[6]) & 0x200000:
                kernel.append(int(name))
    if not kernel:
        pytest.skip("there are none in this PID namespace")
    assert_refused(attach(kernel[0]), 121, rf"process {kernel[0]} \(.*\) is a thread of the kernel")


def test_a_zombie(programs: Programs, start: Start, attach: Attach) -> None:
    child = int(line_of(start([programs.c("odd"), "zombie"])).split()[1])
    assert_refused(attach(child), 121, rf"process {child} \(odd\) has ended, and waits for its parent .*")


def test_a_thread(programs: Programs, start: Start, attach: Attach) -> None:
    process = start([programs.c("readers"), "1", "0"])
    line_of(process)
    [other] = {int(tid) for tid in os.listdir(f"/proc/{process.pid}/task")} - {process.pid}
    assert_refused(attach(other), 118, rf"{other} is a thread of process {process.pid} \(readers\)")


def test_without_its_leader(programs: Programs, start: Start, attach: Attach, detach: Attach) -> None:
    process = start([programs.c("odd"), "leader"])
    line_of(process)
    assert_reads(process, HOST)
    assert_done(attach(process.pid), "attached")
    assert_reads(process, OFFSET_S)
    assert_done(detach(process.pid), "detached")
    assert_reads(process, HOST)


def test_traced_already(programs: Programs, start: Start, attach: Attach, detach: Attach) -> None:
    process = start([programs.c("ticking")])
    line_of(process)
    tracer = start([want("strace", "strace"), "-p", str(process.pid)])
    assert tracer.stderr is not None
    assert "attached" in tracer.stderr.readline()
    for run in (attach, detach):
        assert_refused(
            run(process.pid),
            121,
            rf"process {process.pid} \(ticking\) is being traced, by {tracer.pid} \(strace\)",
        )


def test_run_by_vdso_run(vdso: str, programs: Programs, start: Start, attach: Attach, detach: Attach) -> None:
    process = start([vdso, "run", "--offset", OFFSET, "--", programs.c("ticking")])
    line_of(process)
    for run in (attach, detach):
        assert_refused(run(process.pid), 123, r"process \d+ \(ticking\) was started by `vdso run`, .*")
    assert_reads(process, OFFSET_S)


def test_twice(programs: Programs, start: Start, attach: Attach, detach: Attach) -> None:
    process = start([programs.c("ticking")])
    line_of(process)
    assert_refused(
        detach(process.pid), 122, r"process \d+ \(ticking\) is on the host's clock: it is not attached"
    )
    attach(process.pid)
    assert_refused(attach(process.pid), 123, r"process \d+ \(ticking\) is attached already")
    detach(process.pid)
    assert_refused(
        detach(process.pid), 122, r"process \d+ \(ticking\) is on the host's clock: it is not attached"
    )


def test_a_32_bit_program(programs: Programs, start: Start, attach: Attach) -> None:
    """One that waits for its reader before it can end."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x")
    os.set_blocking(writer, True)
    process = start([programs.i386("legacy")], stdout=writer)
    os.close(writer)
    try:
        assert_refused(attach(process.pid), 121, r"process \d+ \(legacy-i386\) is a 32-bit program")
    finally:
        os.close(reader)


@pytest.mark.usefixtures("as_root")
def test_another_users(programs: Programs, start: Start, attach: Attach, unprivileged: list[str]) -> None:
    process = start([programs.c("ticking")])
    line_of(process)
    assert_refused(
        attach(process.pid, prefix=tuple(unprivileged)),
        120,
        rf"process {process.pid} \(ticking\) is another user's \(root\)",
    )


@pytest.mark.usefixtures("as_root")
def test_a_seccomp_filter(programs: Programs, start: Start, attach: Attach, unprivileged: list[str]) -> None:
    """Where it cannot be suspended nothing is risked; root suspends it."""
    process = start([*unprivileged, programs.c("odd"), "seccomp"])
    assert line_of(process) == "ready\n"
    assert_refused(
        attach(process.pid, prefix=tuple(unprivileged)), 119, r"process \d+ \(odd\) has a seccomp filter, .*"
    )
    assert_reads(process, HOST)
    assert_done(attach(process.pid), "attached")
    assert_reads(process, OFFSET_S)


def test_sealed(programs: Programs, start: Start, attach: Attach, detach: Attach) -> None:
    """A debugger's way of writing is not what a seal is against."""
    process = start([programs.c("odd"), "sealed"])
    said = line_of(process)
    assert said in ("ready\n", os.strerror(38) + "\n")
    assert_done(attach(process.pid), "attached")
    assert_reads(process, OFFSET_S)
    assert_done(detach(process.pid), "detached")
    assert_reads(process, HOST)


@pytest.mark.parametrize("how", ["vfork", "clone"])
def test_a_shared_address_space(how: str, vdso: str, programs: Programs, start: Start) -> None:
    """Refused in one line, or done once the other has gone."""
    process = start([programs.c("odd"), how])
    line_of(process)
    words = [vdso, "attach", str(process.pid), "--offset", OFFSET, "--no-follow"]
    done = finish([*words, "--timeout", "0.2"])
    assert_refused(
        done, 124, rf"process {process.pid} \(odd\) shares its address space with process \d+ \(odd\)"
    )
    waiting = start([*words, "--timeout", "20", "--json"])
    # Whichever comes first: it has tried, or has yet to begin.
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    out, err = waiting.communicate(timeout=TIMEOUT_S)
    assert (waiting.returncode, err) == (0, "")
    assert json.loads(out)["pid"] == process.pid
    assert_reads(process, OFFSET_S)


def test_changed_by_somebody_else(programs: Programs, start: Start, attach: Attach) -> None:
    """Another tool's jump is not written over."""
    process = start([programs.c("ticking")])
    line_of(process)
    maps = Path(f"/proc/{process.pid}/maps").read_text(encoding="utf-8")
    found = re.search(r"^(\w+)-\w+ .*\[vdso\]$", maps, re.MULTILINE)
    assert found is not None
    image = int(found[1], 16)
    ptrace = ctypes.CDLL(None).ptrace
    assert ptrace(16, process.pid, 0, 0) == 0  # PTRACE_ATTACH: newer kernels let nobody else write there
    os.waitpid(process.pid, os.WUNTRACED)
    # In what unwinding reads, and nothing else.
    with open(f"/proc/{process.pid}/mem", "r+b", buffering=0) as memory:
        memory.seek(image + 0x600)
        byte = memory.read(1)
        memory.seek(image + 0x600)
        memory.write(bytes([byte[0] ^ 0xFF]))
    assert ptrace(17, process.pid, 0, 0) == 0  # PTRACE_DETACH
    assert_refused(attach(process.pid), 121, r"somebody else has changed the vDSO of process \d+ \(ticking\)")
    assert_reads(process, HOST)


# ---- instructions ----


def own_image() -> bytes:
    """The kernel's image as this process has it."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8")
    found = re.search(r"^(\w+)-(\w+) .*\[vdso\]$", maps, re.MULTILINE)
    assert found is not None
    first, end = int(found[1], 16), int(found[2], 16)
    with open("/proc/self/mem", "rb", buffering=0) as memory:
        memory.seek(first)
        return memory.read(end - first)


@pytest.mark.parametrize("what", ["vdso", "libc"])
def test_lengths_are_as_a_disassembler_has_them(what: str, programs: Programs, tmp_path: Path) -> None:
    """Of every instruction in the kernel's image, and of the C library's, as far as they are known."""
    import io

    import capstone
    from elftools.elf.elffile import ELFFile

    if what == "vdso":
        data = own_image()
    else:
        [path] = {
            line.split()[-1]
            for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
            if "/libc.so" in line
        }
        data = Path(path).read_bytes()
    text = ELFFile(io.BytesIO(data)).get_section_by_name(".text")
    code = text.data()[: 1 << 19]
    # Where a disassembler finds its next one, whatever may stand between functions.
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    lengths = {at: size for at, size, _, _ in disassembler.disasm_lite(code, 0)}
    (tmp_path / "code").write_bytes(code)
    (tmp_path / "offsets").write_text("".join(f"{at}\n" for at in lengths), encoding="ascii")
    done = finish([programs.c("lengths"), tmp_path / "code", tmp_path / "offsets"])
    assert done.returncode == 0
    found = {at: length for at, length, _, _ in (map(int, line.split()) for line in done.stdout.splitlines())}
    assert len(found) == len(lengths) > 300
    wrong = {at: length for at, length in found.items() if length not in (0, lengths[at])}
    assert not wrong
    unknown = [at for at, length in found.items() if length == 0]
    assert len(unknown) <= (0 if what == "vdso" else len(found) // 1000)
