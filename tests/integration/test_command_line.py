"""`vdso run` in front of a command changes nothing but the clock: statuses, streams, signals, jobs."""

import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from harness import TIMEOUT_S, Start, Terminal, Way, finish, host_clocks, parse_reading, read_until, until

CLOCKS = pytest.mark.parametrize("clock", ["kernel", "tsc"])


def read_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return read_until(process.stdout.fileno(), "\n").strip()


def wait_for_end(fd: int) -> str:
    """Until the last process that holds the stream's other end has gone."""
    return read_until(fd, "")


# ---- how it ends ----


@CLOCKS
@pytest.mark.parametrize("status", [0, 1, 3, 125, 255])
def test_its_own_status(way: Way, status: int, clock: str) -> None:
    done = way.run("sh", "-c", f"exit {status}", clock=clock)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGSEGV])
def test_ended_by_a_signal(way: Way, number: signal.Signals) -> None:
    done = way.run("sh", "-c", f"ulimit -c 0; kill -{number.value} $$")
    assert (done.returncode, done.stderr) == (-number.value, "")
    line = way.line("sh", "-c", f"ulimit -c 0; kill -{number.value} $$")
    assert finish(["bash", "-c", f"{line}\nexit $?"]).returncode == 128 + number.value


@pytest.fixture
def refused(open_directory: Path) -> dict[str, Path]:
    """Files that are no programs, by what is wrong with them."""
    files = {name: open_directory / name for name in ("closed", "garbage", "no-interpreter", "script")}
    files["closed"].write_text("#!/bin/sh\n", encoding="utf-8")
    files["garbage"].write_bytes(b"\x7fELF and no more\n")
    files["no-interpreter"].write_text("#!/nowhere/at/all\n", encoding="utf-8")
    files["script"].write_text("date '+wall %s'\n", encoding="utf-8")
    for name, path in files.items():
        path.chmod(0o644 if name == "closed" else 0o755)
    return files


def test_not_found(way: Way, refused: dict[str, Path]) -> None:
    for word in (
        "no-such-command",
        "/nowhere/at/all",
        str(refused["closed"] / "below"),
        str(refused["no-interpreter"]),
    ):
        done = way.run(word, "argument")
        assert (done.returncode, done.stdout) == (127, "")
        assert re.fullmatch(rf"vdso: {re.escape(word)}: .*\n", done.stderr)


def test_not_executable(way: Way, refused: dict[str, Path]) -> None:
    for word in ("/", str(refused["closed"])):
        done = way.run(word)
        assert (done.returncode, done.stdout) == (126, "")
        assert re.fullmatch(rf"vdso: {re.escape(word)}: permission denied\n", done.stderr, re.IGNORECASE)


def test_a_script_without_an_interpreter(way: Way, refused: dict[str, Path]) -> None:
    """As with env, nohup and the rest: execvp's rule is that the shell reads it."""
    way.read(refused["script"]).assert_moved()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--"],
        ["--offset", "+1000d"],
        ["--at", "noon", "--", "date"],
        ["--at", "2030-13-01", "--", "date"],
        ["--offset", "+1x", "--", "date"],
        ["--offset", "--", "date"],
        ["--at", "2030-01-01", "--offset", "+1d", "--", "date"],
        ["--clock", "sundial", "--", "date"],
        ["--no-such-option", "--", "date"],
        ["--", ""],
    ],
)
def test_a_command_line_that_cannot_be_meant(vdso: str, words: list[str]) -> None:
    done = finish([vdso, "run", *words])
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"vdso: .+\n(  .+\n)?", done.stderr)


# ---- what it is given ----


def test_streams(way: Way) -> None:
    data = "".join(f"{number}\n" for number in range(100_000))
    done = way.run("sh", "-c", "cat; echo error >&2", input=data)
    assert (done.returncode, done.stdout == data, done.stderr) == (0, True, "error\n")


def state(way: Way, words: list[str], **more: object) -> tuple[str, str]:
    """What a command sees, plain (by the same prefix) and under `vdso run`."""
    plain = finish([*way.prefix, *words], **more)
    under = way.run(*words, **more)
    assert (plain.returncode, plain.stderr) == (0, "")
    assert (under.returncode, under.stderr) == (0, "")
    return plain.stdout, under.stdout


@pytest.mark.parametrize("clock", ["kernel", "tsc", "no-follow"])
def test_descriptors(way: Way, clock: str) -> None:
    more = ["--no-follow"] if clock == "no-follow" else ["--clock", clock]
    words = ["sh", "-c", "cd /proc/self/fd && printf '%s\\n' *"]
    with open(os.devnull, encoding="utf-8") as extra:
        plain = finish([*way.prefix, *words], pass_fds=[extra.fileno()])
        under = way.run(*words, pass_fds=[extra.fileno()], options=more)
        assert str(extra.fileno()) in plain.stdout.split()
    assert (under.stdout, under.stderr) == (plain.stdout, "")


@pytest.mark.parametrize(("words", "status"), [("", 2), ("--help", 0), ("run --help", 0), ("no-such", 2)])
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_help_with_closed_streams(vdso: str, words: str, status: int, closed: str) -> None:
    done = finish(["sh", "-c", f'exec "$0" {words} {closed}', vdso])
    assert done.returncode == status
    assert "Traceback" not in done.stderr


@CLOCKS
@pytest.mark.parametrize("closed", [[0], [1], [0, 1], [0, 1, 2], [2]])
def test_closed_streams(privileged: Way, closed: list[int], clock: str) -> None:
    """What is closed stays closed, and nothing of ours takes its number."""
    read, write = os.pipe()
    script = f"""
        cd /proc/self/fd
        for fd in 0 1 2; do [ ! -e $fd ] || found="$found $fd"; done
        echo open $found >&{write}; date '+wall %s' >&{write}
    """
    redirects = " ".join(f"{fd}<&-" for fd in closed)
    before = host_clocks()
    line = f'{privileged.line(clock=clock)} bash -c "$1" {redirects}'
    done = finish(["bash", "-c", line, "bash", script], pass_fds=[write])
    os.close(write)
    first, rest = wait_for_end(read).split("\n", 1)
    after = host_clocks()
    os.close(read)
    assert (done.returncode, done.stderr) == (0, "")
    assert first.split()[1:] == [str(fd) for fd in (0, 1, 2) if fd not in closed]
    parse_reading(rest, before, after).assert_moved()


@pytest.mark.parametrize("environment", [{**os.environ, "ODD": "a\nb", "EMPTY": ""}, {"PATH": os.defpath}])
def test_surroundings(way: Way, environment: dict[str, str], open_directory: Path) -> None:
    """Directory, mask, limits, priority and environment."""
    script = (
        "pwd; umask; ulimit -a; nice; cat /proc/self/oom_score_adj; env -0 | tr '\\0' '\\n' | grep -v ^_="
    )
    plain, under = state(way, ["bash", "-c", script], cwd=open_directory, umask=0o123, env=environment)
    assert sorted(under.splitlines()) == sorted(plain.splitlines())


# Not SIGPIPE and SIGXFSZ: the interpreter ignores them before it can tell whether they were ignored before.
IGNORED = [signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR2]
BLOCKED = [signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD, signal.SIGINT]


@pytest.mark.parametrize("ignored", [[], IGNORED])
@pytest.mark.parametrize("blocked", [[], BLOCKED])
def test_signal_dispositions(way: Way, ignored: list[int], blocked: list[int]) -> None:
    def prepare() -> None:
        for number in (*IGNORED, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    words = ["grep", "-E", "Sig(Blk|Ign|Cgt)", "/proc/self/status"]
    plain, under = state(way, words, preexec_fn=prepare, restore_signals=False)
    assert under == plain


def test_no_child_that_is_not_its_own(way: Way) -> None:
    """`wait` finds nothing, and no child of ours turns up in the command's."""
    done = way.run(
        sys.executable,
        "-c",
        "import os\ntry:\n    print(os.waitpid(-1, 0))\nexcept ChildProcessError:\n    print('none')",
    )
    assert (done.stdout, done.stderr) == ("none\n", "")


# ---- who it is ----


@CLOCKS
def test_it_is_the_command(privileged: Way, start: Start, clock: str) -> None:
    process = start(privileged.words("sh", "-c", "echo $$ $PPID; read -r line", clock=clock))
    assert read_line(process) == f"{process.pid} {os.getpid()}"


@CLOCKS
def test_the_shell_knows_its_pid(privileged: Way, clock: str) -> None:
    line = privileged.line("sh", "-c", "echo $$", clock=clock)
    done = finish(["bash", "-c", f"{line} & echo $!; wait"])
    first, second = done.stdout.split()
    assert first == second


def ancestors(pid: int) -> list[int]:
    found = []
    while pid > 1:
        found.append(pid)
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
        match = re.search(r"^PPid:\s*(\d+)", text, re.MULTILINE)
        assert match is not None
        pid = int(match[1])
    return found


def test_below_the_command_line(under_yama: Way, start: Start) -> None:
    """Whoever traces is an ancestor of the command, in a session of its own."""
    process = start(under_yama.words("sh", "-c", "echo $$; read -r line"))
    command = int(read_line(process))
    line = ancestors(command)
    assert process.pid in line[1:]
    between = line[1 : line.index(process.pid)]
    names = [Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip() for pid in between]
    assert "vdso-follower" in names
    # The guard goes there while the command begins.
    until(lambda: all(os.getsid(pid) not in (process.pid, os.getsid(0)) for pid in between))
    assert os.getsid(command) == os.getsid(process.pid) == process.pid
    assert os.getpgid(command) == os.getpgid(process.pid)


def test_beside_the_command(privileged: Way, start: Start) -> None:
    process = start(privileged.words("sh", "-c", "echo $$; read -r line"))
    assert ancestors(int(read_line(process)))[:2] == [process.pid, os.getpid()]


# ---- pipes ----


@CLOCKS
def test_a_pipe_whose_reader_goes(way: Way, clock: str) -> None:
    line = way.line("yes", clock=clock)
    done = finish(["bash", "-c", f'{line} | head -1; echo "${{PIPESTATUS[@]}}"'])
    assert (done.stdout, done.stderr) == ("y\n141 0\n", "")


@CLOCKS
def test_a_pipe_between_two(way: Way, clock: str) -> None:
    first, second = way.line("seq", "100000", clock=clock), way.line("tail", "-1", clock=clock)
    assert finish(["bash", "-c", f"set -o pipefail; {first} | {second}"]).stdout == "100000\n"


@CLOCKS
def test_a_background_child_keeps_no_pipe(way: Way, start: Start, clock: str) -> None:
    """Nor does what follows it: the streams end when the command's own holders have gone."""
    script = "sleep 1000 </dev/null >/dev/null 2>&1 & echo $!"
    process = start(way.words("sh", "-c", script, clock=clock))
    out, err = process.communicate(timeout=TIMEOUT_S)
    try:
        assert (process.returncode, err) == (0, "")
        assert Path(f"/proc/{int(out)}/comm").read_text(encoding="utf-8") == "sleep\n"
    finally:
        os.kill(int(out), signal.SIGKILL)


@CLOCKS
def test_a_server_in_the_background(way: Way, start: Start, clock: str) -> None:
    """`vdso run -- sh -c 'server &'` returns, and what the server starts later is still followed."""
    request, ask = os.pipe()
    answers, answer = os.pipe()
    server = f"""
        exec <&{request} {ask}>&- {request}<&- {answers}<&-
        while read -r line; do (date "+wall %s"; exec sh -c 'date "+wall %s"'); echo; done >&{answer} 2>&1
    """
    words = way.words("bash", "-c", f"({server}) </dev/null >/dev/null 2>&1 & true", clock=clock)
    process = start(words, pass_fds=[request, ask, answers, answer])
    assert process.communicate(timeout=TIMEOUT_S) == ("", "")
    assert process.returncode == 0
    os.close(request)
    os.close(answer)
    for _ in range(3):
        before = host_clocks()
        os.write(ask, b"\n")
        said = read_until(answers, "\n\n")
        reading = parse_reading(said, before, host_clocks())
        assert len(reading.lines) == 2
        reading.assert_moved()
    os.close(ask)
    assert wait_for_end(answers) == ""
    os.close(answers)


# ---- signals ----

SIGNALS = [signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGALRM]


# It takes them one by one: a shell's trap that comes just before its read waits for that to return.
TAKES_SIGNALS = """\
import signal, sys
numbers = [int(word) for word in sys.argv[1:]]
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
print("ready", flush=True)
for _ in numbers:
    print(int(signal.sigwait(numbers)), flush=True)
sys.stdin.readline()
sys.exit(7)
"""


def test_signals_reach_the_command(way: Way, start: Start) -> None:
    numbers = [str(number.value) for number in SIGNALS]
    process = start(way.words(sys.executable, "-c", TAKES_SIGNALS, *numbers))
    assert read_line(process) == "ready"
    for number in SIGNALS:
        process.send_signal(number)
        assert read_line(process) == str(number.value)
    out, err = process.communicate("end\n", timeout=TIMEOUT_S)
    assert (process.returncode, out, err) == (7, "", "")


def test_a_signal_that_ends_it(way: Way, start: Start) -> None:
    process = start(way.words("sh", "-c", "echo ready; exec cat"))
    assert read_line(process) == "ready"
    process.send_signal(signal.SIGTERM)
    assert process.wait(TIMEOUT_S) == -signal.SIGTERM


def wait_for_change(pid: int, options: int) -> int:
    """waitpid, with a limit."""

    def late(*_: object) -> None:
        raise TimeoutError(f"process {pid} does not change")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(TIMEOUT_S)
    try:
        return os.waitpid(pid, options)[1]
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_stop_and_continue(way: Way, start: Start) -> None:
    process = start(way.words("cat"))
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("one\n")
    process.stdin.flush()
    assert read_line(process) == "one"
    os.killpg(process.pid, signal.SIGSTOP)
    assert os.WIFSTOPPED(wait_for_change(process.pid, os.WUNTRACED))
    process.stdin.write("two\n")
    process.stdin.flush()
    assert not select.select([process.stdout], [], [], 0)[0]
    os.killpg(process.pid, signal.SIGCONT)
    assert os.WIFCONTINUED(wait_for_change(process.pid, os.WCONTINUED))
    assert read_line(process) == "two"


def test_the_command_stops_itself(way: Way, start: Start) -> None:
    """Whoever waits sees it stopped; continuing what it waits for continues the command."""
    process = start(way.words("sh", "-c", "kill -STOP $$; echo on"))
    assert os.WIFSTOPPED(wait_for_change(process.pid, os.WUNTRACED))
    process.send_signal(signal.SIGCONT)
    assert read_line(process) == "on"
    assert process.wait(TIMEOUT_S) == 0


@CLOCKS
def test_killed(way: Way, start: Start, clock: str) -> None:
    """The command goes with it: its end of the pipe closes."""
    process = start(way.words("sh", "-c", "echo ready; exec cat /dev/stdin", clock=clock), stderr=None)
    assert read_line(process) == "ready"
    process.kill()
    assert process.wait(TIMEOUT_S) == -signal.SIGKILL
    assert process.stdout is not None
    assert wait_for_end(process.stdout.fileno()) == ""


# ---- a terminal ----


@pytest.fixture
def shell(way: Way, terminal: Terminal, open_directory: Path) -> Terminal:
    """On which `run` is the command line, however many words that takes."""
    script = open_directory / "run"
    script.write_text(f'#!/bin/sh\nexec {way.line()} "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    terminal.command(f"PATH=$PATH:{open_directory}")
    return terminal


@pytest.mark.parametrize(("key", "number"), [("\x03", signal.SIGINT), ("\x1c", signal.SIGQUIT)])
def test_interrupted_from_the_keyboard(shell: Terminal, key: str, number: int) -> None:
    shell.type("ulimit -c 0; run sh -c 'echo ready; exec cat'\n")
    shell.expect("ready")
    shell.type(key)
    shell.expect(shell.PROMPT)
    assert f"status={128 + number}" in shell.command("echo status=$?")


def test_a_command_that_handles_the_interrupt(shell: Terminal) -> None:
    """It gets it once, and may go on."""
    shell.type(
        """run bash -c 'trap "echo caught" INT; echo ready; read -r a; read -r a; echo got $a; exit 9'\n"""
    )
    shell.expect("ready")
    shell.type("\x03")
    shell.expect("caught")
    shell.type("first\nsecond\n")
    said = shell.expect(shell.PROMPT)
    assert "got second" in said
    assert "caught" not in said
    assert "status=9" in shell.command("echo status=$?")


def test_stopped_from_the_keyboard(shell: Terminal) -> None:
    # One process: another of the job could still take the next line that is typed, before it stops.
    shell.type("run sh -c 'while read -r line; do echo $line; done; exit 4'\n")
    shell.type("one\n")
    shell.expect("one")
    for word in ("two", "three"):
        shell.type("\x1a")
        assert "Stopped" in shell.expect(shell.PROMPT)
        assert "Stopped" in shell.command("jobs")
        shell.type("fg\n")
        shell.expect("run sh")
        shell.type(f"{word}\n")
        shell.expect(word)
    shell.type("\x04")
    shell.expect(shell.PROMPT)
    assert "status=4" in shell.command("echo status=$?")


def test_a_job_in_the_background(shell: Terminal) -> None:
    """It is stopped when it reads the terminal, and goes on in the foreground."""
    shell.type("set -b; run sh -c 'read -r a; echo got $a' &\n")
    shell.expect("Stopped|suspended")
    shell.type("fg\n")
    shell.expect("run sh")
    shell.type("it\n")
    shell.expect("got it")
    shell.expect(shell.PROMPT)
    assert "status=0" in shell.command("echo status=$?")


def test_it_has_the_terminal(shell: Terminal) -> None:
    assert "0 yes" in shell.command("run sh -c 'tty >/dev/null; echo $? $(test -t 2 && echo yes)'")


def test_a_pipeline_on_the_terminal(shell: Terminal) -> None:
    said = shell.command("run yes | head -2; echo ${PIPESTATUS[@]}; run date +wall-%s | cat")
    assert re.search(r"y\s+y\s+141 0\s+wall-\d+", said)
