"""`vdso doctor`: is the clock fast here, why not, and what does that cost.

measuring measures, view is what checks look through, catalogue lists them, clocksource, vdso, program and
setting look, diagnosis concludes, result is what comes out. What is named here is imported when it is asked
for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vdso.measure.doctor.examination import diagnose as diagnose
    from vdso.measure.doctor.result import Diagnosis as Diagnosis

__all__ = ["Diagnosis", "diagnose"]

HOMES = {"Diagnosis": "result", "diagnose": "examination"}


def __getattr__(name: str) -> Any:
    import importlib

    if name in HOMES:
        return getattr(importlib.import_module(f"vdso.measure.doctor.{HOMES[name]}"), name)
    raise AttributeError(f"module 'vdso.measure.doctor' has no attribute {name!r}")
