"""Headless Chromium, by its DevTools protocol over a pipe: no port, no network, no driver beside it.

https://chromedevtools.github.io/devtools-protocol/: a message is JSON that ends with a NUL.
"""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

LIMIT_S = 60
# Nothing of what a browser does by itself, and no sandbox: root has none.
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--force-color-profile=srgb",
    "--remote-debugging-pipe",
]


class Browser:
    """One page in one browser. `events`: what the page has told since it was opened, newest last."""

    def __init__(self, program: str) -> None:
        self._directory = tempfile.mkdtemp(prefix="vdso-browser-")
        down, up = os.pipe(), os.pipe()
        # Far from the two numbers that they are to have.
        theirs = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in (down[0], up[1])]
        pipes = f'exec "$@" 3<&{theirs[0]} 4>&{theirs[1]}'
        words = [program, *FLAGS, f"--user-data-dir={self._directory}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", pipes, "bash", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=theirs,
            start_new_session=True,
            env={**os.environ, "HOME": self._directory, "TMPDIR": self._directory},
        )
        for fd in (down[0], up[1], *theirs):
            os.close(fd)
        self._out, self._in, self._read = down[1], up[0], b""
        self._number = 0
        self._session = ""
        self.events: list[dict[str, Any]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command's result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + LIMIT_S
        while b"\0" not in self._read:
            ready, _, _ = select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"the browser says nothing within {LIMIT_S} s"
            data = os.read(self._in, 1 << 20)
            assert data, "the browser has ended"
            self._read += data
        message, _, self._read = self._read.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def wait_for(self, event: str) -> dict[str, Any]:
        """The first event of that name since the page was opened."""
        while True:
            for told in self.events:
                if told.get("method") == event:
                    parameters: dict[str, Any] = told["params"]
                    return parameters
            self.events.append(self._next())

    def open(self, path: Path, width: int = 1000, height: int = 900) -> None:
        """Loads a file on a screen of that width, and waits until all of it is there."""
        self.screen(width, height)
        self.events.clear()
        self.ask("Page.navigate", url=path.resolve().as_uri())
        self.wait_for("Page.loadEventFired")

    def screen(self, width: int, height: int = 900) -> None:
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def media(self, media: str = "screen", scheme: str = "light") -> None:
        """screen or print, light or dark."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.ask("Emulation.setEmulatedMedia", media=media, features=features)

    def run(self, script: str) -> Any:
        """An expression's value."""
        done = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def picture(self, *, whole: bool = False) -> bytes:
        """What is seen, or all of the page, as PNG."""
        more: dict[str, Any] = {}
        if whole:
            size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
            more = {"captureBeyondViewport": True, "clip": {**size, "scale": 1}}
        return base64.b64decode(self.ask("Page.captureScreenshot", format="png", **more)["data"])

    def printed(self) -> bytes:
        """The page on paper, as PDF."""
        return base64.b64decode(self.ask("Page.printToPDF", printBackground=False)["data"])

    def requests(self) -> list[str]:
        """Every address that was asked for."""
        return [
            told["params"]["request"]["url"]
            for told in self.events
            if told.get("method") == "Network.requestWillBeSent"
        ]

    def complaints(self) -> list[str]:
        """What a console would show: errors, warnings, messages of scripts."""
        found = []
        for told in self.events:
            if told.get("method") == "Log.entryAdded":
                found.append(str(told["params"]["entry"]["text"]))
            elif told.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
                found.append(json.dumps(told["params"]))
        return found

    def close(self) -> None:
        os.close(self._out)
        os.close(self._in)
        # The session is its own: whatever the browser has started goes with it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(LIMIT_S)
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> "Browser":
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()
