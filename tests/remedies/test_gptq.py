"""GPTQ against the update that its paper starts from, one column and one inverse at a time."""

import numpy as np
import pytest
from linear_layers import linear_layer

from calib.remedies.gptq import gptq_codes
from calib.remedies.rounding import largest_scales


def slow_gptq(weight, scales, gram, damping):
    """Optimal brain quantization in a fixed order: the inverse itself loses a row at each step."""
    weight = weight.copy()
    scales = scales.astype(np.float64)
    diagonal = np.diag(gram).copy()
    live = diagonal > 0
    hessian = gram + damping * diagonal[live].mean() * np.eye(len(gram))
    hessian[~live, ~live] = 1
    codes = np.zeros(weight.shape)
    left = sorted(range(len(gram)), key=lambda k: -diagonal[k])
    inverse = np.linalg.inv(hessian)
    while left:
        k = left.pop(0)
        codes[:, k] = np.clip(np.rint(weight[:, k] / scales), -127, 127)
        error = (weight[:, k] - codes[:, k] * scales) / inverse[k, k]
        weight -= np.outer(error, inverse[k])
        inverse = inverse - np.outer(inverse[:, k], inverse[k]) / inverse[k, k]
    return codes


@pytest.mark.parametrize("block", [1, 7, 16, 128])
@pytest.mark.parametrize("narrow", [1.0, 0.4])
@pytest.mark.parametrize("dead", [(), (0, 9)])
def test_codes_are_those_of_the_slow_loop(block, narrow, dead):
    layer = linear_layer(11, outputs=10, inputs=40, dead=dead)
    scales = largest_scales(layer.weight) * np.float32(narrow)
    codes = gptq_codes(layer.weight, scales, layer.gram, damping=0.02, block=block)
    np.testing.assert_array_equal(codes, slow_gptq(layer.weight, scales, layer.gram, 0.02))


def test_inputs_that_are_not_correlated_are_rounded_to_the_nearest():
    weight = linear_layer(0).weight
    scales = largest_scales(weight)
    codes = gptq_codes(weight, scales, np.diag(np.arange(1.0, 9)))
    np.testing.assert_array_equal(codes, np.rint(weight / scales[:, None].astype(np.float64)))


def test_fewer_rows_than_inputs_are_enough():
    layer = linear_layer(0, inputs=30, rows=5)
    codes = gptq_codes(layer.weight, largest_scales(layer.weight), layer.gram)
    assert codes.any()


def test_a_matrix_that_is_only_nearly_a_gram_matrix_gets_more_damping():
    layer = linear_layer(7)
    values, vectors = np.linalg.eigh(layer.gram)
    values[0] = -0.3 * values.mean()
    nearly = (vectors * values) @ vectors.T
    scales = largest_scales(layer.weight)
    np.testing.assert_array_equal(
        gptq_codes(layer.weight, scales, nearly, damping=0.01),
        gptq_codes(layer.weight, scales, nearly, damping=1.0),
    )


def test_what_is_no_gram_matrix_is_refused():
    layer = linear_layer(0, inputs=2)
    with pytest.raises(ValueError, match="cannot be factorised, even with 1 of its mean"):
        gptq_codes(
            layer.weight,
            largest_scales(layer.weight),
            np.array([[1.0, 20], [20, 1]]),
            damping=0.001,
        )
