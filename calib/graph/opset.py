"""Raising a model to a newer opset, or lowering it: operators change, a number alone is wrong."""

from collections.abc import Callable
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx import version_converter
from onnx_ir.passes import common

from calib.errors import ModelError
from calib.graph.old_forms import old_resizes, refuse_changed, with_old_coordinates
from calib.graph.read import infer_shapes

MIN_OPSET = 13
"""Per-channel DequantizeLinear exists from here on."""
UPGRADED_OPSET = 17
_OLDEST_OPSET = 7
"""ONNX's converter knows operators from here on well enough."""
_SMALL_BYTES = 1024


def newest_opset(takes: Callable[[bytes], bool]) -> int | None:
    """The newest opset that a runtime takes, of those that ONNX knows; None if it takes none.

    Args:
        takes: whether the runtime takes an ONNX file with these bytes.
    """
    newest = onnx.defs.onnx_opset_version()
    return next((v for v in range(newest, MIN_OPSET, -1) if takes(_smallest_model(v))), None)


def _smallest_model(opset: int) -> bytes:
    one = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, [1]) for n in ("x", "y")]
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "smallest", one[:1], one[1:])
    opsets = [onnx.helper.make_opsetid("", opset)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def opset_of(proto: onnx.ModelProto) -> int:
    """The model's version of ONNX's own operators; 0 if it uses none."""
    return next((i.version for i in proto.opset_import if i.domain in ("", "ai.onnx")), 0)


def opset_in(model: ir.Model) -> int:
    """As `opset_of`, of a model in memory."""
    return model.opset_imports.get("", 0)


def refuse_unknown_versions(proto: onnx.ModelProto, where: str) -> None:
    """Raise for a model that is too old or too new to be read.

    Raises:
        ModelError: if its opset or its IR version is none that ONNX, as installed, knows.
    """
    opset, newest = opset_of(proto), onnx.defs.onnx_opset_version()
    if opset and not _OLDEST_OPSET <= opset <= newest:
        raise ModelError(
            where,
            "is of an opset that cannot be read here",
            got=f"opset {opset}",
            expected=f"{_OLDEST_OPSET} to {newest}, which onnx {onnx.__version__} knows",
            fix="Export the model again with an opset between 13 and 21.",
        )
    if proto.ir_version > onnx.IR_VERSION:
        raise ModelError(
            where,
            "is of an IR version that cannot be read here",
            got=f"IR {proto.ir_version}",
            expected=f"at most {onnx.IR_VERSION}, which onnx {onnx.__version__} knows",
            fix="Export the model again with an older onnx package, or install a newer one here.",
        )


def modernised(path: Path, proto: onnx.ModelProto, newest: int | None) -> tuple[ir.Model, str]:
    """The model at an opset that can be quantized and that the runtime takes, and what was done.

    Args:
        path: the file.
        proto: of it, without external data.
        newest: opset that the runtime takes at most; None if that does not matter.

    Raises:
        ModelError: if it cannot be raised, or an operator of it has changed since `newest`.
    """
    opset = opset_of(proto)
    if 0 < opset < MIN_OPSET:
        model = ir.load(path)
        infer_shapes(model)
        refuse_changed(model, opset, str(path))
        resizes = old_resizes(model, opset, str(path))
        model = raised(model, UPGRADED_OPSET, str(path))
        with_old_coordinates(model, resizes)
        return model, f"opset {opset} was raised to {UPGRADED_OPSET}: per-channel scales need 13"
    model = ir.load(path)
    if newest is None or opset <= newest:
        return model, ""
    for node in model.graph.all_nodes():
        since = _since(node, opset)
        if since > newest:
            raise ModelError(
                str(path),
                f"{node.op_type} {node.name} is of an opset that ONNX Runtime does not take",
                got=f"opset {opset}, where {node.op_type} changed with {since}",
                expected=f"at most {newest}",
                fix=f"Export the model again with opset {newest}, or install a newer onnxruntime.",
            )
    model.opset_imports[""] = newest
    return model, f"opset {opset} was lowered to {newest}, which ONNX Runtime takes"


def _since(node: ir.Node, opset: int) -> int:
    """The opset in which a node's operator last changed; 0 for operators of other domains."""
    if node.domain not in ("", "ai.onnx"):
        return 0
    return onnx.defs.get_schema(node.op_type, opset, "").since_version


def raised(model: ir.Model, opset: int, where: str = "the model") -> ir.Model:
    """A copy at a newer opset, by ONNX's own converter; tensors keep their names.

    Raises:
        ModelError: if the converter has no way for one of its operators.
    """
    model = model.clone()
    held = _without_large(model)
    try:
        proto = version_converter.convert_version(ir.to_proto(model), opset)
    except Exception as error:  # the converter raises plain RuntimeError and others
        raise ModelError(
            where,
            f"its opset cannot be raised to {opset}: {str(error).rsplit(': ', 1)[-1]}",
            fix=f"Export the model again with opset {opset} or newer.",
        ) from error
    fresh = ir.from_proto(proto)
    for value in list(fresh.graph.inputs):
        if value.name in held:
            fresh.graph.inputs.remove(value)
            value.const_value = held[value.name]
            fresh.graph.register_initializer(value)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(fresh)
    infer_shapes(fresh)
    return fresh


def _without_large(model: ir.Model) -> dict[str, ir.TensorProtocol]:
    """Make inputs of large initializers in place: a message ends at 2 GB. What they held, by name.

    Small ones stay: the converter reads some, such as the scales of an Upsample.
    """
    held: dict[str, ir.TensorProtocol] = {}
    for name, value in list(model.graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or tensor.nbytes <= _SMALL_BYTES or value.is_graph_output():
            continue
        held[name] = tensor
        model.graph.initializers.pop(name)
        value.const_value, value.dtype = None, tensor.dtype
        value.shape = ir.Shape(tensor.shape.numpy())
        if value not in model.graph.inputs:
            model.graph.inputs.append(value)
    return held
