"""The worst of many slices, with the chances of looking at many accounted for."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calib.gate.sample_size import drop_samples
from calib.gate.statistics import (
    Interval,
    PairedCounts,
    holm,
    tango_bounds,
    tango_p,
)
from calib.results import Verdict


@dataclass(frozen=True, slots=True)
class Slice:
    """Some of the samples, and what they have in common."""

    family: str
    name: str
    counts: PairedCounts

    def __str__(self) -> str:
        return f"{self.family} {self.name}"


@dataclass(frozen=True, slots=True)
class WorstSlice:
    """The slice that the verdict turns on.

    Attributes:
        slice: for FAIL that of the smallest p-value, else that of the largest upper bound.
        verdict: of all slices together.
        interval: of its drop.
        failed: names of all slices whose drop exceeds the limit.
        open: names of all slices that can be told neither way.
        judged: number of slices, after pooling.
    """

    slice: Slice
    verdict: Verdict
    interval: Interval
    failed: tuple[str, ...]
    open: tuple[str, ...]
    judged: int


def worst_slice(slices: Sequence[Slice], limit: float, alpha: float) -> WorstSlice:
    """Whether every slice keeps the limit, or one breaks it.

    To pass, every slice's upper bound must be within the limit. That needs no correction: if one
    slice breaks the limit, all pass with no greater chance than that one does, which is `alpha`
    (R. L. Berger, Technometrics 24, 1982). To fail, some slice's drop must exceed the limit by a
    test with Holm's correction for the number of slices, so that among many slices that keep the
    limit none is called broken by chance.

    Args:
        slices: one at least, each with samples; they may overlap.
        limit: of the drop, as a share.
        alpha: chance of either error.
    """
    columns = [(s.counts.samples, s.counts.lost, s.counts.gained) for s in slices]
    samples, lost, gained = np.array(columns, dtype=np.float64).T
    low, high = tango_bounds(samples, lost, gained, alpha, corrected=True)
    p_values = holm([tango_p(s.counts, limit) for s in slices])
    failed = [i for i, p in enumerate(p_values) if p <= alpha]
    undecided = [i for i in np.flatnonzero(high > limit).tolist() if i not in failed]
    if failed:
        verdict, worst = Verdict.FAIL, min(failed, key=lambda i: (p_values[i], -high[i]))
    else:
        verdict = Verdict.INCONCLUSIVE if undecided else Verdict.PASS
        worst = int(np.argmax(high))
    return WorstSlice(
        slices[worst],
        verdict,
        Interval(float(low[worst]), float(high[worst])),
        tuple(str(slices[i]) for i in failed),
        tuple(str(slices[i]) for i in undecided),
        len(slices),
    )


def pooled(slices: Sequence[Slice], samples_min: int) -> list[Slice]:
    """The slices of one family, small ones put together until each has enough samples.

    The smallest are pooled with the next larger ones, so that none is left out. Only where all of
    a family together have too few samples is there a smaller one: it is judged all the same, and
    its bounds are as wide as they are.

    Args:
        slices: that do not overlap.
        samples_min: fewest samples of a slice.
    """
    ranked = sorted(slices, key=lambda s: (s.counts.samples, s.name))
    small: list[Slice] = []
    while ranked and (ranked[0].counts.samples < samples_min or 0 < _samples(small) < samples_min):
        small.append(ranked.pop(0))
    if len(small) < 2:
        return [*small, *ranked]
    counts = [s.counts for s in small]
    total = PairedCounts(
        _samples(small),
        sum(c.lost for c in counts),
        sum(c.gained for c in counts),
        sum(c.right for c in counts),
    )
    names = ", ".join(s.name for s in small[:3]) + (", …" if len(small) > 3 else "")
    return [Slice(small[0].family, f"{names} ({len(small)} pooled)", total), *ranked]


def samples_to_decide(counts: PairedCounts, limit: float, alpha: float) -> int | None:
    """Number of samples that would decide, if the rates found are the true ones.

    Half a sample is added to either count, so that nothing lost is not taken for never.
    """
    whole = counts.samples + 1
    return drop_samples((counts.lost + 0.5) / whole, (counts.gained + 0.5) / whole, limit, alpha)


def _samples(slices: Sequence[Slice]) -> int:
    return sum(s.counts.samples for s in slices)
