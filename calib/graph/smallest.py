"""The smallest model that proves something: one integer matrix product."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

INPUT, OUTPUT = "x", "y"
WEIGHTS = np.array([[1, -1], [2, -2], [-128, 127], [3, 127]], np.int8)
"""(4, 2), with both ends of INT8."""


def smallest_model() -> bytes:
    """An ONNX file: `y = x @ WEIGHTS`, x uint8 (1, 4), y int32 (1, 2), by MatMulInteger."""
    weights = numpy_helper.from_array(WEIGHTS, "weights")
    node = helper.make_node("MatMulInteger", [INPUT, "weights"], [OUTPUT])
    graph = helper.make_graph(
        [node],
        "smallest",
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, (1, 4))],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.INT32, (1, 2))],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return bytes(model.SerializeToString())
