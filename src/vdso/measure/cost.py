"""What one clock call costs on this host: measured once for each that is asked for, by the kernel's own vDSO.

A few milliseconds each; `vdso bench` takes longer, and knows more.
"""

import statistics

from vdso import _core
from vdso.measure.rounds import CALLS, LOOP, Probe, batch_size, pinned, vdso_functions

ROUNDS = 25


class Costs:
    """Of calls by the vDSO, or by system calls past it."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, bool], float | None] = {}
        self._functions: dict[str, int] | None = None

    def ns(self, function: str, clock_id: int = 0, *, raw: bool = False) -> float | None:
        """ns a call, the median of some batches; `raw`: past the vDSO. None where it cannot be made here, or
        took no longer than the timer's noise."""
        key = (function, clock_id, raw)
        if key not in self._known:
            self._known[key] = self._measure(*key)
        return self._known[key]

    def _measure(self, function: str, clock_id: int, raw: bool) -> float | None:
        if self._functions is None:
            self._functions, _ = vdso_functions()
        if not raw and function not in self._functions:
            return None
        probe = Probe(
            function,
            "",
            "syscall" if raw else "vdso",
            _core.ROUTE_SYSCALL if raw else _core.ROUTE_FUNCTION,
            CALLS[function],
            clock_id,
            0 if raw else self._functions[function],
        )
        try:
            with pinned():
                timer_ns = float(statistics.median(LOOP.batch_ns(0) for _ in range(ROUNDS)))
                batch, loops = (batch_size(one, timer_ns) for one in (probe, LOOP))
                taken = [(probe.batch_ns(batch), LOOP.batch_ns(loops)) for _ in range(ROUNDS)]
        except OSError:
            return None
        ours, empty = (float(statistics.median(values)) for values in zip(*taken, strict=True))
        ns = (ours - timer_ns) / batch - max(0.0, (empty - timer_ns) / loops)
        return round(ns, 1) if ns > 0 else None
