"""The difference of two figures over the same samples, with its interval: the one place for it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from calib.gate.statistics import PairedCounts, mcnemar_p, tango_interval

CONFIDENCE = 0.95
_RESAMPLES = 1999
_SEED = 0
_BATCH_VALUES = 4_000_000


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """second - first, on average.

    Attributes:
        value: of the samples.
        low: of the interval.
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

    Tango's score interval for proportions; else the BCa bootstrap of pairs (Efron 1987), or the
    percentile interval where that has none.

    Args:
        first: float64 (samples,); 0 and 1 alone make it a proportion.
        second: the same samples in the same order.
    """
    change = second - first
    if not change.size or not np.isfinite(change).all():
        return None
    value = float(change.mean())
    if np.isin(first, (0, 1)).all() and np.isin(second, (0, 1)).all():
        counts = PairedCounts(change.size, int((change < 0).sum()), int((change > 0).sum()))
        drop = tango_interval(counts, (1 - CONFIDENCE) / 2)
        return PairedDifference(value, -drop.high, -drop.low, mcnemar_p(counts))
    if (change == change[0]).all():
        return PairedDifference(value, value, value)
    low, high = _bootstrap(change)
    return PairedDifference(value, low, high)


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
