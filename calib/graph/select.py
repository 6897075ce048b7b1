"""Which tensors become INT8, and a reason for each float tensor that does not."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import onnx_ir as ir

from calib.errors import ModelError
from calib.graph.absorbed import behind_absorbed
from calib.graph.existing import dequantized, kept_nodes
from calib.graph.left_alone import left_alone, why_never
from calib.graph.selection_spec import WEIGHTED_OPS, SelectionSpec
from calib.results import LeftAloneRecord


@dataclass(frozen=True, slots=True)
class Site:
    """One input of one node that becomes INT8."""

    node: str
    op_type: str
    index: int
    tensor: str
    axis: int | None
    """Output-channel axis of a weight; None for an activation."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What is quantized and what is left alone, both in graph order."""

    activations: tuple[Site, ...]
    weights: tuple[Site, ...]
    left_alone: tuple[LeftAloneRecord, ...]
    given: frozenset[str] = frozenset()
    """Nodes that read INT8 in the model as it was given."""

    @property
    def activation_tensors(self) -> tuple[str, ...]:
        """Names of the activations to calibrate, each once, in graph order."""
        return tuple(dict.fromkeys(site.tensor for site in self.activations))

    @property
    def quantized_nodes(self) -> frozenset[str]:
        """Names of the nodes that read INT8."""
        return self.given.union(site.node for site in (*self.activations, *self.weights))


def select(
    model: ir.Model, spec: SelectionSpec, floats: Mapping[str, str] | None = None
) -> Selection:
    """Choose the INT8 inputs of every node.

    Args:
        model: the FP32 model.
        spec: the config's rules.
        floats: further nodes to leave in float, with the reason of each.

    Both inputs of Conv, ConvTranspose, MatMul and Gemm, and the skip input of a residual Add as the
    spec says. Never a bias, and never an output. A node is quantized whole or not at all.

    What the model quantizes itself is left as it is: nothing is quantized twice.

    Raises:
        ModelError: if an exclude pattern matches no node, or nothing is left to quantize.
    """
    _refuse_useless_patterns(model, spec)
    given = floats or {}
    kept = {n.name: given.get(str(n.name)) or _why_float(n, spec) for n in model.graph}
    sites = [site for node in model.graph if kept[node.name] is None for site in _sites(node)]
    activations = tuple(site for site in sites if site.axis is None)
    weights = tuple(site for site in sites if site.axis is not None)
    if not sites:
        raise ModelError(
            "quantization",
            "leaves no tensor to quantize",
            got="; ".join(dict.fromkeys(given.values())) or None,
            fix="Relax ops, min_channels, exclude.",
        )
    chosen = {site.tensor for site in sites}
    left = left_alone(model, chosen, {str(name): why for name, why in kept.items()})
    return Selection(activations, weights, left, frozenset(kept_nodes(model)))


def _refuse_useless_patterns(model: ir.Model, spec: SelectionSpec) -> None:
    names = [str(node.name) for node in model.graph]
    for pattern in spec.exclude:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ModelError(
                "quantization.exclude",
                "matches no node of the model",
                got=repr(pattern),
                fix="See the node names in a report's layers.csv.",
            )


def _why_float(node: ir.Node, spec: SelectionSpec) -> str | None:
    """The reason to keep a node in float; None to quantize it."""
    if any(fnmatchcase(str(node.name), pattern) for pattern in spec.exclude):
        return "excluded by the config"
    never = why_never(node)
    if never is not None:
        return never
    if node.op_type == "Add":
        return _why_float_add(node, spec)
    if node.op_type not in spec.ops:
        return f"{node.op_type} stays in high precision"
    if spec.layout == "native" and _makes_output(node):
        return "its output is the model's: ONNX Runtime has integer kernels only between integers"
    if node.op_type in ("MatMul", "Gemm"):
        small = [
            size for size in _contraction(node) if size is not None and size < spec.min_channels
        ]
        if small:
            return f"K or N is {min(small)}, below {spec.min_channels}: INT8 would not pay"
    return None


def _makes_output(node: ir.Node) -> bool:
    """Whether it is a Conv whose output cannot be rounded."""
    return node.op_type == "Conv" and behind_absorbed(node.outputs[0]).is_graph_output()


def _contraction(node: ir.Node) -> tuple[int | None, int | None]:
    """(K, N) of a MatMul or Gemm, None where it is dynamic."""
    right = node.inputs[1]
    if right is None or right.shape is None or len(right.shape) < 2:
        return None, None
    k, n = (dim if isinstance(dim, int) else None for dim in list(right.shape)[-2:])
    if node.op_type == "Gemm" and node.attributes.get_int("transB", 0) != 0:
        return n, k
    return k, n


def _why_float_add(node: ir.Node, spec: SelectionSpec) -> str | None:
    if _skip_index(node) is None:
        return "Add stays in high precision"
    if spec.residual == "none":
        return "residual path: quantization.residual is none"
    if spec.residual == "convolution" and not any(_from_convolution(v) for v in node.inputs):
        return "residual path of a transformer: its outlier channels lose points of accuracy"
    return None


def _skip_index(node: ir.Node) -> int | None:
    """Which input of a residual Add is the skip; None if the Add is no residual one.

    Residual: two computed tensors of one shape, and one of them leads back past the other's
    branch. The branch comes from a weighted operator; where both do (a projected skip), the second
    input counts as the skip.
    """
    first, second = node.inputs
    if first is None or second is None or first is second:
        return None
    if first.const_value is not None or second.const_value is not None:
        return None
    if dequantized(first) is not None or dequantized(second) is not None:
        return None
    if not _same_rank(first, second):
        return None
    branch = [_from_weighted(first), _from_weighted(second)]
    if not any(branch):
        return None
    return 0 if not branch[0] else 1


def _same_rank(first: ir.Value, second: ir.Value) -> bool:
    if first.shape is None or second.shape is None or len(first.shape) != len(second.shape):
        return False
    pairs = zip(first.shape, second.shape, strict=True)
    return all(a == b for a, b in pairs if isinstance(a, int) and isinstance(b, int))


def _from_weighted(value: ir.Value) -> bool:
    producer = value.producer()
    if producer is None:
        return False
    if producer.op_type == "Add" and any(
        v is not None and v.const_value is not None for v in producer.inputs
    ):
        return any(v is not None and _from_weighted(v) for v in producer.inputs)
    return producer.op_type in WEIGHTED_OPS


def _from_convolution(value: ir.Value | None) -> bool:
    producer = value.producer() if value is not None else None
    return producer is not None and producer.op_type in ("Conv", "ConvTranspose")


def _sites(node: ir.Node) -> Iterator[Site]:
    name = str(node.name)
    if node.op_type == "Add":
        index = _skip_index(node)
        if index is not None:
            yield Site(name, "Add", index, str(node.inputs[index].name), None)  # type: ignore[union-attr]
        return
    for index, value in enumerate(node.inputs[:2]):
        if value is not None and dequantized(value) is None:
            axis = _channel_axis(node, index) if value.const_value is not None else None
            yield Site(name, node.op_type, index, str(value.name), axis)


def _channel_axis(node: ir.Node, index: int) -> int:
    """The axis of a constant operand along which the node's output channels run."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    value = node.inputs[index]
    rank = len(value.shape) if value is not None and value.shape is not None else 2
    if node.op_type == "Gemm":
        transposed = bool(node.attributes.get_int("transB" if index else "transA", 0))
        return (0 if transposed else 1) if index else (1 if transposed else 0)
    # MatMul contracts the last axis of its left operand and the one before last of its right one.
    return max(rank - 1 if index else rank - 2, 0)
