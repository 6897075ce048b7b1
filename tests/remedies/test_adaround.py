"""AdaRound: its slope against finite differences, and what it must never be worse than."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_layers import linear_layer, measured_error

from calib.remedies import adaround
from calib.remedies.adaround import adaround_codes
from calib.remedies.gptq import gptq_codes
from calib.remedies.rounding import largest_scales, nearest_codes

NOT_WORSE = 1 + 1e-9


@pytest.mark.parametrize("exponent", [None, 20.0, 3.5, 2.0])
def test_the_slope_is_that_of_finite_differences(exponent):
    rng = np.random.default_rng(3)
    layer = linear_layer(3, outputs=3, inputs=5)
    problem = adaround._Problem(rng.random((3, 5)), layer.gram, rng.random(5))
    logits = rng.normal(scale=1.5, size=(3, 5))
    logits[0, 0], logits[1, 1] = 4.0, -4.0  # where h is clipped
    slope = adaround._gradient(logits, problem, exponent)
    differences = np.empty_like(logits)
    for index in np.ndindex(logits.shape):
        nudge = np.zeros_like(logits)
        nudge[index] = 1e-5
        differences[index] = (
            adaround._loss(logits + nudge, problem, exponent)
            - adaround._loss(logits - nudge, problem, exponent)
        ) / 2e-5
    np.testing.assert_allclose(slope, differences, rtol=1e-6, atol=1e-8)
    assert slope[0, 0] == slope[1, 1] == 0


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    narrow=st.sampled_from([1.0, 0.5, 0.1]),
    steps=st.sampled_from([1, 2, 40]),
)
def test_no_output_is_worse_than_with_nearest_rounding_or_the_given_start(seed, narrow, steps):
    layer = linear_layer(seed)
    scales = largest_scales(layer.weight) * np.float32(narrow)
    start = gptq_codes(layer.weight, scales, layer.gram)
    codes = adaround_codes(layer.weight, scales, layer.gram, steps=steps, start=start)
    error = measured_error(layer, codes, scales)
    for rival in (nearest_codes(layer.weight, scales), start):
        assert (error <= NOT_WORSE * measured_error(layer, rival, scales)).all()


def test_without_a_start_each_code_is_the_weight_rounded_up_or_down():
    layer = linear_layer(8, inputs=20)
    scales = largest_scales(layer.weight)
    steps = layer.weight / scales[:, None].astype(np.float64)
    codes = adaround_codes(layer.weight, scales, layer.gram)
    assert (np.abs(codes - steps) < 1 + 1e-6).all()
    assert (codes != np.rint(steps)).any()


def test_a_clipped_weight_is_made_up_for_by_its_neighbours():
    # One weight is three steps beyond the range; the others may give back up to a step each.
    weight = np.array([[130.0, 10.3, -20.2, 30.4, 5.1]])
    scales, gram = np.ones(1), np.full((5, 5), 1.0) + 0.01 * np.eye(5)
    codes = adaround_codes(weight, scales, gram)
    assert codes.tolist() == [[127, 11, -20, 31, 6]]


def test_inputs_that_are_not_correlated_are_rounded_to_the_nearest():
    layer = linear_layer(0, inputs=30)
    scales = largest_scales(layer.weight)
    codes = adaround_codes(layer.weight, scales, np.diag(np.arange(1.0, 31)))
    np.testing.assert_array_equal(codes, nearest_codes(layer.weight, scales))


def test_no_steps_are_refused():
    layer = linear_layer(0)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        adaround_codes(layer.weight, largest_scales(layer.weight), layer.gram, steps=0)
