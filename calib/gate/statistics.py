"""Intervals and tests for a candidate and FP32 on the same samples.

Of n samples, `lost` are right in FP32 only and `gained` in the candidate only; the drop of accuracy
is (lost - gained) / n. The samples on which both agree say how large n is, and nothing else.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, norm

Floats = NDArray[np.float64]
_STEPS = 60
"""Halvings of an interval of length 2: past the last bit of a float64."""


@dataclass(frozen=True, slots=True)
class PairedCounts:
    """What two classifiers came to on the same samples.

    Attributes:
        samples: n.
        lost: right in the first only.
        gained: right in the second only.
        right: right in both; needed where the accuracy itself counts, not only its difference.

    Raises:
        ValueError: if the parts are negative or exceed the whole.
    """

    samples: int
    lost: int
    gained: int
    right: int = 0

    def __post_init__(self) -> None:
        parts = (self.lost, self.gained, self.right)
        if min(parts) < 0 or sum(parts) > self.samples:
            raise ValueError(f"{parts} are no parts of {self.samples} samples")

    @property
    def drop(self) -> float:
        """The share of the samples lost, less the share gained.

        Raises:
            ZeroDivisionError: if there are no samples.
        """
        return (self.lost - self.gained) / self.samples


@dataclass(frozen=True, slots=True)
class Interval:
    """Two one-sided bounds: the true value lies beyond each with chance alpha."""

    low: float
    high: float

    def scaled(self, factor: float) -> "Interval":
        """Both bounds times a factor > 0."""
        return Interval(self.low * factor, self.high * factor)


def mcnemar_p(counts: PairedCounts) -> float:
    """How often chance alone splits the flips as unevenly, if both were right equally often.

    The exact two-sided test of Q. McNemar, Psychometrika 12, 1947: of lost + gained flips the lost
    ones are binomial with 1/2. Without flips it is 1.
    """
    flips = counts.lost + counts.gained
    return float(binomtest(counts.lost, flips, 0.5).pvalue) if flips else 1.0


def tango_statistic(samples: Any, lost: Any, gained: Any, drop: Any, shift: float = 0.0) -> Floats:
    """How far the counts are from a true drop, in standard errors under that drop.

    T. Tango, Statistics in Medicine 17, 1998: the variance is that of the maximum likelihood
    estimate under the restriction lost/n - gained/n = drop. All arguments broadcast.

    Args:
        samples: n > 0.
        lost: see `PairedCounts`.
        gained: see `PairedCounts`.
        drop: the true drop supposed, in (-1, 1).
        shift: added to lost - gained: ½ or -½ corrects for counts moving in whole steps.

    Returns:
        Negative where the drop found is below the one supposed. Where the variance is 0, infinite
        with the sign of the numerator, or 0 if that is 0 too.
    """
    n, b, c, d = np.broadcast_arrays(
        *(np.asarray(v, np.float64) for v in (samples, lost, gained, drop))
    )
    linear = (2 * n - b + c) * d - b - c
    rest = -c * d * (1 - d)
    share = (np.sqrt(np.maximum(linear**2 - 8 * n * rest, 0)) - linear) / (4 * n)
    variance = n * (2 * share + d * (1 - d))
    above = b - c + shift - n * d
    safe = np.where(variance > 0, variance, 1.0)
    far = np.where(above == 0, 0.0, np.copysign(np.inf, above))
    return np.where(variance > 0, above / np.sqrt(safe), far)


def tango_bounds(
    samples: Any, lost: Any, gained: Any, alpha: float, *, corrected: bool
) -> tuple[Floats, Floats]:
    """Lower and upper bound of the drop for arrays of counts; see `tango_interval`."""
    z, half = float(norm.isf(alpha)), 0.5 if corrected else 0.0
    n, b, c = np.broadcast_arrays(*(np.asarray(v, np.float64) for v in (samples, lost, gained)))
    found = (b - c) / n
    upper = _root(lambda d: tango_statistic(n, b, c, d, half) + z, found, np.ones_like(found))
    lower = _root(lambda d: tango_statistic(n, b, c, d, -half) - z, -np.ones_like(found), found)
    return lower, upper


def tango_interval(counts: PairedCounts, alpha: float, *, corrected: bool = False) -> Interval:
    """Score interval of the drop: the drops that the counts do not contradict.

    T. Tango, Statistics in Medicine 17, 1998, 891-908. Holds where few samples flip, or none.

    Args:
        counts: n > 0 samples.
        alpha: chance of an error on each side: 0.025 for the usual interval of 95 %.
        corrected: half a sample more on each side. Without it the upper bound is too low in up to
            6.7 % of cases where it should be in 5 %, namely with n times the drop near 2.7, when
            nothing is gained: counts move in whole steps.
    """
    low, high = tango_bounds(counts.samples, counts.lost, counts.gained, alpha, corrected=corrected)
    return Interval(float(low), float(high))


def tango_p(counts: PairedCounts, drop: float) -> float:
    """Chance of a drop as large as was found, or larger, were the true one `drop` (corrected)."""
    found = tango_statistic(counts.samples, counts.lost, counts.gained, drop, -0.5)
    return float(norm.sf(found))


def newcombe_interval(counts: PairedCounts, alpha: float) -> Interval:
    """Another interval of the drop, from Wilson's intervals of both accuracies.

    R. G. Newcombe, Statistics in Medicine 17, 1998, 2635-2650, method 10.

    Args:
        counts: with `right`.
        alpha: chance of an error on each side.
    """
    n, both = counts.samples, counts.right
    neither = n - both - counts.lost - counts.gained
    first, second = both + counts.lost, both + counts.gained
    low1, high1 = wilson_interval(first, n, alpha)
    low2, high2 = wilson_interval(second, n, alpha)
    p1, p2 = first / n, second / n
    phi = _phi(both, counts.lost, counts.gained, neither)

    def length(one: float, other: float) -> float:
        return math.sqrt(max(one**2 - 2 * phi * one * other + other**2, 0.0))

    return Interval(
        p1 - p2 - length(p1 - low1, high2 - p2), p1 - p2 + length(high1 - p1, p2 - low2)
    )


def _phi(both: int, lost: int, gained: int, neither: int) -> float:
    """Correlation of being right, with a continuity correction towards 0."""
    margins = (both + lost) * (gained + neither) * (both + gained) * (lost + neither)
    if not margins:
        return 0.0
    excess = both * neither - lost * gained
    half = (both + lost + gained + neither) / 2
    return (max(excess - half, 0.0) if excess > 0 else excess) / math.sqrt(margins)


def wilson_interval(count: int, samples: int, alpha: float) -> tuple[float, float]:
    """Score interval of a share (E. B. Wilson, 1927); `alpha` on each side."""
    level = 1 - 2 * alpha
    found = binomtest(count, samples).proportion_ci(level, method="wilson")
    return float(found.low), float(found.high)


def exact_interval(count: int, samples: int, alpha: float) -> Interval:
    """Exact interval of a share: C. J. Clopper, E. S. Pearson, Biometrika 26, 1934.

    Args:
        count: of the samples.
        samples: > 0.
        alpha: at most this chance of an error on each side.
    """
    found = binomtest(count, samples).proportion_ci(1 - 2 * alpha, method="exact")
    return Interval(float(found.low), float(found.high))


def ratio_interval(counts: PairedCounts, alpha: float) -> Interval:
    """Score interval of the second accuracy over the first, with half a sample more on each side.

    J. Nam, W. C. Blackwelder, Statistics in Medicine 21, 2002, 689-699.

    Args:
        counts: with `right`; the first must be right at least once.
        alpha: chance of an error on each side.
    """
    z = float(norm.isf(alpha))
    first, second = counts.right + counts.lost, counts.right + counts.gained
    found = np.log(max(second, 0.5) / first)
    ends = np.asarray(found - 20.0), np.asarray(found + 20.0)
    high = _root(lambda x: _ratio_statistic(counts, np.exp(x), 0.5) + z, *ends)
    low = _root(lambda x: _ratio_statistic(counts, np.exp(x), -0.5) - z, *ends)
    return Interval(float(np.exp(low)), float(np.exp(high)))


def _ratio_statistic(counts: PairedCounts, ratio: Floats, shift: float) -> Floats:
    """Falls as the ratio grows; the discordant shares are estimated under the ratio supposed."""
    n, r = counts.samples, ratio
    first, second = (counts.right + counts.lost) / n, (counts.right + counts.gained) / n
    gained, lost = counts.gained / n, counts.lost / n
    any_right = first + gained
    root = np.sqrt((second - r**2 * first) ** 2 + 4 * r**2 * gained * lost)
    q_gained = (-second + r**2 * (first + 2 * gained) + root) / (2 * r * (r + 1))
    q_lost = r * q_gained - (r - 1) * any_right
    variance = np.maximum(n * r * (q_gained + q_lost), 0.0)
    above = n * (second - r * first) + shift
    safe = np.where(variance > 0, variance, 1.0)
    far = np.where(above == 0, 0.0, np.copysign(np.inf, above))
    return np.where(variance > 0, above / np.sqrt(safe), far)


def mean_drop_interval(strata: Sequence[PairedCounts], alpha: float) -> Interval:
    """Interval of the mean of the strata's drops, each counted alike: macro recall by class.

    Squared distances from the estimate to the strata's own bounds add up as variances do: G. Y.
    Zou, A. Donner, Statistics in Medicine 27, 2008, 1693-1702. The number of samples of a stratum
    is taken as given.

    Args:
        strata: one at least, each with samples.
        alpha: chance of an error on each side.
    """
    columns = np.array([(s.samples, s.lost, s.gained) for s in strata], dtype=np.float64).T
    samples, lost, gained = columns
    low, high = tango_bounds(samples, lost, gained, alpha, corrected=False)
    drops = (lost - gained) / samples
    mean = float(drops.mean())
    below = math.sqrt(float(np.square(drops - low).sum())) / len(strata)
    above = math.sqrt(float(np.square(high - drops).sum())) / len(strata)
    return Interval(mean - below, mean + above)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """p-values for which to claim all below alpha errs anywhere with that chance at most.

    S. Holm, Scandinavian Journal of Statistics 6, 1979: the smallest times their number, the next
    times one less, and so on, never falling. However the tests depend on each other.
    """
    order = np.argsort(p_values, kind="stable")
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order.tolist()):
        largest = max(largest, min(1.0, p_values[index] * (len(p_values) - rank)))
        adjusted[index] = largest
    return tuple(adjusted)


def _root(falling: Callable[[Floats], Floats], low: Floats, high: Floats) -> Floats:
    """Where a falling function crosses 0, by bisection, element by element."""
    for _ in range(_STEPS):
        middle = (low + high) / 2
        positive = falling(middle) > 0
        low, high = np.where(positive, middle, low), np.where(positive, high, middle)
    return (low + high) / 2
