"""One live page, read by every language while it is being written flat out."""

import ctypes
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from harness import SOURCES, TIMEOUT_S, Start, Words, finish, lacking, want

from vdso.pages import library, schema
from vdso.pages.header import header
from vdso.pages.publisher import publish

ROOT = Path(__file__).resolve().parents[2]
CORE = [f"-I{ROOT / 'c/include'}", f"-I{ROOT / 'c/core'}", str(ROOT / "c/core/page.c")]
WARNINGS = ["-Wall", "-Wextra", "-Werror"]


@schema.page
class Level:
    price: schema.F64
    count: schema.U32


@schema.page
class Origin:
    x: schema.I16
    y: schema.I16


@schema.page
class Record:
    seq: schema.U64
    neg: schema.I64
    half: schema.F64
    third: schema.F32
    low: schema.U32
    byte: schema.U8
    odd: schema.Bool
    venue: schema.Str[16]
    blob: schema.Bytes[12]
    depth: schema.Array[schema.F64, 10]
    levels: schema.Array[Level, 3]
    origin: Origin


LAYOUT = schema.layout_of(Record)


def lay(path: Path, layout: schema.Layout, name: str = "live", slots: int = 4) -> library.Library:
    """A live library whose page is zeroes as yet."""
    made = library.build(layout, name, slots=slots)
    with path.open("wb") as file:
        file.write(made.prefix)
        file.truncate(made.size)
    return made


@dataclass
class Live:
    """A page: the link to its file, what was built of it, its header's directory, its writer's program."""

    path: Path
    layout: schema.Layout
    made: library.Library
    directory: Path
    writer: Path

    def writing(self, period_us: int = 0) -> list[str]:
        made = self.made
        layout = self.layout
        numbers = (4, layout.record_size, layout.hash, made.fields_offset, made.fields_size, period_us)
        return [str(self.writer), str(self.path), str(made.page_offset), *map(str, numbers)]

    def compile(self, name: str, *words: str, source: str = "live.c", behind: tuple[str, ...] = ()) -> Path:
        out = self.directory / name
        if not out.exists():
            command = [
                *words,
                *WARNINGS,
                f"-I{self.directory}",
                str(SOURCES / source),
                "-o",
                str(out),
                *behind,
            ]
            done = finish(command, timeout=180)
            assert done.returncode == 0, done.stderr
        return out


def place(directory: Path, layout: schema.Layout) -> Live:
    """A page `live` of this layout, never written as yet, with its header and a writer."""
    path = directory / "live.so"
    path.symlink_to("live.0123456789ab.so")
    made = lay(path, layout)
    (directory / "live.h").write_text(header(layout, "live", str(path)))
    writer = directory / "live_writer"
    command = ["gcc", "-O2", "-D_GNU_SOURCE", f"-I{directory}", str(SOURCES / "live_writer.c"), *CORE]
    done = finish([*command, "-o", str(writer)])
    assert done.returncode == 0, done.stderr
    return Live(path, layout, made, directory, writer)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Live:
    return place(tmp_path_factory.mktemp("live"), LAYOUT)


@pytest.fixture
def flat_out(live: Live, start: Start) -> Live:
    """The page, with a writer that never pauses."""
    return begin(live, start, 0)


@pytest.fixture
def paced(live: Live, start: Start) -> Live:
    """The page, with a version a millisecond."""
    return begin(live, start, 1000)


def begin(live: Live, start: Start, period_us: int) -> Live:
    process = start(live.writing(period_us))
    version = function(live.path, "live_version", ctypes.c_uint64)
    wait = function(live.path, "live_wait", ctypes.c_int)
    wait.argtypes = [ctypes.c_uint64, ctypes.c_int64]
    seen = version()
    # In small steps: a writer that is flat out wakes nobody.
    for _ in range(TIMEOUT_S * 100):
        wait(seen, 10_000_000)
        if version() != seen:
            return live
    pytest.fail(f"the writer does not write: {process.poll()}")


def function(path: Path, name: str, returns: type) -> Any:
    found = ctypes.CDLL(str(path))[name]
    found.restype = returns
    return found


def check(words: Words, **more: Any) -> None:
    """Runs a reader until it has seen a hundred versions: nothing torn, and nothing said."""
    done = finish(words, **more)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) >= 100


# ---- C ----

WAYS: dict[str, Callable[[], list[str]]] = {
    "dlopen": lambda: ["gcc", "-std=gnu99", "-O2", "-pthread"],
    "c++": lambda: [want("g++", "g++"), "-x", "c++", "-O1", "-pthread"],
    "static": lambda: ["gcc", "-O2", "-static", "-pthread", "-DVDSO_STATIC"],
    "loader": lambda: ["gcc", "-O2", "-pthread", "-DVDSO_STATIC"],
    "musl": lambda: [want("musl-gcc", "musl-tools"), "-O2"],
    "musl-static": lambda: [want("musl-gcc", "musl-tools"), "-O2", "-static", "-DVDSO_STATIC"],
}


@pytest.mark.parametrize("way", WAYS)
def test_c(way: str, flat_out: Live) -> None:
    check([flat_out.compile(f"live-{way}", *WAYS[way]()), "300000"])


@pytest.mark.parametrize("way", ["dlopen", "musl"])
def test_c_linked(way: str, flat_out: Live) -> None:
    behind = str(flat_out.path), f"-Wl,-rpath,{flat_out.directory}"
    program = flat_out.compile(f"live-linked-{way}", *WAYS[way](), "-DLINKED", behind=behind)
    check([program, "300000"])
    done = finish([program, "1000"], env={**os.environ, "LD_BIND_NOW": "1"})
    assert done.returncode == 0, done.stderr


@pytest.mark.soak
@pytest.mark.parametrize("way", ["dlopen", "static"])
def test_c_for_long(way: str, flat_out: Live) -> None:
    check([flat_out.compile(f"live-{way}", *WAYS[way]()), "200000000"], timeout=3600)


@pytest.mark.parametrize("mode", ["threads", "fork"])
@pytest.mark.parametrize("way", ["dlopen", "static"])
def test_c_threads_and_forks(way: str, mode: str, flat_out: Live) -> None:
    check([flat_out.compile(f"live-{way}", *WAYS[way]()), "50000", mode])


@pytest.mark.parametrize("way", ["dlopen", "static"])
def test_locked_in_memory(way: str, flat_out: Live) -> None:
    """mlockall faults every page in, for writing where that is allowed: a private copy would stand still."""
    program = flat_out.compile(f"live-{way}", *WAYS[way]())
    done = finish([program, "50000", "lock"])
    if done.returncode != 0 and "mlockall" in done.stderr:
        lacking("mlockall is not allowed here")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("way", ["dlopen", "musl", "static", "loader"])
def test_a_write_faults(way: str, flat_out: Live) -> None:
    done = finish([flat_out.compile(f"live-{way}", *WAYS[way]()), "1", "write"])
    assert done.returncode == -signal.SIGSEGV


@pytest.mark.parametrize("way", ["dlopen", "musl", "static"])
def test_waiting(way: str, paced: Live) -> None:
    done = finish([paced.compile(f"live-{way}", *WAYS[way]()), "50", "wait"])
    assert (done.returncode, done.stderr) == (0, "")


def test_under_a_debugger(flat_out: Live) -> None:
    """A breakpoint is written into the code's page, never into the record's: reader and page go on."""
    gdb = want("gdb", "gdb")
    program = flat_out.compile("live-dlopen", *WAYS["dlopen"]())
    commands = [
        "set breakpoint pending on",
        "set confirm off",
        "break live_half",
        "run 2000",
        "info symbol $pc",
    ]
    commands += ["disassemble live_seq", "delete", "continue"]
    words: list[str | Path] = [gdb, "-nx", "-batch", *(w for c in commands for w in ("-ex", c)), program]
    done = finish(words, timeout=60)
    assert "live_half in section .text of" in done.stdout, done.stdout + done.stderr
    assert "vdso_reader_u64" in done.stdout
    assert "<live_page>" in done.stdout
    assert "exited normally" in done.stdout, done.stdout + done.stderr


def test_stepping_unwinds(flat_out: Live) -> None:
    """From within the reader code the caller is found by .eh_frame, where no frame pointer leads."""
    program = flat_out.compile("live-dlopen", *WAYS["dlopen"]())
    commands = [
        "set breakpoint pending on",
        "set confirm off",
        "break vdso_reader_snapshot_of",
        "run 10",
        "bt",
    ]
    commands += ["stepi", "stepi", "stepi", "stepi", "stepi", "stepi", "bt"]
    done = finish(
        [want("gdb", "gdb"), "-nx", "-batch", *(w for c in commands for w in ("-ex", c)), program], timeout=60
    )
    assert done.stdout.count(" in main ") == 2, done.stdout + done.stderr


def test_unwinding_from_anywhere(flat_out: Live) -> None:
    """What profilers and C++ exceptions do: from any instruction of the library to its caller's caller."""
    program = flat_out.compile("unwind", "gcc", "-O2", source="unwind.c")
    done = finish([program, "300"])
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


# ---- other languages ----


def test_rust(flat_out: Live) -> None:
    program = flat_out.directory / "live-rust"
    done = finish([want("rustc", "rustc"), "-O", "-o", program, SOURCES / "live.rs"], timeout=180)
    assert done.returncode == 0, done.stderr
    check([program, flat_out.path, "300000", str(LAYOUT.hash)])


def test_go(flat_out: Live) -> None:
    program = flat_out.directory / "live-go"
    source = flat_out.directory / "go" / "live.go"
    source.parent.mkdir()
    shutil.copyfile(SOURCES / "live.go", source)
    shutil.copyfile(flat_out.directory / "live.h", source.parent / "live.h")
    env = {**os.environ, "CGO_ENABLED": "1", "GOTOOLCHAIN": "local", "GO111MODULE": "off"}
    env.setdefault("GOCACHE", str(flat_out.directory / "go-cache"))
    done = finish([want("go", "golang-go"), "build", "-o", program, source], timeout=180, env=env)
    assert done.returncode == 0, done.stderr
    check([program, flat_out.path, "50000"])


def test_node(flat_out: Live) -> None:
    modules = koffi()
    env = {**os.environ, "NODE_PATH": str(modules)}
    words = [want("node", "nodejs"), SOURCES / "live.js", flat_out.path, "5000", str(LAYOUT.hash)]
    check(words, env=env, timeout=60)


def koffi() -> Path:
    """Where koffi is installed: build/node, by .ci/run or now."""
    modules = ROOT / "build" / "node" / "node_modules"
    if not (modules / "koffi").is_dir():
        npm = want("npm", "npm")
        done = finish(
            [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", modules.parent, "koffi@2"],
            timeout=180,
        )
        if done.returncode != 0:
            lacking(f"koffi cannot be installed by npm: {done.stderr[-200:]}")
    return modules


def test_java(flat_out: Live) -> None:
    javac = want("javac", "default-jdk-headless")
    home = Path(javac).resolve().parents[1]
    includes = [f"-I{home / 'include'}", f"-I{home / 'include' / 'linux'}"]
    shim = flat_out.compile("live-jni.so", "gcc", "-O2", "-shared", "-fPIC", *includes, source="LiveJni.c")
    done = finish([javac, "-d", flat_out.directory, SOURCES / "Live.java"], timeout=180)
    assert done.returncode == 0, done.stderr
    words = ["java", "-Xshare:auto", "-cp", flat_out.directory, "Live", shim, flat_out.path, "50000"]
    check(words, timeout=60)


def test_ctypes(flat_out: Live) -> None:
    words = [sys.executable, "-I", SOURCES / "live_ctypes.py", flat_out.path, "10000", str(LAYOUT.hash)]
    check(words)


# ---- what changes under a program ----


@schema.page
class Quotes:
    bid: schema.F64
    ask: schema.F64


@schema.page
class Wider:
    bid: schema.F64
    venue: schema.Str[16]
    ask: schema.F64


@schema.page
class Coarser:
    bid: schema.F32
    ask: schema.F64


@pytest.fixture
def published(tmp_path: Path, vdso: str) -> tuple[Path, Path]:
    """A directory with the page `quotes` and one with programs that were built for its first layout."""
    pages, programs = tmp_path / "pages", tmp_path / "programs"
    programs.mkdir()
    with publish("quotes", Quotes, directory=pages) as quotes:
        quotes.update(bid=1.5, ask=2.5)
        done = finish([vdso, "header", "quotes", "--directory", pages, "--output", programs / "quotes.h"])
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        source, common = SOURCES / "quotes.c", [*WARNINGS, f"-I{programs}"]
        linked = ["-DLINKED", source, pages / "quotes.so", f"-Wl,-rpath,{pages}"]
        for name, words in {
            "dlopen": [source],
            "static": ["-static", "-DVDSO_STATIC", source],
            "linked": linked,
        }.items():
            done = finish(["gcc", *common, *words, "-o", programs / name])
            assert done.returncode == 0, done.stderr
    return pages, programs


@pytest.mark.parametrize("way", ["dlopen", "static"])
def test_another_layout(way: str, published: tuple[Path, Path], start: Start) -> None:
    """A program keeps what it has open, is told, and finds its functions in the next page of the name."""
    pages, programs = published
    process = start([programs / way])

    def ask(line: str) -> str:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(line + "\n")
        process.stdin.flush()
        return process.stdout.readline().rstrip("\n")

    assert ask("open") == "open"
    assert ask("read") == "1.5 2.5, version 1, snapshot 0 1.5 2.5"
    with publish("quotes", Wider, directory=pages) as quotes:
        quotes.update(bid=3.5, venue="XETR", ask=4.5)
        assert ask("wait") == "7"
        assert ask("read") == "1.5 2.5, version 1, snapshot 0 1.5 2.5, replaced"
        assert ask("open") == "open"
        # By name; the record has another layout now, so the struct is filled field by field.
        assert ask("read") == "3.5 4.5, version 1, snapshot 0 3.5 4.5"
        quotes.update(ask=5.5)
        assert ask("read") == "3.5 5.5, version 2, snapshot 0 3.5 5.5"
    with publish("quotes", Coarser, directory=pages) as quotes:
        assert "has no function quotes_bid.f64" in ask("open")
    with publish("quotes", Quotes, directory=pages, initial={"bid": 6.5, "ask": 7.5}):
        assert ask("open") == "open"
        assert ask("read").startswith("6.5 7.5")


@pytest.mark.parametrize("way", ["dlopen", "musl-static"])
def test_a_later_layout_while_it_is_written(way: str, live: Live, tmp_path: Path, start: Start) -> None:
    """A snapshot of an earlier layout is of one version all the same: more fields, a longer array."""
    fields = [(f.name, schema.FieldType(f.kind, f.item_size, f.shape, f.record)) for f in LAYOUT.fields]
    depth = next(number for number, (name, _) in enumerate(fields) if name == "depth")
    fields[depth] = ("depth", schema.parse_type("f64[12]", ""))
    fields[4:4] = [("added", schema.parse_type("str[24]", "")), ("more", schema.scalar("u8"))]
    later = place(tmp_path, schema.make("Later", fields))
    begin(later, start, 100)
    program = live.compile(f"live-{way}", *WAYS[way]())
    check([program, "2000", "later"], env={**os.environ, "LIVE": str(later.path)})


@schema.page
class Point:
    x: schema.I16
    y: schema.F64


@schema.page
class Label:
    label: schema.Str[4]


@schema.page
class Rows:
    grid: schema.Array[schema.F32, 2, 3]
    points: schema.Array[Point, 2, 2]
    texts: schema.Array[schema.Str[4], 3]
    blobs: schema.Array[schema.Bytes[3], 2]
    inner: Label


@schema.page
class MovedRows:
    first: schema.U8
    inner: Label
    blobs: schema.Array[schema.Bytes[3], 2]
    texts: schema.Array[schema.Str[5], 4]
    between: schema.F64
    points: schema.Array[Point, 2, 2]
    grid: schema.Array[schema.F32, 2, 3]


def test_rows(tmp_path: Path, vdso: str) -> None:
    """Arrays of every kind, by their functions and in a record: of the program's layout, and of another."""
    point = [[Point(1, 1.5), Point(2, 2.5)], [Point(3, 3.5), Point(4, 4.5)]]
    values = {
        "grid": [[1, 2, 3], [4, 5, 6]],
        "points": point,
        "texts": ["a", "bc", "defg"],
        "blobs": [b"\1\2\3", b"\4\5\6"],
        "inner": Label("full"),
    }
    said = "1 1 2 2 3 3 4 4 5 5 6 6 1,1.5 1,1.5 2,2.5 2,2.5 3,3.5 3,3.5 4,4.5 4,4.5 a a bc bc defg defg "
    said += "123 123 456 456 full\n"
    with publish("rows", Rows, directory=tmp_path) as rows:
        rows.update(**values)
        done = finish([vdso, "header", "rows", "--directory", tmp_path, "--output", tmp_path / "rows.h"])
        assert done.returncode == 0, done.stderr
        words = ["gcc", "-O2", *WARNINGS, f"-I{tmp_path}", SOURCES / "rows.c", "-o", tmp_path / "rows"]
        done = finish(words)
        assert done.returncode == 0, done.stderr
        done = finish([tmp_path / "rows"])
        assert (done.stdout, done.stderr) == (said, "")
    with publish("rows", MovedRows, directory=tmp_path) as moved:
        moved.update(**values | {"texts": [*values["texts"], "h"]}, first=9, between=9)
        done = finish([tmp_path / "rows"])
        assert (done.stdout, done.stderr) == (said, "")


def test_another_layout_linked(published: tuple[Path, Path]) -> None:
    pages, programs = published
    with publish("quotes", Wider, directory=pages) as quotes:
        quotes.update(bid=3.5, venue="XETR", ask=4.5)
        done = finish([programs / "linked"], input="read\n")
        assert (done.stdout, done.stderr) == ("3.5 4.5, version 1, snapshot 0 3.5 4.5\n", "")
    with publish("quotes", Coarser, directory=pages):
        done = finish([programs / "linked"], input="read\n", env={**os.environ, "LD_BIND_NOW": "1"})
        assert done.returncode == 127
        assert "undefined symbol: quotes_bid.f64" in done.stderr


def test_goes_on_with_the_next_publisher(published: tuple[Path, Path], start: Start) -> None:
    """The same layout is the same page: who has it open sees what the next publisher writes."""
    pages, programs = published
    process = start([programs / "dlopen"])
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("open\nread\n")
    process.stdin.flush()
    assert [process.stdout.readline() for _ in range(2)] == [
        "open\n",
        "1.5 2.5, version 1, snapshot 0 1.5 2.5\n",
    ]
    with publish("quotes", Quotes, directory=pages) as quotes:
        quotes.update(ask=9.5)
        process.stdin.write("read\n")
        process.stdin.flush()
        assert process.stdout.readline() == "1.5 9.5, version 2, snapshot 0 1.5 9.5\n"


def test_the_example_of_the_document(tmp_path: Path, vdso: str) -> None:
    text = (ROOT / "docs" / "header.md").read_text()
    (tmp_path / "example.c").write_text(text.split("```c\n")[1].split("```")[0])
    with publish("quotes", Wider, directory=tmp_path) as quotes:
        quotes.update(bid=1.5, venue="XETR", ask=2.5)
        done = finish([vdso, "header", "quotes", "--directory", tmp_path, "--output", tmp_path / "quotes.h"])
        assert done.returncode == 0, done.stderr
        for words in ([], ["-DVDSO_STATIC", "-static"]):
            done = finish(["gcc", *WARNINGS, *words, tmp_path / "example.c", "-o", tmp_path / "example"])
            assert done.returncode == 0, done.stderr
            assert finish([tmp_path / "example"]).stdout == "1.5\n1.5 2.5 XETR, version 1\n"


def test_the_example(tmp_path: Path, vdso: str, start: Start) -> None:
    """examples/prices: published by Python, read by C, each version once."""
    pages = tmp_path / "pages"
    example = ROOT / "examples" / "prices"
    publisher = start([sys.executable, example / "publish.py", str(TIMEOUT_S), pages])
    assert publisher.stdout is not None
    assert "publishing" in publisher.stdout.readline()
    done = finish([vdso, "header", "prices", "--directory", pages, "--output", tmp_path / "prices.h"])
    assert (done.returncode, done.stderr) == (0, "")
    done = finish(["gcc", *WARNINGS, f"-I{tmp_path}", example / "read.c", "-o", tmp_path / "read"])
    assert done.returncode == 0, done.stderr
    done = finish([tmp_path / "read", "20"])
    assert (done.returncode, done.stderr) == (0, "")
    versions = [int(line.split()[0]) for line in done.stdout.splitlines()]
    assert len(set(versions)) == 20
    assert versions == sorted(versions)
    publisher.kill()
    publisher.wait(TIMEOUT_S)
    done = finish([tmp_path / "read", "100000"])
    assert (done.returncode, done.stderr) == (1, "nobody publishes\n")


def test_a_path_without_a_slash(live: Live, start: Start) -> None:
    begin(live, start, 1000)
    program = live.compile("live-dlopen", *WAYS["dlopen"]())
    for path in ("live.so", "./live.so", "live.0123456789ab.so"):
        check([program, "10"], cwd=live.directory, env={**os.environ, "LIVE": path})


# ---- what may go wrong ----


@pytest.mark.usefixtures("as_root")
def test_noexec(live: Live) -> None:
    """dlopen and the loader say so in one line; vdso.open does not mind."""
    noexec = live.directory / "noexec"
    noexec.mkdir()
    script = f"mount -t tmpfs -o noexec none {noexec} && cp {live.path} {noexec}/live.so && "
    script += f"for program; do LIVE={noexec}/live.so $program 1; done"
    programs = [live.compile(f"live-{way}", *WAYS[way]()) for way in ("dlopen", "static")]
    done = finish(["unshare", "-m", "sh", "-c", script, "sh", *programs])
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert "failed to map segment" in first
    assert "noexec" in second


def test_no_page(live: Live, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no library\n" * 100)
    for path, way, said in (
        (tmp_path / "none", "dlopen", "No such file"),
        (tmp_path / "none", "static", "No such file"),
        (text, "dlopen", "invalid ELF header"),
        (text, "static", "not a live library"),
        (tmp_path, "static", "directory"),
    ):
        done = finish([live.compile(f"live-{way}", *WAYS[way]()), "1"], env={**os.environ, "LIVE": str(path)})
        assert done.returncode == 1
        assert said in done.stderr


def test_damaged_files(live: Live) -> None:
    """The loader believes no offset that it has not checked."""
    flags = ["gcc", "-O1", "-g", "-fsanitize=undefined", "-fno-sanitize-recover=all"]
    done = finish([live.compile("loader", *flags, source="loader.c"), "20000", "1"])
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nothing-here"], 1, "no page is called nothing-here"),
        (["no/name"], 2, "no name for a page"),
        ([], 2, "NAME"),
        (["quotes", "--output", "/nowhere/at/all.h"], 1, "/nowhere/at/all.h cannot be written: no such file"),
    ],
)
def test_header_command_refuses(
    words: list[str], code: int, said: str, published: tuple[Path, Path], vdso: str
) -> None:
    done = finish([vdso, "header", *words, "--directory", published[0]])
    assert done.returncode == code
    assert said in done.stderr
    assert done.stderr.count("\n") <= 2


def test_header_command_prints(published: tuple[Path, Path], vdso: str) -> None:
    done = finish([vdso, "header", "quotes", "--directory", published[0]])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (published[1] / "quotes.h").read_text()
    assert "double quotes_bid(void)" in done.stdout
