"""A strongly typed FP16 graph with float32 inputs and outputs."""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from calib.graph.edit import add_cast, add_constant, free_name
from calib.graph.float32_parts import Float32Parts, float32_parts
from calib.graph.opset import raised

FP16_MAX = 65504.0
QDQ_OPSET = 19
"""QuantizeLinear takes FP16 from here on."""

Parts = Mapping[ir.Node, Float32Parts]
Reader = tuple[ir.Node, int]
_NONE = Float32Parts()
_FLOAT32 = ir.DataType.FLOAT


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
    parts = float32_parts(model)
    outputs = [value for node in model.graph for value in node.outputs if _is_float32(value)]
    shown = [index for index, value in enumerate(model.graph.outputs) if _is_float32(value)]
    _convert_attributes(model, parts)
    warnings = tuple(_convert_constants(model, parts))
    for value in model.graph.inputs:
        if _is_float32(value):
            _cast_for(model, value, _readers(model, value, parts)[1], ir.DataType.FLOAT16)
    for value in outputs:
        _convert_output(model, value, parts)
    _cast_graph_outputs(model, shown)
    common.TopologicalSortPass()(model)
    common.RemoveUnusedNodesPass()(model)
    return model, warnings


def _readers(model: ir.Model, value: ir.Value, parts: Parts) -> tuple[list[Reader], list[Reader]]:
    """Those that read a value in float32, also inside other graphs, and those that do in FP16."""
    readers: tuple[list[Reader], list[Reader]] = ([], [])
    for node, index in value.uses():
        wide = node.graph is not model.graph or index in parts.get(node, _NONE).inputs
        readers[not wide].append((node, index))
    return readers


def _convert_attributes(model: ir.Model, parts: Parts) -> None:
    for node in model.graph:
        if node in parts:
            continue
        if node.op_type == "Cast" and node.attributes.get_int("to", 0) == ir.DataType.FLOAT:
            node.attributes.add(ir.AttrInt64("to", int(ir.DataType.FLOAT16)))
        if node.op_type == "ConstantOfShape" and node.outputs[0].dtype in (None, _FLOAT32):
            fill = node.attributes.get("value")
            array = np.zeros(1, np.float32) if fill is None else fill.as_tensor().numpy()
            if array.dtype == np.float32:
                half = np.clip(array, -FP16_MAX, FP16_MAX).astype(np.float16)
                node.attributes.add(ir.AttrTensor("value", ir.tensor(half)))


def _convert_constants(model: ir.Model, parts: Parts) -> Iterator[str]:
    for name, value in list(model.graph.initializers.items()):
        if value.const_value is None or not _is_float32(value):
            continue
        wide, half = _readers(model, value, parts)
        if not half:
            continue
        array = value.const_value.numpy()
        largest = float(np.abs(array).max(initial=0.0))
        if largest > FP16_MAX:
            yield f"{name}: |{largest:.3g}| is beyond FP16's {FP16_MAX:g} and was clamped"
        rounded = np.clip(array, -FP16_MAX, FP16_MAX).astype(np.float16)
        if _is_scale(value) and (rounded == 0).any():
            yield f"{name}: a scale below FP16's smallest number was raised to it"
            rounded = np.maximum(rounded, np.finfo(np.float16).smallest_subnormal)
        if wide or value.is_graph_output():
            _read_instead(half, add_constant(model, f"{name}_fp16", rounded))
        else:
            value.const_value = ir.tensor(rounded, name=name)
            value.type = ir.TensorType(ir.DataType.FLOAT16)


def _is_scale(value: ir.Value) -> bool:
    return any(
        use.idx == 1 and use.node.op_type in ("QuantizeLinear", "DequantizeLinear")
        for use in value.uses()
    )


def _convert_output(model: ir.Model, value: ir.Value, parts: Parts) -> None:
    """Let a node's float output be FP16 if it can, and everybody read it as they must."""
    producer, index = value.producer(), value.index()
    if producer is None or index is None:
        raise AssertionError("a node makes it")
    wide, half = _readers(model, value, parts)
    if index in parts.get(producer, _NONE).outputs:
        _cast_for(model, value, half, ir.DataType.FLOAT16)
    else:
        value.type = ir.TensorType(ir.DataType.FLOAT16)
        _cast_for(model, value, wide, ir.DataType.FLOAT)


def _cast_for(
    model: ir.Model, value: ir.Value, readers: Iterable[Reader], dtype: ir.DataType
) -> None:
    """Let these read a value in another type."""
    if readers:
        suffix = "fp16" if dtype is ir.DataType.FLOAT16 else "fp32"
        name = free_name(model, f"{value.name}_{suffix}")
        _read_instead(readers, add_cast(model, value, name, dtype))


def _read_instead(readers: Iterable[Reader], value: ir.Value) -> None:
    for node, index in readers:
        node.replace_input_with(index, value)


def _cast_graph_outputs(model: ir.Model, outputs: Iterable[int]) -> None:
    """Give these outputs of the model, by index, the float32 that they had."""
    for index in outputs:
        value = model.graph.outputs[index]
        producer = value.producer()
        if producer is None or _is_float32(value):
            continue
        name, inner = str(value.name), free_name(model, f"{value.name}_fp16")
        value.name = inner
        model.graph.outputs[index] = add_cast(model, value, name, ir.DataType.FLOAT)


def _is_float32(value: ir.Value) -> bool:
    return isinstance(value.type, ir.TensorType) and value.dtype is _FLOAT32
