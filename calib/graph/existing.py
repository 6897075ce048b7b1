"""Models that are quantized already: what is in them, and which tool put it there."""

from collections.abc import Iterable
from typing import Literal

import onnx_ir as ir

from calib.errors import ModelError
from calib.graph.selection_spec import WEIGHTED_OPS
from calib.graph.taps import LAYOUT_OPS

Existing = Literal["refuse", "keep"]

_PAIR_OPS = frozenset({"QuantizeLinear", "DequantizeLinear"})
_DYNAMIC_OPS = frozenset({"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"})
_INTEGER_OPS = frozenset(
    [
        "ConvInteger",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "QAttention",
        "QGemm",
        "QEmbedLayerNormalization",
    ]
)
_FIX = "Give the model as it was before quantization, or quantized with Q/DQ pairs (QDQ)."
_TOOLS = (
    # producer, part of a name, what it is
    ("onnx.quantize", "", "ONNX Runtime's quantizer"),
    ("onnxruntime.quant", "", "ONNX Runtime's quantizer"),
    ("onnx.neural_compressor", "", "Intel Neural Compressor"),
    ("neural", "", "Intel Neural Compressor"),
    ("modelopt", "", "NVIDIA ModelOpt"),
    ("quark", "", "AMD Quark"),
    ("vai_q", "", "Vitis AI's quantizer"),
    ("aimet", "", "Qualcomm AIMET"),
    ("tf2onnx", "", "TensorFlow's quantizer, through tf2onnx"),
    ("", "_quantizer/QuantizeLinear", "NVIDIA's pytorch-quantization or ModelOpt"),
    ("", "weight_quantizer", "NVIDIA's pytorch-quantization or ModelOpt"),
    ("", "fake_quant", "PyTorch's quantization-aware training"),
    ("", "_axis0_int8", "calib"),
    ("", "_axis1_int8", "calib"),
    ("", "_QuantizeLinear_Input", "ONNX Runtime's quantizer"),
    ("", "_quantized_scale", "ONNX Runtime's quantizer"),
    ("", "_quant_scale_mul", "ONNX Runtime's quantizer"),
    ("", "_quantized", "ONNX Runtime's quantizer"),
    ("", "_QuantizeLinear", "ONNX Runtime's quantizer"),
)
"""How tools are known: the producer says it, or the names that they give (the first that fits)."""


def refuse_quantized(model: ir.Model, existing: Existing, where: str) -> None:
    """Raise for a model that is quantized in a way that cannot be, or is not to be, kept.

    Raises:
        ModelError: integer operators (QLinearConv, MatMulInteger, …) or dynamic quantization; or
            any QuantizeLinear or DequantizeLinear, where they are not to be kept.
    """
    nodes = list(model.graph.all_nodes())
    dynamic = [node for node in nodes if node.op_type in _DYNAMIC_OPS]
    if dynamic:
        raise _refusal(
            model,
            dynamic,
            where,
            ("is quantized dynamically: its ranges are found anew in every run", _FIX),
        )
    integer = [n for n in nodes if n.op_type in _INTEGER_OPS or n.op_type.startswith("QLinear")]
    if integer:
        raise _refusal(model, integer, where, ("is already quantized, to integer operators", _FIX))
    pairs = [node for node in nodes if node.op_type in _PAIR_OPS]
    if pairs and existing == "refuse":
        fix = "Give the model as it was before, or set quantization.existing to keep."
        raise _refusal(model, pairs, where, ("is already quantized", fix))


def _refusal(
    model: ir.Model, nodes: list[ir.Node], where: str, words: tuple[str, str]
) -> ModelError:
    problem, fix = words
    first, tool = nodes[0], quantized_by(model, nodes)
    by = f"; made by {tool}" if tool else ""
    return ModelError(
        where,
        problem,
        got=f"{len(nodes)} quantization nodes, the first {first.op_type} {first.name}{by}",
        expected="a float model",
        fix=fix,
    )


def quantized_by(model: ir.Model, nodes: Iterable[ir.Node]) -> str:
    """The tool that quantized a model, by its producer or by the names it gave; '' if unknown."""
    producer = f"{model.producer_name or ''} {model.producer_version or ''}".lower()
    metadata = " ".join(f"{k} {v}" for k, v in model.metadata_props.items()).lower()
    names = [str(n.name) for n in nodes]
    names += [str(v.name) for n in nodes for v in (*n.inputs, *n.outputs) if v is not None]
    for made, part, tool in _TOOLS:
        by_producer = bool(made) and (made in producer or made in metadata)
        by_name = bool(part) and any(part in name for name in names)
        if by_producer or by_name:
            return tool
    return (model.producer_name or "").strip()


def dequantized(value: ir.Value | None) -> ir.Value | None:
    """The output of the DequantizeLinear that a tensor's values come from, laid out anew or not.

    None if there is no such node: then the tensor is not quantized.
    """
    while value is not None:
        producer = value.producer()
        if producer is None:
            return None
        if producer.op_type == "DequantizeLinear":
            return value
        if producer.op_type not in LAYOUT_OPS or not producer.inputs:
            return None
        value = producer.inputs[0]
    return None


def existing_pair(value: ir.Value) -> ir.Value | None:
    """The output of the DequantizeLinear of a QuantizeLinear that reads a tensor, if there is one.

    Only with one scale for the whole tensor, to eight bits.
    """
    for use in value.uses():
        if use.node.op_type != "QuantizeLinear" or use.idx != 0 or not _is_one_scale(use.node):
            continue
        for reader in use.node.outputs[0].uses():
            if reader.node.op_type == "DequantizeLinear" and reader.idx == 0:
                return reader.node.outputs[0]
    return None


def _is_one_scale(node: ir.Node) -> bool:
    scale = node.inputs[1].const_value if node.inputs[1] is not None else None
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    eight = zero is None or zero.dtype in (None, ir.DataType.INT8, ir.DataType.UINT8)
    return scale is not None and scale.size == 1 and eight


def kept_nodes(model: ir.Model) -> tuple[str, ...]:
    """Weighted nodes with an input that is quantized already."""
    return tuple(
        str(node.name)
        for node in model.graph
        if node.op_type in WEIGHTED_OPS and any(dequantized(v) for v in node.inputs[:2])
    )
