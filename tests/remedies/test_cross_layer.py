"""Equalized and aligned layers: the network's function stays, the ranges meet."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from calib.remedies.cross_layer import channel_alignment, cross_layer_scales, depthwise_scales

ranges = arrays.arrays(np.float64, 5, elements=st.floats(0, 1e30) | st.floats(1e-30, 1e-3))


def relu(x):
    return np.maximum(x, 0)


def two_layers(seed, unlike=2.0):
    rng = np.random.default_rng(seed)
    spread = np.exp(unlike * rng.standard_normal(6))
    first = rng.standard_normal((6, 4)) * spread[:, None]
    return first, rng.standard_normal(6), rng.standard_normal((3, 6)), rng.standard_normal((50, 4))


def test_two_layers_compute_the_same_with_equal_ranges():
    w1, b1, w2, x = two_layers(0)
    s = cross_layer_scales(np.abs(w1).max(axis=1), np.abs(w2).max(axis=0))
    even1, even_b1, even2 = w1 / s[:, None], b1 / s, w2 * s
    np.testing.assert_allclose(np.abs(even1).max(axis=1), np.abs(even2).max(axis=0))
    np.testing.assert_allclose(
        relu(x @ even1.T + even_b1) @ even2.T, relu(x @ w1.T + b1) @ w2.T, rtol=1e-9
    )


def test_a_depthwise_layer_between_two_gets_their_range():
    w1, b1, w3, x = two_layers(1)
    w2 = np.random.default_rng(2).standard_normal(6)
    scales = depthwise_scales(np.abs(w1).max(axis=1), np.abs(w2), np.abs(w3).max(axis=0))
    even1, even_b1 = w1 / scales.first[:, None], b1 / scales.first
    even2, even3 = w2 * scales.first / scales.last, w3 * scales.last
    np.testing.assert_allclose(np.abs(even1).max(axis=1), np.abs(even2))
    np.testing.assert_allclose(np.abs(even3).max(axis=0), np.abs(even2))
    np.testing.assert_allclose(
        relu(relu(x @ even1.T + even_b1) * even2) @ even3.T,
        relu(relu(x @ w1.T + b1) * w2) @ w3.T,
        rtol=1e-9,
    )


@given(first=ranges, middle=ranges, last=ranges)
def test_factors_are_finite_and_positive_and_one_where_a_range_is_zero(first, middle, last):
    pair = cross_layer_scales(first, last)
    triple = depthwise_scales(first, middle, last)
    for scales in (pair, *triple):
        assert (np.isfinite(scales) & (scales > 0)).all()
    assert (pair[(first == 0) | (last == 0)] == 1).all()
    dead = (first == 0) | (middle == 0) | (last == 0)
    assert (triple.first[dead] == 1).all()
    assert (triple.last[dead] == 1).all()


@given(first=ranges, last=ranges)
def test_equal_ranges_need_no_second_round(first, last):
    scales = cross_layer_scales(first, last)
    again = cross_layer_scales(first / scales, last * scales)
    np.testing.assert_allclose(again, 1, rtol=1e-9)


def test_aligned_channels_compute_the_same_and_are_centred_and_of_one_range():
    w1, b1, w2, x = two_layers(3, unlike=1.0)
    channels = x @ w1.T + b1
    low, high = np.quantile(channels, [0.001, 0.999], axis=0)
    shift, scale = channel_alignment(low, high)
    aligned = x @ (w1 / scale[:, None]).T + (b1 - shift) / scale
    np.testing.assert_allclose(
        aligned @ (w2 * scale).T + w2 @ shift, channels @ w2.T, rtol=1e-9, atol=1e-9
    )
    low, high = np.quantile(aligned, [0.001, 0.999], axis=0)
    np.testing.assert_allclose(low, -high)
    np.testing.assert_allclose(high, high[0])


def test_scales_of_channels_are_bounded_and_a_channel_without_a_range_keeps_its_own():
    low, high = np.array([-1.0, 0, 3, -1e6, 0]), np.array([1.0, 2, 3, 1e6, 1e-6])
    shift, scale = channel_alignment(low, high)
    assert scale.tolist() == [1, 1, 1, 100, 0.01]
    np.testing.assert_allclose(shift, [0, 1, 3, 0, 5e-7])
    assert channel_alignment(np.ones(2), np.ones(2)).scale.tolist() == [1, 1]


def test_bad_ranges_are_refused():
    with pytest.raises(ValueError, match=r"ranges must be \(C,\) alike"):
        cross_layer_scales(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="finite and not negative"):
        cross_layer_scales(np.ones(2), np.array([1, -1]))
    with pytest.raises(ValueError, match="finite and not negative"):
        depthwise_scales(np.ones(2), np.array([1, np.nan]), np.ones(2))
    with pytest.raises(ValueError, match="high not below low"):
        channel_alignment(np.ones(2), np.zeros(2))
    with pytest.raises(ValueError, match=r"must be \(C,\) alike"):
        channel_alignment(np.ones(2), np.zeros(3))
