"""Weights behind what only stores or lays them out are constants, quantized as they are read."""

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from layer_models import ALL, loaded, normal, ort_run
from onnx import TensorProto, helper, numpy_helper

from calib.graph.qdq import insert_qdq
from calib.graph.select import select
from calib.graph.taps import tapped

FLOAT = TensorProto.FLOAT


def stored(name, array):
    return helper.make_node("Constant", [], [name], f"{name}_node", value=array)


def behind():
    spread = np.logspace(-2, 0, 8).astype(np.float32)
    half = (normal(1, 8, 3, 3, 3) * spread[:, None, None, None]).astype(np.float16)
    point = normal(2, 8, 8, 1, 1)
    head = normal(3, 5, 8) * np.array([1, 0.01, 1, 1, 1], dtype=np.float32)[:, None]
    nodes = [
        helper.make_node("Cast", ["half"], ["cast"], "cast_node", to=FLOAT),
        helper.make_node("Identity", ["cast"], ["W"], "same"),
        stored("point", numpy_helper.from_array(point)),
        stored("head", numpy_helper.from_array(head)),
        helper.make_node("Transpose", ["head"], ["V"], "turned", perm=[1, 0]),
        helper.make_node("Conv", ["x", "W"], ["c"], "first", pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "point"], ["p"], "second"),
        helper.make_node("GlobalAveragePool", ["p"], ["g"], "pool"),
        helper.make_node("Flatten", ["g"], ["f"], "flat"),
        helper.make_node("MatMul", ["f", "V"], ["y"], "third"),
    ]
    graph = helper.make_graph(
        nodes,
        "behind",
        [helper.make_tensor_value_info("x", FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", FLOAT, ["n", 5])],
        [numpy_helper.from_array(half, "half")],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)


def test_they_are_selected_on_the_axis_of_the_outputs_and_run_in_int8(tmp_path):
    proto = behind()
    x = normal(4, 6, 3, 8, 8)
    (wanted,) = ort.InferenceSession(proto.SerializeToString()).run(None, {"x": x})
    graph = loaded(proto, tmp_path)
    assert not [v for v in graph.graph.initializers.values() if v.dtype is ir.DataType.FLOAT16]
    selection = select(graph, ALL)
    axes = {site.node: site.axis for site in selection.weights}
    assert axes == {"first": 0, "second": 0, "third": 1}
    session = ort.InferenceSession(ir.to_proto(graph).SerializeToString())
    np.testing.assert_allclose(session.run(None, {"x": x})[0], wanted, rtol=1e-4, atol=1e-5)
    inner = [tensor for tensor in selection.activation_tensors if tensor != "x"]
    seen = {"x": x, **ort_run(tapped(graph, inner), {"x": x})}
    amax = {t: float(np.abs(seen[t]).max()) for t in selection.activation_tensors}
    quantized = insert_qdq(graph, selection, amax)
    (found,) = ort.InferenceSession(ir.to_proto(quantized).SerializeToString()).run(None, {"x": x})
    # The narrow output keeps its own scale.
    for column in range(5):
        error = np.square(found[:, column] - wanted[:, column]).sum()
        assert error < 0.05 * np.square(wanted[:, column]).sum()
