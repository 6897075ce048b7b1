"""The gate's intervals, against published values, slow versions and enumeration."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar
from scipy.stats import binom, multinomial, norm

from calib.gate.statistics import (
    PairedCounts,
    _ratio_statistic,
    exact_interval,
    holm,
    mcnemar_p,
    mean_drop_interval,
    newcombe_interval,
    ratio_interval,
    tango_bounds,
    tango_interval,
    tango_p,
    tango_statistic,
    wilson_interval,
)

counts_strategy = st.tuples(*[st.integers(0, 60)] * 3, st.integers(1, 200)).map(
    lambda c: PairedCounts(samples=sum(c), lost=c[0], gained=c[1], right=c[2])
)


@pytest.mark.parametrize(
    ("lost", "gained", "samples", "low", "high"),
    [
        (40, 20, 160, 0.030865, 0.218064),
        (0, 0, 100, -0.036993, 0.036993),
        (5, 0, 41, 0.025836, 0.255442),
        (3, 10, 1000, -0.015668, 0.0000781),
    ],
)
def test_tangos_interval_has_the_published_values(lost, gained, samples, low, high):
    found = tango_interval(PairedCounts(samples, lost, gained), 0.025)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-6)


def test_newcombes_interval_has_the_published_values():
    found = newcombe_interval(PairedCounts(samples=41, lost=5, gained=0, right=14), 0.025)
    assert (found.low, found.high) == pytest.approx((0.011483, 0.226493), abs=1e-6)


def likeliest_gained(counts, drop):
    """Share gained of greatest likelihood if the share lost is larger by `drop`: by search."""
    rest = counts.samples - counts.lost - counts.gained

    def surprise(gained):
        chances = (gained + drop, gained, 1 - 2 * gained - drop)
        parts = (counts.lost, counts.gained, rest)
        return -sum(n * math.log(max(p, 1e-300)) for n, p in zip(parts, chances, strict=True) if n)

    span = (max(0.0, -drop), (1 - drop) / 2)
    return minimize_scalar(surprise, bounds=span, method="bounded", options={"xatol": 1e-12}).x


@pytest.mark.parametrize("counts", [(40, 20, 160), (5, 0, 41), (3, 10, 1000), (1, 1, 30)])
@pytest.mark.parametrize("drop", [-0.2, -0.03, 0.004, 0.05, 0.3])
def test_tangos_variance_is_that_of_the_likeliest_shares_with_the_drop_supposed(counts, drop):
    lost, gained, samples = counts
    share = likeliest_gained(PairedCounts(samples, lost, gained), drop)
    variance = samples * (2 * share + drop * (1 - drop))
    expected = (lost - gained - samples * drop) / math.sqrt(variance)
    assert tango_statistic(samples, lost, gained, drop) == pytest.approx(expected, rel=1e-4)


@settings(max_examples=30, deadline=None)
@given(counts_strategy, st.sampled_from([0.005, 0.025, 0.05]))
def test_bounds_hold_the_drop_found_and_swap_with_the_models(counts, alpha):
    for corrected in (False, True):
        own = tango_interval(counts, alpha, corrected=corrected)
        assert own.low <= counts.drop + 1e-12
        assert own.high >= counts.drop - 1e-12
        swapped = PairedCounts(counts.samples, counts.gained, counts.lost)
        other = tango_interval(swapped, alpha, corrected=corrected)
        assert (own.low, own.high) == pytest.approx((-other.high, -other.low), abs=1e-9)
    assert own.high >= tango_interval(counts, alpha).high


@settings(max_examples=30, deadline=None)
@given(counts_strategy)
def test_newcombe_and_tango_agree_on_many_samples(counts):
    many = PairedCounts(
        *(10_000 * v for v in (counts.samples, counts.lost, counts.gained, counts.right))
    )
    one, other = newcombe_interval(many, 0.05), tango_interval(many, 0.05)
    assert (one.low, one.high) == pytest.approx((other.low, other.high), abs=0.002)


@pytest.mark.parametrize("samples", [5, 14, 40])
@pytest.mark.parametrize("drop", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("gained", [0.0, 0.01, 0.08])
@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_the_corrected_bound_is_too_low_with_chance_alpha_at_most(samples, drop, gained, alpha):
    # Every outcome there is, weighed by its chance.
    lost, gains = np.divmod(np.arange((samples + 1) ** 2), samples + 1)
    possible = lost + gains <= samples
    lost, gains = lost[possible], gains[possible]
    chance = multinomial.pmf(
        np.stack([lost, gains, samples - lost - gains], axis=1),
        samples,
        [gained + drop, gained, 1 - 2 * gained - drop],
    )
    _, upper = tango_bounds(samples, lost, gains, alpha, corrected=True)
    assert chance.sum() == pytest.approx(1)
    assert chance[upper < drop].sum() <= alpha


def test_without_the_correction_the_bound_can_be_too_low_more_often():
    # 2.71 lost are expected and none is found.
    samples, drop = 1000, 0.00273
    assert tango_interval(PairedCounts(samples, 0, 0), 0.05).high < drop
    assert binom.pmf(0, samples, drop) > 0.06


def test_a_p_value_falls_below_alpha_where_the_lower_bound_passes_the_limit():
    counts = PairedCounts(300, 30, 8)
    low = tango_interval(counts, 0.05, corrected=True).low
    assert tango_p(counts, low) == pytest.approx(0.05, abs=1e-9)
    assert tango_p(counts, low - 0.01) < 0.05 < tango_p(counts, low + 0.01)


def test_mcnemars_p_is_the_binomial_tail_on_both_sides():
    expected = 2 * binom.cdf(3, 13, 0.5)
    assert mcnemar_p(PairedCounts(1000, 3, 10)) == pytest.approx(expected)
    assert mcnemar_p(PairedCounts(1000, 5, 5)) == 1
    assert mcnemar_p(PairedCounts(1000, 0, 0)) == 1


def test_the_exact_interval_leaves_alpha_beyond_each_bound():
    found = exact_interval(18, 2000, 0.05)
    assert binom.cdf(18, 2000, found.high) == pytest.approx(0.05)
    assert binom.sf(17, 2000, found.low) == pytest.approx(0.05)
    assert exact_interval(0, 50, 0.05).low == 0


def test_wilsons_interval_solves_its_equation():
    z = norm.isf(0.025)
    for bound in wilson_interval(7, 50, 0.025):
        assert (7 / 50 - bound) ** 2 == pytest.approx(z**2 * bound * (1 - bound) / 50)


@pytest.mark.parametrize("counts", [(5, 2, 80, 100), (10, 0, 80, 100), (0, 0, 90, 100)])
@pytest.mark.parametrize("ratio", [0.8, 0.95, 1.1])
def test_the_ratios_statistic_uses_the_likeliest_shares(counts, ratio):
    lost, gained, right, samples = counts
    neither = samples - lost - gained - right

    def chances(q):  # q lost, and both right so that second = ratio · first
        # right + gained = ratio (right + lost); free: the share right in both and lost.
        both, lost_share = q
        gained_share = ratio * (both + lost_share) - both
        return both, lost_share, gained_share, 1 - both - lost_share - gained_share

    def surprise(q):
        shares = chances(q)
        if min(shares) < -1e-12:
            return 1e9
        parts = (right, lost, gained, neither)
        return -sum(n * math.log(max(p, 1e-12)) for n, p in zip(parts, shares, strict=True))

    best = min(
        (
            minimize(
                surprise,
                (both, off),
                method="Nelder-Mead",
                options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 4000},
            )
            for both in (0.7, 0.8)
            for off in (0.1, 0.19)
        ),
        key=lambda found: found.fun,
    )
    _, lost_share, gained_share, _ = chances(best.x)
    first, second = (right + lost) / samples, (right + gained) / samples
    expected = (second - ratio * first) / math.sqrt(ratio * (lost_share + gained_share) / samples)
    found = float(_ratio_statistic(PairedCounts(samples, lost, gained, right), ratio, 0.0))
    assert found == pytest.approx(expected, rel=0.01)


def test_an_interval_of_the_ratio_is_that_of_the_drop_where_fp32_is_always_right():
    # Then both ask how large the share of what is lost can be.
    counts = PairedCounts(samples=400, lost=12, gained=0, right=388)
    ratio, drop = ratio_interval(counts, 0.05), tango_interval(counts, 0.05, corrected=True)
    assert 1 - ratio.low == pytest.approx(drop.high, rel=0.02)
    assert 1 - ratio.high == pytest.approx(drop.low, rel=0.02)


@pytest.mark.parametrize(("samples", "accuracy", "gained"), [(60, 0.5, 0.05), (300, 0.9, 0.01)])
def test_a_ratio_is_below_its_bound_about_as_often_as_promised(samples, accuracy, gained):
    ratio = 0.97
    lost = accuracy * (1 - ratio) + gained
    shares = [lost, gained, accuracy - lost, 1 - accuracy - gained]
    draws = np.random.default_rng(0).multinomial(samples, shares, size=600)
    distinct, times = np.unique(draws, axis=0, return_counts=True)
    wrong = 0
    for (b, c, both, _), count in zip(distinct.tolist(), times.tolist(), strict=True):
        bound = ratio_interval(PairedCounts(samples, b, c, both), 0.05).low
        wrong += count * (bound > ratio)
    assert wrong <= binom.ppf(0.999, 600, 0.05)


def test_the_mean_of_one_stratum_is_its_own_drop():
    counts = PairedCounts(90, 7, 2)
    alone = mean_drop_interval([counts], 0.05)
    many = mean_drop_interval([counts] * 25, 0.05)
    own = tango_interval(counts, 0.05)
    assert (alone.low, alone.high) == pytest.approx((own.low, own.high))
    assert many.high - counts.drop == pytest.approx((own.high - counts.drop) / 5)
    assert counts.drop - many.low == pytest.approx((counts.drop - own.low) / 5)


def test_the_mean_drop_of_strata_is_held_as_often_as_promised():
    rng = np.random.default_rng(0)
    sizes, lost, gained = (20, 50, 200), (0.05, 0.02, 0.1), (0.03, 0.0, 0.02)
    true = np.mean(np.subtract(lost, gained))
    too_low = 0
    for _ in range(200):
        strata = []
        for n, b, c in zip(sizes, lost, gained, strict=True):
            drawn = rng.multinomial(n, [b, c, 1 - b - c])
            strata.append(PairedCounts(n, int(drawn[0]), int(drawn[1])))
        too_low += mean_drop_interval(strata, 0.05).high < true
    assert too_low <= binom.ppf(0.999, 200, 0.05)


def test_holm_has_the_textbooks_values():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([0.9, 0.8]) == (1, 1)
    assert holm([]) == ()


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_its_steps_reject(p_values):
    adjusted, alpha = holm(p_values), 0.05
    rejected = set()
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] * (len(p_values) - rank) > alpha:
            break
        rejected.add(index)
    assert {i for i, p in enumerate(adjusted) if p <= alpha} == rejected


def test_counts_that_are_no_parts_of_the_samples_are_refused():
    for wrong in ((10, 6, 5), (10, -1, 0), (10, 4, 4, 3)):
        with pytest.raises(ValueError, match="no parts"):
            PairedCounts(*wrong)
