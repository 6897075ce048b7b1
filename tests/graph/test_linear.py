"""Weights as matrices: what they compute is what the node computes, and nothing is lost."""

import math

import models
import numpy as np
import pytest
from layer_models import loaded, normal, one_layer, ort_run, selected
from onnx import TensorProto, helper

LAYERS = {
    "MatMul": (one_layer("MatMul", 2, normal(0, 6, 4)), (6,)),
    "Gemm": (one_layer("Gemm", 2, normal(1, 6, 4)), (6,)),
    "Gemm with transB": (one_layer("Gemm", 2, normal(2, 4, 6), transB=1), (6,)),
    "Conv": (one_layer("Conv", 4, normal(3, 4, 3, 2, 5)), (3, 2, 5)),
    "grouped Conv": (one_layer("Conv", 4, normal(4, 6, 2, 3, 2), group=3), (6, 3, 2)),
    "depthwise Conv": (one_layer("Conv", 4, normal(5, 8, 1, 3, 3), group=4), (4, 3, 3)),
    "Conv in 1D": (one_layer("Conv", 3, normal(6, 4, 3, 5)), (3, 5)),
    "grouped Conv in 1D": (one_layer("Conv", 3, normal(7, 4, 2, 3), group=2), (4, 3)),
    "depthwise Conv in 1D": (one_layer("Conv", 3, normal(8, 3, 1, 4), group=3), (3, 4)),
}
"""A model, and the size of an input that a convolution covers in one position."""


def only_layer(graph):
    (linear,) = selected(graph)[1].values()
    return linear, graph.graph.initializers["w"].const_value.numpy()


@pytest.mark.parametrize("kind", LAYERS)
def test_the_matrices_compute_what_the_node_computes(kind, tmp_path):
    proto, sizes = LAYERS[kind]
    graph = loaded(proto, tmp_path)
    linear, weight = only_layer(graph)
    x = normal(9, 5, *sizes)
    columns = x.astype(np.float64).reshape(5, linear.groups, -1)
    matrices = linear.matrices(weight)
    found = np.einsum("gok,ngk->ngo", matrices, columns).reshape(5, -1)
    expected = ort_run(graph, {"x": x})["y"].reshape(5, -1)
    assert matrices.dtype == np.float64
    assert linear.outputs == expected.shape[1]
    assert linear.channels == sizes[0]
    assert linear.taps == math.prod(sizes[1:])
    np.testing.assert_allclose(np.maximum(found, 0), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("dtype", [np.float32, np.int8])
def test_a_weight_comes_back_from_its_matrices(kind, dtype, tmp_path):
    linear, weight = only_layer(loaded(LAYERS[kind][0], tmp_path))
    given = (weight * 50).astype(dtype)
    back = linear.from_matrices(linear.matrices(given).astype(dtype))
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, given)


@pytest.mark.parametrize("kind", LAYERS)
def test_values_of_channels_go_to_the_columns_that_read_them(kind, tmp_path):
    proto, sizes = LAYERS[kind]
    linear, _ = only_layer(loaded(proto, tmp_path))
    by_channel = normal(10, linear.channels)
    x = np.broadcast_to(by_channel.reshape(-1, *[1] * (len(sizes) - 1)), sizes)
    expected = x.reshape(linear.groups, 1, -1)
    np.testing.assert_array_equal(linear.by_column(by_channel), expected)


def test_a_convolutions_geometry_is_read(tmp_path):
    proto = one_layer(
        "Conv", 4, normal(0, 4, 2, 3, 5), strides=[2, 1], dilations=[1, 2], pads=[1, 0, 2, 3]
    )
    linear, _ = only_layer(loaded(proto, tmp_path))
    assert linear.kernel == (3, 5)
    assert (linear.strides, linear.dilations, linear.pads) == ((2, 1), (1, 2), (1, 0, 2, 3))
    assert linear.is_padded
    assert linear.channel_axis == 1


@pytest.mark.parametrize(
    ("auto_pad", "kernel", "pads"),
    [("SAME_UPPER", 3, None), ("SAME_LOWER", 1, (0, 0)), ("VALID", 3, (0, 0))],
)
def test_padding_by_the_inputs_size_is_unknown_unless_there_is_none(
    auto_pad, kernel, pads, tmp_path
):
    proto = one_layer("Conv", 3, normal(0, 4, 2, kernel), auto_pad=auto_pad)
    linear, _ = only_layer(loaded(proto, tmp_path))
    assert linear.pads == pads
    assert linear.is_padded is (pads is None)


@pytest.mark.parametrize(
    "proto",
    [
        one_layer("Gemm", 2, normal(0, 6, 4), alpha=0.5),
        one_layer("Gemm", 2, normal(0, 6, 4), normal(1, 4), beta=2.0),
        one_layer("Gemm", 2, normal(0, 6, 4), transA=1),
        one_layer("MatMul", 3, normal(0, 3, 6, 4)),
        one_layer("ConvTranspose", 4, normal(0, 3, 4, 2, 2)),
    ],
    ids=["alpha", "beta", "transA", "weights in a batch", "ConvTranspose"],
)
def test_what_is_no_plain_product_is_left_out_though_it_is_quantized(proto, tmp_path):
    selection, found = selected(loaded(proto, tmp_path))
    assert "layer" in selection.quantized_nodes
    assert not found


def test_products_of_two_activations_and_weights_on_the_left_are_left_out(tmp_path):
    _, found = selected(loaded(models.transformer_block(), tmp_path))
    assert {n: (x.tensor, x.weight) for n, x in found.items()} == {
        "query": ("x", "wq"),
        "key": ("x", "wk"),
        "project": ("mixed", "wo"),
    }
    left = models.build(
        [helper.make_node("MatMul", ["w", "x"], ["y"], name="left")],
        [("x", TensorProto.FLOAT, [6, "n"])],
        [("y", [4, "n"])],
        {"w": normal(0, 4, 6)},
    )
    assert not selected(loaded(left, tmp_path))[1]


def test_readers_that_take_different_axes_for_the_channels_are_left_out(tmp_path):
    proto = models.build(
        [
            helper.make_node("Conv", ["x", "w"], ["y"], name="conv"),
            helper.make_node("MatMul", ["x", "v"], ["z"], name="product"),
            helper.make_node("MatMul", ["z", "u"], ["out"], name="last"),
        ],
        [("x", TensorProto.FLOAT, ["n", 3, 5, 4])],
        [("y", ["n", 6, 5, 4]), ("out", ["n", 3, 5, 6])],
        {"w": normal(0, 6, 3, 1, 1), "v": normal(1, 4, 6), "u": normal(2, 6, 6)},
    )
    selection, found = selected(loaded(proto, tmp_path))
    assert {"conv", "product"} <= selection.quantized_nodes
    assert list(found) == ["last"]
