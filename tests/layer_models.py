"""Models of one layer, and what onnxruntime makes of a graph without optimizing it."""

import models
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx import TensorProto, helper

from calib.graph.linear import linears
from calib.graph.load import load_model
from calib.graph.select import select
from calib.graph.selection_spec import SelectionSpec

ALL = SelectionSpec(min_channels=1)


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def loaded(proto, folder):
    path = folder / "m.onnx"
    onnx.save(proto, path)
    return load_model(path).graph


def selected(graph):
    """The selection and the linear nodes of everything that may become INT8."""
    selection = select(graph, ALL)
    return selection, linears(graph, selection)


def ort_run(graph, feeds):
    """Outputs by name, in the model's order."""
    proto = ir.to_proto(graph)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def one_layer(op_type, x_rank, weight, bias=None, *, relu=True, **attributes):
    """x through the node `layer`, the bias of a MatMul in the Add `biasing`, and a ReLU."""
    constants = {"w": weight} if bias is None else {"w": weight, "b": bias}
    is_sum = op_type == "MatMul" and bias is not None
    inputs = ["x", "w"] if is_sum or bias is None else ["x", "w", "b"]
    last = "h" if relu else "y"
    first = "product" if is_sum else last
    nodes = [helper.make_node(op_type, inputs, [first], name="layer", **attributes)]
    if is_sum:
        nodes.append(helper.make_node("Add", ["product", "b"], [last], name="biasing"))
    if relu:
        nodes.append(helper.make_node("Relu", ["h"], ["y"], name="relu"))
    sizes = [f"x{axis}" for axis in range(x_rank)]
    channels = weight.shape[1] * attributes.get("group", 1) if op_type == "Conv" else None
    if channels:
        sizes[1] = channels
    return models.build(
        nodes,
        [("x", TensorProto.FLOAT, sizes)],
        [("y", [f"y{axis}" for axis in range(x_rank)])],
        constants,
    )
