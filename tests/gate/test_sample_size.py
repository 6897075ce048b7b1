"""Power and sample sizes, against enumeration and drawing."""

import numpy as np
import pytest
from scipy.stats import binom, multinomial

from calib.gate.sample_size import (
    drop_power,
    drop_samples,
    scaled_samples,
    share_power,
    share_samples,
)
from calib.gate.statistics import exact_interval, tango_bounds


@pytest.mark.parametrize(("lost", "gained", "limit"), [(0.1, 0.05, 0.2), (0.02, 0.2, 0.1)])
def test_power_is_the_chance_of_the_outcomes_whose_bound_is_within_the_limit(lost, gained, limit):
    samples = 18
    b, c = np.divmod(np.arange((samples + 1) ** 2), samples + 1)
    b, c = b[b + c <= samples], c[b + c <= samples]
    _, upper = tango_bounds(samples, b, c, 0.05, corrected=True)
    shares = [lost, gained, 1 - lost - gained]
    chance = multinomial.pmf(np.stack([b, c, samples - b - c], axis=1), samples, shares)
    expected = chance[upper <= limit].sum()
    assert drop_power(samples, lost, gained, limit, 0.05) == pytest.approx(expected, abs=1e-12)
    assert expected > 0.05


@pytest.mark.parametrize("alpha", [0.05, 0.0125])
@pytest.mark.parametrize("limit", [0.002, 0.01, 0.05])
@pytest.mark.parametrize("gained", [0.0, 0.001, 0.02, 0.1])
def test_a_drop_at_the_limit_passes_with_chance_alpha_at_most(alpha, limit, gained):
    for samples in (50, 271, 1000, 5000):
        assert drop_power(samples, gained + limit, gained, limit, alpha) <= alpha


@pytest.mark.parametrize(
    ("lost", "gained", "limit"),
    [(0.01, 0.01, 0.005), (0.004, 0.001, 0.01), (0, 0, 0.01), (0.05, 0.01, 0.02)],
)
def test_the_number_of_samples_has_the_power_and_a_tenth_fewer_have_not(lost, gained, limit):
    found = drop_samples(lost, gained, limit, 0.05)
    sides = (lost, gained, limit) if lost - gained < limit else (gained, lost, -limit)
    assert drop_power(found, *sides, 0.05) >= 0.8
    assert drop_power(int(0.9 * found), *sides, 0.05) < 0.8


def test_a_recommended_number_decides_in_draws_too():
    samples = drop_samples(0.02, 0.01, 0.03, 0.05)
    rng = np.random.default_rng(1)
    lost, gained, _ = rng.multinomial(samples, [0.02, 0.01, 0.97], size=2000).T
    _, upper = tango_bounds(samples, lost, gained, 0.05, corrected=True)
    assert (upper <= 0.03).sum() >= binom.ppf(0.001, 2000, 0.8)


def test_no_number_of_samples_tells_a_drop_from_a_limit_that_it_equals():
    assert drop_samples(0.02, 0.01, 0.01, 0.05) is None
    assert drop_samples(0.02, 0.01, 0.010001, 0.05) is None
    assert share_samples(0.01, 0.01, 0.05) is None
    assert scaled_samples(100, 0.1, 0.0, 0.05) is None


@pytest.mark.parametrize(("share", "limit"), [(0.009, 0.018), (0.0, 0.01), (0.03, 0.018)])
def test_the_power_of_a_share_is_that_of_its_exact_bound(share, limit):
    found = share_samples(share, limit, 0.05)
    if share > limit:
        share, limit = 1 - share, 1 - limit
    counts = np.arange(found + 1)
    passes = [exact_interval(int(k), found, 0.05).high <= limit for k in counts[:200]]
    if share < 0.5:
        expected = binom.pmf(counts[:200], found, share)[passes].sum()
        assert share_power(found, share, limit, 0.05) == pytest.approx(expected)
    assert share_power(found, share, limit, 0.05) >= 0.8
    assert share_power(int(0.85 * found), share, limit, 0.05) < 0.8


def test_an_interval_a_quarter_as_wide_needs_sixteen_times_the_samples():
    wide, narrow = (scaled_samples(1000, half, 0.5, 0.05) for half in (0.4, 0.1))
    assert wide == pytest.approx(16 * narrow, rel=0.01)
