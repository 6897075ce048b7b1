"""Reading back a graph that calib wrote."""

from pathlib import Path

import onnx_ir as ir
from onnx_ir.passes import common


def read_graph(path: Path) -> ir.Model:
    """The model at `path`, with shapes and types inferred where they are missing."""
    model = ir.load(path)
    infer_shapes(model)
    return model


def infer_shapes(model: ir.Model) -> None:
    """Infer shapes and types in place, as far as ONNX's own inference gets."""
    common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
