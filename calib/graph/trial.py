"""A graph that quantizes one tensor at a time and says what its consumers make of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from calib.graph.edit import add_constant, add_node, free_name
from calib.graph.native import Range, unsigned_grid
from calib.graph.qdq import fake_quantized, quantized_pair
from calib.graph.select import Selection, Site


@dataclass(frozen=True, slots=True)
class TrialOutput:
    """What an output of the trial graph holds: sums of squares, (batch, length) or a scalar.

    Attributes:
        name: the output.
        tensor: the tensor that is quantized.
        site: number of the consumer's input among the selection's activations.
        candidate: whose threshold; None for the energy of the consumer's output itself.
    """

    name: str
    tensor: str
    site: int
    candidate: str | None


def trial_model(
    model: ir.Model,
    selection: Selection,
    amax: Mapping[str, Mapping[str, float]],
    ranges: Mapping[str, Mapping[str, Range]] | None = None,
) -> tuple[ir.Model, tuple[TrialOutput, ...]]:
    """A graph that tries every candidate's threshold at every quantized activation.

    For an input x of a node f it computes Σ (f(q(x)) - f(x))², all else in FP32, once for each
    candidate, and Σ f(x)². Only these sums are outputs: nothing else is kept of a batch.

    Args:
        model: the FP32 model that the selection was made on.
        selection: whose activations are tried.
        amax: threshold by tensor, by candidate.
        ranges: of the native layout: (minimum, maximum) by tensor, by candidate.
    """
    model = model.clone()
    nodes = {str(node.name): node for node in model.graph}
    model.graph.outputs.clear()
    outputs: list[TrialOutput] = []
    fake: dict[tuple[str, str], ir.Value] = {}
    for number, site in enumerate(selection.activations):
        node = nodes[site.node]
        reference = node.outputs[0]
        energy = _sum_of_squares(model, reference, reference, f"calib_trial_{number}")
        outputs.append(_output(model, energy, site, number, None))
        for index, (candidate, thresholds) in enumerate(amax.items()):
            prefix = f"calib_trial_{number}_{index}"
            key = (site.tensor, candidate)
            if key not in fake:
                value = node.inputs[site.index]
                if value is None:
                    raise AssertionError("a selected input exists")
                fake[key] = (
                    fake_quantized(model, value, thresholds[site.tensor])
                    if ranges is None
                    else quantized_pair(
                        model, value, *unsigned_grid(*ranges[candidate][site.tensor])
                    )
                )
            tried = _consumer(model, node, site.index, fake[key], prefix)
            difference = _add(model, "Sub", [tried, reference], f"{prefix}_error")
            error = _sum_of_squares(model, difference, reference, prefix)
            outputs.append(_output(model, error, site, number, candidate))
    common.TopologicalSortPass()(model)
    return model, tuple(outputs)


def _output(
    model: ir.Model, value: ir.Value, site: Site, number: int, candidate: str | None
) -> TrialOutput:
    model.graph.outputs.append(value)
    return TrialOutput(str(value.name), site.tensor, number, candidate)


def _consumer(model: ir.Model, node: ir.Node, index: int, value: ir.Value, prefix: str) -> ir.Value:
    """The node again, on another input."""
    inputs = [value if number == index else other for number, other in enumerate(node.inputs)]
    attributes = [a for a in node.attributes.values() if isinstance(a, ir.Attr)]
    name = free_name(model, f"{prefix}_again")
    copy = ir.Node(node.domain, node.op_type, inputs, attributes, name=name)
    copy.outputs[0].name, copy.outputs[0].dtype = name, ir.DataType.FLOAT
    model.graph.append(copy)
    return copy.outputs[0]


def _sum_of_squares(model: ir.Model, value: ir.Value, like: ir.Value, prefix: str) -> ir.Value:
    """Σ value², for each position of (batch, length, …), else over everything."""
    squares = _add(model, "Mul", [value, value], f"{prefix}_squares")
    if not _has_positions(like):
        return _add(model, "ReduceSum", [squares], f"{prefix}_sum", {"keepdims": 0})
    shape = add_constant(model, f"{prefix}_shape", np.array([0, 0, -1], dtype=np.int64))
    axes = add_constant(model, f"{prefix}_axes", np.array([-1], dtype=np.int64))
    flat = _add(model, "Reshape", [squares, shape], f"{prefix}_flat")
    return _add(model, "ReduceSum", [flat, axes], f"{prefix}_sum", {"keepdims": 0})


def _has_positions(value: ir.Value) -> bool:
    shape = value.shape
    return shape is not None and len(shape) > 2 and not isinstance(shape[1], int)


def _add(
    model: ir.Model,
    op_type: str,
    inputs: Sequence[ir.Value],
    name: str,
    attributes: Mapping[str, int] | None = None,
) -> ir.Value:
    value = add_node(model, op_type, inputs, name, attributes)
    value.dtype = ir.DataType.FLOAT
    return value
