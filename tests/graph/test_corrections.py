"""Codes and biases that are given are what the INT8 model holds."""

import models
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from layer_models import ALL, loaded, normal, one_layer, ort_run, selected
from onnx import TensorProto, helper

from calib.errors import ModelError
from calib.graph.qdq import Corrections, QuantizedWeight, insert_qdq, quantize_weight
from calib.graph.select import select
from calib.graph.selection_spec import SelectionSpec


def given_codes(seed, shape, axis):
    rng = np.random.default_rng(seed)
    codes = rng.integers(-127, 128, size=shape).astype(np.int8)
    return QuantizedWeight(codes, rng.uniform(0.001, 0.02, size=shape[axis]).astype(np.float32))


def held(graph, node):
    """The codes and scales behind a node's weight."""
    reader = next(n for n in graph.graph if n.name == node)
    codes, scales, zeros = (v.const_value.numpy() for v in reader.inputs[1].producer().inputs)
    assert not zeros.any()
    return codes, scales


def proto_bytes(graph):
    return ir.to_proto(graph).SerializeToString(deterministic=True)


LAYERS = {
    "MatMul": (one_layer("MatMul", 2, normal(0, 8, 5)), 1),
    "MatMul and Add": (one_layer("MatMul", 2, normal(0, 8, 5), normal(1, 5)), 1),
    "MatMul that is an output": (one_layer("MatMul", 2, normal(0, 8, 5), relu=False), 1),
    "Gemm": (one_layer("Gemm", 2, normal(0, 8, 5)), 1),
    "Gemm with C and transB": (one_layer("Gemm", 2, normal(0, 5, 8), normal(1, 5), transB=1), 0),
    "Conv": (one_layer("Conv", 4, normal(0, 5, 8, 1, 1)), 0),
    "Conv with a bias": (one_layer("Conv", 4, normal(0, 5, 8, 1, 1), normal(1, 5)), 0),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_the_int8_model_computes_with_the_codes_and_the_bias_given(kind, tmp_path):
    proto, axis = LAYERS[kind]
    graph = loaded(proto, tmp_path)
    constants = {i.name: onnx.numpy_helper.to_array(i) for i in proto.graph.initializer}
    given = given_codes(2, constants["w"].shape, axis)
    delta = np.random.default_rng(3).normal(size=5)
    int8 = insert_qdq(
        graph, selected(graph)[0], {"x": 3.0}, Corrections({"layer": given}, {"layer": delta})
    )
    onnx.checker.check_model(ir.to_proto(int8), full_check=True)
    codes, scales = held(int8, "layer")
    np.testing.assert_array_equal(codes, given.values)
    np.testing.assert_array_equal(scales, given.scales)

    rows = normal(4, 10, 8)
    x = rows[:, :, None, None] if proto.graph.node[0].op_type == "Conv" else rows
    step = np.float32(3.0 / 127)
    wide = np.moveaxis(given.values.astype(np.float64), axis, 0).reshape(5, 8)
    product = np.clip(np.rint(rows / step), -128, 127) * float(step)
    expected = product @ (wide * given.scales[:, None]).T + constants.get("b", 0) + delta
    if any(node.op_type == "Relu" for node in proto.graph.node):
        expected = np.maximum(expected, 0)
    (found,) = ort_run(int8, {"x": x}).values()
    np.testing.assert_allclose(found.reshape(10, 5), expected, rtol=1e-4, atol=1e-4)


def test_a_node_without_corrections_is_as_before(tmp_path):
    graph = loaded(models.mlp(), tmp_path)
    selection, _ = selected(graph)
    amax = {"x": 2.5, "h3": 1.7}
    plain = insert_qdq(graph, selection, amax)
    assert proto_bytes(insert_qdq(graph, selection, amax, Corrections())) == proto_bytes(plain)
    given = given_codes(5, (models.FEATURES, models.HIDDEN), 1)
    corrections = Corrections({"fc1": given}, {"fc1": np.ones(models.HIDDEN)})
    corrected = insert_qdq(graph, selection, amax, corrections)
    for before, after in zip(held(plain, "fc2"), held(corrected, "fc2"), strict=True):
        np.testing.assert_array_equal(after, before)
    biases = [next(n for n in g.graph if n.name == "fc2").inputs[2] for g in (plain, corrected)]
    assert [bias.name for bias in biases] == ["b2", "b2"]


def test_corrections_of_nodes_that_stay_in_float_are_left_out_of_account(tmp_path):
    graph = loaded(models.mlp(), tmp_path)
    selection = select(graph, ALL, {"fc1": "left in float by the test"})
    given = given_codes(6, (models.FEATURES, models.HIDDEN), 1)
    corrections = Corrections({"fc1": given}, {"fc1": np.ones(models.HIDDEN)})
    found = insert_qdq(graph, selection, {"h3": 1.7}, corrections)
    assert proto_bytes(found) == proto_bytes(insert_qdq(graph, selection, {"h3": 1.7}))


def tied():
    """Two products with one weight."""
    return models.build(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"], name="first"),
            helper.make_node("MatMul", ["h", "w"], ["y"], name="second"),
        ],
        [("x", TensorProto.FLOAT, ["n", 8])],
        [("y", ["n", 8])],
        {"w": normal(0, 8, 8)},
    )


def test_a_weight_that_two_nodes_read_is_corrected_for_one_of_them(tmp_path):
    graph = loaded(tied(), tmp_path)
    given = given_codes(7, (8, 8), 1)
    int8 = insert_qdq(
        graph, selected(graph)[0], {"x": 1.0, "h": 1.0}, Corrections({"second": given})
    )
    nearest = quantize_weight(graph.graph.initializers["w"].const_value.numpy(), 1)
    np.testing.assert_array_equal(held(int8, "first")[0], nearest.values)
    np.testing.assert_array_equal(held(int8, "second")[0], given.values)


def test_an_output_with_a_corrected_bias_keeps_its_name_and_its_readers(tmp_path):
    proto = tied()
    proto.graph.output.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, ["n", 8]))
    graph = loaded(proto, tmp_path)
    selection, _ = selected(graph)
    amax, x = {"x": 3.0, "h": 9.0}, normal(8, 6, 8)
    delta = np.arange(8.0)
    plain = ort_run(insert_qdq(graph, selection, amax), {"x": x})
    found = ort_run(insert_qdq(graph, selection, amax, Corrections({}, {"first": delta})), {"x": x})
    assert list(found) == ["y", "h"]
    np.testing.assert_allclose(found["h"], plain["h"] + delta, rtol=1e-5, atol=1e-5)
    assert np.abs(found["y"] - plain["y"]).max() > 1


def test_biases_are_corrected_in_the_graphs_order(tmp_path):
    # Whatever order a set of names has in this process: the file is the same from each run.
    count = 12
    nodes = [
        helper.make_node("MatMul", [f"h{i}", "w"], [f"h{i + 1}"], name=f"fc{i}")
        for i in range(count)
    ]
    proto = models.build(
        nodes,
        [("h0", TensorProto.FLOAT, ["n", 8])],
        [(f"h{count}", ["n", 8])],
        {"w": normal(0, 8, 8)},
    )
    graph = loaded(proto, tmp_path)
    bias = {f"fc{i}": np.ones(8) for i in reversed(range(count))}
    amax = {f"h{i}": 1.0 for i in range(count)}
    int8 = insert_qdq(graph, selected(graph)[0], amax, Corrections({}, bias))
    added = [name for name in int8.graph.initializers if name.endswith("_bias")]
    assert added == [f"fc{i}_bias" for i in range(count)]


def test_the_source_model_is_not_changed(tmp_path):
    graph = loaded(models.mlp(), tmp_path)
    before = proto_bytes(graph)
    bias = {"fc1": np.ones(models.HIDDEN), "fc2": np.ones(models.CLASSES)}
    insert_qdq(graph, selected(graph)[0], {"x": 2.5, "h3": 1.7}, Corrections({}, bias))
    assert proto_bytes(graph) == before


def test_nodes_left_in_float_are_not_selected_and_their_reason_is_told(tmp_path):
    graph = loaded(models.mlp(), tmp_path)
    selection = select(graph, SelectionSpec(), {"fc1": "costs more than it gives"})
    assert selection.quantized_nodes == {"fc2"}
    reasons = {record.tensor: record.reason for record in selection.left_alone}
    assert reasons["x"] == "costs more than it gives"
    with pytest.raises(ModelError, match="leaves no tensor to quantize"):
        select(graph, SelectionSpec(), {"fc1": "a", "fc2": "b"})
