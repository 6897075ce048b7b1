"""How many samples a verdict needs: exact power of the gate's own rules, and its inverse."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, norm

from calib.gate.statistics import tango_statistic

POWER = 0.8
"""The chance of a verdict that a recommended number of samples gives."""
SAMPLES_MAX = 10**7
_NARROWEST = 1e-9
_STANDARD_ERRORS = 9


def drop_power(samples: int, lost: float, gained: float, limit: float, alpha: float) -> float:
    """The chance that the upper bound of the drop is within the limit.

    Exact but for counts that come up less often than once in 10^18: a sum over the trinomial
    distribution of the counts.

    Args:
        samples: n > 0.
        lost: true share right in FP32 only.
        gained: true share right in the candidate only.
        limit: of the drop, in (-1, 1).
        alpha: of the bound, which is `tango_interval`'s, corrected.
    """
    spread = _STANDARD_ERRORS * math.sqrt(samples * gained * (1 - gained)) + _STANDARD_ERRORS
    first = max(0, math.floor(samples * gained - spread))
    last = min(samples, math.ceil(samples * gained + spread))
    counts = np.arange(first, last + 1)
    most = _most_lost(samples, counts, limit, alpha)
    chance = binom.cdf(most, samples - counts, min(1.0, lost / (1 - gained)))
    return float((binom.pmf(counts, samples, gained) * chance).sum())


def _most_lost(
    samples: int, gained: NDArray[np.int64], limit: float, alpha: float
) -> NDArray[np.int64]:
    """For each count gained, the largest count lost that passes; -1 where none does."""
    z = float(norm.isf(alpha))
    low, high = np.full_like(gained, -1), samples - gained + 1
    while (high - low > 1).any():
        middle = (low + high) // 2
        passes = tango_statistic(samples, np.maximum(middle, 0), gained, limit, 0.5) <= -z
        low, high = np.where(passes, middle, low), np.where(passes, high, middle)
        high = np.maximum(high, low + 1)
    return low


def drop_samples(
    lost: float, gained: float, limit: float, alpha: float, power: float = POWER
) -> int | None:
    """Samples with which the drop is told to be within the limit, or beyond it.

    Args:
        lost: true share right in FP32 only.
        gained: true share right in the candidate only.
        limit: of the drop.
        alpha: of the bound.
        power: chance of that verdict.

    Returns:
        None where the true drop is the limit, or so near that over 10^7 samples are needed.
    """
    drop = lost - gained
    if drop > limit:  # as a gain that is to be within a negative limit
        lost, gained, limit, drop = gained, lost, -limit, -drop
    distance = limit - drop
    if distance < _NARROWEST:
        return None
    z, more = float(norm.isf(alpha)), float(norm.isf(1 - power))
    spread = math.sqrt(max(lost + gained - drop**2, 0.0))
    supposed = math.sqrt(max(lost + gained, abs(limit)))
    start = ((z * supposed + more * spread) / distance) ** 2
    return _fewest(lambda n: drop_power(n, lost, gained, limit, alpha), start, power)


def share_power(samples: int, share: float, limit: float, alpha: float) -> float:
    """The chance that the exact upper bound of a share is within the limit; both in [0, 1]."""
    most = int(binom.ppf(alpha, samples, limit))
    while most >= 0 and binom.cdf(most, samples, limit) > alpha:
        most -= 1
    return float(binom.cdf(most, samples, share)) if most >= 0 else 0.0


def share_samples(share: float, limit: float, alpha: float, power: float = POWER) -> int | None:
    """As `drop_samples`, for a share of the samples and its exact bound."""
    if share > limit:  # the share of all others is to be within what the limit leaves
        share, limit = 1 - share, 1 - limit
    if limit - share < _NARROWEST:
        return None
    z, more = float(norm.isf(alpha)), float(norm.isf(1 - power))
    spreads = z * math.sqrt(limit * (1 - limit)) + more * math.sqrt(share * (1 - share))
    start = (spreads / (limit - share)) ** 2
    return _fewest(lambda n: share_power(n, share, limit, alpha), start, power)


def scaled_samples(
    samples: int, half_width: float, distance: float, alpha: float, power: float = POWER
) -> int | None:
    """As `drop_samples`, for an interval that narrows with the root of the number of samples.

    Args:
        samples: that gave the interval.
        half_width: from the value found to its bound on the limit's side, >= 0.
        distance: from the value found to the limit, >= 0.
        alpha: of the bound.
        power: chance of that verdict.
    """
    if distance <= half_width * math.sqrt(samples / SAMPLES_MAX) or distance == 0:
        return None
    z = float(norm.isf(alpha))
    needed = samples * (half_width / distance * (z + float(norm.isf(1 - power))) / z) ** 2
    return math.ceil(needed) if needed <= SAMPLES_MAX else None


def _fewest(power_at: Callable[[int], float], start: float, wanted: float) -> int | None:
    """A number of samples with the power wanted, to 1 %; power rises with it, but in steps."""
    if start > SAMPLES_MAX:
        return None
    low = high = max(2, math.ceil(start))
    while power_at(high) < wanted:
        low, high = high, math.ceil(1.3 * high)
        if high > SAMPLES_MAX:
            return None
    while low > 2 and power_at(low) >= wanted:
        low, high = max(2, math.floor(low / 1.3)), low
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if power_at(middle) >= wanted else (middle, high)
    return high
