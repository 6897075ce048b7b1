"""A small experiment to break: a model, data, and a config that takes a second."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

FEATURES, HIDDEN, CLASSES = 16, 24, 8


def mlp() -> onnx.ModelProto:
    """Two dense layers and a ReLU, with drawn weights."""
    rng = np.random.default_rng(0)
    constants = {
        "w1": rng.normal(size=(FEATURES, HIDDEN)).astype(np.float32) / 4,
        "b1": rng.normal(size=HIDDEN).astype(np.float32),
        "w2": rng.normal(size=(HIDDEN, CLASSES)).astype(np.float32) / 4,
    }
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w1"], ["h1"], name="fc1"),
            helper.make_node("Add", ["h1", "b1"], ["h2"], name="bias1"),
            helper.make_node("Relu", ["h2"], ["h3"], name="relu"),
            helper.make_node("MatMul", ["h3", "w2"], ["logits"], name="fc2"),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", FEATURES])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def convolutional() -> onnx.ModelProto:
    """A convolution, normalization and a dense layer on the same 16 numbers."""
    rng = np.random.default_rng(1)
    constants = {
        "shape": np.array([0, 1, 4, 4], np.int64),
        "flat": np.array([0, -1], np.int64),
        "w": rng.normal(size=(16, 1, 3, 3)).astype(np.float32),
        **{n: rng.uniform(0.5, 1, 16).astype(np.float32) for n in ("scale", "mean", "var")},
        "shift": rng.normal(size=16).astype(np.float32),
        "dense": rng.normal(size=(256, CLASSES)).astype(np.float32) / 16,
    }
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["x", "shape"], ["image"], name="image"),
            helper.make_node("Conv", ["image", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]),
            helper.make_node(
                "BatchNormalization", ["c", "scale", "shift", "mean", "var"], ["n"], name="norm"
            ),
            helper.make_node("Relu", ["n"], ["r"], name="relu"),
            helper.make_node("Reshape", ["r", "flat"], ["f"], name="flatten"),
            helper.make_node("MatMul", ["f", "dense"], ["logits"], name="head"),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", FEATURES])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def config() -> dict[str, Any]:
    """The experiment, as the YAML says it."""
    arrays = {"kind": "arrays", "inputs": {"x": "x"}, "label": "label"}
    return {
        "name": "small",
        "model": {"kind": "onnx", "path": "model.onnx"},
        "data": {
            "batch_size": 16,
            "calibration": {**arrays, "path": "calibration.npz"},
            "validation": {**arrays, "path": "validation.npz"},
        },
        "task": {"kind": "classification"},
        "calibration": {"calibrators": [{"kind": "minmax"}, {"kind": "entropy"}]},
        "quantization": {"min_channels": 1},
        "backend": {"kind": "onnxruntime", "threads": 1},
        "analysis": {"layer_samples": 16},
        "throughput": {"batch_sizes": []},
        "limits": {"accuracy_drop_points_max": 50.0, "output_sqnr_db_min": 1.0},
    }


def make(folder: Path) -> Path:
    """Write all of it into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    model = mlp()
    onnx.save(model, folder / "model.onnx")
    rng = np.random.default_rng(2)
    session = ReferenceEvaluator(model)
    for name, count in (("calibration", 48), ("validation", 64)):
        x = rng.normal(size=(count, FEATURES)).astype(np.float32)
        (logits,) = session.run(None, {"x": x})
        np.savez(folder / f"{name}.npz", x=x, label=np.argmax(logits, axis=1))
    (folder / "config.yaml").write_text(yaml.safe_dump(config()), encoding="utf-8")
    return folder
