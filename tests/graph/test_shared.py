"""What several nodes or outputs share stays right for each of them."""

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from layer_models import ALL, loaded, normal, ort_run
from onnx import TensorProto, helper, numpy_helper

from calib.backends.onnxruntime import OnnxRuntime, OnnxRuntimeSpec
from calib.graph.qdq import insert_qdq
from calib.graph.save import save_model
from calib.graph.select import select


def model(nodes, shape, constants, outputs):
    tensors = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *shape])
    graph = helper.make_graph(
        nodes,
        "shared",
        [x],
        [helper.make_tensor_value_info(name, kind, dims) for name, kind, dims in outputs],
        tensors,
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)


FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64
SHARED = {
    "MatMul": model(
        [
            helper.make_node("MatMul", ["x", "w"], ["y"], "one"),
            helper.make_node("Relu", ["x"], ["h"], "relu"),
            helper.make_node("MatMul", ["h", "w"], ["z"], "two"),
        ],
        [8],
        {"w": normal(1, 8, 5)},
        [("y", FLOAT, ["n", 5]), ("z", FLOAT, ["n", 5])],
    ),
    "MatMul and a transposed Gemm": model(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"], "one"),
            helper.make_node("Gemm", ["h", "w", "b"], ["y"], "two", transB=1),
        ],
        [8],
        {"w": normal(1, 8, 8), "b": normal(2, 8)},
        [("y", FLOAT, ["n", 8])],
    ),
    "Conv": model(
        [
            helper.make_node("Conv", ["x", "w", "b"], ["h"], "one", pads=[1] * 4),
            helper.make_node("Relu", ["h"], ["r"], "relu"),
            helper.make_node("Conv", ["r", "w", "b"], ["y"], "two", pads=[1] * 4),
        ],
        [8, 6, 6],
        {"w": normal(3, 8, 8, 3, 3), "b": normal(4, 8)},
        [("y", FLOAT, ["n", 8, 6, 6])],
    ),
}


@pytest.mark.parametrize("precise", ["0", "1"])
@pytest.mark.parametrize("kind", SHARED)
def test_a_weight_that_several_nodes_read_runs_in_int8(kind, precise, tmp_path):
    graph = loaded(SHARED[kind], tmp_path)
    x = normal(9, 4, *graph.graph.inputs[0].shape[1:])
    selection = select(graph, ALL)
    assert len(selection.weights) == 2
    wanted = ort_run(graph, {"x": x})
    amax = {"x": 4.0, **{t: 40.0 for t in selection.activation_tensors if t != "x"}}
    quantized = insert_qdq(graph, selection, amax)
    options = ort.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", precise)
    session = ort.InferenceSession(ir.to_proto(quantized).SerializeToString(), options)
    for found, expected in zip(session.run(None, {"x": x}), wanted.values(), strict=True):
        assert np.square(found - expected).sum() < 0.02 * np.square(expected).sum()


ALIASES = model(
    [
        helper.make_node("Identity", ["x"], ["copy"], "pass"),
        helper.make_node("MatMul", ["x", "w"], ["feature"], "product"),
        helper.make_node("Relu", ["feature"], ["act"], "relu"),
        helper.make_node("Identity", ["act"], ["alias"], "alias"),
        helper.make_node("Identity", ["feature"], ["inner"], "inner"),
        helper.make_node("MatMul", ["inner", "v"], ["logits"], "head"),
        helper.make_node("Identity", ["logits"], ["scores"], "last"),
        helper.make_node("ArgMax", ["scores"], ["label"], "argmax", axis=1, keepdims=0),
        helper.make_node("Shape", ["feature"], ["shape"], "shape"),
    ],
    [8],
    {"w": normal(1, 8, 8), "v": normal(2, 8, 5)},
    [
        ("feature", FLOAT, ["n", 8]),
        ("label", INT, ["n"]),
        ("copy", FLOAT, ["n", 8]),
        ("act", FLOAT, ["n", 8]),
        ("alias", FLOAT, ["n", 8]),
        ("scores", FLOAT, ["n", 5]),
        ("shape", INT, [2]),
    ],
)


def test_outputs_that_are_one_another_or_an_input_keep_names_order_and_values(tmp_path):
    x = normal(5, 3, 8)
    direct = ort.InferenceSession(ALIASES.SerializeToString()).run(None, {"x": x})
    names = [output.name for output in ALIASES.graph.output]
    graph = loaded(ALIASES, tmp_path)
    selection = select(graph, ALL)
    amax = dict.fromkeys(selection.activation_tensors, 12.0)
    for variant in (graph, insert_qdq(graph, selection, amax)):
        path = tmp_path / "variant.onnx"
        save_model(variant, path)
        with OnnxRuntime(OnnxRuntimeSpec()).engine(path) as engine:
            for _ in range(2):
                found = engine.infer({"x": x})
                assert list(found) == names
                for name, wanted in zip(names, direct, strict=True):
                    assert found[name].dtype == wanted.dtype
                    assert found[name].shape == wanted.shape
                np.testing.assert_array_equal(found["copy"], x)
                np.testing.assert_array_equal(found["alias"], found["act"])
                np.testing.assert_allclose(found["feature"], direct[0], atol=0.5)
