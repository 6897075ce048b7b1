"""Rounding to INT8, and the error it leaves, against the rows of inputs themselves."""

import numpy as np
import pytest
from linear_layers import linear_layer, measured_error

from calib.graph.qdq import quantize_weight
from calib.remedies.rounding import (
    largest_scales,
    nearest_codes,
    output_error,
    refuse_bad_layer,
)


def test_codes_and_scales_are_those_of_the_graphs_weights():
    weight = linear_layer(0, outputs=20, inputs=30).weight
    weight[3], weight[4], weight[5, 1:] = 0, 1e-40, 0
    quantized = quantize_weight(weight, axis=0)
    scales = largest_scales(weight)
    assert scales.dtype == np.float32
    np.testing.assert_array_equal(scales, quantized.scales)
    np.testing.assert_array_equal(nearest_codes(weight, scales), quantized.values)


def test_a_channel_of_zeros_has_scale_one_and_codes_of_zero():
    scales = largest_scales(np.zeros((2, 3)))
    assert scales.tolist() == [1, 1]
    assert not nearest_codes(np.zeros((2, 3)), scales).any()


def test_halves_go_to_even_and_what_is_beyond_the_range_is_clipped():
    weight = np.array([[0.5, 1.5, -0.5, -2.5, 300, -300]])
    assert nearest_codes(weight, np.ones(1)).tolist() == [[0, 2, 0, -2, 127, -127]]


@pytest.mark.parametrize("seed", range(3))
def test_output_error_is_the_mean_square_over_the_rows(seed):
    layer = linear_layer(seed)
    scales = largest_scales(layer.weight) / 2
    codes = nearest_codes(layer.weight, scales)
    np.testing.assert_allclose(
        output_error(layer.weight, codes, scales, layer.gram),
        measured_error(layer, codes, scales),
        rtol=1e-9,
    )


def test_a_weight_on_the_grid_has_no_error():
    weight = np.array([[127.0, 3, -5], [0, 0, 0]])
    scales = largest_scales(weight)
    error = output_error(weight, nearest_codes(weight, scales), scales, np.eye(3))
    assert error.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("weight", "scales", "gram", "problem"),
    [
        (np.ones((2, 3)), np.ones(3), np.eye(3), r"needs scales \(2,\)"),
        (np.ones((2, 3)), np.ones(2), np.eye(2), r"\(3, 3\), got \(2,\) and \(2, 2\)"),
        (np.full((2, 3), np.nan), np.ones(2), np.eye(3), "weight must be finite"),
        (np.ones((2, 3)), np.array([1, np.inf]), np.eye(3), "scales must be finite"),
        (np.ones((2, 3)), np.ones(2), np.full((3, 3), np.inf), "gram must be finite"),
        (np.ones((2, 3)), np.array([1, 0]), np.eye(3), "scales must be positive, got 0"),
    ],
)
def test_a_bad_layer_is_refused_by_name(weight, scales, gram, problem):
    with pytest.raises(ValueError, match=problem):
        refuse_bad_layer(weight, scales, gram)
