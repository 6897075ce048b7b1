"""How large the tensors of a graph are at least, by the shapes that are known of them."""

import math
from collections.abc import Mapping

import onnx_ir as ir


def tensor_bytes(model: ir.Model, axes: Mapping[str, int]) -> dict[str, int]:
    """Bytes of what each node makes, by tensor name; an axis that nobody knows counts as 1.

    Args:
        model: with inferred shapes.
        axes: sizes of named axes.
    """
    return {
        str(value.name): _bytes(value, axes)
        for node in model.graph
        for value in node.outputs
        if value.name and value.shape is not None and value.dtype is not None
    }


def named_axes(model: ir.Model, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Sizes of the named axes of inputs whose shapes are these; the smaller where two differ."""
    found: dict[str, int] = {}
    for value in model.graph.inputs:
        shape = shapes.get(str(value.name), ())
        if value.shape is None or len(value.shape) != len(shape):
            continue
        for axis, size in zip(value.shape, shape, strict=True):
            if isinstance(axis, ir.SymbolicDim) and axis.value:
                found[axis.value] = min(size, found.get(axis.value, size))
    return found


def _bytes(value: ir.Value, axes: Mapping[str, int]) -> int:
    if value.shape is None or value.dtype is None or value.dtype == ir.DataType.STRING:
        return 0
    sizes = [
        axes.get(axis.value or "", 1) if isinstance(axis, ir.SymbolicDim) else max(axis, 0)
        for axis in value.shape
    ]
    return math.ceil(math.prod(sizes) * value.dtype.itemsize)
