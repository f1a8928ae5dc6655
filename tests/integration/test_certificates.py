"""A certificate that expires in 2030, checked by OpenSSL in a client that travels, is run, or is attached."""

import contextlib
import os
import re
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from apart import apart
from harness import TIMEOUT_S, Start, Way, finish, read_until, want

import vdso as package

BEGINS = "2029-06-01T00:00:00Z"  # for a year
BEFORE, WITHIN, AFTER = "2029-01-01", "2029-12-31", "2031-01-01"
SAID = {BEFORE: "not yet valid", WITHIN: "trusted", AFTER: "expired"}


@pytest.fixture(scope="module")
def certificate(privileged: Way, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With its key in one file. It says when it was made."""
    path = tmp_path_factory.mktemp("certificate") / "certificate.pem"
    words = [want("openssl", "openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "365"]
    words += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = privileged.run(*words, "-keyout", path, "-out", "-", offset=None, options=["--at", BEGINS])
    assert made.returncode == 0, made.stderr
    with path.open("a", encoding="ascii") as stream:
        stream.write(made.stdout)
    return path


@pytest.fixture
def port(certificate: Path) -> Iterator[int]:
    """Of a server that has it, and greets whoever trusts it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connection.settimeout(TIMEOUT_S)
                with (
                    contextlib.suppress(OSError),
                    context.wrap_socket(connection, server_side=True) as secure,
                ):
                    secure.sendall(b"welcome")

        server = threading.Thread(target=serve)
        server.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        server.join(TIMEOUT_S)


CLIENT = """
import socket, ssl, sys

def greet(port, trusted):
    context = ssl.create_default_context(cafile=trusted)
    try:
        with socket.create_connection(("127.0.0.1", port)) as plain, \\
                context.wrap_socket(plain, server_hostname="localhost") as secure:
            return "trusted" if secure.recv(99) == b"welcome" else "strange"
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
"""
ASKED = "for _ in sys.stdin: print(greet(int(sys.argv[1]), sys.argv[2]), flush=True)\n"


@apart
def test_travelling(port: int, certificate: Path) -> None:
    """A handshake over TCP, of this process and at each of the times in turn."""
    room: dict[str, object] = {}
    exec(CLIENT, room)
    greet = room["greet"]
    assert callable(greet)
    for when in (AFTER, WITHIN, BEFORE, WITHIN):
        with package.travel(when):
            assert SAID[when] in greet(port, str(certificate))


@pytest.mark.parametrize("when", SAID)
def test_running(privileged: Way, port: int, certificate: Path, when: str) -> None:
    """Python's client and OpenSSL's own program."""
    words: list[str | Path] = [sys.executable, "-c", CLIENT + ASKED, str(port), certificate]
    done = privileged.run(*words, input="\n", offset=None, options=["--at", when])
    assert (done.returncode, done.stderr) == (0, "")
    assert SAID[when] in done.stdout
    words = ["openssl", "verify", "-CAfile", certificate, certificate]
    done = privileged.run(*words, offset=None, options=["--at", when])
    assert (done.returncode == 0) == (when == WITHIN)
    assert ("OK" if when == WITHIN else SAID[when]) in done.stdout + done.stderr


def test_attached(start: Start, vdso: str, port: int, certificate: Path) -> None:
    process = start([sys.executable, "-c", CLIENT + ASKED, str(port), certificate])
    assert process.stdin is not None
    assert process.stdout is not None
    session = f"certificate-{os.getpid()}"
    steps = [["attach", str(process.pid), "--session", session, "--at", AFTER, "--timeout", "20"]]
    steps += [["time", session, "--at", when] for when in (WITHIN, BEFORE)]
    for words in steps:
        done = finish([vdso, *words])
        # Root may set the host's clock, which attaching says.
        said = re.sub(r"vdso: .*(may set the host's clock|is not followed).*\n", "", done.stderr)
        assert (done.returncode, said) == (0, "")
        process.stdin.write("\n")
        process.stdin.flush()
        assert SAID[words[words.index("--at") + 1]] in read_until(process.stdout.fileno(), r"\n")
