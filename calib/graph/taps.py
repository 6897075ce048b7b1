"""Exposing inner tensors as outputs, so that an engine shows them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from calib.graph.edit import free_name

LAYOUT_OPS = frozenset(["Reshape", "Transpose", "Identity", "Squeeze", "Unsqueeze", "Flatten"])
"""The same values in another layout."""
_SILENT_OPS = LAYOUT_OPS | frozenset(
    [
        "Cast",
        "Constant",
        "Concat",
        "Expand",
        "Gather",
        "Shape",
        "Slice",
        "Split",
        "QuantizeLinear",
        "DequantizeLinear",
    ]
)


@dataclass(frozen=True, slots=True)
class Tap:
    """A tensor to read, standing for all tensors that hold the same values in another layout.

    Attributes:
        source: the tensor that is read.
        tensors: the tensors it stands for.
        is_input: the source is a model input: it is known without running anything.
    """

    source: str
    tensors: tuple[str, ...]
    is_input: bool


def taps_from_tensors(model: ir.Model, tensors: Iterable[str]) -> tuple[Tap, ...]:
    """The fewest tensors to read so that the values of all of `tensors` are known."""
    values = _values(model)
    groups: dict[str, list[str]] = {}
    for name in tensors:
        groups.setdefault(str(_source(values[name]).name), []).append(name)
    return tuple(_tap(values[source], tuple(names)) for source, names in groups.items())


def _tap(value: ir.Value, tensors: tuple[str, ...]) -> Tap:
    return Tap(str(value.name), tensors, value.producer() is None)


def _source(value: ir.Value) -> ir.Value:
    producer = value.producer()
    while producer is not None and producer.op_type in LAYOUT_OPS and producer.inputs[0]:
        value = producer.inputs[0]
        producer = value.producer()
    return value


def tapped(model: ir.Model, tensors: Iterable[str]) -> ir.Model:
    """A copy of the model with more outputs; those that it has already stay first.

    The new ones have no shape, for the reason that `save_model` gives.
    """
    model = model.clone()
    values = _values(model)
    present = {value.name for value in model.graph.outputs}
    for name in tensors:
        if name not in present:
            values[name].shape = None
            model.graph.outputs.append(values[name])
    return model


def sized(model: ir.Model, tensors: Iterable[str]) -> ir.Model:
    """A copy of the model whose outputs are the shapes of these tensors, in their order.

    Running it takes no more memory than the model does, however large the tensors are.
    """
    model = model.clone()
    values = _values(model)
    model.graph.outputs.clear()
    for number, name in enumerate(tensors):
        own = free_name(model, f"calib_shape_{number}")
        node = ir.node("Shape", [values[name]], name=own)
        node.outputs[0].name = own
        node.outputs[0].dtype = ir.DataType.INT64
        model.graph.append(node)
        model.graph.outputs.append(node.outputs[0])
    return model


def groups_within(sizes: Mapping[str, int], budget: float) -> list[list[str]]:
    """Names in runs whose sizes stay within a budget; what is too large alone is a run alone."""
    groups: list[list[str]] = []
    room = -1.0
    for name, size in sizes.items():
        if size > room:
            groups.append([])
            room = budget
        groups[-1].append(name)
        room -= size
    return groups


def float_tensors(model: ir.Model) -> tuple[str, ...]:
    """Every float32 activation: the float inputs, then what nodes make, in graph order."""
    made = [value for node in model.graph for value in node.outputs]
    return tuple(
        str(value.name)
        for value in [*model.graph.inputs, *made]
        if value.name and value.dtype is ir.DataType.FLOAT and value.const_value is None
    )


@dataclass(frozen=True, slots=True)
class LayerTensor:
    """A tensor worth comparing, and the node that makes it."""

    tensor: str
    node: str
    op_type: str


def layer_tensors(model: ir.Model) -> tuple[LayerTensor, ...]:
    """Every float tensor that some arithmetic makes, in graph order.

    What only moves values about (Reshape, Gather, …) is left out: its error is its input's.
    """
    return tuple(
        LayerTensor(str(value.name), str(node.name), node.op_type)
        for node in model.graph
        if node.op_type not in _SILENT_OPS
        for value in node.outputs
        if value.name and value.dtype is not None and value.dtype.is_floating_point()
    )


def _values(model: ir.Model) -> dict[str, ir.Value]:
    outputs = [value for node in model.graph for value in node.outputs]
    return {str(value.name): value for value in [*model.graph.inputs, *outputs]}
