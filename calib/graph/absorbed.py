"""What the rounding of a node's output does anyway."""

import onnx_ir as ir

_ABSORBED = frozenset(["Relu", "Clip"])
"""A grid that ends where they do clips as they do."""


def behind_absorbed(value: ir.Value) -> ir.Value:
    """The output of the Relu or Clip that alone reads a value, else the value."""
    uses = list(value.uses())
    if len(uses) != 1 or value.is_graph_output():
        return value
    reader = uses[0].node
    return reader.outputs[0] if reader.op_type in _ABSORBED and uses[0].idx == 0 else value
