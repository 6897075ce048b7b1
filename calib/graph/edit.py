"""Adding to a graph."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from data_loaders.types import Array


def add_constant(model: ir.Model, name: str, array: Array) -> ir.Value:
    """A new initializer; its name is `name`, or like it where that is taken."""
    name = _free(model, name, frozenset())
    tensor = ir.tensor(np.asarray(array), name=name)
    value = ir.val(name, tensor.dtype, ir.Shape(array.shape), const_value=tensor)
    model.graph.register_initializer(value)
    return value


def _free(model: ir.Model, name: str, taken: Collection[str | None]) -> str:
    number, found = 2, name
    while found in taken or found in model.graph.initializers:
        found, number = f"{name}_{number}", number + 1
    return found


def _names(model: ir.Model) -> frozenset[str | None]:
    """Those of the inputs, of the nodes and of their outputs."""
    values = [*model.graph.inputs, *(out for node in model.graph for out in node.outputs)]
    return frozenset(value.name for value in values) | {node.name for node in model.graph}


def add_node(
    model: ir.Model,
    op_type: str,
    inputs: Sequence[ir.Value],
    name: str,
    attributes: Mapping[str, int] | None = None,
    like: ir.Value | None = None,
) -> ir.Value:
    """The output of a new node at the graph's end; sort the graph when all is added.

    Args:
        model: changed in place.
        op_type: of the ONNX domain.
        inputs: in their order.
        name: of the node and of its output; like it where that is taken.
        attributes: integers.
        like: a value of the same type and shape.
    """
    name = _free(model, name, _names(model))
    node = ir.node(op_type, inputs, dict(attributes or {}), name=name)
    output = node.outputs[0]
    output.name = name
    if like is not None:
        output.type, output.shape = like.type, like.shape
    model.graph.append(node)
    return output
