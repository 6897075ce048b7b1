"""Differences over the same samples."""

import math

import numpy as np
import pytest
from scipy import stats

from calib.run_diff.paired import paired_difference


def test_a_proportion_has_mcnemars_p_and_an_interval_that_simulation_confirms():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(60):
        first = (rng.random(300) < 0.8).astype(float)
        flips = rng.random(300)
        second = np.where(flips < 0.06, 0.0, np.where(flips > 0.98, 1.0, first))
        truth = -0.06 * 0.8 + 0.02 * 0.2
        found = paired_difference(first, second)
        covered += found.low <= truth <= found.high
        lost, won = int((first > second).sum()), int((first < second).sum())
        assert found.value == pytest.approx((won - lost) / 300)
        expected = stats.binomtest(won, won + lost).pvalue
        assert found.p_value == pytest.approx(expected)
    # Of 60 intervals 57 are expected to hold the truth; fewer than 51 has a chance of 0.5 %.
    assert covered >= 51


def test_a_mean_has_an_interval_near_students_and_no_p_value():
    rng = np.random.default_rng(1)
    first = rng.normal(size=400)
    second = first + rng.normal(0.1, 0.5, size=400)
    found = paired_difference(first, second)
    low, high = stats.t.interval(
        0.95, 399, loc=found.value, scale=np.std(second - first, ddof=1) / 20
    )
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.01)
    assert found.p_value is None


def test_where_nothing_differs_what_was_not_seen_is_still_possible():
    ones = np.ones(100)
    found = paired_difference(ones, ones)
    bound = 1.959964**2 / (100 + 1.959964**2)  # Tango's interval where no pair differs
    assert (found.value, found.low, found.high) == pytest.approx((0, -bound, bound), rel=1e-5)
    assert found.p_value == 1.0
    shifted = paired_difference(np.linspace(2, 3, 50), np.linspace(2, 3, 50) + 0.25)
    assert shifted.low == shifted.high == pytest.approx(0.25)


def test_a_single_pair_that_differs_among_many_has_an_interval():
    first = np.ones(200)
    second = first.copy()
    second[3] = 0
    found = paired_difference(first, second)
    assert found.low <= -0.005 <= found.high
    assert math.isfinite(found.low)


@pytest.mark.parametrize("values", [[], [math.inf, 1.0], [math.nan]])
def test_without_numbers_there_is_no_difference(values):
    array = np.array(values)
    assert paired_difference(array, np.zeros(len(array))) is None
