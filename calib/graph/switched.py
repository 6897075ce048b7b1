"""One graph for every choice of what is quantized: each group has a switch.

The switches are given with the samples. A choice is then a run, not a session: nothing is built,
optimized or loaded for it. The grid is that of `insert_qdq`, computed in float.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from calib.graph.bias import read_instead
from calib.graph.edit import add_constant, add_node
from calib.graph.groups import Group
from calib.graph.qdq import (
    Corrections,
    dequantize_weight,
    fake_quantized,
    quantize_weight,
)
from calib.graph.select import Selection, Site

ACTIVATIONS, WEIGHTS = "calib_activations", "calib_weights"
"""The two inputs: bool (groups,), True where a group's activations, or weights, are rounded."""


def switched(
    model: ir.Model,
    selection: Selection,
    amax: Mapping[str, float],
    corrections: Corrections,
    groups: Sequence[Group],
) -> ir.Model:
    """A copy of the FP32 model with two more inputs, `ACTIVATIONS` and `WEIGHTS`.

    Biases are corrected where the weights are rounded.

    Args:
        model: what the selection was made on.
        selection: what can be quantized.
        amax: threshold by activation.
        corrections: of weights and biases.
        groups: in the order of the switches.
    """
    model = model.clone()
    nodes = {str(node.name): node for node in model.graph}
    number = {node: index for index, group in enumerate(groups) for node in group.nodes}
    switches = {
        name: [_switch(model, value, index) for index in range(len(groups))]
        for name, value in ((n, _input(model, n, len(groups))) for n in (ACTIVATIONS, WEIGHTS))
    }
    rounded: dict[str, ir.Value] = {}
    for site in selection.activations:
        value = _value(nodes[site.node], site)
        if site.tensor not in rounded:
            rounded[site.tensor] = fake_quantized(model, value, amax[site.tensor])
        switch = switches[ACTIVATIONS][number[site.node]]
        chosen = _where(model, switch, rounded[site.tensor], value, f"{site.node}_{site.index}")
        nodes[site.node].replace_input_with(site.index, chosen)
    for site in selection.weights:
        value = _value(nodes[site.node], site)
        near = _rounded_weight(model, value, site, corrections)
        switch = switches[WEIGHTS][number[site.node]]
        chosen = _where(model, switch, near, value, f"{site.node}_{site.index}_weight")
        nodes[site.node].replace_input_with(site.index, chosen)
    for name in [name for name in number if name in corrections.bias]:
        _switch_bias(model, nodes[name], switches[WEIGHTS][number[name]], corrections)
    common.TopologicalSortPass()(model)
    return model


def _input(model: ir.Model, name: str, size: int) -> ir.Value:
    value = ir.val(name, ir.DataType.BOOL, ir.Shape((size,)))
    model.graph.inputs.append(value)
    return value


def _switch(model: ir.Model, value: ir.Value, index: int) -> ir.Value:
    position = add_constant(model, f"{value.name}_index_{index}", np.array(index, dtype=np.int64))
    return add_node(model, "Gather", [value, position], f"{value.name}_{index}")


def _value(node: ir.Node, site: Site) -> ir.Value:
    value = node.inputs[site.index]
    if value is None:
        raise AssertionError("a selected input exists")
    return value


def _where(model: ir.Model, switch: ir.Value, yes: ir.Value, no: ir.Value, base: str) -> ir.Value:
    return add_node(model, "Where", [switch, yes, no], f"calib_{base}_chosen", like=no)


def _rounded_weight(
    model: ir.Model, value: ir.Value, site: Site, corrections: Corrections
) -> ir.Value:
    if value.const_value is None or site.axis is None:
        raise AssertionError("a selected weight is a constant")
    own = corrections.weights.get(site.node) if site.index == 1 else None
    quantized = own or quantize_weight(value.const_value.numpy(), site.axis)
    array = dequantize_weight(quantized, site.axis).astype(np.float32)
    return add_constant(model, f"{site.node}_{site.index}_rounded", array)


def _switch_bias(
    model: ir.Model, node: ir.Node, switch: ir.Value, corrections: Corrections
) -> None:
    output = node.outputs[0]
    delta = corrections.bias[str(node.name)].astype(np.float32)
    weight_rank = len(node.inputs[1].shape) if node.inputs[1] and node.inputs[1].shape else 2
    if node.op_type == "Conv":
        delta = delta.reshape(-1, *[1] * (weight_rank - 2))
    given = add_constant(model, f"{node.name}_delta", delta)
    none = add_constant(model, f"{node.name}_no_delta", np.zeros_like(delta))
    base = f"{node.name}_bias"
    chosen = _where(model, switch, given, none, base)
    total = add_node(model, "Add", [output, chosen], f"calib_{base}_added", like=output)
    read_instead(output, total)
