"""Run programs on a vDSO of your own: `vdso run`; publish records for other processes: `vdso.publish()`.

Importing this costs nothing: whatever is heavier than a name is imported by who asks for it.
"""

TYPE_CHECKING = False  # typing's own would have to be imported
if TYPE_CHECKING:
    from vdso import kernel as kernel
    from vdso import measure as measure
    from vdso.pages.publisher import Publisher as Publisher
    from vdso.pages.publisher import publish as publish
    from vdso.pages.reader import Reader as Reader
    from vdso.pages.reader import open_page as open  # noqa: A004, F401
    from vdso.pages.schema import F32 as F32
    from vdso.pages.schema import F64 as F64
    from vdso.pages.schema import I8 as I8
    from vdso.pages.schema import I16 as I16
    from vdso.pages.schema import I32 as I32
    from vdso.pages.schema import I64 as I64
    from vdso.pages.schema import U8 as U8
    from vdso.pages.schema import U16 as U16
    from vdso.pages.schema import U32 as U32
    from vdso.pages.schema import U64 as U64
    from vdso.pages.schema import Array as Array
    from vdso.pages.schema import Bool as Bool
    from vdso.pages.schema import Bytes as Bytes
    from vdso.pages.schema import Str as Str
    from vdso.pages.schema import page as page
    from vdso.swap.travel import freeze as freeze
    from vdso.swap.travel import travel as travel

__version__ = "0.1.0"

_SCHEMA = [
    *("F32", "F64", "I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64"),
    *("Array", "Bool", "Bytes", "Str", "page"),
]
# Where a name is, and what it is called there.
_ROOMS = {
    **{name: ("vdso.pages.schema", name) for name in _SCHEMA},
    "publish": ("vdso.pages.publisher", "publish"),
    "Publisher": ("vdso.pages.publisher", "Publisher"),
    "Reader": ("vdso.pages.reader", "Reader"),
    "open": ("vdso.pages.reader", "open_page"),
    "freeze": ("vdso.swap.travel", "freeze"),
    "travel": ("vdso.swap.travel", "travel"),
}

# Not `open`: who imports everything keeps the open() that they know.
__all__ = ["Publisher", "Reader", "__version__", "freeze", "publish", "travel", *_SCHEMA]


def __getattr__(name: str) -> object:
    """vdso.kernel, vdso.measure and what pages are made with, as soon as they are named."""
    if name in ("kernel", "measure"):
        from importlib import import_module

        return import_module(f"vdso.{name}")
    if name not in _ROOMS:
        raise AttributeError(f"module 'vdso' has no attribute {name!r}")
    room, called = _ROOMS[name]
    value: object = getattr(__import__(room, fromlist=[called]), called)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS, "kernel", "measure"})
