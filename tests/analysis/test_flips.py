"""Expected flips, held against scipy's normal distribution and against noise that is drawn."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from calib.analysis.flips import expected_flips_pct, margins, variance_for_flips


def test_the_margin_is_what_the_largest_score_has_over_the_second():
    scores = np.array([[[3.0, 1.0, 2.5], [0.0, 0.0, -1.0]]])
    np.testing.assert_array_equal(margins(scores), [0.5, 0.0])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 10), min_size=1, max_size=20), st.floats(1e-3, 10))
def test_the_chance_is_that_of_the_normal_distribution(values, deviation):
    wanted = 100 * norm.cdf(-np.array(values) / (math.sqrt(2) * deviation)).mean()
    assert expected_flips_pct(np.array(values), deviation**2) == pytest.approx(wanted, abs=1e-9)


def test_noise_that_is_drawn_changes_as_many_predictions():
    rng = np.random.default_rng(2)
    scores = 3 * rng.normal(size=(40_000, 5))
    noisy = scores + 0.2 * rng.normal(size=scores.shape)
    measured = 100 * (scores.argmax(axis=1) != noisy.argmax(axis=1)).mean()
    assert expected_flips_pct(margins(scores), 0.04) == pytest.approx(measured, rel=0.1)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(0.01, 10), min_size=2, max_size=20),
    st.floats(0.01, 45),
)
def test_the_variance_found_is_the_one_that_changes_so_many(values, wanted):
    margin = np.array(values)
    variance = variance_for_flips(margin, wanted)
    assert expected_flips_pct(margin, variance) == pytest.approx(wanted, rel=1e-3)


def test_more_than_half_can_never_change():
    assert variance_for_flips(np.array([1.0, 2.0]), 60) == math.inf


def test_no_noise_changes_nothing():
    assert expected_flips_pct(np.array([1.0]), 0.0) == 0.0
    assert expected_flips_pct(np.array([]), 1.0) == 0.0


def test_over_a_masked_class_the_margin_is_as_wide_as_any_and_a_row_of_masks_has_none():
    scores = np.array(
        [
            [3.0, 1.0, -np.inf],
            [2.0, -np.inf, -np.inf],
            [0.5, -3.4e38, -3.4e38],
            [-np.inf, -np.inf, -np.inf],
            [4.0, 3.0, np.nan],
        ],
        dtype=np.float32,
    )
    np.testing.assert_array_equal(margins(scores), [2.0, 2.0, 2.0])
    assert math.isfinite(variance_for_flips(margins(scores), 1.0))
