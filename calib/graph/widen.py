"""An FP32 copy of a model that computes in FP16 or BF16: what INT8 is made from."""

from collections.abc import Iterable, Iterator

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from calib.graph.edit import add_cast, free_name
from calib.graph.selection_spec import WEIGHTED_OPS
from calib.results import ModelPrecision

_NAMES = {
    ir.DataType.FLOAT: ModelPrecision.FP32,
    ir.DataType.FLOAT16: ModelPrecision.FP16,
    ir.DataType.BFLOAT16: ModelPrecision.BF16,
}
LOW_PRECISION = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype")
"""Integers that name the type of an output: of Cast, RandomNormal, EyeLike, DequantizeLinear."""


def model_precision(model: ir.Model) -> ModelPrecision:
    """What the weighted operators compute in; of a model without any, what its tensors are."""
    values = [v for node in model.graph.all_nodes() for v in (*node.inputs, *node.outputs)]
    known = [v for v in values if v is not None and v.dtype in _NAMES]
    if not any(v.dtype in LOW_PRECISION for v in known):
        return ModelPrecision.FP32
    weighted: list[ir.DataType | None] = [
        value.dtype
        for node in model.graph.all_nodes()
        if node.op_type in WEIGHTED_OPS
        for value in node.inputs[:2]
        if value is not None and value.dtype in _NAMES
    ]
    dtypes = weighted or [value.dtype for value in known]
    found = {_NAMES[dtype] for dtype in dtypes if dtype is not None}
    return found.pop() if len(found) == 1 else ModelPrecision.MIXED


def widened(model: ir.Model) -> ir.Model:
    """A copy in which every FP16 or BF16 tensor is FP32, by exact casts of its constants.

    Inputs and outputs keep their names and types, behind Casts. Casts between the types go.
    """
    model = model.clone()
    ends = {value: value.dtype for value in (*model.graph.inputs, *model.graph.outputs)}
    for graph in model.graphs():
        for value in _values(graph):
            if value.dtype in LOW_PRECISION:
                _widen(value)
    for node in model.graph.all_nodes():
        _widen_attributes(node)
    for value in model.graph.inputs:
        _cast_input(model, value, ends[value])
    for index, value in enumerate(list(model.graph.outputs)):
        _cast_output(model, index, value, ends[value])
    _drop_casts(model)
    common.TopologicalSortPass()(model)
    common.RemoveUnusedNodesPass()(model)
    return model


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from node.outputs


def _widen(value: ir.Value) -> None:
    if value.const_value is not None:
        value.const_value = ir.tensor(_float32(value.const_value), name=value.name)
    value.dtype = ir.DataType.FLOAT


def _float32(tensor: ir.TensorProtocol) -> np.ndarray:
    return np.asarray(tensor.numpy()).astype(np.float32)


def _widen_attributes(node: ir.Node) -> None:
    # What a quantized tensor is read as follows its scale; a stored type must not contradict it.
    for name in TYPE_ATTRIBUTES:
        if node.attributes.get_int(name, 0) in {int(kind) for kind in LOW_PRECISION}:
            node.attributes.add(ir.AttrInt64(name, int(ir.DataType.FLOAT)))
    for attribute in list(node.attributes.values()):
        if attribute.type is ir.AttributeType.TENSOR:
            tensor = attribute.as_tensor()
            if tensor.dtype in LOW_PRECISION:
                node.attributes.add(ir.AttrTensor(attribute.name, ir.tensor(_float32(tensor))))


def _cast_input(model: ir.Model, value: ir.Value, dtype: ir.DataType | None) -> None:
    if dtype not in LOW_PRECISION:
        return
    uses = list(value.uses())
    name = free_name(model, f"{value.name}_fp32")
    cast = add_cast(model, value, name, ir.DataType.FLOAT)
    value.dtype = dtype
    for use in uses:
        use.node.replace_input_with(use.idx, cast)


def _cast_output(model: ir.Model, index: int, value: ir.Value, dtype: ir.DataType | None) -> None:
    if dtype not in LOW_PRECISION or value.is_graph_input():
        return
    name = str(value.name)
    value.name = free_name(model, f"{name}_fp32")
    if value.is_initializer():
        model.graph.initializers.pop(name)
        model.graph.initializers.add(value)
    model.graph.outputs[index] = add_cast(model, value, name, dtype)


def _drop_casts(model: ir.Model) -> None:
    """Without Casts from FP32 to FP32, but for those that make an output."""
    kept: Iterable[ir.Node] = list(model.graph.all_nodes())
    for node in kept:
        if node.op_type != "Cast" or node.graph is None:
            continue
        source, output = node.inputs[0], node.outputs[0]
        if source is None or source.dtype is not ir.DataType.FLOAT or output.is_graph_output():
            continue
        if node.attributes.get_int("to", 0) == ir.DataType.FLOAT:
            output.replace_all_uses_with(source)
            node.graph.remove(node, safe=True)
