"""Intervals of any statistic of the samples, by drawing them anew."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.stats import bootstrap, quantile_test

from calib.gate.statistics import Floats, Interval

SAMPLES_MIN = 8
"""Fewer samples bear no interval: there is too little to draw from."""
_RESAMPLES = 4_999
_BCA_MAX = 10_000
"""Above it the correction is small, and the jackknife behind it takes n² values."""
_ELEMENTS = 2_000_000

Statistic = Callable[..., Any]


def bootstrap_interval(
    columns: Sequence[Floats], statistic: Statistic, alpha: float
) -> tuple[Interval, str] | None:
    """BCa bootstrap of a statistic whose samples are drawn whole, so that pairs stay pairs.

    B. Efron, Journal of the American Statistical Association 82, 1987; through `scipy`, with a
    fixed seed and the samples sorted, so that their order plays no part. The percentile interval is
    taken where BCa is undefined (every value without one sample is the same) or over 10,000
    samples. A statistic that no draw changes has an interval of no width.

    Args:
        columns: float (samples,) each, of the same samples.
        statistic: takes the columns and `axis`.
        alpha: chance of an error on each side.

    Returns:
        The interval and the method's name; None with under 8 samples, or if a value is not finite.
    """
    n = len(columns[0])
    if n < SAMPLES_MIN or not all(np.isfinite(column).all() for column in columns):
        return None
    order = np.lexsort(tuple(columns))
    data = tuple(np.asarray(column, dtype=np.float64)[order] for column in columns)
    if all((column == column[0]).all() for column in data):
        value = float(statistic(*data, axis=0))
        return Interval(value, value), "the same for every sample"
    for method in ("BCa", "percentile") if n <= _BCA_MAX else ("percentile",):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a degenerate distribution: it shows as NaN
            found = bootstrap(
                data,
                statistic,
                paired=True,
                vectorized=True,
                n_resamples=_RESAMPLES,
                batch=max(1, _ELEMENTS // n),
                confidence_level=1 - 2 * alpha,
                method=method,
                rng=np.random.default_rng(0),
            ).confidence_interval
        if np.isfinite([found.low, found.high]).all():
            return Interval(float(found.low), float(found.high)), f"{method} bootstrap"
    return None


def median_interval(values: Floats, alpha: float) -> Interval | None:
    """Exact interval of a median, between two of the values: order statistics, through `scipy`.

    Args:
        values: float (samples,).
        alpha: at most this chance of an error on each side.

    Returns:
        None where so few values have no such bounds.
    """
    if not len(values):
        return None
    found = quantile_test(values, p=0.5).confidence_interval(1 - 2 * alpha)
    known = np.isfinite([found.low, found.high]).all()
    return Interval(float(found.low), float(found.high)) if known else None


def mean_of(values: Any, axis: int) -> Any:
    """The mean."""
    return np.mean(values, axis=axis)


def growth_pct(own: Any, reference: Any, axis: int) -> Any:
    """By how much the mean of one column exceeds the other's, in %."""
    return 100 * (np.mean(own, axis=axis) / np.mean(reference, axis=axis) - 1)
