"""What of a model computes in float32 even where the rest is FP16."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from calib.graph.left_alone import STANDARD_DOMAINS
from calib.graph.subgraphs import holds_graphs

_FLOAT16 = "tensor(float16)"
_WHOLE = frozenset(["BitCast", "MeanVarianceNormalization"])
"""The bits of a float32; ONNX Runtime makes a MeanVarianceNormalization of float32 constants."""
_TYPED_BY_ATTRIBUTE = frozenset(["Cast", "ConstantOfShape"])
"""Whose attribute is converted."""


@dataclass(frozen=True, slots=True)
class Float32Parts:
    """Which inputs and outputs of a node are float32, by index, where they are float at all."""

    inputs: frozenset[int] = frozenset()
    outputs: frozenset[int] = frozenset()


def float32_parts(model: ir.Model) -> Mapping[ir.Node, Float32Parts]:
    """What stays in float32 by node of the outermost graph; those that compute in FP16 are absent.

    - If, Loop and Scan, sequences, and operators of other domains than ONNX's own.
    - What the operator's definition does not allow in FP16, such as the scales of a Resize, and
      outputs whose type no input sets, such as the mean that a LayerNormalization gives.
    - What a Cast gives out of the model: an index beyond 65504 would be infinity.
    - Arithmetic on sizes: from integers, and back to integers. FP16 has no odd number beyond 2048.
    """
    sizes = _size_arithmetic(model)
    found = {}
    for node in model.graph:
        every = Float32Parts(_floats(node.inputs), _floats(node.outputs))
        parts = every if node in sizes else _by_definition(node, model.opset_imports, every)
        if parts.inputs or parts.outputs:
            found[node] = parts
    return found


def _by_definition(node: ir.Node, opsets: Mapping[str, int], every: Float32Parts) -> Float32Parts:
    schema = _schema(node, opsets)
    name = node.op_type
    whole = name in _WHOLE or "Sequence" in name or name.startswith("Optional")
    if schema is None or holds_graphs(node) or whole or _accumulates(node):
        return every
    allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}

    def refuses_fp16(type_str: str) -> bool:
        return _FLOAT16 not in allowed.get(type_str, [type_str])

    inputs = list(_types(schema.inputs, len(node.inputs)))
    set_by_inputs = {parameter.type_str for parameter in schema.inputs}
    outputs = list(_types(schema.outputs, len(node.outputs)))
    own = node.op_type not in _TYPED_BY_ATTRIBUTE
    return Float32Parts(
        frozenset(i for i in every.inputs if refuses_fp16(inputs[i])),
        frozenset(
            i
            for i in every.outputs
            if refuses_fp16(outputs[i])
            or (own and outputs[i] not in set_by_inputs)
            or (name == "Cast" and node.outputs[i].is_graph_output())
        ),
    )


def _floats(values: Sequence[ir.Value | None]) -> frozenset[int]:
    return frozenset(index for index, value in enumerate(values) if _is_float(value))


def _accumulates(node: ir.Node) -> bool:
    """Scattering that adds or multiplies, which ONNX Runtime has no FP16 for."""
    scatters = node.op_type in ("ScatterND", "ScatterElements")
    return scatters and node.attributes.get_string("reduction", "none") != "none"


def _schema(node: ir.Node, opsets: Mapping[str, int]) -> onnx.defs.OpSchema | None:
    if node.domain not in STANDARD_DOMAINS:
        return None
    try:
        return onnx.defs.get_schema(node.op_type, opsets.get(node.domain, 1), node.domain)
    except onnx.defs.SchemaError:
        return None


def _types(parameters: Sequence[onnx.defs.OpSchema.FormalParameter], count: int) -> Iterator[str]:
    """The type variable of each; the last parameter may stand for several."""
    for index in range(count):
        if parameters:
            yield parameters[min(index, len(parameters) - 1)].type_str


def _size_arithmetic(model: ir.Model) -> set[ir.Node]:
    """Nodes between a Cast from integers and a Cast to integers, these two included."""
    floats: set[ir.Node] = set()
    for node in model.graph:
        read = [v for v in node.inputs if v is not None and v.const_value is None]
        if node.op_type == "Cast":
            if _is_float(node.outputs[0]) and not _is_float(node.inputs[0]):
                floats.add(node)
        elif read and all(_is_float(v) and v.producer() in floats for v in read):
            floats.add(node)
    found: set[ir.Node] = set()
    for node in reversed(model.graph):
        uses = [use.node for value in node.outputs for use in value.uses()]
        ends = bool(uses) and all(user in found or _to_integers(user) for user in uses)
        if node in floats and ends and not any(v.is_graph_output() for v in node.outputs):
            found.add(node)
    return found | {user for node in found for v in node.outputs for user, _ in v.uses()}


def _to_integers(node: ir.Node) -> bool:
    return node.op_type == "Cast" and not _is_float(node.outputs[0])


def _is_float(value: ir.Value | None) -> bool:
    """Whether it is a float tensor, and no sequence of such."""
    if value is None or not isinstance(value.type, ir.TensorType):
        return False
    return value.type.dtype.is_floating_point()
