"""The corrected bias gives the quantized layer the float layer's mean output."""

import numpy as np
import pytest
from linear_layers import linear_layer

from calib.remedies.bias_correction import bias_shift
from calib.remedies.rounding import largest_scales, nearest_codes


def test_the_mean_output_is_the_float_layers():
    layer = linear_layer(0)
    scales = largest_scales(layer.weight).astype(np.float64) * 3
    dequantized = nearest_codes(layer.weight, scales) * scales[:, None]
    quantized_rows = np.clip(np.rint(layer.rows / 0.25), -20, 20) * 0.25
    bias = np.arange(6.0)
    shift = bias_shift(
        layer.weight, dequantized, layer.rows.mean(axis=0), quantized_rows.mean(axis=0)
    )
    corrected = quantized_rows @ dequantized.T + bias + shift
    wanted = layer.rows @ layer.weight.T + bias
    np.testing.assert_allclose(corrected.mean(axis=0), wanted.mean(axis=0), rtol=1e-9)
    assert np.abs(shift).max() > 0.01


def test_a_layer_that_lost_nothing_needs_no_shift():
    layer = linear_layer(1)
    mean = layer.rows.mean(axis=0)
    assert not bias_shift(layer.weight, layer.weight, mean, mean).any()


def test_shapes_that_disagree_and_nan_are_refused():
    weight = np.ones((2, 3))
    with pytest.raises(ValueError, match=r"two means \(3,\), got \(2, 3\), \(2,\) and \(3,\)"):
        bias_shift(weight, weight, np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="not finite"):
        bias_shift(weight, weight, np.ones(3), np.full(3, np.nan))
