"""Whether more calibration samples would move a threshold."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate
from typing import Protocol

from calib.calibrators.histogram import TensorStatistics
from calib.calibrators.parts import TensorParts

PARTS_MIN = 4
"""Below this a standard error would be a guess."""
HALVES_PCT_MAX = 1e6
"""Where one half has nothing."""


class HasAmax(Protocol):
    """Anything that turns statistics into a threshold."""

    def amax(self, statistics: TensorStatistics) -> float:
        """The threshold."""
        ...


@dataclass(frozen=True, slots=True)
class Convergence:
    """How one threshold came about over the samples.

    Attributes:
        growth: the threshold after the first part, the first two, … and all of them.
        standard_error_pct: of the last one, in % of it, by leaving out each part in turn; None with
            fewer than PARTS_MIN parts.
        moved_pct: how far the later half of the parts moved it, in %.
        halves_pct: by how much the thresholds of every other part and of the rest differ, in % of
            the smaller one, HALVES_PCT_MAX at most; None with one part.
    """

    growth: tuple[float, ...]
    standard_error_pct: float | None
    moved_pct: float
    halves_pct: float | None = None

    def enough(self, tolerance_pct: float) -> bool | None:
        """Whether both figures are within the tolerance; None if there is no evidence."""
        if self.standard_error_pct is None:
            return None
        return max(self.standard_error_pct, self.moved_pct) <= tolerance_pct


def convergence(parts: TensorParts, calibrator: HasAmax) -> Convergence:
    """The growth of a tensor's threshold over the parts, and its standard error.

    The standard error is the delete-one-group jackknife's: sqrt((G-1)/G Σ (θ_g - mean θ)²) where
    θ_g is the threshold without group g. Source: B. Efron, "The Jackknife, the Bootstrap and Other
    Resampling Plans", SIAM 1982. For a maximum it is only a rough measure: it sees how far the
    largest group is above the others, not what has never occurred.
    """
    groups = [part for part in parts.parts if part.count]
    if not groups:
        return Convergence((0.0,), None, 0.0)
    growth = [calibrator.amax(s) for s in accumulate(groups, TensorStatistics.merge)]
    half = growth[(len(growth) - 1) // 2]
    moved = 100 * abs(growth[-1] - half) / growth[-1] if growth[-1] else 0.0
    error = _standard_error_pct(groups, calibrator, growth[-1])
    return Convergence(tuple(growth), error, moved, _halves_pct(groups, calibrator))


def _halves_pct(groups: Sequence[TensorStatistics], calibrator: HasAmax) -> float | None:
    if len(groups) < 2:
        return None
    halves = (reduce(TensorStatistics.merge, groups[k::2]) for k in (0, 1))
    low, high = sorted(calibrator.amax(half) for half in halves)
    if low == high:
        return 0.0
    return min(100 * (high / low - 1), HALVES_PCT_MAX) if low > 0 else HALVES_PCT_MAX


def _standard_error_pct(
    groups: Sequence[TensorStatistics], calibrator: HasAmax, amax: float
) -> float | None:
    count = len(groups)
    if count < PARTS_MIN:
        return None
    if amax == 0:
        return 0.0
    without = [
        calibrator.amax(reduce(TensorStatistics.merge, (*groups[:k], *groups[k + 1 :])))
        for k in range(count)
    ]
    mean = sum(without) / count
    squares = sum((value - mean) ** 2 for value in without)
    return 100 * math.sqrt((count - 1) / count * squares) / amax
