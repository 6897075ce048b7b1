"""Folding what is known before any input is: exact, and what runtimes do anyway."""

import math

import numpy as np
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from calib.graph.edit import free_name
from calib.graph.selection_spec import WEIGHTED_OPS
from calib.graph.subgraphs import holds_graphs
from calib.graph.taps import LAYOUT_OPS
from data_loaders.types import Array

_ALWAYS_FOLDED = LAYOUT_OPS | {"Cast"}
_LEFT_OPS = frozenset(
    [
        # What rounding they stand for is to be kept, not undone.
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        # Another value in every run.
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Multinomial",
        "Bernoulli",
        # The reference implementation would take minutes.
        "Conv",
        "ConvTranspose",
        "GRU",
        "LSTM",
        "RNN",
    ]
)
_GROWTH_MAX, _SMALL_BYTES = 4, 1 << 24
"""What a fold makes may be so many times as large as what it is made from, or so large: a file
that spells out an Expand or a Tile of its own can be a thousand times as large as it was."""


def fold_constants(model: ir.Model) -> ir.Model:
    """Replace what is computed from initializers alone by its value, where a weight needs it.

    Exporters write `MatMul(x, Transpose(W))`, store W in FP16 behind a Cast, as a list of Slices of
    one table, or as direction and length (weight normalisation); a weight has to be a constant to
    be quantized per channel. What only lays out or casts an initializer is folded everywhere.
    Each node is evaluated with the ONNX reference implementation. Initializers that nobody reads
    any more are left out.
    """
    model = model.clone()
    wanted = _leading_to_weights(model)
    for node in list(model.graph):
        folded = node.op_type in _ALWAYS_FOLDED or node in wanted
        known = all(v is None or v.const_value is not None for v in node.inputs)
        if folded and known and _is_foldable(node) and _stays_small(node):
            _fold(model, node)
    return model


def _leading_to_weights(model: ir.Model) -> set[ir.Node]:
    """Nodes that depend on constants alone and that a weighted node depends on."""
    constant: set[ir.Node] = set()
    wanted: list[ir.Node] = []
    for node in model.graph:
        makers = [(v.producer() if v is not None else None, v) for v in node.inputs]
        known = [m in constant or v is None or v.const_value is not None for m, v in makers]
        if known and all(known) and _is_foldable(node):
            constant.add(node)
        elif node.op_type in (*WEIGHTED_OPS, "BatchNormalization"):
            wanted += [maker for maker, _ in makers if maker in constant]
    found: set[ir.Node] = set()
    while wanted:
        node = wanted.pop()
        if node not in found:
            found.add(node)
            makers_of = (v.producer() for v in node.inputs if v is not None)
            wanted += [maker for maker in makers_of if maker is not None]
    return found


def _is_foldable(node: ir.Node) -> bool:
    return (
        node.domain in ("", "ai.onnx")
        and node.op_type not in _LEFT_OPS
        and not holds_graphs(node)
        and any(value is not None for value in node.inputs)
        and any(output.uses() for output in node.outputs)
    )


def _stays_small(node: ir.Node) -> bool:
    if node.op_type in _ALWAYS_FOLDED:
        return True
    read = sum(tensor.nbytes for tensor in _tensors(node) if tensor is not None)
    made = 0.0
    for value in node.outputs:
        shape = value.shape
        is_known = shape is not None and all(isinstance(size, int) for size in shape)
        if shape is None or not is_known or value.dtype in (None, ir.DataType.STRING):
            return False
        made += math.prod(shape.numpy()) * value.dtype.itemsize
    return made <= max(_GROWTH_MAX * read, _SMALL_BYTES)


def _tensors(node: ir.Node) -> list[ir.TensorProtocol | None]:
    return [value.const_value if value is not None else None for value in node.inputs]


def _fold(model: ir.Model, node: ir.Node) -> None:
    arrays = [tensor.numpy() if tensor is not None else None for tensor in _tensors(node)]
    try:
        results = _evaluate(model, node, arrays)
    except Exception:
        return
    read = [value for value in node.inputs if value is not None]
    for old, array in zip(node.outputs, results, strict=True):
        if not old.name or not old.uses():
            continue
        shown = old.is_graph_output()
        name = free_name(model, f"{old.name}_value") if shown else str(old.name)
        fresh = initializer(name, array)
        for use in list(old.uses()):
            use.node.replace_input_with(use.idx, fresh)
        model.graph.register_initializer(fresh)
    if any(output.is_graph_output() for output in node.outputs):
        return
    model.graph.remove(node, safe=True)
    for value in read:
        if not value.uses() and not value.is_graph_output():
            model.graph.initializers.pop(str(value.name), None)


def _evaluate(model: ir.Model, node: ir.Node, arrays: list[Array | None]) -> list[Array]:
    inputs = [
        None if a is None else ir.val(f"x{i}", ir.DataType.from_numpy(a.dtype), a.shape)
        for i, a in enumerate(arrays)
    ]
    attributes = list(node.attributes.values())
    twin = ir.Node(node.domain, node.op_type, inputs, attributes, num_outputs=len(node.outputs))
    for number, output in enumerate(twin.outputs):
        output.name, output.dtype = f"y{number}", ir.DataType.FLOAT
    given = [value for value in inputs if value is not None]
    opsets = dict(model.opset_imports)
    graph = ir.Graph(given, twin.outputs, nodes=[twin], opset_imports=opsets, name="one")
    proto = ir.to_proto(ir.Model(graph, ir_version=model.ir_version))
    feeds = {f"x{i}": a for i, a in enumerate(arrays) if a is not None}
    with np.errstate(all="ignore"):
        return [np.asarray(result) for result in ReferenceEvaluator(proto).run(None, feeds)]


def initializer(name: str, array: Array) -> ir.Value:
    """A value with these contents, not yet of any graph."""
    tensor = ir.tensor(np.ascontiguousarray(array).reshape(array.shape), name=name)
    return ir.val(name, tensor.dtype, ir.Shape(array.shape), const_value=tensor)
