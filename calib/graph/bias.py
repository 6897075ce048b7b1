"""Adding a constant to a node's outputs, where its bias is if it has one."""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from calib.graph.edit import add_constant, add_node


def read_instead(old: ir.Value, new: ir.Value) -> None:
    """Everybody but `new`'s own node reads `new`, which takes over the name of `old`.

    So whatever is known of a tensor by its name stays true, and outputs keep their names.
    """
    own = new.producer()
    if own is None or own.graph is None:
        raise AssertionError("a node of the graph makes it")
    for use in list(old.uses()):
        if use.node is not own:
            use.node.replace_input_with(use.idx, new)
    name = old.name
    old.name, new.name = new.name, name
    if old.is_graph_output():
        own.graph.outputs[list(own.graph.outputs).index(old)] = new


def takes_bias(node: ir.Node) -> bool:
    """Whether `add_to_bias` can treat it: a bias that is computed cannot be added to."""
    third = node.inputs[2] if len(node.inputs) > 2 else None
    return third is None or third.const_value is not None


def add_to_bias(model: ir.Model, node: ir.Node, delta: NDArray[np.float64]) -> None:
    """Add a constant to every output channel: to the bias where there is one.

    Args:
        model: changed in place.
        node: a MatMul, Gemm or Conv.
        delta: float64 (outputs,).
    """
    if node.op_type in ("Conv", "Gemm"):
        _add_to_third_input(model, node, delta)
        return
    output = node.outputs[0]
    bias = _bias_add(output)
    if bias is not None:
        adding, index = bias
        constant = adding.inputs[index].const_value.numpy()  # type: ignore[union-attr]
        summed = (constant.astype(np.float64) + delta).astype(np.float32)
        adding.replace_input_with(index, add_constant(model, f"{adding.name}_bias", summed))
        return
    constant = add_constant(model, f"{node.name}_bias", delta.astype(np.float32))
    total = add_node(model, "Add", [output, constant], f"{node.name}_biased", like=output)
    read_instead(output, total)


def _add_to_third_input(model: ir.Model, node: ir.Node, delta: NDArray[np.float64]) -> None:
    old = node.inputs[2] if len(node.inputs) > 2 else None
    if old is not None and old.const_value is None:
        raise ValueError(f"{node.name}: its bias is computed")
    before = old.const_value.numpy().astype(np.float64) if old and old.const_value else 0.0
    summed = (before + delta).astype(np.float32)
    if len(node.inputs) < 3:
        node.resize_inputs(3)
    node.replace_input_with(2, add_constant(model, f"{node.name}_bias", summed))


def _bias_add(output: ir.Value) -> tuple[ir.Node, int] | None:
    """The Add of a constant vector that alone reads a MatMul's output, and the vector's index."""
    uses = list(output.uses())
    if len(uses) != 1 or uses[0].node.op_type != "Add" or output.is_graph_output():
        return None
    index = 1 - uses[0].idx
    other = uses[0].node.inputs[index]
    if other is None or other.const_value is None or len(other.const_value.shape) != 1:
        return None
    return uses[0].node, index
