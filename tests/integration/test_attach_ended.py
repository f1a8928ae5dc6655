"""What attaches is killed, or interrupted, in the middle: what the line then says of the process is so."""

import contextlib
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from following import PATIENCE, Shell, comm, followers, line_of, status
from harness import OFFSET_S, TIMEOUT_S, Programs, Start, until, want

from vdso import _core, errors
from vdso.swap import attach as attaching
from vdso.swap import following

NS = 10**9
FOLLOW = following.Following(_core.FILTER_EXEC | _core.FILTER_DEADLINES, False)
SHIFT = ["--offset", f"+{OFFSET_S}s"]

# vdso-attach, whose try is killed at the Nth of these calls that it makes.
AT_ITS_CALL = """#!/bin/sh
exec {strace} -f -qq -o /dev/null -e trace={call} -e inject={call}:signal=SIGKILL:when={number} {real} "$@"
"""

# vdso-attach, killed when the process has the filter, and that by which it was killed.
WITH_THE_FILTER = """#!{python}
import os, signal, sys
helper = os.posix_spawn({real!r}, sys.argv, os.environ)
while b"Seccomp_filters:\\t0" in open("/proc/%s/status" % sys.argv[2], "rb").read():
    pass
os.kill(helper, signal.SIGKILL)
os.waitpid(helper, 0)
os.kill(os.getpid(), signal.SIGKILL)
"""


def replace_helper(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    program = tmp_path / "vdso-attach"
    program.write_text(text, encoding="ascii")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(attaching, "HELPER", str(program))


def assert_so(shell: Shell, said: str) -> bool:
    """Whether it is attached: as was said."""
    attached = f"process {shell.pid} (bash) is attached" in said
    assert attached or f"process {shell.pid} (bash) is not attached" in said, said
    filtered = status(shell.pid, "Seccomp_filters") != "0"
    # Interrupted when it was about to say that all is done, it says no more than that it is attached.
    assert ("a filter stays in it, for good" in said) == filtered or attached
    assert shell.itself() == (OFFSET_S if attached else 0)
    if "ENOSYS" not in said:
        assert shell.apart() == (OFFSET_S if attached else 0)
    return attached


def attach(shell: Shell) -> str:
    """What is said where it is killed; nothing where it was not."""
    page = attaching.clock_page(OFFSET_S * NS)
    try:
        attaching.attach(shell.pid, page.reader_fd, timeout_s=20, follow=FOLLOW)
    except errors.HelperEnded as ended:
        return ended.message
    return ""


@pytest.mark.parametrize("call", ["pwrite64", "exit_group"])
def test_a_try_is_killed(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """At each of the writes by which it attaches, and when they have all been made."""
    strace = want("strace", "strace")
    found = set()
    for number in range(1, 40):
        text = AT_ITS_CALL.format(strace=strace, call=call, number=number, real=attaching.HELPER)
        with monkeypatch.context() as patch:
            replace_helper(patch, tmp_path, text)
            shell = Shell(start)
            said = attach(shell)
            if not said:
                break
            found.add((assert_so(shell, said), "a filter stays" in said))
        shell.process.kill()
    if call == "exit_group":
        assert found == {(True, True)}
    else:
        assert found == {(False, False), (False, True)}


def test_it_is_killed_with_the_filter_in(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = WITH_THE_FILTER.format(python=sys.executable, real=attaching.HELPER)
    with monkeypatch.context() as patch:
        replace_helper(patch, tmp_path, text)
        said = attach(shell)
    assert "status -9" in said
    assert "a filter stays in it, for good" in said
    if not assert_so(shell, said):
        assert attach(shell) == ""
    assert shell.itself() == shell.apart() == OFFSET_S


# ---- Ctrl-C ----


def helpers(parent: int) -> list[int]:
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return [int(child) for child in children if comm(int(child)).startswith("vdso-attach")]
    return []


MOMENTS: dict[str, Callable[[int, int], object]] = {
    "a follower waits": lambda _, target: followers(target),
    "it has begun": lambda command, _: helpers(command),
    "its thread is seized": lambda _, target: status(target, "TracerPid") != "0",
    "the filter is in": lambda _, target: status(target, "Seccomp_filters") != "0",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_interrupted(shell: Shell, vdso: str, moment: str) -> None:
    words = [vdso, "attach", str(shell.pid), *SHIFT, "--follow", *PATIENCE]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as command:
        until(lambda: command.poll() is not None or MOMENTS[moment](command.pid, shell.pid))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(command.pid, signal.SIGINT)
        out, err = command.communicate(timeout=TIMEOUT_S)
    if out:  # it was over by then, and the line is that which says so
        assert re.match(r"attached bash .*, and follows it", out)
        assert shell.itself() == shell.apart() == OFFSET_S
        assert err == "" or err.startswith("vdso: interrupted: ")
    else:
        assert command.returncode == -signal.SIGINT
        assert re.fullmatch(r"vdso: interrupted: .*\n", err), err
        assert_so(shell, err)


def test_interrupted_while_it_cannot(programs: Programs, start: Start, vdso: str) -> None:
    """Alone, and not as one of a terminal's: it does not try for as long as it was to."""
    process = start([programs.c("odd"), "vfork"])
    line_of(process)
    words = [vdso, "attach", str(process.pid), *SHIFT, "--no-follow", "--timeout", "3600"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as command:
        until(lambda: helpers(command.pid))
        command.send_signal(signal.SIGINT)
        out, err = command.communicate(timeout=TIMEOUT_S)
    assert (command.returncode, out) == (-signal.SIGINT, "")
    assert re.fullmatch(r"vdso: interrupted: process \d+ \(.*\) is not attached\n", err), err
