"""What holds of every search for codes: GPTQ, AdaRound, coordinate descent."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_layers import linear_layer, measured_error

from calib.remedies.adaround import adaround_codes
from calib.remedies.coordinate_descent import descended_codes
from calib.remedies.gptq import gptq_codes
from calib.remedies.rounding import largest_scales, nearest_codes

FEW_STEPS = 60


def learned(weight, scales, gram):
    return adaround_codes(weight, scales, gram, steps=FEW_STEPS)


def descended(weight, scales, gram):
    return descended_codes(weight, scales, gram, nearest_codes(weight, scales))


SEARCHES = {"gptq": gptq_codes, "adaround": learned, "coordinate descent": descended}
every_search = pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)


def least_errors(layer, scales):
    """The least error of each output over all codes within three steps and more of the weight."""
    choices = np.array(list(itertools.product(range(-3, 5), repeat=layer.weight.shape[1])))
    least = []
    for row, scale in zip(layer.weight, scales.astype(np.float64), strict=True):
        codes = np.clip(np.floor(row / scale) + choices, -127, 127)
        difference = codes * scale - row
        least.append(np.square(layer.rows @ difference.T).mean(axis=0).min())
    return np.array(least)


@every_search
def test_errors_lie_between_the_best_of_all_codes_and_those_of_nearest_rounding(search):
    over_least, of_nearest = [], []
    for seed in range(8):
        layer = linear_layer(seed, outputs=4, inputs=4, rows=50)
        scales = largest_scales(layer.weight)
        found = measured_error(layer, search(layer.weight, scales, layer.gram), scales)
        nearest = measured_error(layer, nearest_codes(layer.weight, scales), scales)
        over_least.extend(found / least_errors(layer, scales))
        of_nearest.extend(found / nearest)
    assert np.min(over_least) >= 1 - 1e-9
    assert np.exp(np.mean(np.log(over_least))) < 1.5
    assert np.exp(np.mean(np.log(of_nearest))) < 0.95


@every_search
def test_correlated_inputs_lose_much_of_the_error_of_nearest_rounding(search):
    layer = linear_layer(5, outputs=24, inputs=48, rows=400)
    scales = largest_scales(layer.weight)
    codes = search(layer.weight, scales, layer.gram)
    nearest = measured_error(layer, nearest_codes(layer.weight, scales), scales)
    assert (measured_error(layer, codes, scales) / nearest).mean() < 0.7


@every_search
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), narrow=st.sampled_from([1.0, 0.3]), power=st.integers(-20, 20))
def test_codes_are_in_range_and_the_unit_of_x_and_w_does_not_matter(search, seed, narrow, power):
    layer = linear_layer(seed, outputs=3, inputs=7)
    scales = largest_scales(layer.weight) * np.float32(narrow)
    codes = search(layer.weight, scales, layer.gram)
    assert codes.dtype == np.int8
    assert codes.shape == layer.weight.shape
    assert np.abs(codes.astype(int)).max() <= 127
    # A power of two changes no digit, so that no tie can fall the other way.
    unit = 2.0**power
    np.testing.assert_array_equal(search(layer.weight, scales, layer.gram * unit**2), codes)
    rescaled = search(layer.weight * unit, scales * np.float32(unit), layer.gram)
    np.testing.assert_array_equal(rescaled, codes)


@every_search
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_outputs_do_not_depend_on_each_other(search, seed):
    layer = linear_layer(seed, outputs=8, inputs=6)
    scales = largest_scales(layer.weight)
    order = np.random.default_rng(seed).permutation(8)
    moved = search(layer.weight[order], scales[order], layer.gram)
    wanted = measured_error(layer, search(layer.weight, scales, layer.gram), scales)[order]
    moved_layer = layer._replace(weight=layer.weight[order])
    np.testing.assert_allclose(measured_error(moved_layer, moved, scales[order]), wanted, rtol=1e-9)


@every_search
def test_the_codes_are_the_same_every_time(search):
    layer = linear_layer(3)
    scales = largest_scales(layer.weight)
    first = search(layer.weight, scales, layer.gram)
    np.testing.assert_array_equal(search(layer.weight, scales, layer.gram), first)


@every_search
def test_a_channel_of_zeros_stays_zero_and_a_weight_on_the_grid_stays_itself(search):
    layer = linear_layer(1, outputs=2, inputs=6)
    on_the_grid = np.array([[127.0, -127, 5, 0, -1, 64], [0, 0, 0, 0, 0, 0]])
    codes = search(on_the_grid, largest_scales(on_the_grid), layer.gram)
    np.testing.assert_array_equal(codes, on_the_grid)


@every_search
def test_inputs_that_were_always_zero_change_nothing_for_the_others(search):
    layer = linear_layer(4, inputs=8, dead=(2, 5))
    scales = largest_scales(layer.weight)
    codes = search(layer.weight, scales, layer.gram)
    live = np.array([0, 1, 3, 4, 6, 7])
    alone = search(layer.weight[:, live], scales, layer.gram[np.ix_(live, live)])
    if search is gptq_codes:
        np.testing.assert_array_equal(codes[:, live], alone)
    # What is silent in calibration may speak in production.
    np.testing.assert_array_equal(codes[:, [2, 5]], nearest_codes(layer.weight, scales)[:, [2, 5]])


@every_search
def test_a_layer_that_only_ever_saw_zeros_is_no_error(search):
    weight = linear_layer(0).weight
    codes = search(weight, largest_scales(weight), np.zeros((8, 8)))
    assert codes.shape == weight.shape


@every_search
def test_arguments_are_left_as_they_were(search):
    layer = linear_layer(2)
    scales = largest_scales(layer.weight)
    copies = layer.weight.copy(), scales.copy(), layer.gram.copy()
    search(layer.weight, scales, layer.gram)
    for now, before in zip((layer.weight, scales, layer.gram), copies, strict=True):
        np.testing.assert_array_equal(now, before)


@every_search
def test_a_gram_matrix_with_nan_is_refused(search):
    layer = linear_layer(2)
    layer.gram[1, 1] = np.nan
    with pytest.raises(ValueError, match="gram must be finite"):
        search(layer.weight, largest_scales(layer.weight), layer.gram)
