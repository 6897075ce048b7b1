"""A reason for every float tensor that does not become INT8."""

from collections.abc import Iterator, Mapping

import onnx_ir as ir

from calib.graph.existing import dequantized
from calib.graph.selection_spec import WEIGHTED_OPS
from calib.graph.subgraphs import inner_nodes
from calib.results import LeftAloneRecord

STANDARD_DOMAINS = frozenset({"", "ai.onnx"})
_ONLY_SO = "stays in high precision"
_GENERAL = "stay in high precision"
_BIASED_OPS = ("Conv", "ConvTranspose", "MatMul", "Gemm", "Add")
_RECURRENT_OPS = frozenset({"GRU", "LSTM", "RNN"})
_EIGHT_BITS = frozenset({ir.DataType.INT8, ir.DataType.UINT8})
_NAMES: dict[ir.DataType | None, str] = {
    ir.DataType.DOUBLE: "float64",
    ir.DataType.FLOAT: "float32",
}
_OTHER_FORMS = {
    "Einsum": "Einsum is not quantized: no runtime fuses Q/DQ into it; write it as a MatMul",
    "Attention": "Attention is one operator: what is between its MatMuls cannot be quantized",
    "DeformConv": "DeformConv is not quantized: no runtime has it in INT8",
}


def type_name(dtype: ir.DataType | None) -> str:
    """As numpy calls it."""
    return _NAMES.get(dtype, str(dtype).lower())


def why_never(node: ir.Node) -> str | None:
    """Why no setting makes a node INT8; None if one may."""
    if node.domain not in STANDARD_DOMAINS:
        return f"{node.op_type} of {node.domain}: what it does with INT8 is not known"
    if node.op_type in _RECURRENT_OPS:
        return f"{node.op_type} is recurrent: the errors of rounding add up from step to step"
    if node.op_type in _OTHER_FORMS:
        return _OTHER_FORMS[node.op_type]
    if node.op_type not in (*WEIGHTED_OPS, "Add"):
        return None
    operands = node.inputs[:2]
    if len(operands) < 2 or any(value is None for value in operands):
        return f"{node.op_type} with an input left out"
    other = {
        v.dtype for v in operands if v is not None and v.dtype not in (None, ir.DataType.FLOAT)
    }
    if other and node.op_type != "Add":
        names = ", ".join(sorted(map(type_name, other)))
        return f"{node.op_type} on {names}: INT8 stands for float32 only"
    return _why_never_operands(node)


def _why_never_operands(node: ir.Node) -> str | None:
    first, second = node.inputs[:2]
    for value in (first, second):
        source = dequantized(value)
        maker = source.producer() if source is not None else None
        stored = maker.inputs[0].dtype if maker is not None and maker.inputs[0] else None
        if stored is not None and stored not in _EIGHT_BITS:
            return f"{node.op_type} is kept as the model quantizes it, to {type_name(stored)}"
    if node.op_type in ("Conv", "ConvTranspose") and _is_computed(second):
        return f"{node.op_type} whose kernel is computed at run time: it has no fixed scales"
    vectors = [v for v in (first, second) if v is not None and v.shape is not None]
    if node.op_type == "MatMul" and any(len(v.shape) < 2 for v in vectors if v.shape is not None):
        return "MatMul with a vector: one output channel, INT8 would not pay"
    return None


def _is_computed(value: ir.Value | None) -> bool:
    return value is not None and value.const_value is None and dequantized(value) is None


def left_alone(
    model: ir.Model, chosen: set[str], kept: Mapping[str, str | None]
) -> tuple[LeftAloneRecord, ...]:
    """What stays in float, inputs and constants first, then in graph order.

    Args:
        model: the float model.
        chosen: tensors that become INT8.
        kept: by node of the main graph, why it stays in float; None where it does not.
    """
    found: list[LeftAloneRecord] = []
    for value in [*model.graph.inputs, *model.graph.initializers.values()]:
        found += _record(model, value, chosen, kept)
    for node in model.graph:
        for value in node.outputs:
            found += _record(model, value, chosen, kept)
        found += _inside(node)
    return tuple(found)


def _inside(node: ir.Node) -> Iterator[LeftAloneRecord]:
    """What is made in a node's graphs."""
    for inner in inner_nodes(node):
        for value in inner.outputs:
            if _is_float(value) and value.name:
                yield LeftAloneRecord(
                    tensor=value.name,
                    node=str(inner.name),
                    op_type=inner.op_type,
                    reason=f"inside {node.op_type} {node.name}, whose graphs {_GENERAL}",
                )


def _is_float(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_floating_point()


def _record(
    model: ir.Model, value: ir.Value, chosen: set[str], kept: Mapping[str, str | None]
) -> Iterator[LeftAloneRecord]:
    if not _is_float(value) or not value.name or value.name in chosen or _is_quantized(value):
        return
    producer = value.producer()
    uses = list(value.uses())
    node = producer or (uses[0].node if uses else None)
    yield LeftAloneRecord(
        tensor=value.name,
        node=str(node.name) if node else "",
        op_type=node.op_type if node else "",
        reason=_reason(model, value, kept),
    )


def _is_quantized(value: ir.Value) -> bool:
    """Whether the model itself quantizes the tensor, or it is a scale of that."""
    readers = {use.node.op_type for use in value.uses()}
    only = bool(readers) and readers <= {"QuantizeLinear", "DequantizeLinear"}
    return not value.is_graph_output() and (only or dequantized(value) is not None)


def _reason(model: ir.Model, value: ir.Value, kept: Mapping[str, str | None]) -> str:
    if value.is_graph_output():
        return "output of the model: rounding it would change what is read"
    uses = list(value.uses())
    if not uses:
        return "nothing reads it"
    if any(use.node.graph is not model.graph for use in uses):
        return f"read inside If, Loop or Scan, whose graphs {_GENERAL}"
    if any(u.node.op_type in _BIASED_OPS and u.idx == 2 for u in uses):
        return "bias: added in high precision"
    if value.const_value is not None and uses[0].node.op_type == "Add":
        return "bias: added in high precision"
    reasons = [kept.get(str(use.node.name)) for use in uses]
    specific = [reason for reason in reasons if reason and not reason.endswith(_ONLY_SO)]
    if value.const_value is not None:
        if specific:
            return specific[0]
        return f"parameter of {uses[0].node.op_type}, which {_ONLY_SO}"
    readers = [use.node.op_type for use, why in zip(uses, reasons, strict=True) if why is None]
    if readers:
        return f"{readers[0]} adds it to its INT8 skip input in high precision"
    if specific:
        return specific[0]
    return _by_producer(value) or (
        f"read only by {', '.join(sorted({use.node.op_type for use in uses}))}"
    )


def _by_producer(value: ir.Value) -> str | None:
    """The reason of what makes it: an output of a recurrent node says more than who reads it."""
    producer = value.producer()
    if producer is None or producer.op_type in (*WEIGHTED_OPS, "Add"):
        return None
    return why_never(producer)
