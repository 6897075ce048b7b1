"""Folding constants into weights: exact before quantization, and what runtimes do anyway."""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from calib.graph.taps import LAYOUT_OPS
from data_loaders.types import Array

_FOLDED_OPS = LAYOUT_OPS | {"Cast"}


def fold_weight_layouts(model: ir.Model) -> ir.Model:
    """Replace Transpose, Reshape, Cast and the like of an initializer by what they make of it.

    Exporters write `MatMul(x, Transpose(W))`, or store W in FP16 behind a Cast; a weight has to be
    a constant to be quantized per channel. Each such node is evaluated with the ONNX reference
    implementation. Initializers that nobody reads any more are left out.
    """
    model = model.clone()
    for node in list(model.graph):
        constants = [v.const_value if v is not None else None for v in node.inputs]
        if node.op_type in _FOLDED_OPS and constants and all(c is not None for c in constants):
            if node.outputs[0].is_graph_output():
                continue
            arrays = [c.numpy() for c in constants if c is not None]
            read = [value for value in node.inputs if value is not None]
            _replace_by_initializer(model, node, _evaluate(model, node, arrays))
            _drop_unread(model, read)
    return model


def _drop_unread(model: ir.Model, values: list[ir.Value]) -> None:
    for value in values:
        if not value.uses() and not value.is_graph_output():
            model.graph.initializers.pop(str(value.name), None)


def _evaluate(model: ir.Model, node: ir.Node, arrays: list[Array]) -> Array:
    inputs = [
        ir.val(f"x{i}", ir.DataType.from_numpy(a.dtype), a.shape) for i, a in enumerate(arrays)
    ]
    twin = ir.Node(node.domain, node.op_type, inputs, list(node.attributes.values()))
    twin.outputs[0].name = "y"
    twin.outputs[0].dtype = ir.DataType.from_numpy(arrays[0].dtype)
    graph = ir.Graph(
        inputs, twin.outputs, nodes=[twin], opset_imports=dict(model.opset_imports), name="one"
    )
    proto = ir.to_proto(ir.Model(graph, ir_version=model.ir_version))
    feeds = {f"x{i}": a for i, a in enumerate(arrays)}
    (result,) = ReferenceEvaluator(proto).run(None, feeds)
    return np.asarray(result)


def _replace_by_initializer(model: ir.Model, node: ir.Node, array: Array) -> None:
    old = node.outputs[0]
    name = str(old.name)
    fresh = _initializer(name, array)
    old.replace_all_uses_with(fresh)
    model.graph.remove(node, safe=True)
    model.graph.register_initializer(fresh)


def _initializer(name: str, array: Array) -> ir.Value:
    tensor = ir.tensor(np.asarray(array, order="C"), name=name)
    return ir.val(name, tensor.dtype, ir.Shape(array.shape), const_value=tensor)


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
    folded = _initializer(f"{name}_weight", (weight * gain.reshape(shape)).astype(np.float32))
    shifted = _initializer(f"{name}_bias", ((bias - mean) * gain + beta).astype(np.float32))
    for value in (folded, shifted):
        model.graph.register_initializer(value)
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
