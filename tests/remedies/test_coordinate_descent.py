"""Coordinate descent: where it ends, no single code can be moved for the better."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_layers import linear_layer, measured_error

from calib.remedies.coordinate_descent import descended_codes, descended_groups
from calib.remedies.gptq import gptq_codes
from calib.remedies.rounding import largest_scales, nearest_codes

BEGINNINGS = [nearest_codes, gptq_codes]


@pytest.mark.parametrize("narrow", [1.0, 0.4])
def test_at_its_end_no_single_move_helps(narrow):
    layer = linear_layer(2, outputs=5, inputs=12)
    scales = largest_scales(layer.weight) * np.float32(narrow)
    start = nearest_codes(layer.weight, scales)
    codes = descended_codes(layer.weight, scales, layer.gram, start, sweeps=100)
    error = measured_error(layer, codes, scales)
    for k in range(12):
        for move in (-2, -1, 1, 2):
            other = codes.astype(int)
            other[:, k] = np.clip(other[:, k] + move, -127, 127)
            assert (measured_error(layer, other, scales) >= error * (1 - 1e-9)).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), narrow=st.sampled_from([1.0, 0.2]), sweeps=st.integers(1, 3))
def test_no_output_is_worse_than_at_the_start(seed, narrow, sweeps):
    layer = linear_layer(seed)
    scales = largest_scales(layer.weight) * np.float32(narrow)
    start = gptq_codes(layer.weight, scales, layer.gram)
    codes = descended_codes(layer.weight, scales, layer.gram, start, sweeps)
    assert (
        measured_error(layer, codes, scales) <= (1 + 1e-9) * measured_error(layer, start, scales)
    ).all()


def test_blocks_of_inputs_give_what_one_input_at_a_time_gives():
    layer = linear_layer(6, outputs=5, inputs=300, rows=600)
    scales = largest_scales(layer.weight)
    start = nearest_codes(layer.weight, scales)
    codes = start.astype(np.float64)
    for k in range(300):
        difference = codes - layer.weight / scales[:, None].astype(np.float64)
        codes[:, k] -= difference @ layer.gram[k] / layer.gram[k, k]
        codes[:, k] = np.clip(np.rint(codes[:, k]), -127, 127)
    found = descended_codes(layer.weight, scales, layer.gram, start, sweeps=1)
    np.testing.assert_array_equal(found, codes)


def test_codes_of_another_shape_are_refused():
    layer = linear_layer(0)
    with pytest.raises(ValueError, match="codes must have the weight's shape"):
        descended_codes(
            layer.weight,
            largest_scales(layer.weight),
            layer.gram,
            np.zeros((2, 2), dtype=np.int8),
        )


def test_many_groups_at_once_are_each_group_by_itself():
    layers = [linear_layer(seed, outputs=2, inputs=9, dead=(3,)) for seed in range(5)]
    scales = np.stack([largest_scales(layer.weight) for layer in layers])
    weight, gram = (np.stack([getattr(one, name) for one in layers]) for name in ("weight", "gram"))
    found = descended_groups(weight, scales, gram, sweeps=3)
    for layer, own, codes in zip(layers, scales, found, strict=True):
        start = nearest_codes(layer.weight, own)
        wanted = descended_codes(layer.weight, own, layer.gram, start, sweeps=3)
        np.testing.assert_array_equal(codes, wanted)


def test_groups_whose_gram_matrices_do_not_fit_are_refused():
    layer = linear_layer(1)
    scales = largest_scales(layer.weight)[None]
    with pytest.raises(ValueError, match="Gram"):
        descended_groups(layer.weight[None], scales, layer.gram)
