"""A channel's factor and shift, moved up into constants that are there already.

x·gain + offset costs a pass over the tensor where nothing takes it up. Often something can: the
scale and bias of a LayerNormalization, the weight and bias of the convolution or product that makes
the tensor, a constant factor on the way. Between them the factor passes whatever commutes with it:
layout changes, pooling, a ReLU, the probabilities of an attention (P·V scaled by channel is P times
V scaled so). This is where cross-layer equalization (arXiv 1906.04721) ends up, too.

Only a tensor that nobody else reads can be changed.
"""

from collections.abc import Callable, Container, Iterable, Mapping

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from calib.graph.affine_layouts import LAYOUTS, Affine, Wide, narrowed
from calib.graph.bias import add_to_bias, takes_bias
from calib.graph.edit import add_constant, free_name

_Edit = Callable[[], None]
_POSITIVE = frozenset(["Relu", "LeakyRelu", "PRelu", "Dropout"])
"""f(x·g) = f(x)·g where g > 0."""
_POOLS = frozenset(["MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"])
"""The same for a factor of each channel."""


def absorb(
    model: ir.Model,
    tensors: Iterable[str],
    fixed: Container[str] = frozenset(),
    *,
    keep_scalars: bool = False,
) -> Mapping[str, Wide]:
    """Move what `apply_affines` put in front of the nodes as far up as it costs nothing.

    Args:
        model: changed in place, equal within float32 rounding.
        tensors: the activations that it made.
        fixed: tensors whose values must stay, as somebody knows their range.
        keep_scalars: constants of one number stay so: ONNX Runtime knows a GELU by its own, and
            runs what it does not know as five operators.

    Returns:
        By node whose weight took up a factor: float64 (outputs,), by which its output channels
        were scaled, all > 0. INT8 codes of it stay, their scales and corrections are scaled too.
    """
    scaled: dict[str, Wide] = {}
    values = {str(v.name): v for node in model.graph for v in node.outputs}
    for name in tensors:
        if name in values:
            _absorb(_Up(model, scaled, fixed, keep_scalars), values[name])
    common.RemoveUnusedNodesPass()(model)
    common.TopologicalSortPass()(model)
    return scaled


def _absorb(up: "_Up", end: ir.Value) -> None:
    source, affine = _written(end)
    if source is None or not (affine.gain > 0).all():
        return
    edits = up.through(source, affine)
    if edits is None:
        return
    for edit in edits:
        edit()
    name = end.name
    for use in list(end.uses()):
        use.node.replace_input_with(use.idx, source)
    end.name, source.name = source.name, name


def _written(end: ir.Value) -> tuple[ir.Value | None, Affine]:
    """What is scaled, and by what: the Mul, and the Add behind it if there is one."""
    nothing = Affine(np.zeros(()), np.zeros(()))
    node = end.producer()
    offset: Wide | None = np.zeros(())
    if node is not None and node.op_type == "Add":
        offset = _constant(node.inputs[1], end)
        value = node.inputs[0]
        node = value.producer() if value is not None and len(value.uses()) == 1 else None
    if node is None or node.op_type != "Mul" or node.inputs[0] is None or offset is None:
        return None, nothing
    gain = _constant(node.inputs[1], end)
    if gain is None or end.is_graph_output():
        return None, nothing
    return node.inputs[0], Affine(gain, np.broadcast_to(offset, gain.shape).copy())


def _constant(value: ir.Value | None, like: ir.Value) -> Wide | None:
    """A constant with the rank of another tensor; None if it is none, or would widen it."""
    if value is None or value.const_value is None or like.shape is None:
        return None
    array = value.const_value.numpy().astype(np.float64)
    rank = len(like.shape)
    return array.reshape((1,) * (rank - array.ndim) + array.shape) if array.ndim <= rank else None


class _Up:
    """One walk up the graph; it plans edits, and makes none that the end of the walk refuses."""

    def __init__(
        self,
        model: ir.Model,
        scaled: dict[str, Wide],
        fixed: Container[str],
        keep_scalars: bool,
    ) -> None:
        self._model, self._scaled, self._fixed = model, scaled, fixed
        self._keep_scalars = keep_scalars

    def through(self, value: ir.Value | None, affine: Affine) -> list[_Edit] | None:
        """The edits that make `value` come out as value·gain + offset; None if there are none."""
        node = value.producer() if value is not None else None
        if value is None or node is None or not _is_free(value, affine):
            return None
        if value.name in self._fixed:
            return None
        edits = self._at(node, value, affine)
        # What is known of the tensor by its name holds no more.
        return None if edits is None else [*edits, lambda: self._rename(value)]

    def _at(self, node: ir.Node, value: ir.Value, affine: Affine) -> list[_Edit] | None:
        first = node.inputs[0]
        if node.op_type == "LayerNormalization":
            return self._normalization(node, affine)
        if node.op_type in ("Conv", "Gemm", "MatMul") and _has_weight(node):
            return self._weighted(node, affine)
        if node.op_type in ("Mul", "Div", "Add"):
            return self._elementwise(node, value, affine)
        if node.op_type in LAYOUTS:
            moved = LAYOUTS[node.op_type](node, value, affine)
            return None if moved is None else self.through(first, moved)
        if node.op_type == "Identity":
            return self.through(first, affine)
        if affine.shifts:
            return None
        if node.op_type in _POSITIVE or (node.op_type in _POOLS and _is_by_channel(affine)):
            return self.through(first, affine)
        if node.op_type == "MatMul" and affine.gain.ndim > 1 and affine.gain.shape[-2] == 1:
            return self.through(node.inputs[1], affine)
        return None

    def _normalization(self, node: ir.Node, affine: Affine) -> list[_Edit] | None:
        scale, bias = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
        vector = _vector(affine, -1)
        if vector is None or scale is None or scale.const_value is None:
            return None
        if bias is not None and bias.const_value is None:
            return None
        factor = scale.const_value.numpy().astype(np.float64)
        shift = bias.const_value.numpy().astype(np.float64) if bias and bias.const_value else 0.0
        if factor.ndim != 1:
            return None
        gain, offset = vector

        def edit() -> None:
            node.resize_inputs(3)
            self._replace(node, 1, factor * gain)
            self._replace(node, 2, shift * gain + offset)

        return [edit]

    def _weighted(self, node: ir.Node, affine: Affine) -> list[_Edit] | None:
        constant = node.inputs[1].const_value if node.inputs[1] is not None else None
        vector = _vector(affine, 1 if node.op_type == "Conv" else -1)
        if vector is None or constant is None or not takes_bias(node) or not _is_plain(node):
            return None
        rank = len(constant.shape)
        axis = _output_axis(node, rank)
        gain, offset = (np.broadcast_to(part, (constant.shape.numpy()[axis],)) for part in vector)
        rows = gain.reshape([-1 if i == axis else 1 for i in range(rank)])

        def edit() -> None:
            self._replace(node, 1, constant.numpy() * rows)
            third = node.inputs[2] if len(node.inputs) > 2 else None
            if third is not None and third.const_value is not None:
                self._replace(node, 2, third.const_value.numpy().astype(np.float64) * gain)
            if affine.shifts:
                add_to_bias(self._model, node, offset)
            name = str(node.name)
            self._scaled[name] = self._scaled.get(name, np.ones(len(gain))) * gain

        # A product without a bias would need an Add of its own, which is what there is now.
        third = len(node.inputs) > 2 or node.op_type == "Conv"
        return [edit] if third or not affine.shifts else None

    def _elementwise(self, node: ir.Node, value: ir.Value, affine: Affine) -> list[_Edit] | None:
        constants = [_constant(one, value) for one in node.inputs]
        known = [index for index, array in enumerate(constants) if array is not None]
        if not known or (node.op_type == "Div" and known != [1]):
            return self._unknown(node, affine)
        index = known[0]
        array, other = constants[index], node.inputs[1 - index]
        if array is None or (self._keep_scalars and array.size == 1 < affine.gain.size):
            return None
        if node.op_type == "Add":
            both = array * affine.gain + affine.offset
            above = self.through(other, Affine(affine.gain, np.zeros_like(affine.gain)))
            return None if above is None else [*above, lambda: self._replace(node, index, both)]
        if affine.shifts:
            return None
        both = array * affine.gain if node.op_type == "Mul" else array / affine.gain
        return [lambda: self._replace(node, index, both)]

    def _unknown(self, node: ir.Node, affine: Affine) -> list[_Edit] | None:
        """A product of two tensors: one of them takes the factor."""
        if node.op_type != "Mul" or affine.shifts:
            return None
        tried = (self.through(value, affine) for value in node.inputs)
        return next((edits for edits in tried if edits is not None), None)

    def _rename(self, value: ir.Value) -> None:
        value.name = free_name(self._model, f"{value.name}_with_factor")

    def _replace(self, node: ir.Node, index: int, array: Wide) -> None:
        name = f"{node.name}_{index}_with_factor"
        narrow = np.ascontiguousarray(array.astype(np.float32))
        node.replace_input_with(index, add_constant(self._model, name, narrow))


def _is_free(value: ir.Value, affine: Affine) -> bool:
    """Whether nobody else reads the tensor, and it has each channel that the factor tells apart."""
    node, shape = value.producer(), value.shape
    if node is None or shape is None or len(shape) != affine.gain.ndim:
        return False
    if len(value.uses()) != 1 or value.is_graph_output():
        return False
    if any(output.uses() for output in node.outputs if output is not value):
        return False
    sizes = zip(shape, affine.gain.shape, affine.offset.shape, strict=True)
    return all(max(one, other) == 1 or have == max(one, other) for have, one, other in sizes)


def _is_by_channel(affine: Affine) -> bool:
    return all(size == 1 for size in affine.gain.shape[2:])


def _vector(affine: Affine, axis: int) -> tuple[Wide, Wide] | None:
    """Both parts along one axis; None if they differ along another."""
    gain, offset = narrowed(affine.gain), narrowed(affine.offset)
    rank = gain.ndim
    for array in (gain, offset):
        if any(size > 1 for at, size in enumerate(array.shape) if at != axis % rank):
            return None
    return gain.ravel(), offset.ravel()


def _has_weight(node: ir.Node) -> bool:
    constant = node.inputs[1].const_value if node.inputs[1] is not None else None
    if constant is None or constant.dtype is not ir.DataType.FLOAT:
        return False
    return node.op_type == "Conv" or len(constant.shape) == 2


def _output_axis(node: ir.Node, rank: int) -> int:
    if node.op_type == "Conv":
        return 0
    return 0 if node.attributes.get_int("transB", 0) else rank - 1


def _is_plain(node: ir.Node) -> bool:
    """Whether a Gemm's third input is added as it is, to each output channel."""
    if node.op_type != "Gemm":
        return True
    third = node.inputs[2] if len(node.inputs) > 2 else None
    is_vector = third is None or third.const_value is None or len(third.const_value.shape) == 1
    return is_vector and node.attributes.get_float("beta", 1.0) == 1.0
