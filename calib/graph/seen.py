"""Types and shapes that inference does not find, taken from runs of the model."""

from collections.abc import Mapping, Sequence

import onnx_ir as ir

from calib.graph.read import infer_shapes
from data_loaders.types import Array

Seen = Mapping[str, Array]


def unknown_tensors(model: ir.Model) -> tuple[str, ...]:
    """What nodes of the main graph make that is of no known type or rank, in graph order.

    Inference stops at operators that ONNX does not know, and at some whose shapes depend on values.
    """
    return tuple(
        str(value.name)
        for node in model.graph
        for value in node.outputs
        if value.name
        and (value.type is None or isinstance(value.type, ir.TensorType))
        and (value.dtype is None or value.shape is None)
    )


def with_seen(model: ir.Model, runs: Sequence[tuple[Seen, Seen]]) -> ir.Model:
    """A copy that knows the types and shapes of the tensors that were read.

    An axis has a fixed size where all runs show the same, and no input has a dynamic axis of that
    size; elsewhere it is dynamic.

    Args:
        model: left as it is.
        runs: inputs and tensors read, array by name, of each run.
    """
    model = model.clone()
    dynamic = {
        inputs[str(value.name)].shape[axis]
        for inputs, _ in runs
        for value in model.graph.inputs
        if value.name in inputs and value.shape is not None
        for axis, size in enumerate(value.shape)
        if not isinstance(size, int)
    }
    for node in model.graph:
        for value in node.outputs:
            arrays = [read[str(value.name)] for _, read in runs if value.name in read]
            if arrays and len({array.ndim for array in arrays}) == 1:
                value.dtype = ir.DataType.from_numpy(arrays[0].dtype)
                value.shape = ir.Shape(_axis(sizes, dynamic) for sizes in _sizes(arrays))
    infer_shapes(model)
    return model


def _sizes(arrays: Sequence[Array]) -> list[tuple[int, ...]]:
    return list(zip(*(array.shape for array in arrays), strict=True))


def _axis(sizes: tuple[int, ...], dynamic: set[int]) -> int | None:
    return sizes[0] if len(set(sizes)) == 1 and sizes[0] not in dynamic else None
