"""What things cost, and which way they go: measured on this machine.

What is named here is imported when it is asked for: `vdso look` observes routes, and needs no bench.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vdso.measure.result import BenchResult as BenchResult
    from vdso.measure.rounds import bench as bench

__all__ = ["BenchResult", "bench"]

HOMES = {"BenchResult": "result", "bench": "rounds"}


def __getattr__(name: str) -> Any:
    import importlib

    if name in HOMES:
        return getattr(importlib.import_module(f"vdso.measure.{HOMES[name]}"), name)
    raise AttributeError(f"module 'vdso.measure' has no attribute {name!r}")
