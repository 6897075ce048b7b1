"""The difference of two figures over the same samples, with its interval: the one place for it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

CONFIDENCE = 0.95
_RESAMPLES = 1999
_SEED = 0
_BATCH_VALUES = 4_000_000


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """second - first, on average.

    Attributes:
        value: of the samples.
        low: of the interval; equal to `high` where nothing is known but that nothing differs.
        high: of the interval.
        p_value: exact McNemar's, of proportions; None elsewhere.
    """

    value: float
    low: float
    high: float
    p_value: float | None = None


def paired_difference(
    first: NDArray[np.float64], second: NDArray[np.float64]
) -> PairedDifference | None:
    """The mean difference over the same samples; None without samples or with one not finite.

    BCa bootstrap of pairs (Efron 1987), the percentile interval where BCa has none. Where no sample
    differs no resample does: for proportions the exact bound on discordant pairs that were not
    seen (Clopper & Pearson 1934) stands for the interval.

    Args:
        first: float64 (samples,); 0 and 1 alone make it a proportion.
        second: the same samples in the same order.
    """
    change = second - first
    if not change.size or not np.isfinite(change).all():
        return None
    binary = bool(np.isin(first, (0, 1)).all() and np.isin(second, (0, 1)).all())
    p_value = _mcnemar(change) if binary else None
    value = float(change.mean())
    if (change == change[0]).all():
        room = _unseen(change.size) if binary and value == 0 else 0.0
        return PairedDifference(value, value - room, value + room, p_value)
    low, high = _bootstrap(change)
    return PairedDifference(value, low, high, p_value)


def _mcnemar(change: NDArray[np.float64]) -> float:
    """Exact: of the pairs that differ, half would go either way (McNemar 1947)."""
    up, down = int((change > 0).sum()), int((change < 0).sum())
    return float(stats.binomtest(up, up + down).pvalue) if up + down else 1.0


def _unseen(samples: int) -> float:
    interval = stats.binomtest(0, samples).proportion_ci(CONFIDENCE)
    return float(interval.high)


def _bootstrap(change: NDArray[np.float64]) -> tuple[float, float]:
    for method in ("BCa", "percentile"):
        with np.errstate(invalid="ignore", divide="ignore"):
            found = stats.bootstrap(
                (change,),
                np.mean,
                n_resamples=_RESAMPLES,
                batch=max(1, _BATCH_VALUES // change.size),
                confidence_level=CONFIDENCE,
                method=method,
                rng=np.random.default_rng(_SEED),
            ).confidence_interval
        if np.isfinite([found.low, found.high]).all():
            break
    return float(found.low), float(found.high)
