"""A WSGI application whose four workers all see a flag the moment it is flipped.

gunicorn --config gunicorn.conf.py app      then, while it serves:
python flip.py new_checkout=true rollout_percent=25
"""

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from flags import NAME, Flags

import vdso

# Opened once. Before the fork (--preload) or after it makes no difference: it is a read-only mapping.
flags = vdso.open(NAME, expect=Flags)


def application(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    # One snapshot a request: flags that were flipped together are seen together, however long it takes.
    now = flags.snapshot()
    body = {"worker": os.getpid(), "version": now.version, **now.asdict()}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(body).encode() + b"\n"]
