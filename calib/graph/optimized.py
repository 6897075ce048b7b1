"""The graph that ONNX Runtime runs, read from the file that it writes after optimizing.

Its operators are fused ones, some of domains of its own; what computes in a wider type than it was
given carries a prefix in its name.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnx_ir as ir

from calib.graph.subgraphs import inner_nodes
from calib.graph.taps import LAYOUT_OPS

WIDENED = "InsertedPrecisionFreeCast_"
"""Before the name of each value that is computed in float32 for want of kernels of its own type."""
BLOCKED = "com.microsoft.nchwc"
"""Of operators that compute on blocks of channels."""
CONVERSIONS = frozenset(
    (
        "QuantizeLinear DequantizeLinear DynamicQuantizeLinear Cast ReorderInput ReorderOutput"
    ).split()
)

Work = Literal["integer", "float", "emulated", "conversion", "other"]

_INTEGER = frozenset(
    (
        "ConvInteger MatMulInteger MatMulInteger16 MatMulIntegerToFloat QGemm QAttention "
        "DynamicQuantizeMatMul DynamicQuantizeLSTM"
    ).split()
)
_MOVES = LAYOUT_OPS | frozenset(
    (
        "Constant ConstantOfShape Expand Gather GatherElements GatherND Shape Slice Split Concat "
        "Pad Tile DepthToSpace SpaceToDepth"
    ).split()
)
_CHANNEL_FACTORS = "mul_scale"
"""The weight of a Conv on blocks of channels that stands for a Mul by a factor a channel."""
_MULTIPLIES = re.compile(r"Conv|MatMul|Gemm|Attention|Einsum|LSTM|GRU|RNN|MoE")
_NAMES = {
    ir.DataType.FLOAT: "fp32",
    ir.DataType.FLOAT16: "fp16",
    ir.DataType.BFLOAT16: "bf16",
    ir.DataType.DOUBLE: "fp64",
    ir.DataType.INT8: "int8",
    ir.DataType.UINT8: "int8",
}
_FLOATS = frozenset(["fp32", "fp16", "bf16", "fp64"])
_INTEGER_OUTPUTS = {"MatMulInteger": ir.DataType.INT32, "ConvInteger": ir.DataType.INT32}
_FLOAT_OUTPUTS = frozenset(["MatMulIntegerToFloat", "DynamicQuantizeMatMul", "QAttention"])


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator that the runtime runs.

    Attributes:
        node: of the optimized graph.
        kernel: its type, and the layout if it has one of its own.
        precision: what it computes in: `int8`, `fp32`, `fp16`, …; empty for indices and truth.
        work: `integer`, `float`, `emulated` in a wider type, `conversion` from one type or layout
            to another, or `other`, which moves values or computes indices.
        inner: it is in a graph of an If, Loop or Scan.
    """

    node: ir.Node
    kernel: str
    precision: str
    work: Work
    inner: bool = False

    @property
    def multiplies(self) -> bool:
        """Whether multiply-accumulates are most of what it does."""
        inputs = [value for value in self.node.inputs[1:2] if value is not None]
        return (
            self.work != "conversion"
            and bool(_MULTIPLIES.search(self.node.op_type))
            and not any(str(value.name).startswith(_CHANNEL_FACTORS) for value in inputs)
        )


def read_optimized(path: Path) -> ir.Model:
    """The optimized graph; constants that lie beside the file are not read."""
    return ir.load(path)


def operators(model: ir.Model) -> tuple[Operator, ...]:
    """Every operator of an optimized graph, in its order; those of inner graphs behind their own's.

    Types that the file does not tell are inferred.
    """
    types = _value_types(model)
    return tuple(
        _operator(node, types, inner=node.graph is not model.graph) for node in _nodes(model)
    )


def _nodes(model: ir.Model) -> Iterator[ir.Node]:
    for node in model.graph:
        yield node
        yield from inner_nodes(node)


def work_counts(found: tuple[Operator, ...]) -> dict[str, int]:
    """How many operators do each kind of work."""
    return dict(Counter[str](one.work for one in found))


def kernel_counts(found: tuple[Operator, ...]) -> dict[str, int]:
    """How many operators there are of each kernel, most first."""
    return dict(Counter(one.kernel for one in found).most_common())


def _operator(node: ir.Node, types: dict[ir.Value, ir.DataType], *, inner: bool) -> Operator:
    precision = _precision(node, types)
    return Operator(node, _kernel(node), precision, _work(node, precision), inner)


def _kernel(node: ir.Node) -> str:
    layout = {BLOCKED: " (NCHWc)", "com.ms.internal.nhwc": " (NHWC)"}.get(node.domain, "")
    return f"{node.op_type}{layout}"


def is_integer(op_type: str) -> bool:
    """Whether an operator of this type multiplies or adds 8-bit integers, whatever it reads."""
    return op_type in _INTEGER or op_type.startswith("QLinear")


def _precision(node: ir.Node, types: dict[ir.Value, ir.DataType]) -> str:
    if is_integer(node.op_type):
        return "int8"
    values = (*(v for v in node.inputs if v is not None), *node.outputs)
    known = [_NAMES[types[value]] for value in values if types.get(value) in _NAMES]
    return known[0] if known else ""


def _work(node: ir.Node, precision: str) -> Work:
    if node.op_type in CONVERSIONS:
        return "conversion"
    if is_integer(node.op_type):
        return "integer"
    if node.op_type in _MOVES or not precision:
        return "other"
    if precision in _FLOATS:
        return "emulated" if _is_widened(node) else "float"
    return "integer"


def _is_widened(node: ir.Node) -> bool:
    names = [str(value.name) for value in node.outputs]
    if node.domain == BLOCKED:  # its values are named by number, itself after what it makes
        names.append(str(node.name))
    return any(name.startswith(WIDENED) for name in names)


def _value_types(model: ir.Model) -> dict[ir.Value, ir.DataType]:
    """The type of every value; the file tells only those that the model told."""
    types: dict[ir.Value, ir.DataType] = {}
    for node in _nodes(model):
        for value in node.inputs:
            if value is not None and value.dtype is not None:
                types.setdefault(value, value.dtype)
        for value in node.outputs:
            found = value.dtype or _inferred(node, value, types)
            if found is not None:
                types[value] = found
    return types


def _inferred(
    node: ir.Node, value: ir.Value, types: dict[ir.Value, ir.DataType]
) -> ir.DataType | None:
    if str(value.name).startswith(WIDENED) or node.op_type in _FLOAT_OUTPUTS:
        return ir.DataType.FLOAT
    if node.op_type in _INTEGER_OUTPUTS:
        return _INTEGER_OUTPUTS[node.op_type]
    at = 0
    match node.op_type:
        case "Cast":
            return ir.DataType(node.attributes.get_int("to", int(ir.DataType.FLOAT)))
        case "QuantizeLinear":
            at = 2
        case "DequantizeLinear":
            at = 1
    inputs = [types.get(v) if v is not None else None for v in node.inputs]
    if at < len(inputs) and inputs[at] is not None:
        return inputs[at]
    return next((found for found in inputs if found is not None), None)
