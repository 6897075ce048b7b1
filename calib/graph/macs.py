"""Multiply-accumulates of the weighted operators at given input shapes."""

import math
from collections.abc import Mapping

import onnx_ir as ir
from onnx_ir.passes import common

from calib.graph.selection_spec import WEIGHTED_OPS


def macs_by_node(model: ir.Model, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """MACs of each Conv, ConvTranspose, MatMul and Gemm by node name.

    Args:
        model: the FP32 model.
        shapes: shape of every input, batch axis included.

    Returns:
        Nodes whose shapes cannot be inferred are absent.
    """
    model = model.clone()
    for value in model.graph.inputs:
        if str(value.name) in shapes:
            value.shape = ir.Shape(shapes[str(value.name)])
    for node in model.graph:
        for value in node.outputs:
            value.shape = None
    common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
    found = {str(node.name): _macs(node) for node in model.graph if node.op_type in WEIGHTED_OPS}
    return {name: macs for name, macs in found.items() if macs is not None}


def weighted_nodes(model: ir.Model) -> dict[str, str]:
    """Operator by name of every Conv, ConvTranspose, MatMul and Gemm, in graph order."""
    return {str(n.name): n.op_type for n in model.graph if n.op_type in WEIGHTED_OPS}


def _macs(node: ir.Node) -> int | None:
    first, second = (_sizes(value) for value in node.inputs[:2])
    output = _sizes(node.outputs[0])
    if first is None or second is None or output is None:
        return None
    match node.op_type:
        case "Conv":  # each output value sums over (channels in a group) x kernel
            return math.prod(output) * math.prod(second[1:])
        case "ConvTranspose":  # each input value is spread over (channels out a group) x kernel
            return math.prod(first) * math.prod(second[1:])
        case "Gemm":
            transposed = node.attributes.get_int("transA", 0) != 0
            return math.prod(output) * first[0 if transposed else 1]
        case _:
            return math.prod(output) * first[-1]


def _sizes(value: ir.Value | None) -> tuple[int, ...] | None:
    if value is None or value.shape is None:
        return None
    sizes = tuple(size for size in value.shape if isinstance(size, int))
    return sizes if len(sizes) == len(value.shape) else None
