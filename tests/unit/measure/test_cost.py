"""What a call costs: measured, once for each."""

from vdso.measure.cost import Costs


def test_costs_are_measured() -> None:
    costs = Costs()
    fine, coarse, raw = (
        costs.ns("clock_gettime", 1),
        costs.ns("clock_gettime", 6),
        costs.ns("clock_gettime", 1, raw=True),
    )
    assert fine is not None
    assert coarse is not None
    assert raw is not None
    assert 0 <= coarse < fine < raw
    assert costs.ns("clock_gettime", 1) == fine, "once"
    assert costs.ns("clock_gettime", 999) is None
