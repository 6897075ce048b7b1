"""The last hidden tensor: what the head of a model reads."""

from dataclasses import dataclass

import onnx_ir as ir

from calib.graph.selection_spec import WEIGHTED_OPS


@dataclass(frozen=True, slots=True)
class Hidden:
    """A tensor in which alike samples lie close to each other.

    Attributes:
        tensor: its name.
        axis: of its features; the other axes are positions, and the batch.
    """

    tensor: str
    axis: int


def last_hidden(model: ir.Model, output: str) -> Hidden:
    """The activation that the last operator with weights before an output reads.

    The output itself where there is none. Of several paths back, the shortest counts.
    """
    found = {str(value.name): value for value in model.graph.outputs}
    queue = [found[output]]
    seen: set[ir.Node] = set()
    while queue:
        node = queue.pop(0).producer()
        if node is None or node in seen:
            continue
        seen.add(node)
        own = [value for value in node.inputs if value is not None and value.const_value is None]
        if node.op_type in WEIGHTED_OPS and own and own[0] is node.inputs[0] and _has_weight(node):
            return Hidden(str(own[0].name), 1 if node.op_type.startswith("Conv") else -1)
        queue.extend(own)
    return Hidden(output, -1)


def _has_weight(node: ir.Node) -> bool:
    """Whether its second input is known: a constant, or one that is dequantized."""
    weight = node.inputs[1]
    if weight is None:
        return False
    producer = weight.producer()
    if producer is not None and producer.op_type == "DequantizeLinear" and producer.inputs[0]:
        weight = producer.inputs[0]
    return weight.const_value is not None
