"""One graph for every choice of what is quantized: each group has two switches.

The switches are given with the samples. A choice is then a run, not a session: nothing is built,
optimized or loaded for it. The grid is that of `insert_qdq`, or that of the native layout, whose
rounding of outputs is not in it. What a switch decides is in the two
branches of an If, where weights stay constants: a runtime packs them once, and does not compute
what is not asked for.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from calib.graph.bias import read_instead
from calib.graph.edit import add_constant, add_node, free_name
from calib.graph.groups import Group
from calib.graph.native import Range, unsigned_grid
from calib.graph.qdq import (
    Corrections,
    dequantize_weight,
    quantize_weight,
    scale_from_amax,
)
from calib.graph.select import Selection, Site
from calib.remedies.rounding import INT8_MAX
from data_loaders.types import Array

ACTIVATIONS, WEIGHTS = "calib_activations", "calib_weights"
"""The two inputs: bool (groups,), True where a group's activations, or weights, are rounded."""


def switched(
    model: ir.Model,
    selection: Selection,
    amax: Mapping[str, float],
    corrections: Corrections,
    groups: Sequence[Group],
    *,
    ranges: Mapping[str, Range] | None = None,
    limit: int = INT8_MAX,
) -> ir.Model:
    """A copy of the FP32 model with two more inputs, `ACTIVATIONS` and `WEIGHTS`.

    Biases are corrected where the weights are rounded.

    Args:
        model: what the selection was made on.
        selection: what can be quantized.
        amax: threshold by activation.
        corrections: of weights and biases.
        groups: in the order of the switches.
        ranges: of the native layout: (minimum, maximum) by activation.
        limit: the largest code of a weight that has none of its own.
    """
    model = model.clone()
    nodes = {str(node.name): node for node in model.graph}
    number = {node: index for index, group in enumerate(groups) for node in group.nodes}
    activations = _switches(model, ACTIVATIONS, len(groups))
    weights = _switches(model, WEIGHTS, len(groups))
    chosen: dict[tuple[str, int], ir.Value] = {}
    for site in selection.activations:
        node, group = nodes[site.node], number[site.node]
        if (site.tensor, group) not in chosen:
            value = _value(node, site)
            grid = (
                (scale_from_amax(amax[site.tensor]), np.int8(0))
                if ranges is None
                else unsigned_grid(*ranges[site.tensor])
            )
            chosen[site.tensor, group] = _activation(model, activations[group], value, grid, group)
        node.replace_input_with(site.index, chosen[site.tensor, group])
    by_node: dict[str, list[Site]] = {}
    for site in selection.weights:
        by_node.setdefault(site.node, []).append(site)
    for name, sites in by_node.items():
        _weighted(model, weights[number[name]], nodes[name], sites, corrections, limit)
    common.TopologicalSortPass()(model)
    return model


def _switches(model: ir.Model, name: str, size: int) -> list[ir.Value]:
    value = ir.val(name, ir.DataType.BOOL, ir.Shape((size,)))
    model.graph.inputs.append(value)
    return [_switch(model, value, index) for index in range(size)]


def _switch(model: ir.Model, value: ir.Value, index: int) -> ir.Value:
    position = add_constant(model, f"{value.name}_index_{index}", np.array(index, dtype=np.int64))
    return add_node(model, "Gather", [value, position], f"{value.name}_{index}")


def _value(node: ir.Node, site: Site) -> ir.Value:
    value = node.inputs[site.index]
    if value is None:
        raise AssertionError("a selected input exists")
    return value


def _activation(
    model: ir.Model,
    switch: ir.Value,
    value: ir.Value,
    grid: tuple[np.float32, np.int8 | np.uint8],
    group: int,
) -> ir.Value:
    """The activation, rounded where the switch is on."""
    rounding = _Branch(model, f"calib_{value.name}_{group}_rounded")
    constants = [
        rounding.constant(name, np.array(number))
        for name, number in zip(("scale", "zero_point"), grid, strict=True)
    ]
    dtype = ir.DataType.from_numpy(grid[1].dtype)
    codes = rounding.node("QuantizeLinear", [value, *constants], dtype)
    rounded = rounding.node("DequantizeLinear", [codes, *constants], ir.DataType.FLOAT)
    same = _Branch(model, f"calib_{value.name}_{group}_same")
    kept = same.node("Identity", [value], ir.DataType.FLOAT)
    return _if(model, switch, rounding.graph(rounded), same.graph(kept), value)


def _weighted(
    model: ir.Model,
    switch: ir.Value,
    node: ir.Node,
    sites: Sequence[Site],
    corrections: Corrections,
    limit: int,
) -> None:
    """Put the node into both branches of an If, with its weights as they are and rounded."""
    name, output = str(node.name), node.outputs[0]
    rounded, plain = _Branch(model, f"calib_{name}_rounded"), _Branch(model, f"calib_{name}_plain")
    inputs = list(node.inputs)
    for site in sites:
        array = _rounded_weight(_value(node, site), site, corrections, limit)
        inputs[site.index] = rounded.constant(f"weight_{site.index}", array)
    result = rounded.like(node, inputs)
    if name in corrections.bias:
        delta = corrections.bias[name].astype(np.float32)
        if node.op_type == "Conv":
            spatial = _value(node, sites[0]).const_value
            delta = delta.reshape(-1, *[1] * (len(spatial.shape) - 2 if spatial else 0))
        given = rounded.constant("bias", delta)
        result = rounded.node("Add", [result, given], ir.DataType.FLOAT)
    before = plain.like(node, list(node.inputs))
    chosen = _if(model, switch, rounded.graph(result), plain.graph(before), output)
    read_instead(output, chosen)
    model.graph.remove(node, safe=True)


def _rounded_weight(value: ir.Value, site: Site, corrections: Corrections, limit: int) -> Array:
    if value.const_value is None or site.axis is None:
        raise AssertionError("a selected weight is a constant")
    own = corrections.weights.get(site.node) if site.index == 1 else None
    quantized = own or quantize_weight(value.const_value.numpy(), site.axis, limit)
    return dequantize_weight(quantized, site.axis).astype(np.float32)


def _if(model: ir.Model, switch: ir.Value, yes: ir.Graph, no: ir.Graph, like: ir.Value) -> ir.Value:
    branches = {"then_branch": yes, "else_branch": no}
    name = free_name(model, str(yes.name).removesuffix("_rounded"))
    node = ir.node("If", [switch], branches, name=name)
    output = node.outputs[0]
    output.name, output.type, output.shape = str(node.name), like.type, like.shape
    model.graph.append(node)
    return output


class _Branch:
    """A graph without inputs: it reads what is around it."""

    def __init__(self, model: ir.Model, name: str) -> None:
        self._model, self._name = model, name
        self._nodes: list[ir.Node] = []
        self._constants: list[ir.Value] = []

    def constant(self, name: str, array: Array) -> ir.Value:
        tensor = ir.tensor(array, name=free_name(self._model, f"{self._name}_{name}"))
        value = ir.val(str(tensor.name), tensor.dtype, ir.Shape(array.shape), const_value=tensor)
        self._constants.append(value)
        return value

    def node(self, op_type: str, inputs: Sequence[ir.Value], dtype: ir.DataType) -> ir.Value:
        return self._add(ir.node(op_type, inputs), dtype)

    def like(self, node: ir.Node, inputs: Sequence[ir.Value | None]) -> ir.Value:
        """A node of the same kind on other inputs."""
        return self._add(ir.node(node.op_type, inputs, dict(node.attributes)), ir.DataType.FLOAT)

    def _add(self, node: ir.Node, dtype: ir.DataType) -> ir.Value:
        name = free_name(self._model, f"{self._name}_{len(self._nodes)}")
        node.name = node.outputs[0].name = name
        node.outputs[0].dtype = dtype
        self._nodes.append(node)
        return node.outputs[0]

    def graph(self, output: ir.Value) -> ir.Graph:
        return ir.Graph(
            [], [output], nodes=self._nodes, initializers=self._constants, name=self._name
        )
