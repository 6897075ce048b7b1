"""The same grid in unsigned integers, which x86 processors multiply fastest."""

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from calib.graph.edit import add_constant

_ZERO = 128
"""int8 q and uint8 q + 128 stand for the same value, and clip at the same two."""


def with_unsigned_activations(model: ir.Model) -> ir.Model:
    """A copy whose activations are uint8 with zero point 128 in place of int8 with 0.

    Every value that was representable is, and no other: the model computes the same. ONNX Runtime
    has integer kernels for uint8 activations where it runs int8 ones in float.

    Args:
        model: with QuantizeLinear/DequantizeLinear pairs; weights stay int8.
    """
    model = model.clone()
    zeros: dict[str, ir.Value] = {}
    for node in model.graph:
        if node.op_type == "QuantizeLinear" and _is_symmetric_int8(node):
            _make_unsigned(model, node, zeros)
    common.RemoveUnusedNodesPass()(model)
    return model


def _is_symmetric_int8(node: ir.Node) -> bool:
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    if zero is None or zero.const_value is None or zero.dtype is not ir.DataType.INT8:
        return False
    array = zero.const_value.numpy()
    return array.size == 1 and not array.any()


def _make_unsigned(model: ir.Model, node: ir.Node, zeros: dict[str, ir.Value]) -> None:
    """Change a quantizer and what reads it, if all that reads it is a DequantizeLinear."""
    output = node.outputs[0]
    readers = [use.node for use in output.uses()]
    if output.is_graph_output() or any(r.op_type != "DequantizeLinear" for r in readers):
        return
    name = str(node.inputs[2].name)  # type: ignore[union-attr]
    if name not in zeros:
        zeros[name] = add_constant(model, f"{name}_uint8", np.array(_ZERO, dtype=np.uint8))
    output.type = ir.TensorType(ir.DataType.UINT8)
    for reader in (node, *readers):
        reader.replace_input_with(2, zeros[name])
