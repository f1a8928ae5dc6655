"""The follower of `vdso attach --follow` while it begins: what comes of the process should that end."""

import contextlib
import os
import resource
import select
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from following import Shell, settled, status
from harness import OFFSET_S, TIMEOUT_S, Start

from vdso import _core, errors
from vdso.clocks.session import Adjustment
from vdso.swap import attach as attaching
from vdso.swap import following, process
from vdso.swap import join as joining

NS = 10**9
FOLLOW = following.Following(_core.FILTER_EXEC | _core.FILTER_DEADLINES, False)
Fake = Callable[..., None]

# One that does as it says there, each time the next, and from then on what the real one does.
FAKE = """#!{python}
import os, select, socket, struct, sys, time
steps = os.listdir({steps!r})
step = min(steps, default="")
if not step:
    os.execv({real!r}, sys.argv)
os.rename(os.path.join({steps!r}, step), os.path.join({done!r}, step))
way, control = (int(sys.argv[sys.argv.index(word) + 1]) for word in ("--way", "--control"))
said = socket.socket(fileno=control)
what = step.split("-")[1]
if what != "mute":
    said.send(struct.pack("ci", b"W", 0))
if what == "listening":
    select.select([way], [], [])
if what == "slow":
    select.select([way], [], [])
    os.execv({real!r}, sys.argv)
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    def prepare(*steps: str) -> None:
        for name in ("steps", "done"):
            (tmp_path / name).mkdir()
        for number, step in enumerate(steps):
            (tmp_path / "steps" / f"{number}-{step}").touch()
        program = tmp_path / "follower"
        program.write_text(
            FAKE.format(
                python=sys.executable,
                steps=str(tmp_path / "steps"),
                done=str(tmp_path / "done"),
                real=following.FOLLOWER,
            )
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(following, "FOLLOWER", str(program))

    return prepare


def attach(shell: Shell) -> attaching.Attached:
    page = attaching.clock_page(OFFSET_S * NS)
    return attaching.attach(shell.pid, page.reader_fd, timeout_s=20, follow=FOLLOW)


@pytest.mark.parametrize("how", ["mute", "saying"])
def test_it_ends_before_there_is_a_filter(
    shell: Shell, fake: Fake, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    start = following.Follower.start

    def start_and_see_its_end(self: following.Follower) -> None:
        start(self)
        end = select.poll()
        end.register(self.talk, 0)
        assert end.poll(TIMEOUT_S * 1000)

    fake(how)
    monkeypatch.setattr(following.Follower, "start", start_and_see_its_end)
    with pytest.raises(errors.SwapError, match=r"the follower of process .* ended") as caught:
        attach(shell)
    assert "try again" in caught.value.hint
    assert status(shell.pid, "Seccomp") == "0"
    assert shell.itself() == shell.apart() == 0
    monkeypatch.undo()
    attach(shell)
    assert shell.itself() == shell.apart() == OFFSET_S


def test_it_ends_with_the_listener_on_its_way(shell: Shell, fake: Fake) -> None:
    """Another one takes it up: the process is followed, by one filter."""
    fake("listening")
    assert not attach(shell).unready
    assert shell.apart() == OFFSET_S
    assert status(shell.pid, "Seccomp_filters") == "1"
    assert len(settled(shell.pid)) == 2


def test_all_end_with_it(shell: Shell, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said as it is, and mended as the hint says."""
    fake(*["listening"] * 9)
    with pytest.raises(errors.SwapError, match=r"a filter .* ENOSYS") as caught:
        attach(shell)
    assert "--follow gives it another filter" in caught.value.hint
    assert "implemented" in shell.ask("date +%s 2>&1")
    with contextlib.suppress(errors.NotAttached):  # on a busy machine it may have come too late for that
        attaching.detach(shell.pid, timeout_s=20)
    monkeypatch.undo()
    attach(shell)
    assert shell.apart() == OFFSET_S
    assert status(shell.pid, "Seccomp_filters") == "2"


def test_it_is_slow(shell: Shell, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not ended: what is executed waits for it."""
    hears = following.Follower._hears
    monkeypatch.setattr(following.Follower, "_hears", lambda self, what: what == b"W" and hears(self, what))
    fake("slow")
    done = attach(shell)
    assert done.unready or done.tries > 1
    assert shell.apart() == OFFSET_S


@pytest.mark.usefixtures("as_root")
def test_the_listener_cannot_be_sent(start: Start, unprivileged: list[str]) -> None:
    """Its user has more descriptors on their way than its limit allows: it is sent for it."""
    flying = start([*unprivileged, sys.executable, "-c", FLYING])
    assert flying.stdout is not None
    assert flying.stdout.readline() == "flying\n"
    shell = Shell(start, prefix=[*unprivileged, "prlimit", "--nofile=64:64"])
    before = sorted(os.listdir(f"/proc/{shell.pid}/fd"))
    done = attach(shell)
    assert shell.apart() == shell.itself() == OFFSET_S
    assert sorted(os.listdir(f"/proc/{shell.pid}/fd")) == before
    assert status(shell.pid, "Seccomp_filters") == "1" or done.tries > 1


@pytest.mark.parametrize("free", range(7))
def test_few_descriptors_are_left(start: Start, free: int) -> None:
    """Near its limit it is attached or not, and keeps no descriptor of ours either way."""
    shell = Shell(start)
    fds = sorted(map(int, os.listdir(f"/proc/{shell.pid}/fd")))
    left = [number for number in range(300) if number not in fds]
    limit = left[free]
    resource.prlimit(shell.pid, resource.RLIMIT_NOFILE, (limit, 4096))
    attached = free >= 5
    if attached:
        attach(shell)
    else:
        with pytest.raises(errors.SwapError, match="is at its limit of open files") as caught:
            attach(shell)
        assert f"prlimit --pid {shell.pid} --nofile" in caught.value.hint
    assert sorted(map(int, os.listdir(f"/proc/{shell.pid}/fd"))) == fds
    assert status(shell.pid, "Seccomp_filters") == str(int(attached))
    assert status(shell.pid, "NoNewPrivs") == status(os.getpid(), "NoNewPrivs")
    resource.prlimit(shell.pid, resource.RLIMIT_NOFILE, (1024, 4096))
    assert shell.itself() == shell.apart() == (OFFSET_S if attached else 0)


def test_too_late_with_the_filter_in_it(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stays is said, whatever it failed for: here by one that attaches, and says it has not."""
    program = tmp_path / "program"
    program.write_text(
        f'#!/bin/sh\n"{attaching.HELPER}" "$@" | sed "s/outcome=done/outcome=late/"\n', encoding="ascii"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(attaching, "HELPER", str(program))
    with pytest.raises(errors.ProcessBusy, match=r"kept changing .*; a filter stays in it, for good"):
        attach(shell)
    monkeypatch.undo()
    attaching.detach(shell.pid, timeout_s=20)
    attach(shell)
    assert shell.apart() == OFFSET_S


def test_too_late_and_the_follower_has_ended(
    shell: Shell, fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The filter that is in it by then gets another follower, and it is tried again."""
    program = tmp_path / "program"
    program.write_text(TWICE.format(real=attaching.HELPER, once=tmp_path / "once"), encoding="ascii")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(attaching, "HELPER", str(program))
    fake("listening")
    assert attach(shell).followed
    assert shell.apart() == OFFSET_S
    assert status(shell.pid, "Seccomp_filters") == "1"


TWICE = """#!/bin/sh
mkdir {once} 2>/dev/null || exec {real} "$@"
said=$({real} "$@" | sed s/outcome=done/outcome=follower/)
{real} detach "$2" --timeout-ms 20000 >/dev/null
echo "$said"
"""


@pytest.mark.usefixtures("as_root")
def test_a_privilege_gained_meanwhile(start: Start, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """It may set the host's clock, since after that was looked at: it is followed all the same."""
    shell = Shell(start, prefix=[])
    monkeypatch.setattr(joining, "may_set_host_clock", lambda _: False)
    joined = joining.join(shell.pid, session=name, first=Adjustment(offset_ns=OFFSET_S * NS), timeout_s=20)
    assert joined.done.followed
    assert any("may set the host's clock (CAP_SYS_TIME): it is followed" in line for line in joined.warnings)
    assert shell.apart() == OFFSET_S


def test_a_privilege_that_cannot_be_seen(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts as one that is there; one that has gone has none."""
    assert not process.may_set_host_clock(shell.pid)

    def refuse(path: str) -> list[str]:
        raise PermissionError(path)

    monkeypatch.setattr(process.os, "listdir", refuse)
    assert process.may_set_host_clock(shell.pid)
    monkeypatch.undo()
    shell.process.kill()
    shell.process.wait()
    assert not process.may_set_host_clock(shell.pid)


FLYING = """
import array, os, socket, sys
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
for _ in range(2):
    ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * 100))])
print("flying", flush=True)
sys.stdin.read()
"""
