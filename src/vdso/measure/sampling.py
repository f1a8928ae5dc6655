"""Takes samples of clock calls out of the counts while programs run, with what these have mapped.

Who called is found out at the end, by vdso.measure.sites; what has to be seen while a program lives is seen
here.
"""

import contextlib
import random
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from vdso import _core
from vdso.errors import SourceError
from vdso.kernel import maps
from vdso.measure.callers.space import Space
from vdso.measure.calls import CALLS, Call
from vdso.measure.sample import Sample
from vdso.measure.sites import Library, Site, Sites

REGISTERS = ("rip", "rsp", "rbp", "rbx", "r12", "r13", "r14", "r15")
ONE_IN = 64
ONE_IN_MAX = 1 << 20
A_SECOND = 2000  # samples are enough
KEPT = 20_000
AVERAGED_S = 0.1  # how long programs' rate of calls is averaged over
FIRST_S, EVERY_S = 0.002, 0.02  # between looks: programs may end at once


@dataclass(frozen=True, slots=True)
class Sampled:
    """Sites, with how many calls each stands for, and the samples that they come from."""

    sites: tuple[tuple[Site, int], ...]
    samples: int
    unseen: int  # of programs that had ended before they could be looked at


class Sampling:
    """The samples of one counting. Ask take() every `every_s`."""

    def __init__(self, counts: _core.Counts) -> None:
        self._counts = counts
        self._library = Library()
        self._spaces: dict[tuple[int, int], Space] = {}
        self._kept: dict[tuple[int, int], list[Sample]] = {}
        self._seen = 0
        self._calls_per_s = 0.0
        self._looked_s = time.monotonic()
        self._one_in = ONE_IN
        self._began_s = self._looked_s
        counts.sample_one_in(ONE_IN)

    @property
    def every_s(self) -> float:
        return FIRST_S if time.monotonic() - self._began_s < 1 else EVERY_S

    def take(self) -> None:
        """Takes those that have come since the last time."""
        self._adapt(self._drain())

    def _drain(self) -> float:
        """How many calls those stand for that are new."""
        before = self._seen
        found, self._seen = self._counts.samples(before)
        # Those that others have been written over were of the same moment: what is there stands for them.
        stands_for = max(1.0, (self._seen - before) / max(len(found), 1))
        calls = 0.0
        for pid, tid, program, slot, _, weight, registers, stack, frame, raw in found:
            calls += weight * stands_for
            call = CALLS.get(slot)
            if call is None:
                continue
            key = (pid, program)
            if key not in self._spaces:
                with contextlib.suppress(SourceError):
                    self._keep(key, registers[0], self._library.space(pid))
            sample = Sample(
                pid,
                tid,
                call.function,
                call.clock_id,
                round(weight * stands_for),
                dict(zip(REGISTERS, registers, strict=True)),
                stack,
                frame,
                raw,
            )
            self._kept.setdefault(key, []).append(sample)
        if sum(map(len, self._kept.values())) > KEPT:
            self._kept = {key: halved(samples) for key, samples in self._kept.items()}
        return calls

    def _keep(self, key: tuple[int, int], called_from: int, space: Space) -> None:
        """What a program has mapped; it may have made room for another one since the call."""
        if space.at(called_from) is not None:
            self._spaces[key] = space

    def _adapt(self, calls: float) -> None:
        """To what programs call: samples cost them time, and us. By calls and not by samples, which may have
        been taken at another rate; and by their average, since a look may find none, or come late."""
        now_s = time.monotonic()
        passed_s = max(now_s - self._looked_s, 1e-3)
        self._looked_s = now_s
        self._calls_per_s += min(1.0, passed_s / AVERAGED_S) * (calls / passed_s - self._calls_per_s)
        per_s = self._calls_per_s / self._one_in
        one_in = self._one_in
        while per_s > 2 * A_SECOND and one_in < ONE_IN_MAX:
            one_in, per_s = one_in * 2, per_s / 2
        while per_s < A_SECOND / 2 and one_in > ONE_IN:
            one_in, per_s = one_in // 2, per_s * 2
        if one_in != self._one_in:
            self._one_in = one_in
            self._counts.sample_one_in(one_in)

    def stop(self, exact: Mapping[tuple[Call, bool], int]) -> Sampled:
        """Who called, each site with its share of the exact counts: of each call, and whether it was made
        past the vDSO. Raises ExtraMissing without capstone."""
        self._counts.sample_one_in(0)
        self._drain()
        left: dict[int, list[bytes]] = {}
        for pid, text in self._counts.left():
            left.setdefault(pid, []).append(text)
        for key, samples in self._kept.items():
            for text in left.get(key[0], ()):
                if key not in self._spaces:
                    there = self._library.space(key[0], maps.decode(text))
                    self._keep(key, samples[0].registers["rip"], there)
        sites, unseen = Sites(), 0
        with self._library:
            for key, samples in self._kept.items():
                space = self._spaces.get(key)
                if space is None:
                    unseen += len(samples)
                else:
                    sites.add(samples, space)
            found = sites.found()
        return Sampled(
            tuple((site, calls) for site, calls in zip(found, self.shares(found, exact), strict=True)),
            sum(map(len, self._kept.values())),
            unseen,
        )

    @staticmethod
    def shares(found: list[Site], exact: Mapping[tuple[Call, bool], int]) -> list[int]:
        """How many calls each site stands for: its share of those of its function and clock."""
        weights: Counter[tuple[str, int | None, bool]] = Counter()
        for site in found:
            weights[site.function, site.clock, site.raw] += site.weight
        calls = {(call.function, call.clock_id, raw): number for (call, raw), number in exact.items()}
        return [
            round(calls.get(key, site.weight) * site.weight / weights[key])
            for site in found
            for key in [(site.function, site.clock, site.raw)]
        ]


def halved(samples: list[Sample]) -> list[Sample]:
    """One of each two, at random, standing for both: they may be of places that take turns."""
    chosen = (at + random.getrandbits(1) for at in range(0, len(samples), 2))
    return [replace(samples[at], weight=samples[at].weight * 2) for at in chosen if at < len(samples)]
