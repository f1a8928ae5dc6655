"""A PostgreSQL server and its client, each on a clock of its own: which timestamps are whose."""

import datetime as dt
import os
import pwd
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from apart import apart
from harness import TIMEOUT_S, Start, Way, finish, lacking, read_until

import vdso as package

DAY = dt.timedelta(days=1)
NEW_YEAR = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
SOON = dt.timedelta(seconds=20)


def programs_of_the_server() -> Path:
    """Debian keeps them off the PATH."""
    found = [Path(path) for path in (shutil.which("initdb"),) if path]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        lacking("initdb is not installed (Debian: postgresql)")
    return found[-1].parent


class Cluster(NamedTuple):
    directory: str  # where its socket is
    data: str
    words: list[str]  # that start the server


@pytest.fixture(scope="module")
def cluster(unprivileged: list[str]) -> Iterator[Cluster]:
    """Of this test's own, and nobody's: the server does not run as root."""
    programs = programs_of_the_server()
    with tempfile.TemporaryDirectory(prefix="vdso-test-") as directory:
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(directory, nobody.pw_uid, nobody.pw_gid)
        data = f"{directory}/data"
        initdb = [programs / "initdb", "-D", data, "-A", "trust", "-U", "vdso", "--no-sync", "--locale=C"]
        done = finish([*unprivileged, *map(str, initdb)], cwd=directory)
        assert done.returncode == 0, done.stderr
        words = [str(programs / "postgres"), "-D", data, "-k", directory, "-c", "listen_addresses="]
        yield Cluster(directory, data, [*words, "-c", "fsync=off", "-c", "timezone=UTC"])


@pytest.fixture
def serve(start: Start, cluster: Cluster) -> Iterator[Callable[..., int]]:
    """Starts the server behind these words, gives its process id once it takes connections, and stops it."""
    started = []

    def run(*prefix: str) -> int:
        server = start([*prefix, *cluster.words])
        assert server.stderr is not None
        read_until(server.stderr.fileno(), "ready to accept connections\n")
        started.append(server)
        return int(Path(cluster.data, "postmaster.pid").read_text(encoding="ascii").split()[0])

    yield run
    for server in started:
        server.send_signal(signal.SIGINT)  # whoever is still connected is not waited for
        assert server.wait(TIMEOUT_S) == 0


@pytest.fixture
def server(serve: Callable[..., int], unprivileged: list[str]) -> int:
    """One on the host's clock."""
    return serve(*unprivileged)


@pytest.fixture
def connect(cluster: Cluster) -> Iterator[Callable[..., Any]]:
    try:
        import psycopg
    except ImportError:
        lacking("psycopg is not installed")
    open_ones: list[Any] = []

    def run() -> Any:
        connection = psycopg.connect(f"host={cluster.directory} user=vdso dbname=postgres", autocommit=True)
        open_ones.append(connection)
        return connection

    yield run
    for connection in open_ones:
        connection.close()


def ask(connection: Any, expression: str, *parameters: object) -> Any:
    return connection.execute(f"select {expression}", parameters).fetchone()[0]


def near(moment: dt.datetime, wanted: dt.datetime) -> bool:
    return -SOON / 20 < moment - wanted < SOON


def here() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def server_now(connection: Any) -> dt.datetime:
    """By both of the server's clock functions, which have to agree."""
    transaction, statement = ask(connection, "now()"), ask(connection, "clock_timestamp()")
    assert near(statement, transaction)
    assert isinstance(transaction, dt.datetime)
    return transaction


def traced(connection: Any, directory: Path) -> list[dt.datetime]:
    """The times that libpq, in C, writes beside what it sends and receives."""
    path = directory / "trace"
    with path.open("wb") as stream:
        connection.pgconn.trace(stream.fileno())
        ask(connection, "1")
        connection.pgconn.untrace()
    found = re.findall(r"^(\S+ \S+)\t[FB]\t", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(found) > 4
    return [dt.datetime.fromisoformat(text).astimezone(dt.UTC) for text in found]


@pytest.mark.usefixtures("server")
@apart
def test_a_client_that_travels(connect: Callable[..., Any], tmp_path: Path) -> None:
    """The timestamps of the client are where it is, also those that libpq makes; the server's are its own."""
    connection = connect()
    os.environ["TZ"] = "UTC"  # libpq writes local time
    with package.travel(NEW_YEAR) as clock:
        assert near(ask(connection, "%s", here()), NEW_YEAR)
        assert all(near(moment, NEW_YEAR) for moment in traced(connection, tmp_path))
        assert server_now(connection) < NEW_YEAR
        assert server_now(connect()) < NEW_YEAR, "and a connection that is made there"
        clock.freeze()
        assert len({ask(connection, "%s", here()) for _ in range(3)}) == 1
        assert ask(connection, "clock_timestamp()") < ask(connection, "clock_timestamp()")
    assert near(ask(connection, "%s", here()), server_now(connection))
    assert all(near(moment, server_now(connection)) for moment in traced(connection, tmp_path))


CLIENT = """
import datetime as dt, sys, psycopg
with psycopg.connect(f"host={sys.argv[1]} user=vdso dbname=postgres") as connection:
    print(*connection.execute("select %s, now()", (dt.datetime.now(dt.timezone.utc),)).fetchone(), sep="\\n")
"""


@pytest.mark.usefixtures("server")
def test_a_client_that_is_run(cluster: Cluster, privileged: Way) -> None:
    options = ["--at", NEW_YEAR.isoformat()]
    done = privileged.run(sys.executable, "-c", CLIENT, cluster.directory, offset=None, options=options)
    assert (done.returncode, done.stderr) == (0, "")
    client, server = map(dt.datetime.fromisoformat, done.stdout.splitlines())
    assert near(client, NEW_YEAR)
    assert near(server, here())


def test_a_server_on_a_session(
    serve: Callable[..., int],
    cluster: Cluster,
    connect: Callable[..., Any],
    vdso: str,
    unprivileged: list[str],
    privileged: Way,
) -> None:
    """All its processes go by it, connected before or after a change, and what they store."""
    session = f"postgres-{os.getpid()}"
    way = Way(vdso, unprivileged)
    options = ["--session", session, "--at", NEW_YEAR.isoformat()]
    serve(*way.words(offset=None, options=options))

    def adjust(*words: str) -> None:
        done = finish([vdso, "time", session, *words])
        assert (done.returncode, done.stderr) == (0, "")

    first = connect()
    assert near(server_now(first), NEW_YEAR)
    assert here() < NEW_YEAR, "the client's is the host's"
    assert here() < ask(first, "pg_postmaster_start_time()")
    first.execute("create table notes (made timestamptz default now())")
    first.execute("insert into notes default values")
    began = time.monotonic()
    ask(first, "pg_sleep(0.05)")
    with pytest.raises(Exception, match="statement timeout"):
        first.execute("set statement_timeout = 50; select pg_sleep(1000)")
    first.execute("reset statement_timeout")
    assert 0.1 <= time.monotonic() - began < TIMEOUT_S, "its waits take their time"
    later = NEW_YEAR + 365 * DAY
    adjust("--at", later.isoformat(), "--freeze")
    second = connect()
    assert {server_now(each) for each in (first, second)} == {later}
    second.execute("insert into notes default values")
    assert near(ask(first, "min(made) from notes"), NEW_YEAR)
    assert ask(first, "max(made) from notes") == later
    adjust("--rate", "1000")
    assert server_now(first) <= server_now(second) <= server_now(first), "one clock"
    adjust("--rate", "1")
    # A client on the same session agrees with it.
    options = ["--session", session]
    done = privileged.run(sys.executable, "-c", CLIENT, cluster.directory, offset=None, options=options)
    assert (done.returncode, done.stderr) == (0, "")
    client, server = map(dt.datetime.fromisoformat, done.stdout.splitlines())
    assert client >= later
    assert near(server, client)
    adjust("--reset")
    assert near(server_now(first), here())


def test_a_server_that_is_attached(server: int, connect: Callable[..., Any], vdso: str) -> None:
    """Whoever is connected already has a process of its own; those that come after are forked from it."""
    before = connect()

    def attach(verb: str, *words: object) -> None:
        done = finish([vdso, verb, *map(str, words), "--timeout", "20"])
        # Root may set the host's clock, which attaching says.
        said = re.sub(r"vdso: .*(may set the host's clock|is not followed).*\n", "", done.stderr)
        assert (done.returncode, said) == (0, "")

    session = f"postgres-attached-{os.getpid()}"
    attach("attach", server, "--session", session, "--at", NEW_YEAR.isoformat(), "--freeze")
    after = connect()
    assert server_now(after) == NEW_YEAR
    assert near(server_now(before), here())
    attach("attach", before.info.backend_pid, "--session", session)
    assert server_now(before) == NEW_YEAR
    for process in (server, before.info.backend_pid, after.info.backend_pid):
        attach("detach", process)
    assert all(near(server_now(each), here()) for each in (before, after, connect()))
