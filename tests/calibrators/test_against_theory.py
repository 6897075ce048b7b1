"""Thresholds of samples against what theory says of their distribution, and a slow MSE search."""

import functools

import numpy as np
import pytest
from scipy import integrate, optimize, stats
from slow import slow_entropy

from calib.calibrators import (
    EntropySpec,
    MinMaxSpec,
    MseSpec,
    PercentileSpec,
    TensorStatistics,
    statistics_from_array,
)
from calib.calibrators.histogram import BINS

SAMPLES = 4_000_000
OUTLIERS = np.array([30, -40, 35], dtype=np.float32)
DISTRIBUTIONS = {
    "gaussian": stats.norm(),
    "laplace": stats.laplace(),
    "uniform": stats.uniform(-1, 2),
}


@functools.cache
def drawn(name, outliers):
    values = DISTRIBUTIONS[name].rvs(size=SAMPLES, random_state=7).astype(np.float32)
    return np.append(values, OUTLIERS) if outliers else values


def tail(distribution, x):
    """P(|X| > x) of a symmetric distribution."""
    return 2 * distribution.sf(x)


def expected_error(distribution, threshold, outliers):
    """E (x - q(x))²: step²/12 inside, (|x| - threshold)² outside, outliers with their share."""
    step = threshold / 127
    end = distribution.support()[1] if np.isfinite(distribution.support()[1]) else 60.0
    clipped = 0.0
    if threshold < end:
        clipped, _ = integrate.quad(
            lambda x: 2 * (x - threshold) ** 2 * distribution.pdf(x), threshold, end, limit=400
        )
    inside = step**2 / 12 * (1 - tail(distribution, threshold))
    if outliers:
        clipped += (np.maximum(np.abs(OUTLIERS) - threshold, 0) ** 2).sum() / SAMPLES
    return inside + clipped


@pytest.mark.parametrize("outliers", [False, True])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_mse_finds_the_threshold_that_theory_gives(name, outliers):
    found = MseSpec().amax(statistics_from_array("x", drawn(name, outliers)))
    distribution = DISTRIBUTIONS[name]
    best = optimize.minimize_scalar(
        lambda t: expected_error(distribution, t, outliers), bounds=(0.5, 41), method="bounded"
    )
    assert found == pytest.approx(best.x, rel=0.05)
    # The optimum is flat: what matters is that nothing is lost against it.
    assert expected_error(distribution, found, outliers) <= 1.01 * best.fun


def test_mse_of_a_gaussian_and_a_laplace_is_what_banner_et_al_publish_for_eight_bits():
    gaussian = MseSpec().amax(statistics_from_array("x", drawn("gaussian", False)))
    laplace = MseSpec().amax(statistics_from_array("x", drawn("laplace", False)))
    assert gaussian == pytest.approx(3.92, rel=0.02)
    assert laplace == pytest.approx(9.89, rel=0.05)


def slow_squared_error(values, threshold):
    step = threshold / 127
    quantized = np.clip(np.rint(values / step), -127, 127) * step
    return float(np.square(values - quantized).sum())


@pytest.mark.parametrize("seed", range(6))
def test_mse_equals_a_slow_search_over_the_values_themselves(seed):
    rng = np.random.default_rng(seed)
    values = rng.standard_t(3 + seed, size=20_000).astype(np.float32)
    if seed % 2:
        values = np.maximum(values, 0)
    found = statistics_from_array("x", values)
    wide = values.astype(np.float64)
    edges = [*(np.arange(64, found.bins_used) * found.bin_width), found.amax]
    least = min(slow_squared_error(wide, t) for t in edges)
    assert slow_squared_error(wide, MseSpec().amax(found)) <= 1.005 * least


def test_mse_of_one_constant_keeps_it():
    found = statistics_from_array("x", np.full(100, 0.7, dtype=np.float32))
    assert MseSpec().amax(found) == np.float32(0.7)


@pytest.mark.parametrize("outliers", [False, True])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("share", [99.0, 99.9])
def test_percentile_is_the_quantile_of_the_distribution(name, outliers, share):
    found = statistics_from_array("x", drawn(name, outliers))
    exact = DISTRIBUTIONS[name].isf((1 - share / 100) / 2)
    amax = PercentileSpec(percentile=share).amax(found)
    assert amax == pytest.approx(exact, rel=0.03, abs=found.bin_width)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_minmax_is_the_largest_outlier(name):
    assert MinMaxSpec().amax(statistics_from_array("x", drawn(name, True))) == 40


@pytest.mark.parametrize("outliers", [False, True])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_entropy_of_a_distributions_own_histogram_is_that_of_the_slow_search(name, outliers):
    exact = population(DISTRIBUTIONS[name], outliers)
    assert EntropySpec().amax(exact) == pytest.approx(slow_entropy(exact), rel=1e-9)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_entropy_of_many_samples_nears_that_of_their_distribution(name):
    found = EntropySpec().amax(statistics_from_array("x", drawn(name, True)))
    assert found == pytest.approx(
        EntropySpec().amax(population(DISTRIBUTIONS[name], True)), rel=0.1
    )


def population(distribution, outliers):
    """The histogram of 1e12 values without chance: each bin holds its probability's share."""
    largest = min(float(distribution.isf(0.5e-12)), 1 - 1e-9 if distribution.cdf(1) == 1 else 99)
    if outliers:
        largest = 40.0
    exponent = int(np.frexp(largest)[1])
    edges = np.arange(BINS + 1) * 2.0**exponent / BINS
    counts = np.rint(-np.diff(tail(distribution, edges)) * 1e12).astype(np.int64)
    if outliers:
        counts += np.histogram(np.abs(OUTLIERS), bins=edges)[0] * int(1e12 / SAMPLES)
    return TensorStatistics("x", counts, exponent, -largest, largest, int(counts.sum()), 0)
