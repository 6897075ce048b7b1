"""Models that cannot be calibrated, each with its reason, and oddities worth a warning."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir

from calib.errors import ModelError

_QUANTIZED = frozenset(
    [
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "QLinearConv",
        "QLinearMatMul",
        "ConvInteger",
        "MatMulInteger",
    ]
)
_WEIGHTED = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})
_LOW_PRECISION = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
_STANDARD_DOMAINS = frozenset({"", "ai.onnx"})


def refuse_uncalibratable(model: ir.Model, path: Path) -> None:
    """Raise for a model that INT8 calibration cannot be done on.

    Raises:
        ModelError: already quantized; training-mode Dropout or BatchNormalization; FP16 or BF16
            weights; weights that are not finite; no float weights.
    """
    where = str(path)
    nodes = list(model.graph.all_nodes())
    _refuse_quantized(nodes, where)
    _refuse_training_mode(nodes, where)
    _refuse_weights(model, nodes, where)


def _refuse_quantized(nodes: list[ir.Node], where: str) -> None:
    quantized = [node for node in nodes if node.op_type in _QUANTIZED]
    if quantized:
        first = quantized[0]
        raise ModelError(
            where,
            "is already quantized",
            got=f"{len(quantized)} quantization nodes, the first {first.op_type} {first.name}",
            expected="an FP32 model",
            fix="Give the model as it was before quantization.",
        )


def _refuse_training_mode(nodes: list[ir.Node], where: str) -> None:
    for node in nodes:
        batchnorm = node.op_type == "BatchNormalization" and (
            node.attributes.get_int("training_mode", 0) != 0 or len(node.outputs) > 1
        )
        dropout = node.op_type == "Dropout" and _is_true(node, 2)
        if batchnorm or dropout:
            raise ModelError(
                where,
                f"{node.op_type} {node.name} is in training mode",
                fix="Call model.eval() before the export.",
            )


def _is_true(node: ir.Node, index: int) -> bool:
    value = node.inputs[index] if len(node.inputs) > index else None
    constant = value.const_value if value is not None else None
    return constant is not None and bool(constant.numpy())


def _refuse_weights(model: ir.Model, nodes: list[ir.Node], where: str) -> None:
    low = [v for v in model.graph.initializers.values() if v.dtype in _LOW_PRECISION]
    if low:
        raise ModelError(
            where,
            "holds low-precision weights",
            got=f"{low[0].dtype} in {low[0].name}",
            expected="FP32",
            fix="Export the FP32 model; calib makes the FP16 one itself.",
        )
    weights = list(_weights(model.graph))
    if not weights:
        inner = [node for node in nodes if node.graph is not model.graph and list(_weights([node]))]
        raise ModelError(
            where,
            "has no float weights to quantize",
            got=f"{len(inner)} inside If, Loop or Scan, which stay in float" if inner else None,
            expected="a Conv, ConvTranspose, MatMul or Gemm with constant weights",
            fix="Export the branch that is used as a model of its own." if inner else None,
        )
    for value in weights:
        if value.const_value is not None and not np.isfinite(value.const_value.numpy()).all():
            raise ModelError(where, f"weight {value.name} holds NaN or infinity")


def _weights(nodes: Iterable[ir.Node]) -> Iterator[ir.Value]:
    for node in nodes:
        if node.op_type in _WEIGHTED:
            yield from (v for v in node.inputs[:2] if v is not None and v.const_value is not None)


def warnings_of(model: ir.Model) -> tuple[str, ...]:
    """What is allowed but looks wrong, a sentence each."""
    return (*_graph_warnings(model), *_weight_warnings(model))


def _graph_warnings(model: ir.Model) -> Iterator[str]:
    for value in model.graph.inputs:
        if not value.uses():
            yield f"input {value.name} is not used"
    custom = sorted({n.domain for n in model.graph.all_nodes()} - _STANDARD_DOMAINS)
    if custom:
        yield f"operators of {', '.join(custom)}: TensorRT refuses them without a plugin"
    doubles = [v for v in model.graph.initializers.values() if v.dtype == ir.DataType.DOUBLE]
    if doubles:
        yield f"{len(doubles)} float64 tensors, the first {doubles[0].name}: TensorRT narrows them"


def _weight_warnings(model: ir.Model) -> Iterator[str]:
    for node in model.graph.all_nodes():
        weight = node.inputs[1] if node.op_type == "Conv" and len(node.inputs) > 1 else None
        if weight is None or weight.const_value is None:
            continue
        array = weight.const_value.numpy()
        dead = int((np.abs(array).reshape(array.shape[0], -1).max(axis=1) == 0).sum())
        if dead:
            yield f"weight {weight.name}: {dead} of {array.shape[0]} output channels are all zero"
