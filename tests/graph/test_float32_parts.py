"""What FP16 leaves in float32."""

import models
import numpy as np
import onnx_ir as ir
from layer_models import loaded, ort_run
from onnx import TensorProto, helper

from calib.graph.fp16 import to_fp16

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def test_arithmetic_on_sizes_stays_exact(tmp_path):
    """3001 is no FP16 number: the slice would be a row short."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], "layer"),
        helper.make_node("Shape", ["m"], ["shape"], "shape"),
        helper.make_node("Gather", ["shape", "zero"], ["rows"], "rows"),
        helper.make_node("Cast", ["rows"], ["rows_float"], "to_float", to=FLOAT),
        helper.make_node("Mul", ["rows_float", "whole"], ["scaled"], "scale"),
        helper.make_node("Floor", ["scaled"], ["floored"], "floor"),
        helper.make_node("Cast", ["floored"], ["end"], "to_int", to=INT64),
        helper.make_node("Slice", ["m", "zero", "end", "zero"], ["y"], "slice"),
    ]
    constants = {
        "w": np.eye(8, dtype=np.float32),
        "zero": np.array([0]),
        "whole": np.float32(1),
    }
    model = models.build(nodes, [("x", FLOAT, ["n", 8])], [("y", [None, 8])], constants)
    half, _ = to_fp16(loaded(model, tmp_path))
    assert ort_run(half, {"x": np.ones((3001, 8), np.float32)})["y"].shape == (3001, 8)


def test_floats_from_integers_that_the_network_computes_with_are_fp16(tmp_path):
    nodes = [
        helper.make_node("Cast", ["mask"], ["kept"], "to_float", to=FLOAT),
        helper.make_node("Sub", ["one", "kept"], ["dropped"], "invert"),
        helper.make_node("Mul", ["dropped", "lowest"], ["bias"], "bias"),
        helper.make_node("MatMul", ["x", "w"], ["m"], "layer"),
        helper.make_node("Add", ["m", "bias"], ["s"], "mask_scores"),
        helper.make_node("Softmax", ["s"], ["y"], "softmax"),
    ]
    constants = {
        "w": np.eye(8, dtype=np.float32),
        "one": np.float32(1),
        "lowest": np.float32(-3.4e38),
    }
    inputs = [("x", FLOAT, ["n", 8]), ("mask", INT64, ["n", 8])]
    model = models.build(nodes, inputs, [("y", ["n", 8])], constants)
    half, warnings = to_fp16(loaded(model, tmp_path))
    kinds = {node.name: node.outputs[0].dtype for node in half.graph}
    assert kinds["bias"] is ir.DataType.FLOAT16
    assert any("lowest" in warning for warning in warnings)
    feeds = {"x": np.ones((2, 8), np.float32), "mask": np.zeros((2, 8), np.int64)}
    assert np.isfinite(ort_run(half, feeds)["y"]).all()
