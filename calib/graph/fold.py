"""Folding BatchNormalization: exact before quantization, and what runtimes do anyway."""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from calib.graph.edit import add_constant


def fold_batchnorm(model: ir.Model) -> ir.Model:
    """Fold inference BatchNormalization into the Conv or ConvTranspose before it.

    W' = W·g and b' = (b - mean)·g + beta with g = gamma / sqrt(var + epsilon), computed in float64
    and rounded once. Only where nothing else reads the convolution's output. The folded node's
    output takes the name of the BatchNormalization's, so tensors keep their names.
    """
    model = model.clone()
    for node in list(model.graph):
        if node.op_type == "BatchNormalization" and _foldable(node):
            _fold(model, node)
    return model


def _foldable(norm: ir.Node) -> bool:
    convolution = norm.inputs[0].producer() if norm.inputs[0] is not None else None
    if convolution is None or convolution.op_type not in ("Conv", "ConvTranspose"):
        return False
    output = convolution.outputs[0]
    constants = [*norm.inputs[1:], *convolution.inputs[1:]]
    grouped_transpose = (
        convolution.op_type == "ConvTranspose" and convolution.attributes.get_int("group", 1) > 1
    )
    return (
        len(output.uses()) == 1
        and not output.is_graph_output()
        and not grouped_transpose
        and all(v is None or v.const_value is not None for v in constants)
    )


def _fold(model: ir.Model, norm: ir.Node) -> None:
    source = norm.inputs[0]
    convolution = source.producer() if source is not None else None
    if convolution is None:
        raise AssertionError("checked by _foldable")
    gamma, beta, mean, variance = (_float64(value) for value in norm.inputs[1:5])
    gain = gamma / np.sqrt(variance + norm.attributes.get_float("epsilon", 1e-5))
    weight = _float64(convolution.inputs[1])
    axis = 0 if convolution.op_type == "Conv" else 1
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    has_bias = len(convolution.inputs) > 2 and convolution.inputs[2] is not None
    bias = _float64(convolution.inputs[2]) if has_bias else np.zeros_like(mean)

    name = str(norm.outputs[0].name)
    kind = np.float64 if norm.outputs[0].dtype is ir.DataType.DOUBLE else np.float32
    folded = add_constant(model, f"{name}_weight", (weight * gain.reshape(shape)).astype(kind))
    shifted = add_constant(model, f"{name}_bias", ((bias - mean) * gain + beta).astype(kind))
    convolution.resize_inputs(3)
    convolution.replace_input_with(1, folded)
    convolution.replace_input_with(2, shifted)
    _take_over_output(model, norm, convolution)


def _take_over_output(model: ir.Model, norm: ir.Node, convolution: ir.Node) -> None:
    """Remove `norm`; `convolution` makes its output, under its name."""
    old, new = norm.outputs[0], convolution.outputs[0]
    name, shape, kind = old.name, old.shape, old.type
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    model.graph.remove(norm, safe=True)
    old.name = None
    new.name, new.shape, new.type = name, shape, kind


def _float64(value: ir.Value | None) -> NDArray[np.float64]:
    if value is None or value.const_value is None:
        raise AssertionError("checked by _foldable")
    return value.const_value.numpy().astype(np.float64)
