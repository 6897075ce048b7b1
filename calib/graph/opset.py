"""Raising a model to a newer opset, or lowering it: operators change, a number alone is wrong."""

from collections.abc import Callable
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx import version_converter
from onnx_ir.passes import common

from calib.errors import ModelError

MIN_OPSET = 13
"""Per-channel DequantizeLinear exists from here on."""
UPGRADED_OPSET = 17
_OLDEST_OPSET = 7
"""ONNX's converter knows operators from here on well enough."""


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
        model = ir.from_proto(raised_proto(onnx.load(path), UPGRADED_OPSET, str(path)))
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


def raised_proto(proto: onnx.ModelProto, opset: int, where: str) -> onnx.ModelProto:
    """The same model at a newer opset, by ONNX's own converter.

    Raises:
        ModelError: if the converter has no way for one of its operators.
    """
    try:
        return version_converter.convert_version(proto, opset)
    except Exception as error:  # the converter raises plain RuntimeError and others
        raise ModelError(
            where,
            f"its opset cannot be raised to {opset}: {error}",
            fix=f"Export the model again with opset {opset} or newer.",
        ) from error


def raised(model: ir.Model, opset: int) -> ir.Model:
    """As `raised_proto`, for a model in memory; names of nodes and tensors stay as they are."""
    fresh = ir.from_proto(raised_proto(ir.to_proto(model), opset, "the model"))
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(fresh)
    common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(fresh)
    return fresh
