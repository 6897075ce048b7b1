"""A factor and a shift for each channel leave the model what it computes."""

import models
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from layer_models import loaded, normal, one_layer, ort_run, selected
from onnx import TensorProto, helper

from calib.graph.channel_affine import ChannelAffine, apply_affines
from calib.graph.taps import tapped

DENSE = {
    "MatMul": one_layer("MatMul", 3, normal(0, 8, 5)),
    "MatMul and Add": one_layer("MatMul", 3, normal(0, 8, 5), normal(1, 5)),
    "MatMul that is an output": one_layer("MatMul", 3, normal(0, 8, 5), relu=False),
    "MatMul and Add that is an output": one_layer(
        "MatMul", 3, normal(0, 8, 5), normal(1, 5), relu=False
    ),
    "Gemm": one_layer("Gemm", 2, normal(2, 8, 5)),
    "Gemm with C": one_layer("Gemm", 2, normal(2, 8, 5), normal(3, 5)),
    "Gemm with C of one row": one_layer("Gemm", 2, normal(2, 8, 5), normal(3, 1, 5)),
    "Gemm with C of one number": one_layer("Gemm", 2, normal(2, 8, 5), normal(3, 1)),
    "Gemm with transB, an output": one_layer(
        "Gemm", 2, normal(2, 5, 8), normal(3, 5), relu=False, transB=1
    ),
}
CONVOLUTIONS = {
    "Conv of 1x1": one_layer("Conv", 4, normal(4, 5, 8, 1, 1)),
    "Conv of 1x1 with a bias": one_layer("Conv", 4, normal(4, 5, 8, 1, 1), normal(5, 5)),
    "Conv that is an output": one_layer(
        "Conv", 4, normal(4, 5, 8, 3, 3), relu=False, strides=[2, 1]
    ),
    "grouped Conv": one_layer("Conv", 4, normal(6, 6, 4, 2, 3), normal(5, 6), group=2),
    "depthwise Conv": one_layer("Conv", 4, normal(6, 8, 1, 3, 3), group=8),
    "Conv in 1D": one_layer("Conv", 3, normal(7, 5, 8, 3), normal(5, 5)),
}
PADDED = one_layer("Conv", 4, normal(6, 6, 4, 3, 3), group=2, pads=[1, 1, 1, 1])


def affine(seed, channels=8, *, shift=True, side=()):
    """Factors over a range of about a hundred, shifts of about the size of the values."""
    rng = np.random.default_rng(seed)
    gain, offset = np.exp(1.2 * rng.normal(size=channels)), rng.normal(size=channels)
    gain[list(side)] = offset[list(side)] = 0
    return ChannelAffine(gain, offset if shift else None, side)


def input_of(graph):
    shapes = {2: (6, 8), 3: (2, 8, 8), 4: (2, 8, 5, 6)}
    return {"x": normal(11, *shapes[len(graph.graph.inputs[0].shape)])}


def signature(graph):
    return [(v.name, v.dtype, str(v.shape)) for v in (*graph.graph.inputs, *graph.graph.outputs)]


def assert_same(graph, rewritten, feeds):
    """The same outputs, with the same names in the same order, within float32 rounding."""
    onnx.checker.check_model(ir.to_proto(rewritten), full_check=True)
    expected, found = ort_run(graph, feeds), ort_run(rewritten, feeds)
    assert signature(rewritten) == signature(graph)
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name].dtype == values.dtype
        scale = np.abs(values).max()
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-5 * scale, err_msg=name)


@pytest.mark.parametrize("shift", [False, True], ids=["gain", "gain and offset"])
@pytest.mark.parametrize("side", [(), (1, 6)], ids=["", "side"])
@pytest.mark.parametrize("kind", DENSE)
def test_a_product_computes_the_same(kind, shift, side, tmp_path):
    graph = loaded(DENSE[kind], tmp_path)
    given = affine(20, shift=shift, side=side)
    rewritten, renamed = apply_affines(graph, selected(graph)[1].values(), {"x": given})
    assert_same(graph, rewritten, input_of(graph))
    assert list(renamed) == ["x"]


@pytest.mark.parametrize("shift", [False, True], ids=["gain", "gain and offset"])
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_a_convolution_computes_the_same(kind, shift, tmp_path):
    graph = loaded(CONVOLUTIONS[kind], tmp_path)
    given = affine(21, shift=shift)
    rewritten, _ = apply_affines(graph, selected(graph)[1].values(), {"x": given})
    assert_same(graph, rewritten, input_of(graph))


def test_a_padded_convolution_can_be_scaled_but_not_shifted(tmp_path):
    graph = loaded(PADDED, tmp_path)
    _, found = selected(graph)
    rewritten, _ = apply_affines(graph, found.values(), {"x": affine(22, shift=False)})
    assert_same(graph, rewritten, input_of(graph))
    with pytest.raises(ValueError, match="layer: a shift would move the zeros"):
        apply_affines(graph, found.values(), {"x": affine(22)})


def test_a_convolution_has_no_side_channels(tmp_path):
    graph = loaded(CONVOLUTIONS["Conv of 1x1"], tmp_path)
    with pytest.raises(ValueError, match="layer: a convolution has no side path"):
        apply_affines(graph, selected(graph)[1].values(), {"x": affine(23, side=(2,))})


@pytest.mark.parametrize("kind", ["MatMul and Add", "Conv of 1x1"])
def test_what_the_node_reads_is_the_input_scaled_and_shifted(kind, tmp_path):
    graph = loaded({**DENSE, **CONVOLUTIONS}[kind], tmp_path)
    given = affine(24)
    rewritten, renamed = apply_affines(graph, selected(graph)[1].values(), {"x": given})
    feeds = input_of(graph)
    node = next(node for node in rewritten.graph if node.name == "layer")
    assert node.inputs[0].name == renamed["x"]
    found = ort_run(tapped(rewritten, [renamed["x"]]), feeds)[renamed["x"]]
    shape = (1, -1, 1, 1) if node.op_type == "Conv" else (-1,)
    expected = feeds["x"].astype(np.float64) * given.gain.reshape(shape)
    np.testing.assert_allclose(found, expected + given.offset.reshape(shape), rtol=1e-5, atol=1e-5)


def test_side_channels_are_zero_where_the_node_reads_and_in_its_weight(tmp_path):
    graph = loaded(DENSE["MatMul and Add"], tmp_path)
    given = affine(25, side=(1, 6))
    rewritten, renamed = apply_affines(graph, selected(graph)[1].values(), {"x": given})
    found = ort_run(tapped(rewritten, [renamed["x"]]), input_of(graph))[renamed["x"]]
    node = next(node for node in rewritten.graph if node.name == "layer")
    weight = node.inputs[1].const_value.numpy()
    assert not found[..., [1, 6]].any()
    assert [k for k in range(8) if not weight[k].any()] == [1, 6]


@pytest.mark.parametrize("side", [(), (3,)], ids=["", "side"])
def test_readers_of_one_tensor_share_it(side, tmp_path):
    graph = loaded(models.transformer_block(), tmp_path)
    _, found = selected(graph)
    affines = {
        "x": affine(26, models.FEATURES, side=side),
        "mixed": affine(27, models.FEATURES, side=side),
    }
    rewritten, renamed = apply_affines(graph, found.values(), affines)
    assert_same(graph, rewritten, {"x": normal(28, 2, 5, models.FEATURES)})
    read = {node.name: node.inputs[0].name for node in rewritten.graph}
    assert read["query"] == read["key"] == renamed["x"]
    assert read["project"] == renamed["mixed"]
    assert [node.op_type for node in rewritten.graph].count("Mul") == 2


def test_a_reader_in_float_keeps_the_original_tensor(tmp_path):
    graph = loaded(models.transformer_block(), tmp_path)
    _, found = selected(graph)
    query = [linear for linear in found.values() if linear.node == "query"]
    rewritten, _ = apply_affines(graph, query, {"x": affine(29, models.FEATURES)})
    assert_same(graph, rewritten, {"x": normal(30, 2, 5, models.FEATURES)})
    read = {node.name: [value.name for value in node.inputs] for node in rewritten.graph}
    assert read["key"] == ["x", "wk"]
    assert read["mix"][1] == read["residual"][1] == "x"


def chain():
    """Three products without biases; the tensor between the first two is an output as well."""
    names = ["x", "h", "g", "y"]
    return models.build(
        [
            helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]], name=f"fc{i}")
            for i in range(3)
        ],
        [("x", TensorProto.FLOAT, ["n", 8])],
        [("y", ["n", 8]), ("h", ["n", 8])],
        {f"w{i}": normal(i, 8, 8) / 3 for i in range(3)},
    )


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("side", [(), (0, 5)], ids=["", "side"])
def test_outputs_keep_their_names_order_and_types_in_a_chain(backwards, side, tmp_path):
    graph = loaded(chain(), tmp_path)
    found = list(selected(graph)[1].values())
    affines = {tensor: affine(31 + i, side=side) for i, tensor in enumerate(["x", "h", "g"])}
    given = found[::-1] if backwards else found
    rewritten, renamed = apply_affines(graph, given, affines)
    assert set(renamed) == {"x", "h", "g"}
    assert_same(graph, rewritten, {"x": normal(34, 6, 8)})


def test_names_that_are_taken_are_left_to_their_owners(tmp_path):
    proto = models.build(
        [
            helper.make_node("MatMul", ["x", "layer_weight"], ["x_scaled"], name="layer"),
            helper.make_node("Relu", ["x_scaled"], ["x_shifted"], name="layer_biased"),
            helper.make_node("Mul", ["x_shifted", "x_gain"], ["y"], name="last"),
        ],
        [("x", TensorProto.FLOAT, ["n", 8])],
        [("y", ["n", 8])],
        {"layer_weight": normal(0, 8, 8), "x_gain": normal(1, 8)},
    )
    graph = loaded(proto, tmp_path)
    rewritten, _ = apply_affines(graph, selected(graph)[1].values(), {"x": affine(35)})
    assert_same(graph, rewritten, {"x": normal(36, 6, 8)})
    names = [node.name for node in rewritten.graph]
    assert len(set(names)) == len(names)
    assert {"x_scaled", "x_shifted"} <= {v.name for n in rewritten.graph for v in n.outputs}


def test_a_bias_that_others_read_too_is_changed_for_one_node_only(tmp_path):
    proto = models.build(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"], name="layer"),
            helper.make_node("Add", ["h", "b"], ["y"], name="biasing"),
            helper.make_node("Add", ["x", "b"], ["z"], name="other"),
        ],
        [("x", TensorProto.FLOAT, ["n", 8])],
        [("y", ["n", 8]), ("z", ["n", 8])],
        {"w": normal(0, 8, 8), "b": normal(1, 8)},
    )
    graph = loaded(proto, tmp_path)
    rewritten, _ = apply_affines(graph, selected(graph)[1].values(), {"x": affine(37)})
    assert_same(graph, rewritten, {"x": normal(38, 6, 8)})


def test_a_shift_is_refused_where_the_bias_is_computed(tmp_path):
    proto = models.build(
        [
            helper.make_node("Relu", ["c"], ["computed"], name="relu"),
            helper.make_node("Gemm", ["x", "w", "computed"], ["y"], name="layer"),
        ],
        [("x", TensorProto.FLOAT, ["n", 8]), ("c", TensorProto.FLOAT, [5])],
        [("y", ["n", 5])],
        {"w": normal(0, 8, 5)},
    )
    graph = loaded(proto, tmp_path)
    _, found = selected(graph)
    with pytest.raises(ValueError, match="layer: its bias is computed"):
        apply_affines(graph, found.values(), {"x": affine(39)})
    rewritten, _ = apply_affines(graph, found.values(), {"x": affine(39, shift=False)})
    assert_same(graph, rewritten, {"x": normal(40, 6, 8), "c": normal(41, 5)})


def test_the_source_model_is_not_changed(tmp_path):
    graph = loaded(models.transformer_block(), tmp_path)
    before = ir.to_proto(graph).SerializeToString(deterministic=True)
    affines = {"x": affine(42, models.FEATURES, side=(4,))}
    rewritten, _ = apply_affines(graph, selected(graph)[1].values(), affines)
    assert ir.to_proto(graph).SerializeToString(deterministic=True) == before
    again, _ = apply_affines(graph, selected(graph)[1].values(), affines)
    first, second = (
        ir.to_proto(g).SerializeToString(deterministic=True) for g in (rewritten, again)
    )
    assert first == second


def test_a_tensor_without_an_affine_stays_as_it_is(tmp_path):
    graph = loaded(models.mlp(), tmp_path)
    rewritten, renamed = apply_affines(graph, selected(graph)[1].values(), {})
    assert renamed == {}
    assert [n.name for n in rewritten.graph] == [n.name for n in graph.graph]
