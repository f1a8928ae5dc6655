"""`vdso vvar` as people run it: this machine's page, time namespaces, an image of ours, watching, Ctrl-C."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from harness import TIMEOUT_S, Programs, Start, Terminal, Way, finish, read_until, want

METHODS = ("btf", "code", "table")
FINE = ("REALTIME", "MONOTONIC", "MONOTONIC_RAW", "BOOTTIME", "TAI")
COARSE = ("REALTIME_COARSE", "MONOTONIC_COARSE")
BTF = "/sys/kernel/btf/vmlinux"


def read(words: list[str], *prefix: str) -> dict[str, Any]:
    done = finish([*prefix, *words, "--json"])
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def check_proofs(page: dict[str, Any]) -> None:
    proofs = {proof["name"]: proof for proof in page["proofs"]}
    assert {"sequence", "mode", "shift", *COARSE, *FINE} <= set(proofs)
    assert all(proof["holds"] is not False for proof in page["proofs"])
    for name in COARSE:
        assert proofs[name]["holds"]
        assert proofs[name]["of"] >= 5000
    counted = page["mode"] in ("tsc", "pvclock")
    for name in FINE:
        assert proofs[name]["holds"] is (True if counted else None)
    for proof in page["proofs"]:
        if proof["holds"]:
            assert proof["good"] + proof["ticks"] == proof["of"] > 0


# ---- the page ----


def test_what_it_says(vdso: str) -> None:
    done = finish([vdso, "vvar"])
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    lines = [line.split() for line in done.stdout.splitlines() if line.strip()]
    assert {"kernel", "page", "layout", "mode", "namespace", "sequence", *COARSE, *FINE} <= {
        line[0] for line in lines
    }
    assert ["5000", "of", "5000", "holds"] in [line[1:5] for line in lines if line[0] in COARSE]


def test_all_three_ways_agree(vdso: str) -> None:
    """On this machine, each by itself: the same layout, the same clocks, all of it proven."""
    if not os.path.exists(BTF):
        pytest.skip("this kernel does not describe its types")
    pages = {method: read([vdso, "vvar", "--by", method]) for method in METHODS}
    for method, page in pages.items():
        assert page["method"] == page["layout"].pop("method") == method
        assert page["runs_on"] == "kernel"
        check_proofs(page)
    first = pages["btf"]
    for page in pages.values():
        for name, value in page["layout"].items():
            assert value is None or value == first["layout"][name], name
        for clock, other in zip(page["clocks"], first["clocks"], strict=True):
            assert clock["shift"] == other["shift"]
            assert [base["clock"] for base in clock["bases"]] == [base["clock"] for base in other["bases"]]


def test_it_is_this_machines_time(vdso: str) -> None:
    before = time.clock_gettime_ns(time.CLOCK_REALTIME)
    page = read([vdso, "vvar"])
    after = time.clock_gettime_ns(time.CLOCK_REALTIME)
    bases = {base["clock"]: base for clock in page["clocks"] for base in clock["bases"]}
    at = bases["REALTIME_COARSE"]["sec"] * 10**9 + bases["REALTIME_COARSE"]["nsec"]
    assert before - 2 * 10**9 < at < after
    assert page["hrtimer_res_ns"] in (None, round(time.clock_getres(time.CLOCK_REALTIME) * 1e9))


def test_unprivileged(vdso: str, unprivileged: list[str]) -> None:
    check_proofs(read([vdso, "vvar"], *unprivileged))


@pytest.mark.usefixtures("as_root")
def test_types_that_cannot_be_read(vdso: str, tmp_path: Path) -> None:
    """Absent, truncated or of nobody: the code tells, and the result says why the types could not."""
    if not os.path.exists(BTF):
        pytest.skip("this kernel does not describe its types")
    whole = Path(BTF).read_bytes()
    for name, data, why in (
        ("empty", b"", "less than a header"),
        ("half", whole[: len(whole) // 2], "truncated"),
        ("other", os.urandom(4096), "no BTF"),
    ):
        (tmp_path / name).write_bytes(data)
        mount = f'mount --bind "{tmp_path}/{name}" {BTF} && exec "$@"'
        page = read([vdso, "vvar"], want("unshare", "util-linux"), "-m", "sh", "-c", mount, "sh")
        assert page["method"] == "code"
        assert why in page["refused"]["btf"]
        check_proofs(page)
        said = finish(["unshare", "-m", "sh", "-c", mount, "sh", vdso, "vvar"]).stdout
        assert re.search(rf"\n +not by btf: {BTF}: .*{why}", said)
    hide = 'mount -t tmpfs none /sys/kernel && exec "$@"'
    done = finish(["unshare", "-m", "sh", "-c", hide, "sh", vdso, "vvar", "--by", "btf"])
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{BTF}: no such file" in done.stderr


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("offsets", [(1_000_000, -50), (-100, 7), (0, 0)])
@pytest.mark.parametrize("method", METHODS)
def test_in_a_time_namespace(vdso: str, offsets: tuple[int, int], method: str) -> None:
    if not os.path.exists("/proc/self/ns/time") or (method == "btf" and not os.path.exists(BTF)):
        pytest.skip("this kernel has no time namespaces, or no types")
    uptime = time.clock_gettime(time.CLOCK_BOOTTIME)
    if min(offsets) + uptime < 1:
        offsets = (max(offsets[0], 1 - int(uptime)), max(offsets[1], 1 - int(uptime)))
    monotonic, boottime = offsets
    words = [want("unshare", "util-linux"), "-T", f"--monotonic={monotonic}", f"--boottime={boottime}"]
    if offsets == (0, 0):
        words = [words[0], "-T"]
    before = time.clock_gettime(time.CLOCK_MONOTONIC)
    page = read([vdso, "vvar", "--by", method], *words)
    after = time.clock_gettime(time.CLOCK_MONOTONIC)
    assert {offset["clock"]: offset["sec"] for offset in page["time_namespace"]["offsets"]} == {
        "MONOTONIC": monotonic,
        "MONOTONIC_RAW": monotonic,
        "MONOTONIC_COARSE": monotonic,
        "BOOTTIME": boottime,
    }
    check_proofs(page)
    assert "time namespace" in {proof["name"] for proof in page["proofs"]}
    # The base is the host's: what the namespace adds stands beside it.
    bases = {base["clock"]: base for clock in page["clocks"] for base in clock["bases"]}
    assert before - 1 < bases["MONOTONIC_COARSE"]["sec"] <= after
    said = finish([*words, vdso, "vvar", "--by", method]).stdout
    assert "a time namespace" in said
    assert f"BOOTTIME {boottime:+d}.000000000 s" in said


def test_on_an_image_of_ours(privileged: Way, vdso: str) -> None:
    """The kernel's pages, moved aside: found, and still what they are called."""
    for clock in ("kernel", "tsc"):
        done = privileged.run(vdso, "vvar", "--json", clock=clock)
        assert (done.returncode, done.stderr) == (0, "")
        page = json.loads(done.stdout)
        assert page["runs_on"] == "vdso"
        check_proofs(page)
    assert "on a vDSO of ours" in privileged.run(vdso, "vvar").stdout


def test_not_told_of_it(vdso: str, programs: Programs) -> None:
    """Without AT_SYSINFO_EHDR, as where a tracer took it away, the pages are there all the same."""
    page = read([vdso, "vvar"], str(programs.c("without_vdso")))
    assert page["runs_on"] == "none"
    check_proofs(page)


@pytest.mark.parametrize(
    ("gone", "why"), [(["[vvar]"], r"no \[vvar\] before it"), (["[vvar]", "[vdso]"], "no vDSO")]
)
def test_without_a_page(programs: Programs, gone: list[str], why: str) -> None:
    """One line, and no signal. Its C library goes by system calls, so that nothing else misses the pages."""
    script = """
import ctypes, sys
from vdso import cli
libc = ctypes.CDLL(None)
for line in open("/proc/self/maps").read().splitlines():
    if line.endswith(tuple(sys.argv[1:])):
        start, end = (int(word, 16) for word in line.split()[0].split("-"))
        assert libc.munmap(ctypes.c_void_p(start), ctypes.c_size_t(end - start)) == 0
raise SystemExit(cli.main(["vvar"]))
"""
    for words in ([], ["--watch"]):
        done = finish(
            [
                programs.c("without_vdso"),
                sys.executable,
                "-c",
                script.replace('["vvar"]', repr(["vvar", *words])),
                *gone,
            ]
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert re.match(f"vdso: this process has .*{why}", done.stderr)


def test_sealed_pages() -> None:
    """Where the kernel seals what it maps (mseal), nothing of it can be moved, and all of it read."""
    script = """
import ctypes
from vdso import cli
libc = ctypes.CDLL(None, use_errno=True)
for line in open("/proc/self/maps").read().splitlines():
    if line.endswith(("[vvar]", "[vvar_vclock]", "[vdso]")):
        start, end = (int(word, 16) for word in line.split()[0].split("-"))
        if libc.syscall(ctypes.c_long(462), ctypes.c_void_p(start), ctypes.c_size_t(end - start), 0):
            raise SystemExit(77)
assert libc.munmap(ctypes.c_void_p(start), ctypes.c_size_t(end - start)) == -1
raise SystemExit(cli.main(["vvar", "--json"]))
"""
    done = finish([sys.executable, "-c", script])
    if done.returncode == 77:
        pytest.skip("this kernel cannot seal memory")
    assert (done.returncode, done.stderr) == (0, "")
    check_proofs(json.loads(done.stdout))


@pytest.mark.parametrize(
    "words",
    [
        ["--by", "magic"],
        ["--by"],
        ["--every", "1"],
        ["--watch", "--every", "0"],
        ["--watch", "--every", "x"],
        ["1"],
    ],
)
def test_a_command_line_that_cannot_be_meant(vdso: str, words: list[str]) -> None:
    done = finish([vdso, "vvar", *words])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("vdso: ")
    assert len(done.stderr.splitlines()) == 2


def test_help(vdso: str) -> None:
    done = finish([vdso, "vvar", "--help"])
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("--json", "--watch", "--every", "--by", "example", "exit status"):
        assert word in done.stdout


# ---- watching ----


def lines_of(process: "subprocess.Popen[str]", count: int) -> list[str]:
    assert process.stdout is not None
    return [read_until(process.stdout.fileno(), "\n") for _ in range(count)]


def test_watched_into_a_pipe(vdso: str, start: Start) -> None:
    process = start([vdso, "vvar", "--watch"])
    first = [int(line.split()[1]) for line in lines_of(process, 5)]
    assert all(0 < (b - a) % 2**32 < 10_000 and b % 2 == 0 for a, b in pairwise(first))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, err) == (0, "")
    last = out.splitlines()
    assert any(line.startswith("updates ") and " a second: " in line for line in last)
    assert all(line.startswith(("sequence ", "updates ", "interval ", "known to ")) for line in last)


@pytest.mark.parametrize("every", [[], ["--every", "0.05"]])
def test_watched_as_json(vdso: str, start: Start, every: list[str]) -> None:
    process = start([vdso, "vvar", "--watch", "--json", *every])
    ticks = [json.loads(line) for line in lines_of(process, 5)]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, err) == (0, "")
    found = [json.loads(line) for line in out.splitlines()]
    ticks += found[:-1]
    rate = found[-1]["rate"]
    assert rate["updates"] == (ticks[-1]["sequence"] - ticks[0]["sequence"]) % 2**32 // 2
    assert rate["updates_per_s"] > 0
    assert rate["updates"] - rate["unseen"] == len(ticks) - 1
    if every:
        assert all(tick["interval_ns"] >= 50_000_000 for tick in ticks[1:])


def test_interrupted_in_a_long_sleep(vdso: str, start: Start) -> None:
    process = start([vdso, "vvar", "--watch", "--every", "3600"])
    lines_of(process, 1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, err) == (0, "")
    assert out.startswith("updates")
    assert "none yet" in out


def test_a_reader_that_goes(vdso: str) -> None:
    done = finish(["bash", "-c", f'"{vdso}" vvar --watch | head -2; echo "${{PIPESTATUS[@]}}"'])
    lines = done.stdout.splitlines()
    assert lines[-1] == "141 0"
    assert all(line.startswith("sequence") for line in lines[:-1])
    assert done.stderr == ""


def test_watched_on_a_terminal(vdso: str, terminal: Terminal) -> None:
    """Drawn anew in place; Ctrl-C leaves the summary, status 0, and the terminal as it was."""
    before = terminal.command("stty -a")
    terminal.type(f"TERM=xterm {vdso} vvar --watch\n")
    terminal.expect(r"updates .* a second")
    terminal.type("\x03")
    said = terminal.expect(terminal.PROMPT)
    assert "updates" in said
    assert "interval" in said
    assert said.count("\x1b[?25h") >= said.count("\x1b[?25l")  # the cursor is shown again
    assert "Traceback" not in said
    assert "status=0" in terminal.command("echo status=$?")
    assert terminal.command("stty -a") == before
