"""A record's values as people and JSON have them, and back.

JSON has no bytes and no infinities: bytes are hexadecimal text, and nan, inf and -inf are the words.
"""

import math
from typing import Any

from vdso.commands import output
from vdso.errors import BadValue, UsageError
from vdso.pages.schema import Field, Layout

_WORDS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def to_json(value: Any) -> Any:
    """A value, or a whole record by asdict(), as json.dumps takes it."""
    if isinstance(value, dict):
        return {name: to_json(item) for name, item in value.items()}
    if isinstance(value, bytes):
        return value.hex()
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if hasattr(value, "asdict"):
        return to_json(value.asdict())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def to_text(value: Any) -> str:
    """A value in one line, for people: control characters in text are written out, as \\n or \\x1b."""
    if hasattr(value, "asdict"):
        value = value.asdict()
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, str):
        return output.printable(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(to_text(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}={to_text(item)}" for name, item in value.items()) + "}"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def from_json(layout: Layout, given: Any) -> dict[str, Any]:
    """Fields and their values, ready for update(). Raises BadValue."""
    if not isinstance(given, dict):
        raise BadValue("record", "a line is an object: fields and their values")
    fields = {field.name: field for field in layout.fields}
    return {
        name: _value(fields[name], value, ()) if name in fields else value for name, value in given.items()
    }


def _value(field: Field, value: Any, at: tuple[int, ...]) -> Any:
    if len(at) < len(field.shape) and isinstance(value, list):
        return [_value(field, item, (*at, index)) for index, item in enumerate(value)]
    if field.record is not None and isinstance(value, dict):
        return from_json(field.record, value)
    if field.kind == "bytes" and isinstance(value, str):
        try:
            return bytes.fromhex(value)
        except ValueError:
            raise BadValue(field.name, f"{value!r} is not hexadecimal") from None
    if field.kind in ("f32", "f64") and isinstance(value, str):
        return _WORDS.get(value, value)
    return value


def select(snapshot: Any, path: str) -> Any:
    """A field's value, nested ones by dots and items by brackets: best.price, depth[3]. Raises UsageError."""
    value = snapshot
    for word in path.replace("[", ".[").split("."):
        try:
            if word.startswith("["):
                value = value[int(word[1:].removesuffix("]"))]
            elif word.startswith("_") or word not in value._record.names:
                raise AttributeError
            else:
                value = getattr(value, word)
        except (AttributeError, ValueError, IndexError, TypeError):
            raise UsageError(f"no such field: {path}", "vdso show NAME lists them") from None
    return value.item() if hasattr(value, "item") and not getattr(value, "shape", None) else value
