"""A bench's result in a file: the JSON that `vdso bench --json` prints, written whole or not at all.

What is read is checked field by field against vdso.measure.result: a file may be anybody's.
"""

import dataclasses
import json
import math
import os
import stat
import types
import typing
from typing import Any, NoReturn

from vdso.errors import SourceError, shown
from vdso.kernel.file import KINDS
from vdso.measure.result import FORMAT, KIND, BenchResult

# A default run takes some 500 KB.
BYTES_MAX = 64 << 20
HINT = "vdso bench --save FILE writes one"


def load(path: str) -> BenchResult:
    """Reads a saved run. Raises SourceError: not there, foreign, cut off, of another format."""
    try:
        # Whatever it is, opening it waits for nobody.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with open(fd, "rb") as stream:
            kind = stat.S_IFMT(os.fstat(fd).st_mode)
            if kind != stat.S_IFREG:
                raise SourceError(f"{path}: no saved bench: {KINDS.get(kind, 'no regular file')}", HINT)
            data = stream.read(BYTES_MAX + 1)
    except OSError as error:
        raise SourceError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    except ValueError as error:
        raise SourceError(f"{path!r}: {error}") from None
    if len(data) > BYTES_MAX:
        raise SourceError(f"{path}: no saved bench: larger than {BYTES_MAX >> 20} MiB", HINT)
    return loads(data, path)


def loads(data: bytes, path: str) -> BenchResult:
    """The run in a saved file's bytes; `path` is for the error's line. Raises SourceError."""
    try:
        value = json.loads(data.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise SourceError(f"{path}: no saved bench: not JSON, or cut off", HINT) from None
    if not isinstance(value, dict) or value.get("kind") != KIND:
        raise SourceError(f"{path}: no saved bench", HINT)
    found = value.get("format")
    if found != FORMAT:
        shown = found if isinstance(found, int) else "none"
        whose = "a newer" if isinstance(found, int) and found > FORMAT else "another"
        raise SourceError(
            f"{path}: saved in {whose} version's format ({shown}; this one reads {FORMAT})", "save it again"
        )
    try:
        result = decode(BenchResult, value, "")
        check(result)
    except ValueError as error:
        raise SourceError(f"{path}: a damaged bench: {error}", HINT) from None
    assert isinstance(result, BenchResult)
    return result


def check(result: BenchResult) -> None:
    """What types alone do not say. Raises ValueError."""
    keys = [row.key for row in result.rows]
    if len(set(keys)) != len(keys):
        raise ValueError("a row is there twice")
    for row in result.rows:
        figures = (row.median_ns, row.p5_ns, row.p95_ns)
        if row.rounds != len(row.rounds_ns):
            raise ValueError(f"{row.name}: {row.rounds} rounds and {len(row.rounds_ns)} values")
        if any((figure is None) != (row.rounds == 0) for figure in figures):
            raise ValueError(f"{row.name}: figures without rounds, or rounds without figures")


def decode(wanted: Any, value: Any, where: str) -> Any:
    """The JSON value as that type: a dataclass, a tuple of one type, a union with None, or plain.
    ValueError.
    """
    origin, inner = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{where} is no list")
        return tuple(decode(inner[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if origin is types.UnionType:
        return None if value is None else decode(inner[0], value, where)
    if isinstance(wanted, type) and dataclasses.is_dataclass(wanted):
        if not isinstance(value, dict):
            raise ValueError(f"{where} is no object")
        fields = typing.get_type_hints(wanted)
        missing = [name for name in fields if name not in value]
        if missing:
            raise ValueError(f"no {f'{where}.' if where else ''}{missing[0]}")
        return wanted(
            **{
                name: decode(kind, value[name], f"{where}.{name}" if where else name)
                for name, kind in fields.items()
            }
        )
    if wanted is float and type(value) is int:
        value = float(value) if abs(value) < 1 << 53 else math.inf
    if type(value) is not wanted or (wanted is float and not math.isfinite(value)):
        raise ValueError(f"{where} is no {wanted.__name__}")
    # Whose file it is nobody knows, and its texts reach the terminal.
    return shown(value) if isinstance(value, str) else value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


# ---- writing ----


def check_writable(path: str) -> None:
    """Says before a run what would go wrong after it. Raises SourceError."""
    try:
        directory = os.path.dirname(os.path.realpath(path))
        if os.path.isdir(path):
            raise SourceError(f"{path}: is a directory")
        if not os.path.isdir(directory):
            raise SourceError(f"{path}: no such directory")
        # As vdso.commands.output.write_file does it: what is there has to be writable itself, also where
        # another file takes its place.
        needed = [path] if os.path.exists(path) else []
        needed += [directory] if _replaceable(path) else []
        if not all(os.access(each, os.W_OK) for each in needed):
            raise SourceError(f"{path}: permission denied")
    except OSError as error:
        raise SourceError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except ValueError as error:
        raise SourceError(f"{path!r}: {error}") from None


def _replaceable(path: str) -> bool:
    """Whether there is nothing yet, or an ordinary file."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return True
