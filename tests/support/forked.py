"""What a function gives in a forked child."""

import contextlib
import os
import pickle
from typing import Any


def run_child(body: Any, *arguments: Any) -> Any:
    """What a function gives in a forked child."""
    inner, outer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        with contextlib.suppress(BaseException):
            os.write(outer, pickle.dumps(body(*arguments)))
            status = 0
        os._exit(status)
    os.close(outer)
    with open(inner, "rb") as stream:
        data = stream.read()
    assert os.waitpid(pid, 0)[1] == 0
    return pickle.loads(data)
