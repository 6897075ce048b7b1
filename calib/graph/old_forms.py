"""Operators whose meaning changed with an opset, and that ONNX's converter gives the new one."""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from calib.errors import ModelError

_SCAN_CHANGED, _RESIZE_CHANGED, _HARDMAX_CHANGED = 9, 11, 13


def old_resizes(model: ir.Model, opset: int, where: str) -> dict[str, str]:
    """`nearest_mode` of every Upsample and Resize before opset 11, by its output.

    Their coordinates were asymmetric, x_in = x_out / scale, and the nearest pixel the one before
    when enlarging, the one after when reducing (as ONNX Runtime has it; ONNX did not say).

    Raises:
        ModelError: if it enlarges one axis and reduces another to the nearest pixel, or its scales
            are not constant.
    """
    if opset >= _RESIZE_CHANGED:
        return {}
    return {
        str(node.outputs[0].name): _nearest_mode(node, where)
        for node in model.graph.all_nodes()
        if node.op_type in ("Upsample", "Resize") and node.domain in ("", "ai.onnx")
    }


def _nearest_mode(node: ir.Node, where: str) -> str:
    scales = _scales(node)
    if node.op_type == "Upsample" or node.attributes.get_string("mode", "nearest") != "nearest":
        return "floor"
    if scales is not None and (scales >= 1).all():
        return "floor"
    if scales is not None and (scales <= 1).all():
        return "ceil"
    raise ModelError(
        where,
        f"{node.op_type} {node.name} has no equal in newer opsets",
        got="nearest, with scales "
        + ("that are computed" if scales is None else ", ".join(f"{s:g}" for s in scales)),
        fix="Export the model again with opset 13 or newer.",
    )


def _scales(node: ir.Node) -> np.ndarray | None:
    value = node.inputs[1] if len(node.inputs) > 1 else None
    constant = value.const_value if value is not None else None
    maker = value.producer() if value is not None else None
    if constant is None and maker is not None and maker.op_type == "Constant":
        constant = maker.attributes["value"].as_tensor() if "value" in maker.attributes else None
    return None if constant is None else np.asarray(constant.numpy())


def with_old_coordinates(model: ir.Model, resizes: Mapping[str, str]) -> None:
    """Give the Resize nodes that make these outputs the coordinates that they had, in place."""
    for node in model.graph.all_nodes():
        mode = resizes.get(str(node.outputs[0].name)) if node.outputs else None
        if node.op_type == "Resize" and mode is not None:
            node.attributes.add(ir.AttrString("coordinate_transformation_mode", "asymmetric"))
            node.attributes.add(ir.AttrString("nearest_mode", mode))


def refuse_changed(model: ir.Model, opset: int, where: str) -> None:
    """Raise for an operator that the converter would give another meaning.

    Raises:
        ModelError: Hardmax before opset 13 that flattens: over any axis but the last; Scan of
            opset 8, which has a batch axis of its own.
    """
    for node in model.graph.all_nodes():
        if node.op_type == "Scan" and opset < _SCAN_CHANGED:
            raise ModelError(
                where,
                f"Scan {node.name} has no equal in newer opsets",
                got=f"opset {opset}, where its first axis is the batch",
                fix="Export the model again with opset 13 or newer.",
            )
        if node.op_type != "Hardmax" or opset >= _HARDMAX_CHANGED:
            continue
        axis = node.attributes.get_int("axis", 1)
        shape = node.inputs[0].shape if node.inputs[0] is not None else None
        if axis != -1 and (shape is None or axis != len(shape) - 1):
            raise ModelError(
                where,
                f"Hardmax {node.name} has no equal in newer opsets",
                got=f"axis {axis} of opset {opset}, which flattens from there on",
                fix="Export the model again with opset 13 or newer.",
            )
