"""Raising a model to a newer opset: operators change with it, so a new number alone is wrong."""

import onnx
import onnx_ir as ir
from onnx import version_converter
from onnx_ir.passes import common

from calib.errors import ModelError


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
