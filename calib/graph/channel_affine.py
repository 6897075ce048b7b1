"""A factor and a shift for each channel of a quantized input, taken back exactly by its weights.

x' = x·gain + offset; W' = W / gain; b' = b - W'·offset. SmoothQuant (arXiv 2211.10438) without the
offset, Outlier Suppression+ (arXiv 2304.09145) with it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common

from calib.graph.bias import add_to_bias, read_instead
from calib.graph.edit import add_constant, add_node
from calib.graph.linear import Linear


@dataclass(frozen=True, slots=True)
class ChannelAffine:
    """What is done to one tensor before some of its readers quantize it.

    Attributes:
        gain: float64 (channels,) > 0, or 0 for a channel that `side` carries instead.
        offset: float64 (channels,); None = no shift.
        side: channels that go past the quantizer in float, ascending.
        amax: the threshold that the offset was aligned to; None leaves it to calibration.
    """

    gain: NDArray[np.float64]
    offset: NDArray[np.float64] | None = None
    side: tuple[int, ...] = ()
    amax: float | None = None


def apply_affines(
    model: ir.Model, linears: Iterable[Linear], affines: Mapping[str, ChannelAffine]
) -> tuple[ir.Model, dict[str, str]]:
    """A copy of the model with the affines in front of these nodes.

    Equal to the model within float32 rounding.

    Args:
        model: the FP32 model.
        linears: the nodes to treat; all readers in INT8 of each tensor that has an affine.
        affines: by tensor.

    Returns:
        the copy, and the new activation's name by the old one's.

    Raises:
        ValueError: if a padded convolution's input is shifted, or one has channels beside.
    """
    model = model.clone()
    nodes = {str(node.name): node for node in model.graph}
    renamed: dict[str, ir.Value] = {}
    for linear in linears:
        affine = affines.get(linear.tensor)
        if affine is None:
            continue
        node = nodes[linear.node]
        source = node.inputs[0]
        if source is None:
            raise AssertionError("a selected input exists")
        if linear.tensor not in renamed:
            renamed[linear.tensor] = _affine(model, source, linear, affine)
        node.replace_input_with(0, renamed[linear.tensor])
        _compensate(model, node, source, linear, affine)
    common.RemoveUnusedNodesPass()(model)
    common.TopologicalSortPass()(model)
    return model, {old: str(new.name) for old, new in renamed.items()}


def _affine(model: ir.Model, source: ir.Value, linear: Linear, affine: ChannelAffine) -> ir.Value:
    """x·gain + offset, right behind whatever makes x."""
    shape = _broadcast(linear)
    base = str(source.name)
    gain = add_constant(model, f"{base}_gain", affine.gain.astype(np.float32).reshape(shape))
    value = add_node(model, "Mul", [source, gain], f"{base}_scaled", like=source)
    if affine.offset is not None:
        offset = affine.offset.astype(np.float32).reshape(shape)
        constant = add_constant(model, f"{base}_offset", offset)
        value = add_node(model, "Add", [value, constant], f"{base}_shifted", like=source)
    return value


def _broadcast(linear: Linear) -> tuple[int, ...]:
    if linear.op_type == "Conv":
        return (1, -1, *(1 for _ in linear.kernel))
    return (-1,)


def _compensate(
    model: ir.Model, node: ir.Node, source: ir.Value, linear: Linear, affine: ChannelAffine
) -> None:
    old = node.inputs[1]
    if old is None or old.const_value is None:
        raise AssertionError("a linear node has a constant weight")
    weight = linear.matrices(old.const_value.numpy())
    used = affine.gain != 0
    back = np.where(used, 1 / np.where(used, affine.gain, 1), 0)
    scaled = weight * linear.by_column(back)
    fresh = linear.from_matrices(scaled.astype(np.float32))
    node.replace_input_with(1, add_constant(model, f"{node.name}_weight", fresh))
    if affine.side:
        _side_path(model, node, source, linear, affine, weight)
    if affine.offset is not None:
        if linear.is_padded:
            raise ValueError(f"{node.name}: a shift would move the zeros that pad its input")
        # What the rounded weight makes of the offset, so that nothing is lost by rounding it.
        rounded = linear.matrices(fresh)
        add_to_bias(model, node, -(rounded * linear.by_column(affine.offset)).sum(axis=2).ravel())


def _side_path(
    model: ir.Model,
    node: ir.Node,
    source: ir.Value,
    linear: Linear,
    affine: ChannelAffine,
    weight: NDArray[np.float64],
) -> None:
    """Y + Gather(x)·W of a few channels, in float."""
    if linear.op_type == "Conv":
        raise ValueError(f"{node.name}: a convolution has no side path")
    output = node.outputs[0]
    base = str(node.name)
    chosen = np.array(affine.side, dtype=np.int64)
    indices = add_constant(model, f"{base}_side_channels", chosen)
    few = add_node(model, "Gather", [source, indices], f"{base}_side_input", {"axis": -1})
    few.type = source.type
    columns = weight[0][:, chosen].T.astype(np.float32)
    side_weight = add_constant(model, f"{base}_side_weight", columns)
    side = add_node(model, "MatMul", [few, side_weight], f"{base}_side", like=output)
    total = add_node(model, "Add", [output, side], f"{base}_with_side", like=output)
    read_instead(output, total)
