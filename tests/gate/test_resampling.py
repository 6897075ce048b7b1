"""The bootstrap where it is defined, where it is not, and what it holds."""

import numpy as np
import pytest
from scipy.stats import binom, bootstrap, norm

from calib.gate.resampling import (
    bootstrap_interval,
    growth_pct,
    mean_of,
    median_interval,
    with_unseen,
)
from calib.gate.statistics import Interval


def test_the_interval_of_a_mean_is_nearly_the_normal_one():
    values = np.random.default_rng(0).normal(size=2000)
    found, method = bootstrap_interval([values], mean_of, 0.05)
    half = norm.isf(0.05) * values.std() / np.sqrt(2000)
    assert method == "BCa bootstrap"
    assert (found.low, found.high) == pytest.approx(
        (values.mean() - half, values.mean() + half), abs=0.15 * half
    )


def test_pairs_stay_pairs():
    rng = np.random.default_rng(0)
    reference = rng.lognormal(sigma=2, size=300)
    own = reference * 1.05
    found, _ = bootstrap_interval([own, reference], growth_pct, 0.05)
    assert (found.low, found.high) == pytest.approx((5, 5))
    loose = bootstrap(
        (own, reference), growth_pct, vectorized=True, n_resamples=500, method="percentile", rng=rng
    ).confidence_interval
    assert loose.high - loose.low > 20


def test_the_order_of_the_samples_plays_no_part():
    rng = np.random.default_rng(3)
    own, reference = rng.random(50), rng.random(50)
    order = rng.permutation(50)
    one = bootstrap_interval([own, reference], growth_pct, 0.05)
    assert bootstrap_interval([own[order], reference[order]], growth_pct, 0.05) == one


def test_what_is_the_same_for_every_sample_has_no_width():
    found, method = bootstrap_interval([np.ones(40)], mean_of, 0.05)
    assert (found.low, found.high) == (1, 1)
    assert "same" in method


def test_where_bca_is_undefined_percentiles_are_taken():
    # The median of all but one value is that of all of them: no acceleration is defined.
    def median(values, axis):
        return np.median(values, axis=axis)

    values = np.array([0.0] * 40 + [1.0] * 3)
    found, method = bootstrap_interval([values], median, 0.05)
    assert method == "percentile bootstrap"
    assert (found.low, found.high) == (0, 0)


@pytest.mark.parametrize("values", [np.ones(7), np.array([1.0] * 20 + [np.inf])])
def test_too_few_samples_and_infinite_ones_bear_no_interval(values):
    assert bootstrap_interval([values], mean_of, 0.05) is None


def test_the_upper_bound_of_a_skewed_growth_is_too_low_about_as_often_as_promised():
    rng = np.random.default_rng(5)
    wrong = 0
    for _ in range(60):
        reference = rng.lognormal(sigma=0.5, size=200)
        own = reference * rng.normal(1.1, 0.3, size=200)
        found, _ = bootstrap_interval([own, reference], growth_pct, 0.05)
        wrong += found.high < 10
    assert wrong <= binom.ppf(0.999, 60, 0.06)


def test_a_medians_bounds_are_values_beyond_which_too_many_would_lie():
    found = median_interval(np.arange(1.0, 41.0), 0.05)
    below = int(found.low) - 1
    assert binom.cdf(below, 40, 0.5) <= 0.05 < binom.cdf(below + 1, 40, 0.5)
    assert found.low + found.high == 41
    assert median_interval(np.arange(4.0), 0.05) is None
    assert median_interval(np.zeros(0), 0.05) is None


@pytest.mark.parametrize("samples", [200, 2000])
@pytest.mark.parametrize("alpha", [0.05, 0.025, 0.01])
def test_rare_losses_are_seldom_above_the_bound_of_a_bootstrap_with_room_for_unseen_ones(
    samples, alpha
):
    # Of a share lost the percentile bootstrap is the binomial distribution about what was found.
    counts = np.arange(61)
    bounds = np.array([binom.ppf(1 - alpha, samples, k / samples) / samples for k in counts])
    wide = np.array(
        [
            with_unseen(Interval(0, high), k / samples, samples, alpha, 1.0).high
            for k, high in zip(counts, bounds, strict=True)
        ]
    )

    def worst(upper):
        shares = np.concatenate([upper[:30] + 1e-9, np.linspace(0.5, 25, 50) / samples])
        return max(binom.pmf(counts, samples, p)[upper < p].sum() for p in shares)

    assert worst(bounds) > 3 * alpha
    assert worst(wide) <= alpha * (1 + 1e-6)
