"""What TensorRT refuses, changes silently, or does not run in INT8, found before it is asked.

Each rule was seen on TensorRT-RTX 1.7; the tests hold most of them against its parser and builder.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from calib.errors import ModelError
from calib.graph.selection_spec import WEIGHTED_OPS
from data_loaders.types import Array

_OPERATORS = frozenset(
    ["QLinearConv", "QLinearMatMul", "MatMulInteger", "ConvInteger", "DynamicQuantizeLinear"]
)
_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
_WIDE = frozenset({ir.DataType.INT16, ir.DataType.UINT16})


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that TensorRT would not do as the graph says.

    Attributes:
        node: the ONNX node.
        problem: what TensorRT does with it.
        fix: what to do.
        refused: it must not be built: TensorRT refuses it, or gives it another meaning.
    """

    node: str
    problem: str
    fix: str
    refused: bool


def findings(model: ir.Model) -> tuple[Finding, ...]:
    """Everything in a graph that TensorRT would refuse, change, or leave in high precision."""
    return tuple(finding for node in model.graph.all_nodes() for finding in _node_findings(node))


def refuse_for_tensorrt(model: ir.Model, where: str) -> tuple[str, ...]:
    """Warnings about what TensorRT will not run in INT8.

    Raises:
        ModelError: for the first thing that it refuses, or would give another meaning.
    """
    found = findings(model)
    for finding in found:
        if finding.refused:
            raise ModelError(where, f"node {finding.node}: {finding.problem}", fix=finding.fix)
    return tuple(f"node {finding.node}: {finding.problem}. {finding.fix}" for finding in found)


def _node_findings(node: ir.Node) -> Iterator[Finding]:
    name = str(node.name)
    if node.op_type in _OPERATORS:
        yield Finding(name, f"TensorRT has no {node.op_type}", "Use Q/DQ pairs instead.", True)
    elif node.domain not in ("", "ai.onnx"):
        problem = f"TensorRT has no {node.op_type} of {node.domain}"
        yield Finding(name, problem, "Export without it, or load a plugin.", True)
    if node.op_type in _QUANTIZERS:
        yield from _scale_findings(node, name)
        yield from _zero_point_findings(node, name)
        yield from _placement_findings(node, name)
    if node.op_type in WEIGHTED_OPS:
        yield from _one_sided(node, name)


def _scale_findings(node: ir.Node, name: str) -> Iterator[Finding]:
    scale = _constant(node, 1)
    if scale is None:
        yield Finding(name, "its scale is computed at run time", "Make it a constant.", True)
    elif not (np.isfinite(scale) & (scale > 0)).all():
        bad = scale.ravel()[~(np.isfinite(scale) & (scale > 0)).ravel()][0]
        problem = f"a scale is {bad}; TensorRT wants all of them above zero"
        yield Finding(name, problem, "Give tensors of zeros any positive scale.", True)


def _zero_point_findings(node: ir.Node, name: str) -> Iterator[Finding]:
    given = node.inputs[2] if len(node.inputs) > 2 else None
    zero = _constant(node, 2)
    if node.op_type == "QuantizeLinear" and given is None and not _output_type(node):
        yield Finding(
            name,
            "without a zero point ONNX means uint8, and TensorRT takes it for int8",
            "Give it an int8 zero point of 0.",
            True,
        )
    if given is None:
        return
    if given.dtype in _WIDE:
        yield Finding(name, f"TensorRT has no {given.dtype.name}", "Quantize to INT8.", True)
    elif given.dtype == ir.DataType.INT32:
        problem = "TensorRT refuses a bias quantized to INT32"
        yield Finding(name, problem, "Leave biases in float (QuantizeBias=False).", True)
    elif given.dtype == ir.DataType.UINT8:
        yield Finding(name, "TensorRT takes uint8 for int8", "Use symmetric int8.", True)
    if zero is not None and np.any(zero):
        yield Finding(name, "its zero point is not 0", "Use symmetric quantization.", True)


def _placement_findings(node: ir.Node, name: str) -> Iterator[Finding]:
    source = node.inputs[0]
    if source is not None and source.dtype == ir.DataType.INT32:
        problem = "TensorRT refuses a bias quantized to INT32"
        yield Finding(name, problem, "Leave biases in float (QuantizeBias=False).", True)
    is_constant = source is not None and source.const_value is not None
    readers = [use.node.op_type for use in node.outputs[0].uses()]
    quantizes = node.op_type == "QuantizeLinear"
    if quantizes and is_constant and any(reader != "DequantizeLinear" for reader in readers):
        problem = "a quantized constant is read without a DequantizeLinear"
        yield Finding(name, problem, "Put a DequantizeLinear behind it.", True)
    if node.attributes.get_int("block_size", 0) != 0:
        yield Finding(name, "blocked scales do not run in INT8", "Use scales per channel.", False)
    scale = _constant(node, 1)
    if (
        scale is not None
        and scale.size > 1
        and node.op_type == "QuantizeLinear"
        and not is_constant
    ):
        yield Finding(
            name, "an activation scaled per channel does not run in INT8", "Use one scale.", False
        )


def _one_sided(node: ir.Node, name: str) -> Iterator[Finding]:
    sides = [_is_quantized(value) for value in node.inputs[:2]]
    if any(sides) and not all(sides):
        side = "first" if sides[0] else "second"
        yield Finding(
            name,
            f"only its {side} input is quantized, so it does not run in INT8",
            "Quantize both inputs, or neither.",
            False,
        )


def _is_quantized(value: ir.Value | None) -> bool:
    producer = value.producer() if value is not None else None
    return producer is not None and producer.op_type == "DequantizeLinear"


def _output_type(node: ir.Node) -> int:
    return node.attributes.get_int("output_dtype", 0) or 0


def _constant(node: ir.Node, index: int) -> Array | None:
    value = node.inputs[index] if index < len(node.inputs) else None
    constant = value.const_value if value is not None else None
    return constant.numpy() if constant is not None else None
