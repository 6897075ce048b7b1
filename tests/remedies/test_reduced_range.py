"""Weights in 7 bits, against the 16-bit sums of a processor without VNNI."""

import numpy as np
import pytest

from calib.graph.qdq import quantize_weight
from calib.remedies.coordinate_descent import descended_codes, descended_groups
from calib.remedies.gptq import gptq_codes
from calib.remedies.rounding import (
    INT8_MAX,
    REDUCED_MAX,
    largest_scales,
    nearest_codes,
    scales_from_amax,
)

OUTPUTS, INPUTS = 12, 40


def saturating_sums(inputs, codes):
    """What VPMADDUBSW and additions in 32 bits make of uint8 (R, K) by int8 (N, K)."""
    products = inputs[:, None, :].astype(np.int64) * codes[None].astype(np.int64)
    pairs = products.reshape(*products.shape[:2], -1, 2).sum(axis=-1)
    bounds = np.iinfo(np.int16)
    return np.clip(pairs, bounds.min, bounds.max).sum(axis=-1)


def exact_sums(inputs, codes):
    return inputs.astype(np.int64) @ codes.astype(np.int64).T


@pytest.fixture
def layer():
    """Weights with equal signs side by side, inputs at the top of their grid, and a Gram matrix."""
    rng = np.random.default_rng(0)
    weight = np.abs(rng.normal(size=(OUTPUTS, INPUTS))) * rng.choice([-1, 1], size=(OUTPUTS, 1))
    weight[:, :2] = 4 * np.sign(weight[:, :2])
    inputs = rng.integers(0, 256, size=(200, INPUTS)).astype(np.uint8)
    inputs[:20] = 255
    return weight, inputs, np.cov(inputs.T.astype(np.float64))


def codes_by(name, weight, scales, gram, limit):
    nearest = nearest_codes(weight, scales, limit)
    if name == "nearest":
        return nearest
    if name == "gptq":
        return gptq_codes(weight, scales, gram, limit=limit)
    if name == "descended":
        return descended_codes(weight, scales, gram, nearest, limit=limit)
    return descended_groups(weight[None], scales[None], gram[None], limit=limit)[0]


@pytest.mark.parametrize("name", ["nearest", "gptq", "descended", "groups"])
def test_no_pair_of_products_overflows(layer, name):
    weight, inputs, gram = layer
    codes = codes_by(name, weight, largest_scales(weight, REDUCED_MAX), gram, REDUCED_MAX)
    assert np.abs(codes).max() == REDUCED_MAX
    np.testing.assert_array_equal(saturating_sums(inputs, codes), exact_sums(inputs, codes))
    wide = codes_by(name, weight, largest_scales(weight), gram, INT8_MAX)
    assert (saturating_sums(inputs, wide) != exact_sums(inputs, wide)).any()


def test_not_even_the_largest_operands_do():
    for sign in (-1, 1):
        codes = np.full((1, 2), sign * REDUCED_MAX, dtype=np.int8)
        top = np.full((1, 2), 255, dtype=np.uint8)
        np.testing.assert_array_equal(saturating_sums(top, codes), exact_sums(top, codes))


def test_a_weight_loses_no_more_than_half_a_step_of_63(layer):
    weight, _, _ = layer
    found = quantize_weight(weight.astype(np.float32), 0, REDUCED_MAX)
    steps = np.abs(weight).max(axis=1, keepdims=True) / REDUCED_MAX
    error = np.abs(found.values * found.scales[:, None].astype(np.float64) - weight)
    assert (error <= steps / 2 * (1 + 1e-6)).all()
    assert error.max() > steps.min() / 8
    np.testing.assert_array_equal(scales_from_amax(np.zeros(3), REDUCED_MAX), np.ones(3))
