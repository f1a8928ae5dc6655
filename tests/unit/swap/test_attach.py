"""What is said of each outcome: the program that does it is replaced by one that says what it is told."""

import os
import re
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vdso import _core, errors
from vdso.swap import attach, process, refusal
from vdso.swap.following import Following

Say = Callable[..., None]


@pytest.fixture
def say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Say:
    """Has the next attach() or detach() come to this."""

    def prepare(outcome: str, **more: int | str) -> None:
        values = {
            "error": 0,
            "other": 0,
            "threads": 3,
            "tries": 1,
            "state": 0,
            "stood_ns": 7,
            "longest_ns": 9,
            "followed": 0,
            "filter": 0,
        }
        line = " ".join(f"{key}={value}" for key, value in ({"what": ""} | values | more).items())
        program = tmp_path / "program"
        program.write_text(f"#!/bin/sh\necho outcome={outcome} {line}\n", encoding="ascii")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(attach, "HELPER", str(program))

    return prepare


@pytest.fixture
def other() -> Iterator[int]:
    """A process of ours."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process.pid
        process.kill()


@pytest.fixture
def page() -> "_core.ClockPage":
    return attach.clock_page(5 * 10**9)


def refused(pid: int, page: "_core.ClockPage") -> errors.VdsoError:
    with pytest.raises(errors.VdsoError) as caught:
        attach.attach(pid, page.reader_fd)
    return caught.value


def test_done(say: Say, other: int, page: "_core.ClockPage") -> None:
    say("done")
    for done in (attach.attach(other, page.reader_fd), attach.detach(other)):
        assert done == attach.Attached(other, "sleep", threads=3, tries=1, stood_ns=7, longest_ns=9)


@pytest.mark.parametrize(
    ("outcome", "more", "kind", "pattern"),
    [
        ("a_thread", {"other": 1}, errors.NoSuchProcess, r"\d+ is a thread of process 1 \(.*\)"),
        ("kernel_thread", {}, errors.NotAttachable, r".* is a thread of the kernel"),
        ("late", {"other": 7}, errors.ProcessBusy, r"what attaching does in .* within the 45 ms .*"),
        ("zombie", {}, errors.NotAttachable, r".* has ended, .*"),
        ("traced", {"other": 1}, errors.NotAttachable, r".* is being traced, by 1 \(.*\)"),
        ("seccomp", {}, errors.SeccompRefused, r".* has a seccomp filter, .*"),
        ("foreign", {}, errors.NotAttachable, r"the vDSO of .* is not this kernel's"),
        ("changed", {}, errors.NotAttachable, r"somebody else has changed the vDSO of .*"),
        ("no_vdso", {}, errors.NotAttachable, r".* has no vDSO: .*"),
        ("swapped", {}, errors.AlreadyAttached, r".* was started by `vdso run`, .*"),
        ("already", {}, errors.AlreadyAttached, r".* is attached already"),
        ("no_site", {"what": "time"}, errors.NotAttachable, r".* no place for a jump in time\(\)"),
        ("no_room", {"error": 12}, errors.NotAttachable, r".* nothing free within 2 GiB of its vDSO"),
        ("no_room", {}, errors.NotAttachable, r"this kernel's vDSO fills its pages: .*"),
        (
            "late",
            {"error": 110, "other": 1, "state": ord("D")},
            errors.ProcessBusy,
            r"thread 1 of .* state D\)",
        ),
        (
            "late",
            {"error": 110, "other": 1, "state": ord("R")},
            errors.ProcessBusy,
            r"thread 1 of .* state R\)",
        ),
        ("late", {"error": 11}, errors.ProcessBusy, r".* kept changing while it was looked at \(1 try\)"),
        ("shared", {"other": 1}, errors.ProcessBusy, r".* shares its address space with process 1 .*"),
        (
            "call_failed",
            {"error": 12, "what": "mmap"},
            errors.SwapError,
            r"mmap failed in .*: Cannot allocate memory",
        ),
        ("listener", {"error": 16}, errors.SeccompRefused, r".* with somebody else's listener, .*"),
        (
            "call_failed",
            {"error": 3, "what": "seccomp"},
            errors.SeccompRefused,
            r".* cannot be followed: one of its threads has a seccomp filter of its own",
        ),
        (
            "call_failed",
            {"error": 22, "what": "seccomp"},
            errors.SeccompRefused,
            r".* cannot be followed: that takes Linux 5.7",
        ),
        (
            "call_failed",
            {"error": 28, "what": "ask"},
            errors.SeccompRefused,
            r".* cannot be followed: its follower has as many sessions as it can",
        ),
        (
            "call_failed",
            {"error": 1, "what": "seccomp"},
            errors.SeccompRefused,
            r".* cannot be followed: seccomp: Operation not permitted",
        ),
        ("failed", {"error": 5}, errors.SwapError, r".* could not be attached: Input/output error"),
    ],
)
def test_an_outcome(
    say: Say,
    other: int,
    page: "_core.ClockPage",
    outcome: str,
    more: dict[str, int | str],
    kind: type[errors.VdsoError],
    pattern: str,
) -> None:
    say(outcome, **more)
    error = refused(other, page)
    assert type(error) is kind
    assert re.fullmatch(pattern, error.message), error.message
    assert "\n" not in error.message + error.hint


def follow(other: int, page: "_core.ClockPage") -> attach.Attached:
    following = Following(_core.FILTER_EXEC | _core.FILTER_READS | _core.FILTER_ALL, False)
    return attach.attach(other, page.reader_fd, follow=following)


def test_what_a_filter_from_before_lacks(say: Say, other: int, page: "_core.ClockPage") -> None:
    every = _core.FILTER_EXEC | _core.FILTER_READS | _core.FILTER_ALL
    for filter_flags, lacking in (
        (every, ()),
        (_core.FILTER_EXEC, ("--strict", "--clocks all")),
        (_core.FILTER_EXEC | _core.FILTER_READS, ("--clocks all",)),
    ):
        say("done", followed=2, filter=filter_flags)
        done = follow(other, page)
        assert (done.followed, done.lacking) == (True, lacking)


@pytest.mark.parametrize(
    ("outcome", "followed", "pattern"),
    [
        ("done", 4, r"process \d+ \(sleep\) is attached with a filter that nobody answers: .*"),
        ("follower", 0, r"the follower of process \d+ \(sleep\) has ended"),
    ],
)
def test_a_follower_that_has_ended(
    say: Say, other: int, page: "_core.ClockPage", outcome: str, followed: int, pattern: str
) -> None:
    say(outcome, followed=followed)
    with pytest.raises(errors.SwapError) as caught:
        follow(other, page)
    assert re.fullmatch(pattern, caught.value.message)


def test_not_attached(say: Say, other: int) -> None:
    say("already")
    with pytest.raises(errors.NotAttached) as caught:
        attach.detach(other)
    assert caught.value.message == f"process {other} (sleep) is on the host's clock: it is not attached"


@pytest.mark.parametrize(
    ("scope", "capable", "more", "pattern"),
    [
        (0, False, {"other": 1}, r"ptrace is refused here, also of a child of our own: .*"),
        (1, False, {}, r"Yama lets only an ancestor trace .* \(kernel.yama.ptrace_scope is 1\)"),
        (2, False, {}, r"Yama lets nobody without CAP_SYS_PTRACE trace .* \(kernel.yama.ptrace_scope is 2\)"),
        (3, True, {"other": 1}, r"Yama lets nobody trace until the next boot .*"),
        (0, False, {}, r".* does not let itself be traced: .*"),
        (2, True, {}, r"ptrace of .* is refused"),
    ],
)
def test_ptrace_is_refused(
    say: Say,
    other: int,
    page: "_core.ClockPage",
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scope: int,
    capable: bool,
    more: dict[str, int],
    pattern: str,
) -> None:
    """The line names what refuses."""
    path = tmp_path / "ptrace_scope"
    path.write_text(f"{scope}\n", encoding="ascii")
    monkeypatch.setattr(process, "YAMA_SCOPE", str(path))
    monkeypatch.setattr(refusal, "has_capability", lambda _: capable)
    say("refused", error=1, **more)
    error = refused(other, page)
    assert isinstance(error, errors.PtraceRefused)
    assert re.fullmatch(pattern, error.message), error.message


def test_no_process(say: Say, page: "_core.ClockPage") -> None:
    say("no_process")
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    assert refused(gone.pid, page).message == f"there is no process {gone.pid}"
    assert refused(os.getpid(), page).message == f"process {os.getpid()} has ended"


def test_the_program_is_missing(page: "_core.ClockPage", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attach, "HELPER", "/nowhere/vdso-attach")
    assert isinstance(refused(1, page), errors.HelperMissing)
    monkeypatch.setattr(attach, "HELPER", "/bin/false")
    assert refused(1, page).message.startswith("false ended with status 1: process 1 (")
