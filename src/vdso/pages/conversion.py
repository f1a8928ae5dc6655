"""A snapshot as an instance of somebody's class, and back from a pickle."""

import sys
from typing import Any

from vdso import _core
from vdso.errors import PageDiffers
from vdso.pages import records, schema
from vdso.pages.schema import Layout


def convert(snapshot: _core.Snapshot, wanted: Any) -> Any:
    """The record as an instance of a schema with the same fields. Raises PageDiffers, BadSchema."""
    layout = schema.layout_of(wanted)
    found: Layout = snapshot._record.layout
    if found != layout:
        raise PageDiffers("this snapshot", schema.differences(found, layout))
    ctypes = sys.modules.get("ctypes")
    is_class = isinstance(wanted, type)
    if ctypes is not None and is_class and issubclass(wanted, ctypes.Structure):
        # One that is packed, or padded, by its own rules is filled by its fields.
        if ctypes.sizeof(wanted) == layout.size and not hasattr(wanted, "_pack_"):
            return wanted.from_buffer_copy(bytes(memoryview(snapshot)))
    elif not is_class:
        import numpy

        # Same fields need not be same places, nor the same order of bytes.
        kind = wanted if isinstance(wanted, numpy.dtype) else found.dtype
        return numpy.frombuffer(bytes(memoryview(snapshot)), found.dtype).astype(kind)[0]
    return _made(snapshot, wanted)


def _made(snapshot: Any, wanted: Any) -> Any:
    return wanted(
        **{
            name: _value(getattr(snapshot, name), found.cls)
            for name, found in schema.types_of(wanted).items()
        }
    )


def _value(value: Any, cls: type | None) -> Any:
    if cls is None:
        return value
    if isinstance(value, tuple):
        return tuple(_value(item, cls) for item in value)
    return _made(value, cls)


def restore(layout: Layout, version: int, data: bytes) -> _core.Snapshot:
    """What a pickled snapshot was."""
    return _core.Snapshot._from_bytes(records.record_of(layout), version, data)
