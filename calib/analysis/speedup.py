"""How much faster one engine is than another, and how sure that is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import bootstrap

LEVEL = 0.95
ROUNDS_MIN = 8
"""Fewer pairs bear no interval: resampling them hardly moves a median."""
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Speedup:
    """A ratio of medians, and an interval that holds the true one at a level.

    Attributes:
        ratio: the rival's median over its own: above 1 is faster.
        low: lower end; None where there are too few rounds.
        high: upper end.
        rounds: pairs of runs.
        level: how often such an interval holds the true ratio.
    """

    ratio: float
    low: float | None
    high: float | None
    rounds: int
    level: float = LEVEL

    @property
    def is_faster(self) -> bool:
        """Whether it is faster for sure; by the ratio alone where there is no interval."""
        return (self.ratio if self.low is None else self.low) > 1

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.ratio:.2f}x of {self.rounds} rounds, too few for an interval"
        return f"{self.ratio:.2f}x, {self.level:.0%} interval {self.low:.2f} to {self.high:.2f}"


def paired_speedup(
    own_ms: Sequence[float], rival_ms: Sequence[float], level: float = LEVEL
) -> Speedup | None:
    """The speed-up over a rival that was timed in the same rounds.

    Rounds are resampled whole, so that what slows a round down slows both: a percentile bootstrap
    of the ratio of medians (B. Efron, R. Tibshirani, An Introduction to the Bootstrap, 1993,
    chapters 8 and 13), with a fixed seed.

    Args:
        own_ms: latency by round, in milliseconds.
        rival_ms: the rival's, of the same rounds.
        level: of the interval, between two bounds of equal chance.

    Returns:
        None if one of them was never timed.
    """
    rounds = min(len(own_ms), len(rival_ms))
    if not rounds:
        return None
    own, rival = np.asarray(own_ms[:rounds]), np.asarray(rival_ms[:rounds])
    ratio = float(np.median(rival) / np.median(own))
    if rounds < ROUNDS_MIN:
        return Speedup(ratio, None, None, rounds)
    found = bootstrap(
        (rival, own),
        _ratio_of_medians,
        paired=True,
        vectorized=True,
        n_resamples=_RESAMPLES,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Speedup(ratio, float(found.low), float(found.high), rounds, level)


def _ratio_of_medians(rival: Any, own: Any, axis: int) -> Any:
    return np.median(rival, axis=axis) / np.median(own, axis=axis)
