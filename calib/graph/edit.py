"""Adding to a graph."""

import numpy as np
import onnx_ir as ir

from data_loaders.types import Array


def add_constant(model: ir.Model, name: str, array: Array) -> ir.Value:
    """A new initializer."""
    tensor = ir.tensor(np.asarray(array), name=name)
    value = ir.val(name, tensor.dtype, ir.Shape(array.shape), const_value=tensor)
    model.graph.register_initializer(value)
    return value
