"""`vdso detach`: gives an attached process the host's clock back. vdso.swap.attach does it."""

import sys

from vdso.commands.attach import pid, timeout_s
from vdso.commands.parser import Parser

HELP = """\
usage: vdso detach PID [--timeout SECONDS] [--json]

Gives a process that was attached (`vdso attach`), or forked by one that was, the host's clock back. Its vDSO
is again what the kernel gave it; our pages, which nothing leads to any more, stay until it execs or ends. Its
session goes on for the other processes on it. What `vdso stat` has started counts no more.

  --timeout SECONDS  for how long to try again while the process cannot be stopped (default 2)
  --json             print what was done as JSON

example:
  vdso detach 1234

exit status:
  0 detached; 2 usage; 122 it was not attached; 113 to 124 other reasons: docs/detach.md
"""


def main(words: list[str]) -> int:
    """Detaches and says so in one line. Raises as vdso.swap.attach.detach()."""
    parser = Parser("detach", HELP)
    parser.add_argument("pid")
    parser.add_argument("--timeout", default="2")
    parser.add_argument("--json", action="store_true")
    options = parser.read(words)
    if options is None:
        return 0
    target, patience_s = pid(options.pid), timeout_s(options.timeout)

    try:
        _detach(target, patience_s, as_json=options.json)
    except KeyboardInterrupt as interrupt:
        from vdso.swap.attach import told

        raise told(interrupt, target) from None
    return 0


def _detach(target: int, patience_s: float, *, as_json: bool) -> None:
    from vdso.kernel.process import need_proc
    from vdso.swap.attach import detach

    need_proc()
    done = detach(target, timeout_s=patience_s)
    if as_json:
        from vdso.commands.output import print_json

        print_json(done)
    elif done.left:
        sys.stdout.write(
            f"detached {done.name} (pid {done.pid}): it is not counted any more; the image and the filter of "
            "`vdso stat` stay with it until it ends\n"
        )
    else:
        sys.stdout.write(
            f"detached {done.name} (pid {done.pid}); it stood still for {done.stood_ns / 1e6:.1f} ms\n"
        )
