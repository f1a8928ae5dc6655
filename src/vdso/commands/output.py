"""How commands print: one line a fact, tables and JSON, coloured on a terminal only.

Knows nothing of what is printed. What goes into a pipe is neither coloured nor wrapped.
"""

import dataclasses
import enum
import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vdso.errors import OutputRefused, shown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text


def plain(value: Any) -> Any:
    """A result as JSON has it: dataclasses by their fields, enums by their names, bytes in hexadecimal.

    A field whose metadata says `"json": False` is left out.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: plain(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if field.metadata.get("json", True)
        }
    if isinstance(value, enum.Enum):
        return value.name.lower()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return value


def print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(plain(value), indent=2, allow_nan=False) + "\n")


# Control characters, what ends a line, what turns a line's direction, and bytes that are no text.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Somebody else's text for people to read: it stays in its line, and is no command to a terminal."""
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def nobody_reads() -> bool:
    """Whether whoever read the standard output has gone: a pipe's or socket's other end, or a terminal."""
    import select

    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):  # it is no file
        return False
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


STYLES = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "cyan": 36}


def bold(text: str) -> str:
    """The text, bold where standard output is a terminal."""
    return styled(text, "bold")


def styled(text: str, style: str) -> str:
    """The text in one of STYLES, where standard output is a terminal."""
    return f"\x1b[{STYLES[style]}m{text}\x1b[0m" if sys.stdout.isatty() else text


def write_file(path: str, data: bytes | str) -> None:
    """Writes a file whole or not at all; text as UTF-8. Raises OutputRefused.

    A link stays, and what it leads to is replaced and keeps its mode; a pipe or a device is written to, and
    standard output by the name "-".
    """
    if path == "-":
        sys.stdout.flush()
        sys.stdout.buffer.write(data.encode() if isinstance(data, str) else data)
        sys.stdout.flush()
        return
    try:
        _write_file(path, data.encode() if isinstance(data, str) else data)
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise OutputRefused(f"{shown(path)} cannot be written: {reason}") from None


def _write_file(path: str, data: bytes) -> None:
    import errno
    import os
    import signal
    import stat

    target = os.path.realpath(path)
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mask = os.umask(0)
        os.umask(mask)
        mode = stat.S_IFREG | 0o666 & ~mask
    else:
        if not stat.S_ISREG(mode):
            # By the name that was given: where /dev/stderr leads to a pipe, that one's own is no path.
            with open(path, "wb") as file:
                file.write(data)
            return
        if not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, "permission denied")
    directory, name = os.path.split(target)
    # What would end us at once waits until there is nothing half done.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
    try:
        _write_beside(target, directory, name, mode, data)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _write_beside(target: str, directory: str, name: str, mode: int, data: bytes) -> None:
    import contextlib
    import os
    import stat
    import tempfile

    fd, temporary = tempfile.mkstemp(prefix=f".{name[:100]}.", dir=directory)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), stat.S_IMODE(mode))
            file.flush()
            os.fsync(fd)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def console(*, stderr: bool = False) -> "Console":
    """A rich console. Off a terminal it is wide enough for any line."""
    from rich.console import Console

    class Plain(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # the command line's to say, as for what is written without rich

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 10_000
    return Plain(file=stream, width=width, highlight=False, soft_wrap=False, emoji=False, markup=True)


def table_or_lines(
    headers: Sequence[str], rows: Sequence[Sequence[str]], width: int, right: tuple[int, ...] = ()
) -> "Table | Text":
    """A line a row; folded, with all that is in it, where they have no room in so many columns."""
    from rich.text import Text

    widths = [max(len(row[at]) for row in [headers, *rows]) for at in range(len(headers))]
    if sum(widths) + 2 * (len(widths) - 1) <= width:
        table = columns(*headers, right=right)
        for row in rows:
            table.add_row(*map(Text, row))
        return table
    return Text("\n".join(folded(headers, rows, width)))


def folded(headers: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Each row in lines of its own: the first column's word, and below it the others, each behind its
    header."""
    lines: list[str] = []
    for first, *others in rows:
        lines += [first[at : at + width] for at in range(0, max(len(first), 1), width)]
        lines.append("")
        for header, word in zip(headers[1:], others, strict=True):
            said = f"{header} {word}" if header else word
            if not word:
                continue
            if lines[-1] and len(lines[-1]) + 2 + len(said) > width:
                lines.append("")
            lines[-1] += f"  {said}"
    return lines


def columns(*headers: str, right: tuple[int, ...] = ()) -> "Table":
    """An empty table without lines; `right`: the columns of figures."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", show_header=any(headers))
    for index, header in enumerate(headers):
        table.add_column(header, justify="right" if index in right else "left", no_wrap=True)
    return table
