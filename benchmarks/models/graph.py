"""A small writer of ONNX graphs: nodes and weights in order."""

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from benchmarks.models.common import OPSET

_IR_VERSION = 8

Shape = list[str | int]


class Graph:
    """Nodes and weights; each call returns the name of what it made."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._weights: dict[str, onnx.TensorProto] = {}

    def weight(self, name: str, array: NDArray[np.generic]) -> str:
        """A constant; one of the same name is taken to be the same."""
        self._weights[name] = numpy_helper.from_array(np.asarray(array, order="C"), name)
        return name

    def op(self, op_type: str, inputs: list[str], name: str, **attributes: object) -> str:
        """A node of one output."""
        output = f"{name}_output"
        node = helper.make_node(op_type, inputs, [output], name=name, **attributes)  # type: ignore[arg-type]
        self._nodes.append(node)
        return output

    def model(self, source: tuple[str, Shape], result: tuple[str, Shape]) -> onnx.ModelProto:
        """The model of one input and one output, both float32."""
        graph = helper.make_graph(
            self._nodes,
            "model",
            [helper.make_tensor_value_info(source[0], TensorProto.FLOAT, source[1])],
            [helper.make_tensor_value_info(result[0], TensorProto.FLOAT, result[1])],
            list(self._weights.values()),
        )
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION)
