"""Scales of least output error against a slow search over the rows themselves."""

import numpy as np
import pytest
from linear_layers import linear_layer, measured_error

from calib.remedies.clipping import clipped_scales
from calib.remedies.rounding import largest_scales, nearest_codes


def heavy_tailed(seed):
    """A layer whose outputs each have one weight far from the rest, on a small input."""
    layer = linear_layer(seed, outputs=6, inputs=40)
    rows = layer.rows.copy()
    rows[:, 0] *= 0.001
    layer.weight[:, 0] = 30 * np.abs(layer.weight).max(axis=1)
    return layer._replace(rows=rows, gram=rows.T @ rows / len(rows))


@pytest.mark.parametrize("layer", [linear_layer(0), heavy_tailed(1)], ids=["even", "tailed"])
@pytest.mark.parametrize("candidates", [1, 20, 50])
def test_each_output_has_the_scale_of_least_error_over_the_rows(layer, candidates):
    amax = np.abs(layer.weight).max(axis=1)
    tried = [amax * k / candidates / 127 for k in range(1, candidates + 1)]
    errors = [measured_error(layer, nearest_codes(layer.weight, s), s) for s in tried]
    best = np.array(tried)[np.argmin(errors, axis=0), np.arange(len(amax))]
    scales = clipped_scales(layer.weight, layer.gram, candidates)
    assert scales.dtype == np.float32
    np.testing.assert_allclose(scales, best, rtol=1e-6)


def test_a_far_weight_on_a_small_input_is_clipped_for_the_others():
    layer = heavy_tailed(2)
    largest = largest_scales(layer.weight)
    scales = clipped_scales(layer.weight, layer.gram)
    codes, widest = nearest_codes(layer.weight, scales), nearest_codes(layer.weight, largest)
    assert (scales < largest / 2).all()
    gain = measured_error(layer, widest, largest) / measured_error(layer, codes, scales)
    assert (gain > 4).all()


def test_of_equals_the_widest_is_kept():
    weight = linear_layer(0).weight
    weight[2] = 0
    scales = clipped_scales(weight, np.zeros((8, 8)))
    np.testing.assert_array_equal(scales, largest_scales(weight))
    assert scales[2] == 1


def test_the_units_of_x_and_w_do_not_matter():
    layer = heavy_tailed(3)
    scales = clipped_scales(layer.weight, layer.gram)
    np.testing.assert_array_equal(clipped_scales(layer.weight, layer.gram * 2.0**-30), scales)
    np.testing.assert_array_equal(clipped_scales(layer.weight * 8, layer.gram), scales * 8)


def test_no_candidates_are_refused():
    with pytest.raises(ValueError, match="candidates must be at least 1, got 0"):
        clipped_scales(np.ones((1, 2)), np.eye(2), candidates=0)
