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
_UNSEEN = 0.75

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


def with_unseen(found: Interval, value: float, samples: int, alpha: float, span: float) -> Interval:
    """Bootstrap bounds of a mean over samples, with room for what the samples do not hold.

    A bootstrap draws only from what it has: where one sample in 2,000 changed, or none, it knows
    of no rarer loss, and its bound is too low three to seven times as often as it should be. So
    each bound moves out by three quarters of the share that may be there unseen with chance
    `alpha`, 1 - alpha^(1/n), and lies beyond the value by the whole of it at least: the bound that
    is exact where nothing changed (three samples in n for 5 %: J. A. Hanley, A. Lippman-Hand,
    Journal of the American Medical Association 249, 1983). With three quarters the bound of a share
    lost is too low with chance `alpha` at most, for 50 to 2,000 samples and alpha from 0.005 to
    0.05; with a half it is not.

    Args:
        found: by the bootstrap.
        value: the figure itself.
        samples: n > 0.
        alpha: of the bounds.
        span: by how much one sample's score can change: 100 for a figure in %.
    """
    unseen = span * (1 - alpha ** (1 / samples))
    low = min(found.low - _UNSEEN * unseen, value - unseen)
    return Interval(low, max(found.high + _UNSEEN * unseen, value + unseen))


def mean_of(values: Any, axis: int) -> Any:
    """The mean."""
    return np.mean(values, axis=axis)


def growth_pct(own: Any, reference: Any, axis: int) -> Any:
    """By how much the mean of one column exceeds the other's, in %."""
    return 100 * (np.mean(own, axis=axis) / np.mean(reference, axis=axis) - 1)
