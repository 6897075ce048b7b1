"""Adding to a graph, under names that nothing in it has."""

from collections.abc import Iterator, Mapping, Sequence
from weakref import WeakKeyDictionary

import numpy as np
import onnx_ir as ir

from calib.graph.subgraphs import inner_graphs
from data_loaders.types import Array

_TAKEN: WeakKeyDictionary[ir.Model, set[str]] = WeakKeyDictionary()


def free_name(model: ir.Model, wanted: str) -> str:
    """`wanted`, or a name like it where a tensor or a node of any graph of the model has it.

    It is taken from then on.
    """
    taken = _TAKEN.get(model)
    if taken is None:
        taken = _TAKEN[model] = set(_names(model.graph))
    number, found = 2, wanted
    while found in taken:
        found, number = f"{wanted}_{number}", number + 1
    taken.add(found)
    return found


def _names(graph: ir.Graph) -> Iterator[str]:
    """Those of inputs, initializers, nodes and their outputs, subgraphs included."""
    for value in (*graph.inputs, *graph.initializers.values()):
        yield str(value.name)
    for node in graph:
        yield str(node.name)
        yield from (str(output.name) for output in node.outputs)
        for inner in inner_graphs(node):
            yield from _names(inner)


def add_constant(model: ir.Model, name: str, array: Array) -> ir.Value:
    """A new initializer; its name is `name`, or like it where that is taken."""
    name = free_name(model, name)
    tensor = ir.tensor(np.asarray(array), name=name)
    value = ir.val(name, tensor.dtype, ir.Shape(array.shape), const_value=tensor)
    model.graph.register_initializer(value)
    return value


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
    name = free_name(model, name)
    node = ir.node(op_type, inputs, dict(attributes or {}), name=name)
    output = node.outputs[0]
    output.name = name
    if like is not None:
        output.type, output.shape = like.type, like.shape
    model.graph.append(node)
    return output


def add_cast(model: ir.Model, value: ir.Value, name: str, dtype: ir.DataType) -> ir.Value:
    """The output of a new Cast at the graph's end.

    Args:
        model: changed in place.
        value: what is cast.
        name: of the output; nothing in the model may have it but what is renamed for it.
        dtype: of the output.
    """
    node = ir.node("Cast", [value], {"to": int(dtype)}, name=free_name(model, f"{name}_Cast"))
    output = node.outputs[0]
    output.name, output.dtype, output.shape = name, dtype, value.shape
    model.graph.append(node)
    return output
