"""Figures made of figures."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdso.measure.result import BenchResult, quantile, saving

RunOf = Callable[..., BenchResult]


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=50), st.floats(0, 1))
def test_a_quantile_lies_among_the_values(values: list[float], share: float) -> None:
    slack = 1e-9 * max(values)
    assert min(values) - slack <= quantile(values, share) <= max(values) + slack


def test_quantiles_are_interpolated() -> None:
    assert quantile([4, 1, 3, 2], 0.5) == 2.5
    assert quantile([1, 2, 3, 4, 5], 0.25) == 2
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)


def test_what_the_vdso_saves(run_of: RunOf) -> None:
    result = run_of()
    saved = saving(result.rows, 10_000_000)
    vdso, syscall = (
        result.row("clock_gettime", route, "MONOTONIC").median_ns for route in ("vdso", "syscall")
    )
    # 10 million times 100 ns are one second of a core.
    assert saved.vdso_cores == pytest.approx(vdso / 100, abs=1e-3)
    assert saved.saved_cores == pytest.approx((syscall - vdso) / 100, abs=2e-3)
    assert saving([row for row in result.rows if row.route != "vdso"]) is None
