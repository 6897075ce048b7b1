"""Explicit quantization: QuantizeLinear/DequantizeLinear pairs in the graph.

Symmetric INT8 everywhere: zero point 0, scale = amax / 127, values rounded half to even and clipped
to ±127 for weights. Activations have one scale a tensor, weights one an output channel.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common

from calib.graph.bias import add_to_bias
from calib.graph.edit import add_constant, free_name
from calib.graph.existing import existing_pair
from calib.graph.select import Selection, Site
from calib.remedies.rounding import INT8_MAX, SMALLEST_SCALE, clipped_codes, scales_from_amax
from calib.results import WeightRecord
from data_loaders.types import Array


@dataclass(frozen=True, slots=True)
class QuantizedWeight:
    """A weight in INT8.

    Attributes:
        values: int8, the weight's shape, in [-127, 127].
        scales: float32 (channels,), > 0.
    """

    values: NDArray[np.int8]
    scales: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Corrections:
    """What INT8 gets instead of the nearest codes and the float bias.

    Attributes:
        weights: by node.
        bias: by node, what is added to its bias; float64 (outputs,).
    """

    weights: Mapping[str, QuantizedWeight] = field(default_factory=dict)
    bias: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


def scale_from_amax(amax: float) -> np.float32:
    """float32 scale amax / 127, never below the smallest normal number.

    Raises:
        ValueError: if amax is not finite, or not above zero.
    """
    if not (np.isfinite(amax) and amax > 0):
        raise ValueError(f"amax must be finite and positive, got {amax}")
    return np.float32(max(amax / INT8_MAX, SMALLEST_SCALE))


def quantize_weight(weight: Array, axis: int, limit: int = INT8_MAX) -> QuantizedWeight:
    """Quantize by each channel's own largest |w|; a channel of zeros gets scale 1.

    Args:
        weight: float, any shape.
        axis: the output-channel axis.
        limit: the largest code.
    """
    wide = np.asarray(weight, dtype=np.float64)
    others = tuple(i for i in range(wide.ndim) if i != axis)
    scales = scales_from_amax(np.abs(wide).max(axis=others), limit)
    steps = np.rint(wide / _along(scales.astype(np.float64), axis, wide.ndim))
    return QuantizedWeight(clipped_codes(steps, limit), scales)


def dequantize_weight(quantized: QuantizedWeight, axis: int) -> NDArray[np.float64]:
    """The float64 values that the INT8 weight stands for."""
    scales = _along(quantized.scales.astype(np.float64), axis, quantized.values.ndim)
    return np.asarray(quantized.values * scales, dtype=np.float64)


def _along(scales: Array, axis: int, rank: int) -> Array:
    return scales.reshape([-1 if i == axis else 1 for i in range(rank)])


def insert_qdq(
    model: ir.Model,
    selection: Selection,
    amax: Mapping[str, float],
    corrections: Corrections | None = None,
) -> ir.Model:
    """A copy of the model with its selected inputs quantized.

    Each activation gets one pair, shared by all nodes that read it in INT8. Weights are stored in
    INT8 behind a DequantizeLinear, once for each node that reads them.

    Args:
        model: the FP32 model that the selection was made on.
        selection: what to quantize.
        amax: clipping threshold by activation tensor; every selected one must be there.
        corrections: for selected nodes; others are left out of account.

    Raises:
        KeyError: if a selected activation has no amax.
        ValueError: if an amax is not finite and positive.
    """
    model = model.clone()
    nodes = {str(node.name): node for node in model.graph}
    given = corrections or Corrections()
    pairs: dict[tuple[str, int | None, str], ir.Value] = {}
    for site in (*selection.activations, *selection.weights):
        own = given.weights.get(site.node) if site.axis is not None and site.index == 1 else None
        # ONNX Runtime cannot prepare one INT8 constant for two nodes, and refuses the model.
        key = (site.tensor, site.axis, "" if site.axis is None else f"{site.node}/{site.index}")
        if key not in pairs:
            value = nodes[site.node].inputs[site.index]
            if value is None:
                raise AssertionError("a selected input exists")
            pairs[key] = (
                existing_pair(value) or fake_quantized(model, value, amax[site.tensor])
                if site.axis is None
                else dequantized_weight(model, value, site, own)
            )
        nodes[site.node].replace_input_with(site.index, pairs[key])
    corrected = selection.quantized_nodes & given.bias.keys()
    for name in (name for name in nodes if name in corrected):
        add_to_bias(model, nodes[name], given.bias[name])
    common.TopologicalSortPass()(model)
    common.RemoveUnusedNodesPass()(model)
    return model


def fake_quantized(model: ir.Model, value: ir.Value, amax: float) -> ir.Value:
    """The output of a new QuantizeLinear/DequantizeLinear pair behind a float value."""
    return quantized_pair(model, value, scale_from_amax(amax), np.int8(0))


def quantized_pair(
    model: ir.Model, value: ir.Value, scale: np.float32, zero: np.int8 | np.uint8
) -> ir.Value:
    """The same on any grid of one scale; the codes are of the zero point's type."""
    name = str(value.name)
    grid = [
        add_constant(model, f"{name}_scale", np.array(scale)),
        add_constant(model, f"{name}_zero_point", np.array(zero)),
    ]
    dtype = ir.DataType.from_numpy(zero.dtype)
    codes = quantizer_node(model, "QuantizeLinear", [value, *grid], name, dtype)
    result = quantizer_node(model, "DequantizeLinear", [codes, *grid], name, ir.DataType.FLOAT)
    codes.shape = result.shape = value.shape
    return result


def dequantized_weight(
    model: ir.Model,
    value: ir.Value,
    site: Site,
    own: QuantizedWeight | None,
    limit: int = INT8_MAX,
) -> ir.Value:
    """The output of a DequantizeLinear of a weight in INT8, its own codes or the nearest ones."""
    if value.const_value is None or site.axis is None:
        raise AssertionError("a selected weight is a constant")
    name = f"{site.node}_corrected" if own else f"{value.name}_axis{site.axis}"
    weight = own or quantize_weight(value.const_value.numpy(), site.axis, limit)
    inputs = [
        add_constant(model, f"{name}_int8", weight.values),
        add_constant(model, f"{name}_scale", weight.scales),
        add_constant(model, f"{name}_zero_point", np.zeros(weight.scales.shape, dtype=np.int8)),
    ]
    axis = {"axis": site.axis}
    result = quantizer_node(model, "DequantizeLinear", inputs, name, ir.DataType.FLOAT, axis)
    result.shape = value.shape
    return result


def quantizer_node(
    model: ir.Model,
    op_type: str,
    inputs: list[ir.Value],
    base: str,
    dtype: ir.DataType,
    attributes: Mapping[str, int] | None = None,
) -> ir.Value:
    """The output of a new node at the graph's end, named by what it quantizes."""
    name = free_name(model, f"{base}_{op_type}")
    node = ir.node(op_type, inputs, dict(attributes or {}), name=name)
    output = node.outputs[0]
    output.name, output.dtype = free_name(model, f"{name}_output"), dtype
    model.graph.append(node)
    return output


def weight_records(
    model: ir.Model, selection: Selection, limit: int = INT8_MAX
) -> tuple[WeightRecord, ...]:
    """What quantization does to each selected weight."""
    nodes = {str(node.name): node for node in model.graph}
    return tuple(_weight_record(nodes[site.node], site, limit) for site in selection.weights)


def _weight_record(node: ir.Node, site: Site, limit: int) -> WeightRecord:
    value = node.inputs[site.index]
    if value is None or value.const_value is None or site.axis is None:
        raise AssertionError("a selected weight is a constant")
    weight = value.const_value.numpy().astype(np.float64)
    quantized = quantize_weight(weight, site.axis, limit)
    noise = float(np.square(weight - dequantize_weight(quantized, site.axis)).sum())
    signal = float(np.square(weight).sum())
    return WeightRecord(
        tensor=site.tensor,
        node=site.node,
        op_type=site.op_type,
        axis=site.axis,
        channels=quantized.scales.size,
        elements=weight.size,
        sqnr_db=10 * float(np.log10(signal / noise)) if noise > 0 and signal > 0 else None,
    )
