"""The commands of live pages: publish, show, watch, pages and rm."""

import json
import os
import shlex
from pathlib import Path

import pytest
from harness import TIMEOUT_S, Start, Terminal, finish, read_until
from layouts import Flags

from vdso.pages.publisher import remove


def test_publish_show_watch_pages_and_rm(shared: Path, vdso: str, start: Start) -> None:
    where = ["--directory", str(shared)]
    words = [vdso, "publish", "quotes", "bid:f64", "venue:str[8]", "mark:bytes[2]", "depth:f32[3]", *where]
    publisher = start(words)
    assert publisher.stdin is not None
    assert publisher.stderr is not None
    assert f"quotes is {shared}/quotes." in publisher.stderr.readline()

    def send(line: str) -> None:
        assert publisher.stdin is not None
        publisher.stdin.write(line + "\n")
        publisher.stdin.flush()

    done = finish([vdso, "show", "quotes", *where])
    assert (done.returncode, done.stderr) == (1, "vdso: the page has never been written\n")
    watching = start([vdso, "watch", "quotes", "--json", "--count", "2", *where])
    send('{"bid": 99.5, "venue": "XLON", "mark": "0aff", "depth": [1, "nan", 3]}')
    assert watching.stdout is not None
    first = json.loads(watching.stdout.readline())
    assert first == {"version": 1, "bid": 99.5, "venue": "XLON", "mark": "0aff", "depth": [1.0, "nan", 3.0]}
    for line, says in [
        ('{"bid": "x"}', "line 2: bid: f64 wants a number"),
        ("nonsense", "line 3: no JSON"),
        ("[1]", "line 4: record: a line is an object"),
        ('{"nothing": 1}', "line 5: nothing: quotes has no such field"),
        ('{"mark": "xy"}', "line 6: mark: 'xy' is not hexadecimal"),
        ('{"mark": "000102"}', "line 7: mark: 3 bytes are too many"),
    ]:
        send(line)
        assert says in publisher.stderr.readline()
    send('{"bid": 100}')
    assert json.loads(watching.stdout.readline())["bid"] == 100.0
    assert watching.wait(TIMEOUT_S) == 0
    assert finish([vdso, "show", "quotes", "bid", *where]).stdout == "100.0\n"
    assert finish([vdso, "show", "quotes", "depth[1]", *where]).stdout == "nan\n"
    shown = finish([vdso, "show", "quotes", *where]).stdout
    assert "venue  XLON" in shown
    assert json.loads(finish([vdso, "show", "quotes", "bid", "--json", *where]).stdout) == {
        "version": 2,
        "bid": 100,
    }
    for field in ("nothing", "bid.x", "depth[9]", "__class__", "as_"):
        done = finish([vdso, "show", "quotes", field, *where])
        assert (done.returncode, done.stdout) == (2, "")
        assert "no such field" in done.stderr
    (listed,) = json.loads(finish([vdso, "pages", "--json", *where]).stdout)
    assert (listed["name"], listed["alive"], listed["publisher_pid"]) == ("quotes", True, publisher.pid)
    assert listed["fields"]["depth"] == "f32[3]"
    done = finish([vdso, "rm", "quotes", *where])
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        1,
        f"vdso: quotes has a publisher: process {publisher.pid}",
    )
    publisher.stdin.close()
    assert publisher.wait(TIMEOUT_S) == 1  # some lines were refused
    table = finish([vdso, "pages", *where]).stdout
    assert "gone" in table
    assert finish([vdso, "show", "quotes", "bid", *where]).stdout == "100.0\n"
    done = finish([vdso, "watch", "quotes", "--timeout", "0.05", *where])
    assert (done.returncode, done.stdout.split()[:2]) == (1, ["2", "bid=100.0"])
    assert finish([vdso, "rm", "quotes", *where]).returncode == 0
    assert list(shared.iterdir()) == []
    assert finish([vdso, "rm", "quotes", *where]).returncode == 1
    assert finish([vdso, "pages", *where]).stdout == "no pages\n"


@pytest.mark.parametrize(
    "words",
    [
        ["publish", "q"],
        ["publish", "q", "a"],
        ["publish", "q", "a:f65"],
        ["publish", "q", "wait:f64"],
        ["publish", "q", "a:f64", "a:f64"],
        ["publish", "1", "a:f64"],
        ["publish", "q", "a:f64", "--mode", "x"],
        ["publish", "q", "a:f64", "--mode", "666"],
        ["publish", "q", "a:f64", "--slots", "3"],
        ["show"],
        ["show", "a/b"],
        ["watch", "q", "--count", "x"],
        ["watch", "q", "--count", "-3"],
        ["watch", "q", "--count", "0"],
        ["watch", "q", "--timeout", "nan"],
        ["watch", "q", "--timeout", "-1"],
        ["watch", "q", "--timeout", "soon"],
        ["rm"],
        ["pages", "more"],
    ],
)
def test_usage(vdso: str, tmp_path: Path, words: list[str]) -> None:
    done = finish([vdso, *words, *(["--directory", tmp_path] if words[0] == "publish" else [])])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("vdso: ")


@pytest.mark.parametrize("words", [["publish", "q", "a:f64"], ["pages"]])
@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("/proc/zz", "/proc/zz: no such file or directory"),
        ("/etc/passwd/x", "/etc/passwd/x: not a directory"),
        ("", "the directory's name is empty"),
    ],
)
def test_no_directory(vdso: str, words: list[str], where: str, says: str) -> None:
    done = finish([vdso, *words, "--directory", where])
    assert (done.returncode, done.stdout, done.stderr.splitlines()[0]) == (1, "", f"vdso: {says}")


def test_publish_from_a_file(vdso: str, tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.write_text('{"dark": true}\n\n{"rate": "inf"}\n', encoding="utf-8")
    where = ["--directory", str(tmp_path / "pages")]
    done = finish([vdso, "publish", "flags", "dark:bool", "rate:f32", "--from", lines, "--quiet", *where])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    shown = json.loads(finish([vdso, "show", "flags", "--json", *where]).stdout)
    assert shown == {"version": 2, "dark": True, "rate": "inf"}
    done = finish([vdso, "publish", "flags", "dark:bool", "--from", tmp_path / "none", *where])
    assert (done.returncode, done.stderr) == (1, f"vdso: {tmp_path}/none: no such file or directory\n")


def test_watch_on_a_terminal_is_a_table(tmp_path: Path, vdso: str, terminal: Terminal) -> None:
    from vdso import publish

    with publish("flags", Flags, directory=tmp_path, initial=Flags(True)) as publisher:
        terminal.type(shlex.join([vdso, "watch", "flags", "--directory", str(tmp_path)]) + "\n")
        read_until(terminal.fd, r"version 1[\s\S]*label")
        publisher.update(rate=7.25)
        read_until(terminal.fd, r"version 2[\s\S]*7\.25")
        terminal.type("\x03")
        terminal.expect(Terminal.PROMPT)
        assert "130" in terminal.command("echo $?")


@pytest.mark.parametrize("more", [[], ["--json"], ["--timeout", "100"]])
def test_watch_ends_when_nobody_reads_it(tmp_path: Path, vdso: str, more: list[str]) -> None:
    from vdso import publish

    with publish("flags", Flags, directory=tmp_path, initial=Flags(True)):
        watch = shlex.join([vdso, "watch", "flags", "--directory", str(tmp_path), *more])
        done = finish(["bash", "-c", f"{watch} | head -1; echo ${{PIPESTATUS[0]}}"])
        assert done.stderr == ""
        assert done.stdout.splitlines()[1:] == ["141"]


def test_text_is_no_command_to_the_terminal(tmp_path: Path, vdso: str, terminal: Terminal) -> None:
    from vdso import publish

    where = ["--directory", str(tmp_path)]
    with publish("flags", Flags, directory=tmp_path, initial=Flags(True, label="\x1b[2J\n")):
        shown = r"\x1b[2J\n"
        assert shown in finish([vdso, "show", "flags", *where]).stdout
        assert finish([vdso, "show", "flags", "label", *where]).stdout == shown + "\n"
        watched = finish([vdso, "watch", "flags", "--count", "1", *where]).stdout
        assert watched == f"1 dark=true rate=1.5 label={shown}\n"
        for command in (["show"], ["watch", "--count", "1"]):
            line = json.loads(finish([vdso, *command, "flags", "--json", *where]).stdout)
            assert line["label"] == "\x1b[2J\n"
        terminal.type(shlex.join([vdso, "watch", "flags", "--count", "1", *where]) + "\n")
        read_until(terminal.fd, r"label.*\\x1b\[2J\\n")


def test_the_usual_place(vdso: str) -> None:
    """Where everybody looks, without being told."""
    from vdso import publish

    name = f"test-{os.getpid()}"
    with publish(name, Flags, initial=Flags(True)) as publisher:
        try:
            assert finish([vdso, "show", name, "rate"]).stdout == "1.5\n"
            assert name in finish([vdso, "pages"]).stdout
            assert os.stat(os.path.dirname(publisher.path)).st_uid == os.geteuid()
        finally:
            publisher.close()
            remove(name)
