"""What each node was asked to run in, what it ran in on ONNX Runtime, and why not as asked."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from calib.engine_record import NodePrecision
from calib.graph.macs import macs_by_node
from calib.graph.matched import matched
from calib.graph.optimized import Operator
from calib.graph.selection_spec import WEIGHTED_OPS
from calib.graph.taps import LAYOUT_OPS

_WEIGHTLESS = frozenset(["Add", "AveragePool", "GlobalAveragePool", "MaxPool", "Concat"])
_BYTES = frozenset([ir.DataType.INT8, ir.DataType.UINT8])
_NAMES = {ir.DataType.FLOAT16: "fp16", ir.DataType.BFLOAT16: "bf16", ir.DataType.DOUBLE: "fp64"}
_NEEDS_QUANTIZED_OUTPUT = ("Conv", "FusedConv", "NhwcFusedConv")
_NOT_FUSED = "ONNX Runtime fused no integer kernel out of it and the DequantizeLinears before it"
_EMULATED = "no kernel of its type on this processor: computed in {} behind Casts"


@dataclass(frozen=True, slots=True)
class Runs:
    """What the nodes of a graph ran in.

    Attributes:
        nodes: every weighted node of the main graph, and what else was asked for INT8 on every
            side, in graph order.
        uncounted: how many there are of each kernel that multiplies and runs none of them.
    """

    nodes: tuple[NodePrecision, ...]
    uncounted: dict[str, int]


def node_runs(
    given: ir.Model, found: tuple[Operator, ...], shapes: Mapping[str, tuple[int, ...]]
) -> Runs:
    """Tell for each node what ran it.

    Args:
        given: what the runtime was given, with types inferred.
        found: the operators that it made of it.
        shapes: shape of every input, batch axis included, at which multiply-accumulates count.
    """
    nodes = [node for node in given.graph if node.op_type in WEIGHTED_OPS or _is_unit(node)]
    ran = matched(given, nodes, found)
    macs = macs_by_node(given, shapes)
    own = {one.node for one in ran.values()}
    return Runs(
        nodes=tuple(_run(node, ran.get(str(node.name)), macs) for node in nodes),
        uncounted=dict(Counter(o.kernel for o in found if o.multiplies and o.node not in own)),
    )


def _run(node: ir.Node, one: Operator | None, macs: Mapping[str, int]) -> NodePrecision:
    asked = _asked(node)
    weighted = node.op_type in WEIGHTED_OPS
    half = _own_type(node) in ("fp16", "bf16")
    emulated = half and one is not None and one.precision == "fp32"
    return NodePrecision(
        node=str(node.name),
        op_type=node.op_type,
        asked=asked,
        ran=one.precision or "other" if one is not None else None,
        engine_layer=str(one.node.name) if one is not None else "",
        macs=macs.get(str(node.name)) if weighted else 0,
        cause=_cause(one, asked, emulated=emulated),
        kernel=one.kernel if one is not None else "",
        emulated=emulated,
    )


def _own_type(node: ir.Node) -> str:
    dtype = node.outputs[0].dtype
    return _NAMES.get(dtype, "fp32") if dtype is not None else "fp32"


def _asked(node: ir.Node) -> str:
    """What the given graph says: INT8 where both operands come out of a DequantizeLinear."""
    if node.op_type in WEIGHTED_OPS:
        quantized = all(_dequantizer(value) is not None for value in node.inputs[:2])
        return "int8" if quantized else _own_type(node)
    return "int8"


def _is_unit(node: ir.Node) -> bool:
    """Whether it could be integer without a weight, and has Q/DQ pairs on every side."""
    readers = list(node.outputs[0].uses())
    return (
        node.op_type in _WEIGHTLESS
        and bool(readers)
        and not node.outputs[0].is_graph_output()
        and all(_dequantizer(value) is not None for value in node.inputs)
        and all(use.node.op_type == "QuantizeLinear" for use in readers)
    )


def _dequantizer(value: ir.Value | None) -> ir.Node | None:
    """The DequantizeLinear of 8-bit codes that a value comes from, whatever the layout since."""
    node = value.producer() if value is not None else None
    while node is not None and node.op_type in LAYOUT_OPS and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    if node is None or node.op_type != "DequantizeLinear" or node.inputs[0] is None:
        return None
    codes = node.inputs[0].dtype
    return node if codes is None or codes in _BYTES else None


def _cause(one: Operator | None, asked: str, *, emulated: bool) -> str:
    if one is None:
        return "no operator of the optimized graph can be told to run it: folded, or merged"
    if asked == "int8" and one.precision != "int8":
        return next(_causes(one.node), _NOT_FUSED)
    return _EMULATED.format(one.precision) if emulated and asked != "int8" else ""


def _causes(kernel: ir.Node) -> Iterator[str]:
    """What about a float kernel keeps ONNX Runtime from an integer one, the surest first."""
    sources = [_source(value) for value in kernel.inputs[:2]]
    cast = [source for source, is_cast in sources if is_cast and source is not None]
    if any(source is None for source, _ in sources):
        yield "only one of its inputs reaches it from a DequantizeLinear"
    if cast:
        yield "FP16 is computed in float32 here: a Cast is between its DequantizeLinear and it"
    if kernel.op_type in _NEEDS_QUANTIZED_OUTPUT:
        yield from _of_output(kernel)
    if kernel.op_type.endswith("Gemm") and _has_float_bias(kernel):
        yield "its bias is not quantized"
    activation = kernel.attributes.get_string("activation", "")
    if activation:
        yield f"it was fused with the {activation} behind it, which is computed in float"
    codes = sources[0][0].inputs[0] if sources and sources[0][0] is not None else None
    if codes is not None and codes.dtype is ir.DataType.INT8:
        yield "its activations are int8, for which ONNX Runtime took no integer kernel here"


def _source(value: ir.Value | None) -> tuple[ir.Node | None, bool]:
    """The DequantizeLinear behind a kernel's input, and whether a Cast is between them."""
    node = value.producer() if value is not None else None
    is_cast = False
    while node is not None and node.op_type in LAYOUT_OPS | {"Cast"} and node.inputs[0] is not None:
        is_cast = is_cast or node.op_type == "Cast"
        node = node.inputs[0].producer()
    return (node if node is not None and node.op_type == "DequantizeLinear" else None), is_cast


def _of_output(kernel: ir.Node) -> Iterator[str]:
    """Why a convolution's output does not go on in integers."""
    output = kernel.outputs[0]
    readers = [use.node for use in output.uses()]
    while len(readers) == 1 and readers[0].op_type == "Cast":
        output = readers[0].outputs[0]
        readers = [use.node for use in output.uses()]
    quantized = [node for node in readers if node.op_type == "QuantizeLinear"]
    if not quantized:
        leaves = output.is_graph_output()
        yield f"its output is not quantized{': it leaves the model' if leaves else ''}"
    elif len(quantized) < len(readers) or output.is_graph_output():
        others = {node.op_type for node in readers} - {"QuantizeLinear"}
        yield f"its output is read in float too: by {', '.join(sorted(others)) or 'the caller'}"
    activation = kernel.attributes.get_string("activation", "")
    added = ["Add"] if len(kernel.inputs) > 3 and kernel.inputs[3] is not None else []
    fused = " and ".join([*added, *([activation] if activation else [])])
    if fused:
        yield f"{_article(fused)} {fused} is between it and the QuantizeLinear behind it"


def _article(word: str) -> str:
    return "an" if word[0] in "AEIOU" else "a"


def _has_float_bias(kernel: ir.Node) -> bool:
    bias = kernel.inputs[2] if len(kernel.inputs) > 2 else None
    return bias is not None and _source(bias)[0] is None
