"""What stands for an output: before a Softmax or a choice, and nowhere else."""

import numpy as np
import pytest
from layer_models import loaded
from onnx import TensorProto, helper

from calib.graph.scores import Score, scores_from_model


def graph_of(nodes, kinds, tmp_path):
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4, 3], np.ones(12))
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [-1, 3])
    outputs = [helper.make_tensor_value_info(n, k, ["n", *rest]) for n, k, rest in kinds]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    first = helper.make_node("MatMul", ["x", "w"], ["logits"], name="first")
    graph = helper.make_graph([first, *nodes], "g", [x], outputs, [weight, shape])
    opset = [helper.make_opsetid("", 17)]
    return loaded(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path)


FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64
SOFTMAX = helper.make_node("Softmax", ["logits"], ["p"], name="softmax", axis=-1)


@pytest.mark.parametrize(
    ("nodes", "kinds", "wanted"),
    [
        ([], [("logits", FLOAT, [3])], {"logits": Score("logits")}),
        ([SOFTMAX], [("p", FLOAT, [3])], {"p": Score("logits", -1)}),
        (
            [SOFTMAX, helper.make_node("Reshape", ["p", "shape"], ["y"], name="r")],
            [("y", FLOAT, [3])],
            {"y": Score("logits", -1)},
        ),
        (
            [SOFTMAX, helper.make_node("ArgMax", ["p"], ["y"], name="a", axis=1, keepdims=0)],
            [("y", INT, [])],
            {"y": Score("logits", -1)},
        ),
        (
            [helper.make_node("ArgMax", ["logits"], ["y"], name="a", axis=1, keepdims=0)],
            [("y", INT, []), ("logits", FLOAT, [3])],
            {"y": Score("logits"), "logits": Score("logits")},
        ),
        (
            [helper.make_node("Sigmoid", ["logits"], ["y"], name="s")],
            [("y", FLOAT, [3])],
            {"y": Score("y")},
        ),
        (
            [helper.make_node("Reshape", ["logits", "shape"], ["y"], name="r")],
            [("y", FLOAT, [3])],
            {"y": Score("y")},
        ),
        (
            [helper.make_node("Cast", ["logits"], ["y"], name="c", to=INT)],
            [("y", INT, [3])],
            {},
        ),
        (
            [helper.make_node("Softmax", ["x"], ["y"], name="s", axis=1)],
            [("y", FLOAT, [4]), ("logits", FLOAT, [3])],
            {"y": Score("y"), "logits": Score("logits")},
        ),
    ],
)
def test_an_output_is_compared_where_every_sample_says_something(nodes, kinds, wanted, tmp_path):
    assert scores_from_model(graph_of(nodes, kinds, tmp_path)) == wanted
