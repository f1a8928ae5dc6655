"""Run programs on a vDSO of your own: `vdso run`.

Importing this costs nothing: whatever is heavier than a name is imported by who asks for it.
"""

TYPE_CHECKING = False  # typing's own would have to be imported
if TYPE_CHECKING:
    from vdso import kernel as kernel
    from vdso import measure as measure

__version__ = "0.1.0"
__all__ = ["__version__"]


def __getattr__(name: str) -> object:
    """vdso.kernel and vdso.measure, as soon as they are named."""
    if name in ("kernel", "measure"):
        from importlib import import_module

        return import_module(f"vdso.{name}")
    raise AttributeError(f"module 'vdso' has no attribute {name!r}")
