"""Pages between real processes: killed publishers, forked workers, other users, full and noexec places."""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from harness import SOURCES, TIMEOUT_S, Start, finish, lacking, want
from layouts import Flags

import vdso
from vdso import _core, errors

ROOT = Path(__file__).parents[2]


def python(script: str, *words: object) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(script), *map(str, words)]


# ---- Publishers that die ----


def killed(where: Path, count: int) -> dict[str, object]:
    done = finish([sys.executable, SOURCES / "kills.py", where, str(count)], timeout=60 + count)
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, object] = json.loads(done.stdout)
    return found


def assert_nobody_noticed(found: dict[str, object], count: int) -> None:
    assert found["kills"] == count
    assert found["in_the_middle"] >= count / 2  # type: ignore[operator]
    assert found["wrong"] == [0, 0, 0, 0]
    assert all(reads > 2 * count for reads in found["reads"])  # type: ignore[attr-defined]
    assert (found["stood_still"], found["missed"]) == (0, 0)


def test_a_hundred_publishers_killed(tmp_path: Path) -> None:
    found = killed(tmp_path, 100)
    assert_nobody_noticed(found, 100)
    # On a machine that does other things too, one may have to wait for a core.
    assert sorted(found["takeover_s"])[75] < 0.05  # type: ignore[call-overload]


@pytest.mark.soak
def test_a_thousand_publishers_killed(tmp_path: Path) -> None:
    found = killed(tmp_path, 1000)
    print(json.dumps({**found, "takeover_s": max(found["takeover_s"])}))  # type: ignore[call-overload]
    assert_nobody_noticed(found, 1000)
    assert max(found["takeover_s"]) < 0.05  # type: ignore[call-overload]


WORKERS = """
import os, sys, vdso
from vdso.errors import NotPublisher

@vdso.page
class Flags:
    dark: bool
    rate: float = 1.5
    label: vdso.Str[8] = "x"

publisher = vdso.publish("flags", Flags, directory=sys.argv[1], initial=Flags(False))
for _ in range(4):
    if os.fork() == 0:
        os.write(1, b"worker %d\\n" % os.getpid())
        os.read(0, 3)
        try:
            publisher.update(dark=True)
            os.write(1, b"published\\n")
        except NotPublisher:
            os.write(1, b"refused\\n")
        os._exit(0)
while True:
    os.wait()
"""


def test_workers_of_a_dead_publisher_hold_nothing(tmp_path: Path, start: Start) -> None:
    """As a gunicorn whose master is killed, and whose workers live on."""
    process = start(python(WORKERS, tmp_path))
    assert process.stdout is not None
    assert process.stdin is not None
    workers = [int(process.stdout.readline().removeprefix("worker ")) for _ in range(4)]
    reader = vdso.open("flags", directory=tmp_path)
    with pytest.raises(errors.WriterActive) as caught:
        vdso.publish("flags", Flags, directory=tmp_path)
    assert caught.value.pid == process.pid
    assert reader.publisher_alive
    os.kill(process.pid, signal.SIGKILL)
    process.wait(TIMEOUT_S)
    assert not reader.publisher_alive
    for worker in workers:
        os.kill(worker, 0)
    with vdso.publish("flags", Flags, directory=tmp_path) as publisher:
        publisher.update(dark=True)
        assert (reader.dark, reader.version) == (True, 2)
        assert reader.publisher_alive
        process.stdin.write("go\n" * 4)
        process.stdin.flush()
        assert [process.stdout.readline() for _ in range(4)] == ["refused\n"] * 4
        assert reader.version == 2


HEIR = """
import os, signal, sys, vdso

@vdso.page
class Flags:
    dark: bool
    rate: float = 1.5
    label: vdso.Str[8] = "x"

where, how = sys.argv[1:]
publisher = vdso.publish("flags", Flags, directory=where, initial=Flags(False))
before = os.getpid()
gone, living = os.pipe()
if os.fork() != 0:
    os.kill(before, signal.SIGKILL)
os.close(living)
os.read(gone, 1)
inherited = publisher
heir = publisher = vdso.publish("flags", Flags, directory=where)
if how == "closed":
    inherited.close()
del inherited
publisher.update(dark=True)
print(os.getpid(), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("how", ["closed", "forgotten"])
def test_a_worker_that_takes_over_keeps_the_name(tmp_path: Path, start: Start, how: str) -> None:
    """What it has inherited of the dead publisher goes, and takes none of its own locks along."""
    process = start(python(HEIR, tmp_path, how))
    assert process.stdout is not None
    heir = int(process.stdout.readline())
    with pytest.raises(errors.WriterActive) as caught:
        vdso.publish("flags", Flags, directory=tmp_path)
    assert caught.value.pid == heir
    with open(tmp_path / "flags.so", "rb") as page:
        assert _core.lock_holder(page.fileno()) == heir  # the page's own, too


def test_a_program_that_execs_leaves_its_name_free(tmp_path: Path, start: Start) -> None:
    """The pid is the same, as with servers that reload themselves, and the publisher is gone."""
    script = """
    import os, sys, vdso
    One = vdso.page(type("One", (), {"__annotations__": {"a": int}}))
    publisher = vdso.publish("n", One, directory=sys.argv[1])
    publisher.update(a=publisher.version)
    print("published", flush=True)
    if len(sys.argv) == 2:
        os.execv(sys.executable, [*sys.orig_argv, "again"])
    sys.stdin.read()
    """
    process = start(python(script, tmp_path))
    assert process.stdout is not None
    assert process.stdout.readline() == "published\n"
    assert process.stdout.readline() == "published\n"
    reader = vdso.open("n", directory=tmp_path)
    assert (reader.version, reader.page.publisher_pid) == (2, process.pid)


def test_a_publisher_is_known_by_its_names_lock(tmp_path: Path, start: Start) -> None:
    """Whoever reads the page's file in the publisher's process has cost it that file's lock."""
    script = """
    import os, sys, vdso
    One = vdso.page(type("One", (), {"__annotations__": {"a": int}}))
    publisher = vdso.publish("n", One, directory=sys.argv[1], initial={"a": 1})
    vdso.open("n", directory=sys.argv[1]).close()
    assert vdso.open("n", directory=sys.argv[1]).publisher_alive
    print("published", flush=True)
    sys.stdin.readline()
    os.execv("/bin/sh", ["sh", "-c", "echo gone; read line"])  # of the same pid, and no publisher any more
    """
    process = start(python(script, tmp_path))
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "published\n"
    reader = vdso.open("n", directory=tmp_path)
    with open(reader.page.path, "rb") as page:
        assert _core.lock_holder(page.fileno()) == 0
    assert reader.publisher_alive
    process.stdin.write("go\n")
    process.stdin.flush()
    assert process.stdout.readline() == "gone\n"
    assert not reader.publisher_alive
    assert reader.page.publisher_pid == process.pid


# ---- Readers only read ----


def test_writing_into_a_readers_mapping_faults(tmp_path: Path) -> None:
    script = """
    import ctypes, sys, vdso
    reader = vdso.open("flags", directory=sys.argv[1])
    ctypes.memset(reader._address + 64, 0, 1)
    """
    with vdso.publish("flags", Flags, directory=tmp_path, initial=Flags(True)) as publisher:
        done = finish(python(script, tmp_path))
        assert done.returncode == -signal.SIGSEGV
        assert publisher.version == 1
        reader = vdso.open("flags", directory=tmp_path)
        lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
        ranges = [line.split() for line in lines if publisher.path in line]
        mine = [words[1] for words in ranges if int(words[0].split("-")[0], 16) == reader._address]
        assert mine == ["r--s"]
        assert all("x" not in words[1] or "w" not in words[1] for words in ranges)


NOBODY = """
import contextlib, io, os, sys
from vdso.cli import main
from vdso.commands import values
from vdso.pages import catalogue, publisher
# Whoever has read the modules can go without any privilege: the tree may lie in a closed directory.
with contextlib.redirect_stdout(io.StringIO()):
    for command in ("show", "pages", "publish", "rm"):
        main([command, "--help"])
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.usefixtures("as_root")
def test_other_users(shared: Path) -> None:
    def as_nobody(*words: str) -> "subprocess.CompletedProcess[str]":
        return finish(python(NOBODY, *words, "--directory", shared))

    with vdso.publish("everybodys", Flags, directory=shared, initial=Flags(True)):
        done = as_nobody("show", "everybodys", "--json")
        assert (done.stderr, json.loads(done.stdout)["rate"]) == ("", 1.5)
        (listed,) = json.loads(as_nobody("pages", "--json").stdout)
        assert (listed["user_id"], listed["alive"], listed["publisher_pid"]) == (0, True, os.getpid())
    with vdso.publish("mine", Flags, directory=shared, initial=Flags(True), mode=0o600):
        done = as_nobody("show", "mine")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("vdso: mine: permission denied\n")
        assert len(done.stderr.splitlines()) == 2
    for command in (["publish", "mine", "dark:bool"], ["rm", "mine"]):
        done = as_nobody(*command)
        assert (done.returncode, done.stdout) == (1, "")
        assert "another user's" in done.stderr


MINE_AND_ROOTS = """
import os, sys, vdso
from vdso.pages import directory
from vdso.pages import publisher as _  # what another user cannot import later

where, case = sys.argv[1:]
directory.own_candidates = lambda: [f"{where}/run", f"{where}/mine"]  # the first is root's, as /run/vdso is
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)

@vdso.page
class Flags:
    dark: bool
    rate: float = 1.5
    label: vdso.Str[8] = "x"

if case != "none":
    publisher = vdso.publish("flags", Flags, directory=f"{where}/mine", initial=Flags(False, label="mine"))
if case == "damaged":
    with open(publisher.path, "r+b") as file:
        file.write(bytes(64))
print(vdso.open("flags").label)
"""


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize(
    ("mode", "case", "says"),
    [
        (0o644, "sound", "mine"),
        (0o600, "sound", "mine"),
        (0o644, "damaged", "roots"),
        (0o600, "damaged", "PageUnreadable"),
        (0o600, "none", "flags: permission denied"),
    ],
)
def test_ones_own_page_comes_before_roots(shared: Path, mode: int, case: str, says: str) -> None:
    (shared / "run").mkdir()
    (shared / "mine").mkdir()
    os.chown(shared / "mine", 65534, 65534)
    try:
        with vdso.publish(
            "flags", Flags, directory=shared / "run", initial=Flags(True, label="roots"), mode=mode
        ):
            done = finish(python(MINE_AND_ROOTS, shared, case))
        assert says in done.stdout + done.stderr
        assert (done.returncode == 0) == (says in ("mine", "roots"))
    finally:
        for left in ("run", "mine"):
            shutil.rmtree(shared / left)


def test_a_strangers_lock_is_in_nobodys_way(shared: Path, unprivileged: list[str], start: Start) -> None:
    if not unprivileged:
        lacking("only root may become another user")
    script = """
    import fcntl, os, sys
    fd = os.open(sys.argv[1], os.O_RDONLY)
    fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    print("locked", flush=True)
    sys.stdin.read()
    """
    with vdso.publish("flags", Flags, directory=shared, initial=Flags(True)) as publisher:
        path = publisher.path
    process = start([*unprivileged, *python(script, path)])
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    reader = vdso.open("flags", directory=shared)
    assert not reader.publisher_alive
    with vdso.publish("flags", Flags, directory=shared) as publisher:
        publisher.update(dark=False)
        assert reader.publisher_alive


@pytest.mark.usefixtures("as_root")
def test_in_another_pid_namespace(tmp_path: Path) -> None:
    """As in two containers that share /dev/shm: pids say nothing, the locks do."""
    script = """
    import sys, vdso, vdso.errors
    reader = vdso.open("flags", directory=sys.argv[1])
    print(reader.publisher_alive)
    try:
        vdso.publish("flags", reader.page.layout, directory=sys.argv[1])
    except vdso.errors.WriterActive as error:
        print(error.pid, error.message)
    """
    words = [want("unshare", "util-linux"), "-p", "-f", "--mount-proc", *python(script, tmp_path)]
    with vdso.publish("flags", Flags, directory=tmp_path, initial=Flags(True)) as publisher:
        with open(publisher.path, "rb"):
            pass  # and the page's own lock is gone
        done = finish(words)
        said = "-1 flags has a publisher: a process in another pid namespace"
        assert (done.stdout, done.stderr) == (f"True\n{said}\n", "")


# ---- Filesystems ----


def in_a_mount(options: str, script: str, *words: object) -> "subprocess.CompletedProcess[str]":
    """Runs Python in a mount namespace of its own, with a tmpfs of these options at /mnt."""
    line = f'mount -t tmpfs -o {options} none /mnt && chmod 700 /mnt && exec "$@"'
    return finish([want("unshare", "util-linux"), "-m", "sh", "-c", line, "sh", *python(script, *words)])


@pytest.mark.usefixtures("as_root")
def test_a_full_filesystem_is_an_error_at_publish() -> None:
    script = """
    import os, vdso, vdso.errors
    @vdso.page
    class Big:
        data: vdso.Bytes[100000]
    @vdso.page
    class Small:
        a: int
    small = vdso.publish("small", Small, directory="/mnt", initial=Small(1))
    try:
        vdso.publish("big", Big, directory="/mnt")
    except vdso.errors.NoSpace as error:
        print(error.message)
    print(sorted(name for name in os.listdir("/mnt") if "big" in name))
    # Full to the last byte: what is published goes on.
    try:
        with open("/mnt/rest", "wb", buffering=0) as rest:
            while True:
                rest.write(bytes(4096))
    except OSError:
        pass
    for number in range(100):
        small.update(a=number)
    print(vdso.open("small", directory="/mnt").a)
    try:
        vdso.publish("other", Small, directory="/mnt")
    except vdso.errors.NoSpace as error:
        print(error.message)
    """
    done = in_a_mount("size=128k", script)
    full = "/mnt: no space left on device"
    assert (done.stdout, done.stderr) == (f"{full}\n['.big.lock']\n99\n{full}\n", "")


@pytest.mark.usefixtures("as_root")
def test_noexec_is_said_and_read_all_the_same(vdso: str) -> None:
    script = """
    import ctypes, subprocess, sys, vdso
    from vdso.pages import directory
    directory.own_candidates = lambda: ["/mnt/vdso"]
    @vdso.page
    class One:
        a: int
    publisher = vdso.publish("one", One, initial=One(5))
    print(publisher.noexec, vdso.open("one").a)
    try:
        ctypes.CDLL(publisher.path)
    except OSError as error:
        print("dlopen:", error)
    sys.stdout.flush()
    subprocess.run([sys.argv[1], "pages", "--directory", "/mnt/vdso"])
    """
    done = in_a_mount("noexec", script, vdso)
    assert done.stderr == ""
    first, second, *table = done.stdout.splitlines()
    assert first == "True 5"
    assert second.startswith("dlopen: ")
    assert "noexec: no dlopen" in table[1]


AGAIN = """
import sys, vdso
vdso.publish("flags", vdso.page(type("F", (), {"__annotations__": {"a": int}})), directory=sys.argv[1])
"""


def test_the_file_is_a_library(tmp_path: Path) -> None:
    """In the publisher's own process too: its lock does not mind."""
    with vdso.publish("flags", Flags, directory=tmp_path, initial=Flags(True)) as publisher:
        library = ctypes.CDLL(publisher.path)
        library.flags_rate.restype = ctypes.c_double
        assert library.flags_rate() == 1.5
        publisher.update(rate=2.5)
        assert library.flags_rate() == 2.5
        done = finish(python(AGAIN, tmp_path))
        assert f"flags has a publisher: process {os.getpid()}" in done.stderr


# ---- Torn records ----


def torn_program(directory: Path) -> Path:
    path = directory / "torn"
    words = [
        "gcc",
        "-O2",
        "-std=gnu11",
        "-pthread",
        f"-I{ROOT / 'c/include'}",
        SOURCES / "torn.c",
        "-o",
        path,
    ]
    done = finish(words)
    assert done.returncode == 0, done.stderr
    return path


def count_torn(where: Path, start: Start, reads: int, threads: int) -> tuple[int, int]:
    """(reads, torn) of a C program's threads and of this process, against a flat-out writer in C."""
    program = torn_program(where)
    fields = dict.fromkeys("abcdefgh", vdso.U64)
    eight = vdso.page(type("Eight", (), {"__annotations__": fields}))
    with vdso.publish("eight", eight, directory=where) as publisher:
        path = publisher.path
    with open(path, "rb") as file:
        offset = _core.page_find(file.fileno())[0]
    writer = start([program, path, str(offset), "write"])
    reader = vdso.open("eight", directory=where)
    assert reader.wait(0, timeout=TIMEOUT_S) or reader.version
    counting = start([program, path, str(offset), str(threads), str(reads // threads)])
    ended = threading.Event()
    threading.Thread(target=lambda: (counting.wait(), ended.set())).start()
    mine = torn = last = 0
    while not ended.is_set():
        for _ in range(1000):
            snapshot = reader.snapshot()
            first, *rest = snapshot.astuple()
            if any(value != (first * 0x9E3779B97F4A7C15 + i) & 2**63 - 1 for i, value in enumerate(rest, 1)):
                torn += 1
            if snapshot.version < last or first != snapshot.version:
                torn += 1
            last = snapshot.version
        mine += 1000
    assert counting.stdout is not None
    theirs, theirs_torn, _ = map(int, counting.stdout.read().split())
    assert writer.poll() is None
    assert mine > 0
    return mine + theirs, torn + theirs_torn


def test_no_record_is_torn(tmp_path: Path, start: Start) -> None:
    reads, torn = count_torn(tmp_path, start, 10**7, 2)
    assert reads > 10**7
    assert torn == 0


@pytest.mark.soak
def test_no_record_of_a_thousand_million_is_torn(tmp_path: Path, start: Start) -> None:
    reads, torn = count_torn(tmp_path, start, 10**9, 4)
    print(f"{reads} reads, {torn} torn")
    assert reads > 10**9
    assert torn == 0
