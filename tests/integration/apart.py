"""Tests that change the process they run in: each in a forked child, so that pytest's stays as it is."""

import functools
import os
import traceback
from collections.abc import Callable
from typing import Any

import pytest


def apart(test: Callable[..., None]) -> Callable[..., None]:
    """The test, in a child that ends with it; its failure is shown as the child saw it."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.close(read)
                test(*args, **kwargs)
                status = 0
            except BaseException:
                os.write(write, traceback.format_exc().encode()[-60000:])
            finally:
                os._exit(status)
        os.close(write)
        with os.fdopen(read, encoding="utf-8", errors="replace") as stream:
            said = stream.read()
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status != 0:
            pytest.fail(said or f"the test's process ended with status {status}", pytrace=False)

    return run


def in_child(body: Callable[[], object]) -> int:
    """Forks a process that does this; gives its pid. Its exit status says whether it raised nothing."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            body()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def succeeded(pid: int) -> bool:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
