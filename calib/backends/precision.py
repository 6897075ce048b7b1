"""Which precision each layer of an engine really got, from what TensorRT says of it.

Two sources say the same: the inspector's JSON where an engine can be loaded, and the message that
starts with `Layers:` in the builder's verbose log where it cannot.
"""

import json
import re
from collections.abc import Iterable, Mapping

from calib.engine_record import EngineLayer, NodePrecision

_DUMPED = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<kind>\w+), Inputs: (?P<inputs>\[.*\]), "
    r"Constants: (?P<constants>\[.*\]), Outputs: (?P<outputs>\[.*\]), "
    r"TacticName: (?P<tactic>.*?), StreamId: \S*, Metadata: ?(?P<metadata>.*)"
)
_DATATYPE = re.compile(r"Datatype: (\w+)")
# TensorRT puts unit and record separators between the names, older versions nothing.
_ONNX_LAYER = re.compile(r"\[ONNX Layer: (.*?)\](?=\s*(?:[\x1e\x1f,]|\[ONNX Layer: |$))")
_NAMES = {
    "int8": "int8",
    "half": "fp16",
    "fp16": "fp16",
    "float": "fp32",
    "fp32": "fp32",
    "bfloat16": "bf16",
    "bf16": "bf16",
    "fp8": "fp8",
    "int4": "int4",
    "int32": "int32",
    "int64": "int64",
    "bool": "bool",
    "uint8": "uint8",
}
_FORMAT_WORD = re.compile(r"\b(Int8|Half|FP16|Float|FP32|BFloat16|BF16|FP8|Int32|Int64|Bool)\b")
_INDICES = frozenset({"int32", "int64", "bool"})
_HEAVY_KINDS = frozenset({"correlation", "gemm", "runtime_fusion"})
_CAST_THEN_MULTIPLY = re.compile(r"__myl_\w*Cast\w*(?:Fc|Corr|Gemm|Conv(?!ert))")
_HEAVY_WORD = re.compile(r"gemm|mha|conv|matmul|matrix", re.IGNORECASE)


def layers_from_dump(text: str) -> tuple[EngineLayer, ...]:
    """Parse the `Layers:` message of a verbose builder log; lines that are no layer are skipped."""
    return tuple(
        EngineLayer(
            name=found["name"],
            kind=found["kind"],
            nodes=_nodes(found["metadata"]),
            precision=_converted_first(found["name"], _dumped(found["outputs"]))
            or _precision(_dumped(found["inputs"]), _dumped(found["constants"])),
            input_types=_dumped(found["inputs"]),
            constant_types=_dumped(found["constants"]),
            output_types=_dumped(found["outputs"]),
            tactic=found["tactic"],
        )
        for line in text.split("\n")  # splitlines would also split at the names' separators
        if (found := _DUMPED.match(line))
    )


def layers_from_inspector(text: str) -> tuple[EngineLayer, ...]:
    """Parse `IEngineInspector.get_engine_information(JSON)` of TensorRT 8.6 to 11.

    An engine that was not built with detailed profiling verbosity only names its layers: those
    have no precision and are left out.
    """
    layers = json.loads(text).get("Layers", [])
    return tuple(_inspected(layer) for layer in layers if isinstance(layer, Mapping))


def _inspected(layer: Mapping[str, object]) -> EngineLayer:
    inputs, outputs = (_tensor_types(layer.get(key)) for key in ("Inputs", "Outputs"))
    weights = layer.get("Weights")
    constants = _tensor_types(layer.get("Constants"))
    if isinstance(weights, Mapping):
        constants = (_type(str(weights.get("Type", "unknown"))),)
    return EngineLayer(
        name=str(layer.get("Name", "")),
        kind=str(layer.get("LayerType", "")),
        nodes=_nodes(str(layer.get("Metadata", ""))),
        precision=_precision(inputs, constants),
        input_types=inputs,
        constant_types=constants,
        output_types=outputs,
        tactic=str(layer.get("TacticName") or layer.get("TacticValue") or ""),
    )


def _dumped(tensors: str) -> tuple[str, ...]:
    return tuple(_type(word) for word in _DATATYPE.findall(tensors))


def _tensor_types(tensors: object) -> tuple[str, ...]:
    found = []
    for tensor in tensors if isinstance(tensors, list) else []:
        words = " ".join(str(tensor.get(k, "")) for k in ("Datatype", "Format/Datatype"))
        word = _FORMAT_WORD.search(words)
        found.append(_type(word.group(1)) if word else "unknown")
    return tuple(found)


def _nodes(metadata: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_ONNX_LAYER.findall(metadata)))


def _type(word: str) -> str:
    return _NAMES.get(word.lower(), word.lower())


def _converted_first(name: str, outputs: tuple[str, ...]) -> str:
    """What a fusion computes in that casts before it multiplies; empty for any other layer.

    The builder names a fusion after its steps: `__myl_CastMulFc` reads INT8, casts it, scales it,
    and multiplies in float. A layer that multiplies INT8 is a `gemm` or `correlation` of its own.
    """
    return next(iter(outputs), "fp32") if _CAST_THEN_MULTIPLY.match(name) else ""


def _precision(inputs: tuple[str, ...], constants: tuple[str, ...]) -> str:
    """What a layer multiplies in.

    An INT8 layer reads INT8 data and INT8 weights, or two INT8 activations; one that reads INT8 on
    one side only converts it first. Float constants beside INT8 weights are scales and biases.
    """
    values = [t for t in inputs if t not in _INDICES]
    operands = [*values, *(t for t in constants if t not in _INDICES)]
    if not operands:
        return next(iter(inputs), "unknown")
    both = operands.count("int8") >= 2 or (operands == ["int8"])
    if values and values[0] == "int8" and not both:
        return next((t for t in operands if t != "int8"), "int8")
    return (values or operands)[0]


def node_precisions(
    layers: Iterable[EngineLayer],
    nodes: Mapping[str, str],
    quantized: frozenset[str],
    macs: Mapping[str, int],
) -> tuple[NodePrecision, ...]:
    """What each weighted ONNX node ran in.

    Args:
        layers: of the engine.
        nodes: operator by name of every Conv, ConvTranspose, MatMul and Gemm of the model.
        quantized: those that read INT8 in the model.
        macs: multiply-accumulates by node name; nodes of unknown shape are absent.
    """
    by_node: dict[str, list[EngineLayer]] = {name: [] for name in nodes}
    for layer in layers:
        for name in layer.nodes:
            if name in by_node:
                by_node[name].append(layer)
    return tuple(
        _judged(name, kind, by_node[name], asked_int8=name in quantized, macs=macs.get(name))
        for name, kind in nodes.items()
    )


def _judged(
    name: str, kind: str, layers: list[EngineLayer], *, asked_int8: bool, macs: int | None
) -> NodePrecision:
    heavy = [layer for layer in layers if _is_heavy(layer)] or layers
    # A node can be spread over layers (its scale in a pointwise one): INT8 anywhere is INT8.
    chosen = next((layer for layer in heavy if layer.precision == "int8"), None)
    chosen = chosen or next(iter(heavy), None)
    ran = chosen.precision if chosen is not None else None
    return NodePrecision(
        node=name,
        op_type=kind,
        asked="int8" if asked_int8 else "float",
        ran=ran,
        engine_layer=chosen.name if chosen is not None else "",
        macs=macs,
        cause=_cause(chosen) if asked_int8 and ran != "int8" else "",
    )


def _is_heavy(layer: EngineLayer) -> bool:
    return layer.kind in _HEAVY_KINDS or bool(_HEAVY_WORD.search(layer.name))


def _cause(layer: EngineLayer | None) -> str:
    if layer is None:
        return "no layer of the engine names it: folded into another, or removed"
    if "int8" in layer.input_types:
        return "only one of its inputs is INT8: the other side has no Q/DQ, or not of this scale"
    return "the builder has no INT8 kernel for this shape, or its Q/DQ was moved away"


def int8_macs_pct(nodes: Iterable[NodePrecision]) -> float | None:
    """Share of the known MACs that ran in INT8, in %; None if none is known."""
    known = [(node.macs, node.ran) for node in nodes if node.macs]
    total = sum(macs for macs, _ in known)
    if total == 0:
        return None
    return 100 * sum(macs for macs, ran in known if ran == "int8") / total
