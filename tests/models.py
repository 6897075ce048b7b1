"""Tiny ONNX models with seeded weights, and an independent way to run them."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

FEATURES, HIDDEN, CLASSES = 32, 48, 16
OPSET = 17


def run(model, feeds):
    """Outputs by name, from the ONNX reference evaluator."""
    session = ReferenceEvaluator(model)
    return dict(zip(session.output_names, session.run(None, feeds), strict=True))


def build(nodes, inputs, outputs, constants, opset=OPSET):
    """A checked model."""
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(n, t, s) for n, t, s in inputs],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def _normal(rng, *shape):
    return (rng.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)


def mlp():
    """Two dense layers with biases and a ReLU."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h1"], name="fc1"),
        helper.make_node("Add", ["h1", "b1"], ["h2"], name="bias1"),
        helper.make_node("Relu", ["h2"], ["h3"], name="relu"),
        helper.make_node("Gemm", ["h3", "w2", "b2"], ["logits"], name="fc2", transB=1),
    ]
    constants = {
        "w1": _normal(rng, FEATURES, HIDDEN),
        "b1": _normal(rng, HIDDEN),
        "w2": np.ascontiguousarray(_normal(rng, HIDDEN, CLASSES).T),
        "b2": _normal(rng, CLASSES),
    }
    return build(
        nodes,
        [("x", TensorProto.FLOAT, ["batch", FEATURES])],
        [("logits", ["batch", CLASSES])],
        constants,
    )


def residual_cnn():
    """Conv, BatchNormalization, ReLU, and a residual block around a second Conv."""
    rng = np.random.default_rng(1)
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node(
            "BatchNormalization", ["c1", "gamma", "beta", "mean", "var"], ["n1"], name="bn1"
        ),
        helper.make_node("Relu", ["n1"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], name="conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "r1"], ["s"], name="residual"),
        helper.make_node("Relu", ["s"], ["y"], name="relu2"),
    ]
    constants = {
        "w1": rng.normal(size=(16, 3, 3, 3), scale=0.2).astype(np.float32),
        "w2": rng.normal(size=(16, 16, 3, 3), scale=0.1).astype(np.float32),
        "b2": rng.normal(size=16).astype(np.float32),
        "gamma": rng.uniform(0.5, 2, size=16).astype(np.float32),
        "beta": rng.normal(size=16).astype(np.float32),
        "mean": rng.normal(size=16).astype(np.float32),
        "var": rng.uniform(0.5, 2, size=16).astype(np.float32),
    }
    return build(
        nodes,
        [("x", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [("y", ["batch", 16, 8, 8])],
        constants,
    )


def transformer_block():
    """Attention of one head and a residual path: (batch, length, 32) in and out."""
    rng = np.random.default_rng(2)
    nodes = [
        helper.make_node("MatMul", ["x", "wq"], ["q"], name="query"),
        helper.make_node("MatMul", ["x", "wk"], ["k"], name="key"),
        helper.make_node("Transpose", ["k"], ["kt"], name="turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["scores"], name="scores"),
        helper.make_node("Softmax", ["scores"], ["shares"], name="softmax", axis=-1),
        helper.make_node("MatMul", ["shares", "x"], ["mixed"], name="mix"),
        helper.make_node("MatMul", ["mixed", "wo"], ["out"], name="project"),
        helper.make_node("Add", ["out", "x"], ["sum"], name="residual"),
        helper.make_node(
            "LayerNormalization", ["sum", "gain", "shift"], ["y"], name="norm", axis=-1
        ),
    ]
    constants = {n: _normal(rng, FEATURES, FEATURES) for n in ("wq", "wk", "wo")}
    constants["gain"] = np.ones(FEATURES, dtype=np.float32)
    constants["shift"] = np.zeros(FEATURES, dtype=np.float32)
    return build(
        nodes,
        [("x", TensorProto.FLOAT, ["batch", "length", FEATURES])],
        [("y", ["batch", "length", FEATURES])],
        constants,
    )


def bag_of_words(rows):
    """Token ids (batch, length) to the scores of 16 classes: embed, average, one dense layer."""
    rng = np.random.default_rng(3)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["embedded"], name="embed"),
        helper.make_node("ReduceMean", ["embedded"], ["mean"], name="mean", axes=[1], keepdims=0),
        helper.make_node("MatMul", ["mean", "w"], ["logits"], name="head"),
    ]
    constants = {"table": _normal(rng, rows, FEATURES), "w": _normal(rng, FEATURES, CLASSES)}
    return build(
        nodes,
        [("input_ids", TensorProto.INT64, ["batch", "length"])],
        [("logits", ["batch", CLASSES])],
        constants,
    )


def attention_over_tokens():
    """Token ids and a mask through attention; id 0, the padding, has an enormous embedding."""
    rng = np.random.default_rng(6)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"], name="embed"),
        helper.make_node("MatMul", ["rows", "wq"], ["q"], name="query"),
        helper.make_node("MatMul", ["rows", "wk"], ["k"], name="key"),
        helper.make_node("Transpose", ["k"], ["kt"], name="turn", perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["scores"], name="scores"),
        helper.make_node("Cast", ["attention_mask"], ["real"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["real", "one"], ["keys"], name="unsqueeze"),
        helper.make_node("Sub", ["keys", "unit"], ["gap"], name="gap"),
        helper.make_node("Mul", ["gap", "huge"], ["bias"], name="bias"),
        helper.make_node("Add", ["scores", "bias"], ["masked"], name="mask"),
        helper.make_node("Softmax", ["masked"], ["shares"], name="softmax", axis=-1),
        helper.make_node("MatMul", ["shares", "rows"], ["mixed"], name="mix"),
        helper.make_node("MatMul", ["mixed", "wo"], ["out"], name="project"),
        helper.make_node("ReduceMax", ["out"], ["y"], name="pool", axes=[1], keepdims=0),
    ]
    weights = {n: rng.normal(size=(32, 32)).astype(np.float32) / 4 for n in ("wq", "wk", "wo")}
    return build(
        nodes,
        [(n, TensorProto.INT64, ["batch", "length"]) for n in ("input_ids", "attention_mask")],
        [("y", ["batch", 32])],
        {
            "table": np.concatenate([np.full((1, 32), 100), rng.normal(size=(40, 32))]).astype(
                "f4"
            ),
            "one": np.array([1], dtype=np.int64),
            "unit": np.array(1, dtype=np.float32),
            "huge": np.array(1e5, dtype=np.float32),
            **weights,
        },
    )


def texts(seed):
    """40 sentences of unlike length, for `attention_over_tokens`."""
    rng = np.random.default_rng(seed)
    for number, length in enumerate(rng.integers(3, 20, size=40)):
        ids = rng.integers(1, 40, size=length)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        yield {"id": f"{seed}-{number}", "inputs": inputs}


def conv_chain(*widths):
    """Convolutions and ReLUs of so many channels, pooled: (batch, 3, 12, 12) to (batch, last)."""
    rng = np.random.default_rng(3)
    nodes, constants, x, inputs = [], {}, "x", 3
    for number, width in enumerate(widths):
        weight = rng.normal(size=(width, inputs, 3, 3), scale=(2 / (9 * inputs)) ** 0.5)
        constants[f"w{number}"] = weight.astype(np.float32)
        nodes += [
            helper.make_node("Conv", [x, f"w{number}"], [f"c{number}"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"c{number}"], [f"r{number}"]),
        ]
        x, inputs = f"r{number}", width
    nodes += [
        helper.make_node("GlobalAveragePool", [x], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["y"]),
    ]
    return build(
        nodes,
        [("x", TensorProto.FLOAT, ["batch", 3, 12, 12])],
        [("y", ["batch", inputs])],
        constants,
    )
