"""Nodes with a constant weight, seen as matrices: what the weight algorithms work on."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from calib.graph.select import Selection
from data_loaders.types import Array


@dataclass(frozen=True, slots=True)
class Linear:
    """A MatMul, Gemm or Conv whose weight is a constant; y = W x + b in each group.

    Attributes:
        node: its name.
        op_type: MatMul, Gemm or Conv.
        tensor: the activation that it reads.
        weight: the initializer's name.
        shape: the weight's own shape.
        axis: the weight's output-channel axis.
        groups: 1 but for a grouped Conv.
        kernel: spatial kernel of a Conv; () otherwise.
        strides: of a Conv, as are dilations and pads (begins, then ends).
        dilations: see strides.
        pads: see strides; None where the padding depends on the input's size.
    """

    node: str
    op_type: str
    tensor: str
    weight: str
    shape: tuple[int, ...]
    axis: int
    groups: int = 1
    kernel: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    pads: tuple[int, ...] | None = ()

    @property
    def outputs(self) -> int:
        """Number of output channels."""
        return self.shape[self.axis]

    @property
    def channels(self) -> int:
        """Number of input channels, those of all groups."""
        return math.prod(self.shape) // self.outputs // self.taps * self.groups

    @property
    def taps(self) -> int:
        """Positions of the kernel: how many columns an input channel has."""
        return math.prod(self.kernel)

    @property
    def channel_axis(self) -> int:
        """The input's channel axis: 1 for a Conv, else the last."""
        return 1 if self.op_type == "Conv" else -1

    @property
    def is_padded(self) -> bool:
        """Whether zeros are put around the input, or may be."""
        return self.pads is None or any(self.pads)

    def matrices(self, weight: Array) -> NDArray[np.float64]:
        """The weight as float64 (groups, outputs a group, columns a group).

        A column is an input channel's tap, channel first.
        """
        wide = np.asarray(weight, dtype=np.float64)
        if self.op_type != "Conv" and self.axis == 1:
            wide = wide.T
        return np.ascontiguousarray(wide.reshape(self.groups, self.outputs // self.groups, -1))

    def from_matrices(self, matrices: Array) -> Array:
        """The inverse of `matrices`, of the same dtype as what is given."""
        flat = matrices.reshape(self.outputs, -1)
        if self.op_type != "Conv" and self.axis == 1:
            flat = flat.T
        return np.ascontiguousarray(flat.reshape(self.shape))

    def by_column(self, by_channel: Array) -> Array:
        """Values of input channels (channels,) as (groups, 1, columns a group)."""
        return np.repeat(by_channel, self.taps).reshape(self.groups, 1, -1)


def linears(model: ir.Model, selection: Selection) -> dict[str, Linear]:
    """Every selected node with a constant weight and one activation input, by name.

    ConvTranspose, weights of more than two axes in a MatMul, and a Gemm with factors or a
    transposed input are left out: they are quantized as they are. So is every reader of a tensor
    whose readers take different axes for its channels.
    """
    nodes = {str(node.name): node for node in model.graph}
    read = {site.node: site.tensor for site in selection.activations if site.index == 0}
    found = (
        _linear(nodes[site.node], read[site.node], site.axis)
        for site in selection.weights
        if site.index == 1 and site.node in read and site.axis is not None
    )
    seen = [linear for linear in found if linear is not None]
    axes: dict[str, set[int]] = {}
    for linear in seen:
        axes.setdefault(linear.tensor, set()).add(linear.channel_axis)
    return {linear.node: linear for linear in seen if len(axes[linear.tensor]) == 1}


def _linear(node: ir.Node, tensor: str, axis: int) -> Linear | None:
    value = node.inputs[1]
    if value is None or value.const_value is None:
        return None
    common = (str(node.name), node.op_type, tensor, str(value.name))
    shape = tuple(value.const_value.shape.numpy())
    if node.op_type == "Conv":
        return Linear(*common, shape, axis, **_geometry(node, shape))
    if len(shape) != 2 or node.op_type not in ("MatMul", "Gemm"):
        return None
    if node.op_type == "Gemm" and not _is_plain(node):
        return None
    return Linear(*common, shape, axis)


def _is_plain(node: ir.Node) -> bool:
    return (
        node.attributes.get_int("transA", 0) == 0
        and node.attributes.get_float("alpha", 1.0) == 1.0
        and node.attributes.get_float("beta", 1.0) == 1.0
    )


def _geometry(node: ir.Node, shape: tuple[int, ...]) -> dict[str, Any]:
    kernel = shape[2:]
    rank = len(kernel)
    automatic = node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    pads = tuple(node.attributes.get_ints("pads", [0] * 2 * rank) or ())
    return {
        "groups": node.attributes.get_int("group", 1),
        "kernel": kernel,
        "strides": tuple(node.attributes.get_ints("strides", [1] * rank) or ()),
        "dilations": tuple(node.attributes.get_ints("dilations", [1] * rank) or ()),
        "pads": None if automatic and any(size > 1 for size in kernel) else pads,
    }
