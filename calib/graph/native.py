"""INT8 as ONNX Runtime's integer operators want it: unsigned, asymmetric, around every node.

A Conv becomes a QLinearConv and an Add a QLinearAdd if their outputs are quantized too, which a
MatMul (MatMulIntegerToFloat) does not need. So integers flow from layer to layer in a convolutional
net, and the residual path of a transformer stays in float.
"""

from collections.abc import Collection, Iterator, Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common

from calib.graph.absorbed import behind_absorbed
from calib.graph.bias import add_to_bias
from calib.graph.edit import add_constant
from calib.graph.existing import existing_pair
from calib.graph.qdq import Corrections, dequantized_weight, quantized_pair, quantizer_node
from calib.graph.select import Selection, Site
from calib.graph.taps import LAYOUT_OPS
from calib.remedies.rounding import INT8_MAX

Range = tuple[float, float]

_LEVELS = 255
_SMALLEST = float(np.finfo(np.float32).tiny)
ADDS, POOLS = frozenset(["Add"]), frozenset(["GlobalAveragePool", "AveragePool", "MaxPool"])
BETWEEN = ADDS | POOLS | {"Concat"}
"""Operators without weights that ONNX Runtime runs in integers between integers."""


def native_tensors(model: ir.Model, selection: Selection) -> tuple[str, ...]:
    """The activations that get a grid: the selected ones, and what integer nodes make of them."""
    found = dict.fromkeys(selection.activation_tensors)
    for value in _integer_outputs(model, selection, BETWEEN):
        found.setdefault(str(value.name))
    return tuple(found)


def _integer_outputs(
    model: ir.Model, selection: Selection, between: Collection[str]
) -> Iterator[ir.Value]:
    """Outputs that are quantized, each behind what its node absorbs, in graph order."""
    selected = {site.node for site in selection.weights}
    integer: set[str] = set()
    for node in model.graph:
        convolution = node.op_type == "Conv" and node.name in selected
        if not convolution and not _joins(node, integer, between):
            continue
        value = node.outputs[0]
        if convolution or node.op_type in BETWEEN:
            value = behind_absorbed(value)
        if not value.is_graph_output() and list(value.uses()):
            integer.add(str(value.name))
            yield value


def _joins(node: ir.Node, integer: set[str], between: Collection[str]) -> bool:
    """Whether a node without weights has integers on every side."""
    if node.op_type in LAYOUT_OPS:
        return node.inputs[0] is not None and str(node.inputs[0].name) in integer
    if node.op_type not in between or node.domain != "":
        return False
    return all(value is not None and str(value.name) in integer for value in node.inputs)


def rounded_twice(
    model: ir.Model, selection: Selection, factors: Mapping[str, str]
) -> tuple[str, ...]:
    """Activations of integer nodes whose factor or shift is left to run behind them.

    Such an output is rounded, multiplied in float, and rounded again: that costs accuracy, and
    passes over the tensor.

    Args:
        model: rewritten by `apply_affines`.
        selection: of it.
        factors: the new activation's name by the old one's.
    """
    made = {str(value.name): node for node in model.graph for value in node.outputs}
    integer = {*native_tensors(model, selection)}
    return tuple(old for old, new in factors.items() if old in integer and _reads(made, new, old))


def _reads(made: Mapping[str, ir.Node], name: str, wanted: str) -> bool:
    """Whether a tensor comes from another one by a Mul, an Add or both."""
    for _ in range(2):
        node = made.get(name)
        if node is None or node.op_type not in ("Mul", "Add") or node.inputs[0] is None:
            return False
        name = str(node.inputs[0].name)
        if name == wanted:
            return True
    return False


def insert_native_qdq(
    model: ir.Model,
    selection: Selection,
    ranges: Mapping[str, Range],
    corrections: Corrections | None = None,
    *,
    limit: int = INT8_MAX,
    between: Collection[str] = BETWEEN,
) -> ir.Model:
    """A copy of the model with uint8 grids on both sides of its integer nodes.

    Args:
        model: the FP32 model that the selection was made on.
        selection: what to quantize.
        ranges: (minimum, maximum) by activation. Of `native_tensors`, those that no node is
            selected for may be absent: they stay in float.
        corrections: for selected nodes.
        limit: the largest code of a weight that has none of its own.
        between: of `BETWEEN`, the operators that run in integers.

    Raises:
        KeyError: if a selected activation has no range.
    """
    model = model.clone()
    given = corrections or Corrections()
    nodes = {str(node.name): node for node in model.graph}
    outputs = list(_integer_outputs(model, selection, between))
    pairs: dict[str, ir.Value] = {}
    for site in selection.activations:
        value = nodes[site.node].inputs[site.index]
        if value is None:
            raise AssertionError("a selected input exists")
        if site.tensor not in pairs:
            own_pair = existing_pair(value)
            grid = unsigned_grid(*ranges[site.tensor])
            pairs[site.tensor] = own_pair or quantized_pair(model, value, *grid)
        nodes[site.node].replace_input_with(site.index, pairs[site.tensor])
    for value in outputs:
        _quantize_output(model, value, ranges, pairs)
    for site in selection.weights:
        _quantize_weight(model, nodes[site.node], site, given, limit)
    corrected = selection.quantized_nodes & given.bias.keys()
    for name in (name for name in nodes if name in corrected):
        add_to_bias(model, nodes[name], given.bias[name])
    for site in selection.weights:
        if site.op_type == "Gemm" and site.index == 1:
            _round_bias(model, nodes[site.node])
    common.TopologicalSortPass()(model)
    common.RemoveUnusedNodesPass()(model)
    return model


def _quantize_output(
    model: ir.Model,
    value: ir.Value,
    ranges: Mapping[str, Range],
    pairs: dict[str, ir.Value],
) -> None:
    """Let everybody read an output through its pair."""
    name = str(value.name)
    if name not in pairs and name not in ranges:
        return
    readers = [use for use in value.uses() if use.node.op_type != "QuantizeLinear"]
    if name not in pairs:
        pairs[name] = quantized_pair(model, value, *unsigned_grid(*ranges[name]))
    for use in readers:
        use.node.replace_input_with(use.idx, pairs[name])


def _quantize_weight(
    model: ir.Model, node: ir.Node, site: Site, given: Corrections, limit: int
) -> None:
    value = node.inputs[site.index]
    if value is None:
        raise AssertionError("a selected weight exists")
    own = given.weights.get(site.node) if site.index == 1 else None
    node.replace_input_with(site.index, dequantized_weight(model, value, site, own, limit))


def symmetric_range(amax: float) -> Range:
    """What makes `unsigned_grid` the grid of int8 at this threshold, with zero point 128."""
    return -amax * (INT8_MAX + 1) / INT8_MAX, amax


def unsigned_grid(low: float, high: float) -> tuple[np.float32, np.uint8]:
    """(scale, zero point) of uint8 for a range, which is widened to hold 0 exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32(max((high - low) / _LEVELS, _SMALLEST))
    return scale, np.uint8(np.clip(np.rint(-low / scale), 0, _LEVELS))


def _round_bias(model: ir.Model, node: ir.Node) -> None:
    """Store a Gemm's bias in int32, at the product of its operands' scales: QGemm takes no other.

    Nothing is lost: that is the step of the sums it is added to.
    """
    value = node.inputs[2] if len(node.inputs) > 2 else None
    factors = [node.attributes.get_float(name, 1.0) for name in ("alpha", "beta")]
    if value is None or value.const_value is None or factors != [1.0, 1.0]:
        return
    scales = [_scale(source) for source in node.inputs[:2]]
    if any(scale.size == 0 for scale in scales):
        return
    step = np.asarray(scales[0] * scales[1])
    bias = value.const_value.numpy().astype(np.float64)
    if bias.shape != step.shape:
        return
    name = f"{node.name}_bias"
    limit = np.iinfo(np.int32).max
    codes = np.clip(np.rint(bias / step), -limit, limit).astype(np.int32)
    inputs = [
        add_constant(model, f"{name}_int32", codes),
        add_constant(model, f"{name}_scale", step.astype(np.float32)),
        add_constant(model, f"{name}_zero_point", np.zeros_like(codes)),
    ]
    axis = {"axis": 0}
    result = quantizer_node(model, "DequantizeLinear", inputs, name, ir.DataType.FLOAT, axis)
    result.shape = value.shape
    node.replace_input_with(2, result)


def _scale(value: ir.Value | None) -> NDArray[np.float64]:
    """The scales of the DequantizeLinear that makes a value; () where one does not."""
    node = value.producer() if value is not None else None
    scale = node.inputs[1] if node is not None and node.op_type == "DequantizeLinear" else None
    if scale is None or scale.const_value is None:
        return np.empty(0)
    return scale.const_value.numpy().astype(np.float64)
