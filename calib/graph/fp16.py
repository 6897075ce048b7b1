"""A strongly typed FP16 graph with float32 inputs and outputs."""

from collections.abc import Iterable, Iterator

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from calib.graph.edit import add_constant, free_name
from calib.graph.opset import raised
from calib.graph.subgraphs import holds_graphs, outer_uses

FP16_MAX = 65504.0
QDQ_OPSET = 19
"""QuantizeLinear takes FP16 from here on."""

_FLOAT32_INPUTS = {"Resize": (1, 2), "Upsample": (1,), "Range": (0, 1, 2)}
_FLOAT32_OUTPUTS = frozenset({"Range"})


def to_fp16(model: ir.Model) -> tuple[ir.Model, tuple[str, ...]]:
    """A copy that computes in FP16, and warnings about constants that FP16 cannot hold.

    Inputs and outputs keep their float32 type behind Casts. Constants beyond ±65504 are clamped:
    a mask of -3.4e38 would become -inf, and softmax of a row of them NaN. What an operator
    demands in float32 (scales of Resize, Range) stays so, and so do the graphs inside If, Loop and
    Scan, with Casts around the node that holds them.

    Raises:
        ModelError: if it is quantized and cannot be raised to the opset that FP16 scales need.
    """
    model = model.clone()
    quantized = any(node.op_type == "QuantizeLinear" for node in model.graph)
    if quantized and model.opset_imports.get("", 0) < QDQ_OPSET:
        model = raised(model, QDQ_OPSET)
    _convert_casts(model)
    _isolate_graphs(model)
    warnings = tuple(_convert_constants(model))
    _cast_inputs(model)
    _isolate_float32(model)
    _cast_outputs(model)
    for node in model.graph:
        _retype(node)
    common.TopologicalSortPass()(model)
    common.RemoveUnusedNodesPass()(model)
    return model, warnings


def _isolate_graphs(model: ir.Model) -> None:
    """Casts around each If, Loop and Scan; of a constant that others read too, a copy."""
    for node in [node for node in model.graph if holds_graphs(node)]:
        read: dict[str, ir.Value] = {}
        for reader, index, value in list(outer_uses(node)):
            name = str(value.name)
            if name not in read:
                read[name] = _in_float32(model, value, node)
            reader.replace_input_with(index, read[name])
        for output in node.outputs:
            uses = [use for use in output.uses() if not _is_isolated(model, use.node)]
            if output.dtype is ir.DataType.FLOAT and uses:
                _cast_for(model, output, uses)


def _in_float32(model: ir.Model, value: ir.Value, node: ir.Node) -> ir.Value:
    """The value as the graphs inside a node read it."""
    producer = value.producer()
    is_float = value.dtype is ir.DataType.FLOAT
    if not is_float or value.is_graph_input() or (producer and holds_graphs(producer)):
        return value
    if value.const_value is None:
        name = free_name(model, f"{value.name}_fp32_for_{node.name}")
        return _cast(model, value, name, ir.DataType.FLOAT)
    if all(_is_isolated(model, use.node) for use in value.uses()):
        return value
    return add_constant(model, f"{value.name}_fp32", value.const_value.numpy())


def _is_isolated(model: ir.Model, node: ir.Node) -> bool:
    """Whether it stays in FP32, since it is inside another node or holds graphs itself."""
    return node.graph is not model.graph or holds_graphs(node)


def _cast_for(model: ir.Model, value: ir.Value, uses: Iterable[tuple[ir.Node, int]]) -> None:
    """Let these read a float32 value in FP16."""
    name = free_name(model, f"{value.name}_fp16")
    cast = _cast(model, value, name, ir.DataType.FLOAT16)
    for reader, index in uses:
        reader.replace_input_with(index, cast)


def _convert_constants(model: ir.Model) -> Iterator[str]:
    for name, value in list(model.graph.initializers.items()):
        if value.const_value is None or value.dtype != ir.DataType.FLOAT:
            continue
        if _wants_float32(model, value):
            continue
        array = value.const_value.numpy()
        largest = float(np.abs(array).max(initial=0.0))
        if largest > FP16_MAX:
            yield f"{name}: |{largest:.3g}| is beyond FP16's {FP16_MAX:g} and was clamped"
        half = np.clip(array, -FP16_MAX, FP16_MAX).astype(np.float16)
        if _is_scale(value) and (half == 0).any():
            yield f"{name}: a scale below FP16's smallest number was raised to it"
            half = np.maximum(half, np.finfo(np.float16).smallest_subnormal)
        value.const_value = ir.tensor(half, name=name)
        value.type = ir.TensorType(ir.DataType.FLOAT16)


def _wants_float32(model: ir.Model, value: ir.Value) -> bool:
    uses = list(value.uses())
    return bool(uses) and all(
        use.idx in _FLOAT32_INPUTS.get(use.node.op_type, ()) or _is_isolated(model, use.node)
        for use in uses
    )


def _is_scale(value: ir.Value) -> bool:
    return any(
        use.idx == 1 and use.node.op_type in ("QuantizeLinear", "DequantizeLinear")
        for use in value.uses()
    )


def _convert_casts(model: ir.Model) -> None:
    for node in model.graph:
        if node.op_type == "Cast" and node.attributes.get_int("to", 0) == ir.DataType.FLOAT:
            node.attributes.add(ir.AttrInt64("to", int(ir.DataType.FLOAT16)))
            node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT16)
        if node.op_type == "ConstantOfShape" and "value" in node.attributes:
            fill = node.attributes["value"].as_tensor()
            if fill.dtype == ir.DataType.FLOAT:
                half = np.clip(fill.numpy(), -FP16_MAX, FP16_MAX).astype(np.float16)
                node.attributes.add(ir.AttrTensor("value", ir.tensor(half)))


def _cast_inputs(model: ir.Model) -> None:
    for value in model.graph.inputs:
        if value.dtype == ir.DataType.FLOAT:
            uses = [use for use in value.uses() if not _is_isolated(model, use.node)]
            if uses:
                _cast_for(model, value, uses)


def _isolate_float32(model: ir.Model) -> None:
    """Casts around the inputs and outputs that an operator demands in float32."""
    for node in list(model.graph):
        for index in _FLOAT32_INPUTS.get(node.op_type, ()):
            value = node.inputs[index] if index < len(node.inputs) else None
            if value is not None and value.const_value is None and _is_float(value):
                name = free_name(model, f"{value.name}_fp32_for_{node.name}")
                node.replace_input_with(index, _cast(model, value, name, ir.DataType.FLOAT))
        if node.op_type in _FLOAT32_OUTPUTS and _is_float(node.outputs[0]):
            _cast_for(model, node.outputs[0], list(node.outputs[0].uses()))


def _cast_outputs(model: ir.Model) -> None:
    for index, value in enumerate(list(model.graph.outputs)):
        producer = value.producer()
        if value.dtype != ir.DataType.FLOAT or producer is None or holds_graphs(producer):
            continue
        name, inner = str(value.name), free_name(model, f"{value.name}_fp16")
        value.name = inner
        cast = _cast(model, value, name, ir.DataType.FLOAT)
        model.graph.outputs[index] = cast


def _cast(model: ir.Model, value: ir.Value, name: str, dtype: ir.DataType) -> ir.Value:
    node = ir.node("Cast", [value], {"to": int(dtype)}, name=free_name(model, f"{name}_Cast"))
    output = node.outputs[0]
    output.name, output.dtype, output.shape = name, dtype, value.shape
    model.graph.append(node)
    return output


def _retype(node: ir.Node) -> None:
    if node.op_type in _FLOAT32_OUTPUTS or node.op_type == "Cast" or holds_graphs(node):
        return
    for value in node.outputs:
        if value.dtype == ir.DataType.FLOAT:
            value.type = ir.TensorType(ir.DataType.FLOAT16)


def _is_float(value: ir.Value) -> bool:
    return value.dtype is None or value.dtype.is_floating_point()
