"""Operators of other domains: types and shapes come from a run; they stay in float, and say so."""

import numpy as np
import onnx
import pytest
from layer_models import normal
from onnx import TensorProto, helper, numpy_helper
from whole_runs import finished, reasons, signature, sqnr_db, written

from calib.errors import ModelError
from calib.graph.load import load_model
from calib.graph.seen import unknown_tensors

FLOAT = TensorProto.FLOAT
MS = "com.microsoft"


def made(nodes, constants, inputs=("n", "length", 32), output=("n", "length", 8), domain=MS):
    graph = helper.make_graph(
        nodes,
        "foreign",
        [helper.make_tensor_value_info("x", FLOAT, inputs)],
        [helper.make_tensor_value_info("y", FLOAT, output)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def transformer():
    """A feed-forward block as ONNX Runtime's optimizer leaves it."""
    constants = {
        "w": 0.3 * normal(1, 32, 64),
        "b": 0.1 * normal(2, 64),
        "v": 0.2 * normal(3, 64, 32),
        "gamma": 1 + 0.1 * normal(4, 32),
        "beta": 0.1 * normal(5, 32),
        "f": 0.3 * normal(6, 32, 32),
        "u": 0.3 * normal(7, 32, 8),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "fc1"),
        helper.make_node("BiasGelu", ["a", "b"], ["g"], "gelu", domain=MS),
        helper.make_node("MatMul", ["g", "v"], ["c"], "fc2"),
        helper.make_node(
            "SkipLayerNormalization", ["c", "x", "gamma", "beta"], ["s"], "norm", domain=MS
        ),
        helper.make_node("FusedMatMul", ["s", "f"], ["t"], "fused", domain=MS, alpha=0.5),
        helper.make_node("Gelu", ["t"], ["h"], "gelu2", domain=MS),
        helper.make_node("MatMul", ["h", "u"], ["y"], "head"),
    ]
    return made(nodes, constants)


def test_shapes_come_from_a_run_and_the_operators_stay_in_float(tmp_path):
    proto = transformer()
    x = normal(8, 24, 6, 32)
    run = finished(proto, {"x": x}, tmp_path, engines={"rest": ["fp32", "fp16"]})
    calibration = run.result.calibration
    assert {w.node for w in calibration.weights} == {"fc1", "fc2", "head"}
    assert {a.tensor for a in calibration.activations} == {"x", "g", "h"}
    why = reasons(run)
    assert why["a"] == "BiasGelu of com.microsoft: what it does with INT8 is not known"
    assert why["f"].startswith("FusedMatMul of com.microsoft")
    assert why["s"].startswith("FusedMatMul of com.microsoft")
    assert why["t"].startswith("Gelu of com.microsoft")
    ends = signature(tmp_path / "model.onnx")
    for name, least in (("fp16", 50), ("int8-minmax-fp32", 25), ("int8-minmax-fp16", 25)):
        assert signature(written(run, name)) == ends
        assert sqnr_db(run, name) > least


def test_inference_alone_would_not_have_known_them(tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(transformer(), path)
    assert {"s", "t"} <= set(unknown_tensors(load_model(path).graph))


def test_a_matmul_too_small_is_known_as_such_behind_an_unknown_operator(tmp_path):
    run = finished(
        transformer(),
        {"x": normal(8, 24, 6, 32)},
        tmp_path,
        quantization={"min_channels": 16},
        engines={"fp16": False},
    )
    assert {w.node for w in run.result.calibration.weights} == {"fc1", "fc2"}
    assert "below 16" in reasons(run)["h"]


def test_remedies_work_around_them(tmp_path):
    run = finished(transformer(), {"x": normal(8, 48, 6, 32)}, tmp_path, quantization="auto")
    assert sqnr_db(run) > 25


def test_an_operator_that_the_runtime_does_not_know_is_refused_by_its_name(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "fc"),
        helper.make_node("Whirl", ["a"], ["y"], "whirl", domain="my.company"),
    ]
    proto = made(nodes, {"w": normal(1, 32, 8)}, domain="my.company")
    with pytest.raises(ModelError, match=r"cannot be run.*my\.company:Whirl"):
        finished(proto, {"x": normal(8, 8, 6, 32)}, tmp_path)


def test_functions_of_the_model_are_written_out(tmp_path):
    body = [
        helper.make_node("MatMul", ["a", "b"], ["product"]),
        helper.make_node("Relu", ["product"], ["c"]),
    ]
    dense = helper.make_function(
        "my.layers", "Dense", ["a", "b"], ["c"], body, [helper.make_opsetid("", 17)]
    )
    nodes = [
        helper.make_node("Dense", ["x", "w"], ["h"], "first", domain="my.layers"),
        helper.make_node("Dense", ["h", "v"], ["y"], "second", domain="my.layers"),
    ]
    constants = {"w": 0.3 * normal(1, 32, 16), "v": 0.3 * normal(2, 16, 8)}
    proto = made(nodes, constants, domain="my.layers")
    proto.functions.append(dense)
    run = finished(proto, {"x": normal(3, 24, 6, 32)}, tmp_path)
    assert {w.tensor for w in run.result.calibration.weights} == {"w", "v"}
    assert sqnr_db(run) > 25
    assert not any("my.layers" in warning for warning in run.result.model.warnings)


def test_a_dynamic_axis_is_not_taken_for_a_fixed_one(tmp_path):
    """The length is the same in all samples: only the input's own axis says that it may change."""
    path = tmp_path / "m.onnx"
    onnx.save(transformer(), path)
    from calib.graph.seen import with_seen

    graph = load_model(path).graph
    x = np.zeros((2, 6, 32), np.float32)
    runs = [
        ({"x": x[:n]}, {"s": x[:n], "t": x[:n], "h": x[:n], "g": np.zeros((n, 6, 64), "f4")})
        for n in (2, 1)
    ]
    known = with_seen(graph, runs)
    shapes = {v.name: v.shape for node in known.graph for v in node.outputs}
    assert [isinstance(axis, int) for axis in shapes["t"]] == [False, False, True]
    assert not unknown_tensors(known)
