"""Models that cannot be calibrated, each with its reason, and oddities worth a warning."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir

from calib.errors import ModelError
from calib.graph.existing import Existing, dequantized, kept_nodes, refuse_quantized
from calib.graph.left_alone import STANDARD_DOMAINS, type_name

_WEIGHTED = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})


def refuse_uncalibratable(model: ir.Model, path: Path, existing: Existing) -> None:
    """Raise for a model that INT8 calibration cannot be done on.

    Raises:
        ModelError: quantized in a way that is not kept; training-mode Dropout or
            BatchNormalization; weights that are not finite; no float weights.
    """
    where = str(path)
    nodes = list(model.graph.all_nodes())
    refuse_quantized(model, existing, where)
    _refuse_training_mode(nodes, where)
    _refuse_weights(model, where)


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


def _refuse_weights(model: ir.Model, where: str) -> None:
    weights = _weights(model.graph)
    operands = _operands(model.graph)
    if not weights and not any(dequantized(value) is not None for value in operands):
        inner = [n for n in model.graph.all_nodes() if n.graph is not model.graph and _weights([n])]
        raise ModelError(
            where,
            "has no float weights to quantize",
            got=f"{len(inner)} inside If, Loop or Scan, which stay in float" if inner else None,
            expected="a Conv, ConvTranspose, MatMul or Gemm with constant weights",
            fix="Export the branch that is used as a model of its own." if inner else None,
        )
    if not any(value.dtype is ir.DataType.FLOAT for value in (weights or operands)):
        raise ModelError(
            where,
            "has no float32 weights to quantize",
            got=f"{type_name(weights[0].dtype)} in {weights[0].name}",
            fix="Export the model in float32.",
        )
    for value in weights:
        if value.const_value is not None and not np.isfinite(value.const_value.numpy()).all():
            raise ModelError(where, f"weight {value.name} holds NaN or infinity")


def _weights(nodes: Iterable[ir.Node]) -> list[ir.Value]:
    return [value for value in _operands(nodes) if value.const_value is not None]


def _operands(nodes: Iterable[ir.Node]) -> list[ir.Value]:
    return [
        value
        for node in nodes
        if node.op_type in _WEIGHTED and node.domain in STANDARD_DOMAINS
        for value in node.inputs[:2]
        if value is not None
    ]


def warnings_of(model: ir.Model) -> tuple[str, ...]:
    """What is allowed but looks wrong, a sentence each."""
    return (*_graph_warnings(model), *_weight_warnings(model))


def _graph_warnings(model: ir.Model) -> Iterator[str]:
    for value in model.graph.inputs:
        if not value.uses():
            yield f"input {value.name} is not used"
    kept = kept_nodes(model)
    if kept:
        yield f"{len(kept)} nodes, the first {kept[0]}, keep the quantization that the model has"
    custom = sorted({n.domain for n in model.graph.all_nodes()} - STANDARD_DOMAINS)
    if custom:
        yield f"operators of {', '.join(custom)}: TensorRT refuses them without a plugin"
    doubles = [v for v in model.graph.initializers.values() if v.dtype == ir.DataType.DOUBLE]
    if doubles:
        first = doubles[0].name
        yield f"{len(doubles)} float64 tensors, the first {first}, stay so: TensorRT narrows them"


def _weight_warnings(model: ir.Model) -> Iterator[str]:
    for node in model.graph.all_nodes():
        weight = node.inputs[1] if node.op_type == "Conv" and len(node.inputs) > 1 else None
        if weight is None or weight.const_value is None:
            continue
        array = weight.const_value.numpy()
        dead = int((np.abs(array).reshape(array.shape[0], -1).max(axis=1) == 0).sum())
        if dead:
            yield f"weight {weight.name}: {dead} of {array.shape[0]} output channels are all zero"
