"""Samples as they are taken out of the counts: how many, of whom, and what they come to stand for."""

from dataclasses import replace
from typing import Any, cast

import pytest

from vdso import _core
from vdso.measure import sampling
from vdso.measure.calls import CALLS
from vdso.measure.sample import Sample
from vdso.measure.sampling import ONE_IN, Sampling, halved
from vdso.measure.sites import Site

MONOTONIC, REALTIME = CALLS[1], CALLS[0]
KEPT = 1000


class Fed:
    """Counts whose samples the test gives."""

    def __init__(self) -> None:
        self.given: list[tuple[Any, ...]] = []
        self.last = 0
        self.one_in: list[int] = []

    def samples(self, _after: int) -> tuple[list[tuple[Any, ...]], int]:
        found, self.given = self.given, []
        return found, self.last

    def sample_one_in(self, calls: int) -> None:
        self.one_in.append(calls)

    def left(self) -> list[tuple[int, bytes]]:
        return []

    def feed(self, number: int, pid: int = 1 << 30, weight: int = ONE_IN) -> None:
        """Samples of a process that has gone."""
        self.given += [(pid, pid, 1, 1, 1, weight, (0,) * 8, b"", b"", False)] * number
        self.last += number


@pytest.fixture
def fed() -> Fed:
    return Fed()


@pytest.fixture
def taking(fed: Fed, monkeypatch: pytest.MonkeyPatch) -> Sampling:
    clock = iter(range(10**9))
    monkeypatch.setattr(sampling.time, "monotonic", lambda: float(next(clock)))
    return Sampling(cast(_core.Counts, fed))


def test_as_many_as_are_enough(fed: Fed, taking: Sampling) -> None:
    assert fed.one_in == [ONE_IN]
    fed.feed(10_000)
    taking.take()
    assert fed.one_in[-1] > ONE_IN
    for _ in range(20):
        taking.take()
    assert fed.one_in[-1] == ONE_IN


def test_of_too_many_every_second_stays_and_stands_for_both(
    fed: Fed, taking: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "KEPT", KEPT)
    for _ in range(3):
        fed.feed(KEPT)
        taking.take()
    found = taking.stop({})
    assert KEPT // 2 <= found.samples <= KEPT
    assert found.unseen == found.samples, "of a program that nobody has seen"
    assert fed.one_in[-1] == 0


def test_the_rate_follows_the_calls_however_looks_fall(fed: Fed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program calls evenly; whoever looks is late or early, and finds samples of the rate before."""
    now_s, per_s, owed, one_in = 0.0, 20e6, 0.0, [ONE_IN]
    monkeypatch.setattr(sampling.time, "monotonic", lambda: now_s)
    taking = Sampling(cast(_core.Counts, fed))
    for look in range(200):
        passed_s = (0.002, 0.001, 0.05, 0.002, 0.004)[look % 5]
        now_s += passed_s
        owed += passed_s * per_s / one_in[-1]
        fed.feed(int(owed), weight=one_in[-1])
        owed -= int(owed)
        one_in.append(fed.one_in[-1])
        taking.take()
    steady = one_in[20:]
    assert max(steady) <= 4 * min(steady)
    assert per_s / max(steady) > sampling.A_SECOND / 4


def test_what_was_written_over_is_stood_for(fed: Fed, taking: Sampling) -> None:
    fed.feed(4000)
    fed.last += 1_000_000
    taking.take()
    assert fed.one_in[-1] * sampling.A_SECOND >= 1_000_000 * ONE_IN / 2


def test_those_that_stay_are_of_no_pattern() -> None:
    """Two places take turns: of each some stay."""
    found = [Sample(1, 1, "clock_gettime", at % 2, ONE_IN, {}, b"") for at in range(KEPT)]
    stay = [one.clock for one in halved(found)]
    assert len(stay) == KEPT // 2
    assert min(stay.count(0), stay.count(1)) > KEPT // 8
    assert {one.weight for one in halved(found)} == {2 * ONE_IN}


def site(clock: int, weight: int) -> Site:
    return Site("clock_gettime", clock, None, (), (), 1, weight, (1,), "nobody knows")


def test_shares_are_of_the_exact_counts(taking: Sampling) -> None:
    sites = [site(1, 300), site(1, 100), site(0, 64)]
    assert taking.shares(sites, {(MONOTONIC, False): 40, (REALTIME, False): 3}) == [30, 10, 3]
    own = replace(site(1, 5), raw=True)
    shares = taking.shares([*sites, own], {(MONOTONIC, False): 40, (MONOTONIC, True): 7})
    assert shares == [30, 10, 64, 7]
