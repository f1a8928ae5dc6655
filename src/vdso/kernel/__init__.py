"""The kernel's vDSO, only read: what is mapped, the image's bytes, the data before it.

Knows neither pages nor anything above itself. What is named here is imported when it is asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vdso.kernel.image import Function as Function
    from vdso.kernel.image import HashTable as HashTable
    from vdso.kernel.image import Image as Image

__all__ = ["Function", "HashTable", "Image"]


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    from importlib import import_module

    if name in __all__:
        return getattr(import_module("vdso.kernel.image"), name)
    try:
        return import_module(f"vdso.kernel.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"vdso.kernel.{name}":
            raise
        raise AttributeError(f"module 'vdso.kernel' has no attribute {name!r}") from None
