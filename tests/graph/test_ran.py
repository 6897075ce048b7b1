"""What really ran: the optimized graph against ONNX Runtime's own profile of a run."""

from collections import Counter
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
from layer_models import ALL, loaded
from onnx import TensorProto, helper, numpy_helper
from optimized_models import (
    MODELS,
    feeds_of,
    given,
    profiled,
    quantized,
    read_back,
    share,
    types,
    written,
)

from calib.graph.fp16 import to_fp16
from calib.graph.optimized import kernel_counts, operators, read_optimized, work_counts
from calib.graph.qdq import insert_qdq
from calib.graph.ran import node_runs
from calib.graph.select import select
from calib.graph.selection_spec import SelectionSpec

FIXTURES = Path(__file__).parent.parent / "fixtures"


@pytest.mark.parametrize(
    "kind", ["float", "int8", "uint8", "native", "float-fp16", "uint8-fp16", "native-fp16"]
)
@pytest.mark.parametrize("name", MODELS)
def test_the_operators_are_those_that_a_profile_shows(name, kind, tmp_path):
    layout, _, half = kind.partition("-")
    graph, feeds = given(name, layout, tmp_path), feeds_of(name)
    if half:
        graph, _ = to_fp16(graph)
    path = written(graph, tmp_path)
    found, runs = read_back(path, feeds)
    expected = profiled(path, feeds)
    assert types(found) == expected
    integer = sum(count for kind, count in expected.items() if "Integer" in kind or kind[0] == "Q")
    integer -= expected["QuantizeLinear"]
    assert work_counts(found).get("integer", 0) == integer
    assert [n.node for n in runs.nodes if n.ran is None] == []
    assert runs.uncounted == {}
    assert all(n.cause for n in runs.nodes if n.asked != n.ran)
    assert {n.node for n in runs.nodes if n.emulated} == {
        n.node for n in runs.nodes if half and n.ran == "fp32"
    }


@pytest.mark.parametrize("exporter", ["legacy", "dynamo"])
@pytest.mark.parametrize("layout", ["uint8", "native"])
def test_exported_models_run_what_a_profile_shows_and_every_node_is_found(
    exporter, layout, tmp_path
):
    for kind in ("bert", "cnn"):
        proto = onnx.load(FIXTURES / f"{kind}_{exporter}.onnx")
        names = {one.name for one in proto.graph.input}
        feeds = {k: v for k, v in np.load(FIXTURES / f"{kind}.npz").items() if k in names}
        path = written(quantized(proto, tmp_path, layout, feeds), tmp_path)
        found, runs = read_back(path, feeds)
        assert types(found) == profiled(path, feeds)
        weighted = [n for n in runs.nodes if n.macs != 0]
        assert Counter(n.op_type for n in weighted) == Counter(
            node.op_type for node in proto.graph.node if node.op_type in ("MatMul", "Gemm", "Conv")
        )
        assert all(n.ran for n in weighted)
        assert runs.uncounted == {}


def test_a_mobile_net_is_integer_in_the_native_layout(tmp_path):
    path = written(given("mobile", "native", tmp_path), tmp_path)
    found, runs = read_back(path, feeds_of("mobile"))
    pixels = 2 * 8 * 8
    assert {n.node: n.macs for n in runs.nodes} == {
        "conv0": pixels * 16 * 3 * 9,
        **dict.fromkeys(("conv1", "conv3", "conv4", "conv6"), pixels * 32 * 16),
        **dict.fromkeys(("conv2", "conv5"), pixels * 32 * 9),
        "head": 2 * 16 * 16,
        "residual": 0,
        "pool": 0,
    }
    assert share(runs) == 100
    assert kernel_counts(found)["QLinearAdd"] == 1


def test_a_mobile_net_is_float_in_tensorrts_layout_and_why_is_told(tmp_path):
    path = written(given("mobile", "uint8", tmp_path), tmp_path)
    _, runs = read_back(path, feeds_of("mobile"))
    clipped = "a Clip is between it and the QuantizeLinear behind it"
    assert {n.node: n.cause for n in runs.nodes} == {
        **dict.fromkeys(("conv0", "conv1", "conv2", "conv4", "conv5"), clipped),
        "conv3": "its output is read in float too: by Add",
        "conv6": "",  # the skip path that it makes is quantized
        "head": "its bias is not quantized",
    }
    assert {n.node for n in runs.nodes if n.ran == "int8"} == {"conv6"}
    assert 0 < share(runs) < 20


def test_why_a_convolution_ran_in_float_is_told(tmp_path):
    path = written(given("chain", "uint8", tmp_path), tmp_path)
    _, runs = read_back(path, feeds_of("chain"))
    assert [n.cause for n in runs.nodes] == [
        "a Relu is between it and the QuantizeLinear behind it",
        "a Relu is between it and the QuantizeLinear behind it",
        "its output is not quantized",
    ]


def test_an_add_that_is_fused_in_front_of_a_quantizer_is_told(tmp_path):
    rng = np.random.default_rng(5)
    same = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["c0"], "first", **same),
        helper.make_node("Conv", ["c0", "w1", "bias"], ["c1"], "second", **same),
        helper.make_node("Add", ["c1", "c0"], ["sum"], "residual"),
        helper.make_node("Relu", ["sum"], ["relu"], "relu"),
        helper.make_node("Conv", ["relu", "w2"], ["y"], "third", **same),
    ]
    size = ["n", 16, 8, 8]
    constants = {f"w{i}": rng.normal(size=(16, 16, 3, 3)).astype(np.float32) for i in range(3)}
    constants["bias"] = rng.normal(size=16).astype(np.float32)
    proto = models.build(nodes, [("x", TensorProto.FLOAT, size)], [("y", size)], constants)
    feeds = {"x": rng.normal(size=(2, 16, 8, 8)).astype(np.float32)}
    alone = SelectionSpec(min_channels=1, residual="none")
    path = written(quantized(proto, tmp_path, "uint8", feeds, alone), tmp_path)
    assert {n.node: n.cause for n in read_back(path, feeds)[1].nodes} == {
        "first": "its output is read in float too: by FusedConv",
        "second": "an Add and Relu is between it and the QuantizeLinear behind it",
        "third": "its output is not quantized: it leaves the model",
    }


def test_a_factor_a_channel_is_no_convolution_of_the_model(tmp_path):
    rng = np.random.default_rng(5)
    proto = models.build(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], "conv", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["r"], "relu"),
            helper.make_node("Mul", ["r", "factors"], ["y"], "scale"),
        ],
        [("x", TensorProto.FLOAT, ["n", 16, 8, 8])],
        [("y", ["n", 16, 8, 8])],
        {
            "w": rng.normal(size=(16, 16, 3, 3)).astype(np.float32),
            "factors": rng.normal(size=(1, 16, 1, 1)).astype(np.float32),
        },
    )
    path = tmp_path / "m.onnx"
    onnx.save(proto, path)
    feeds = {"x": rng.normal(size=(2, 16, 8, 8)).astype(np.float32)}
    found, runs = read_back(path, feeds)
    assert types(found) == profiled(path, feeds)
    assert runs.uncounted == {}


def test_why_a_dense_layer_ran_in_float_is_told(tmp_path):
    _, runs = read_back(written(given("mlp", "uint8", tmp_path), tmp_path), feeds_of("mlp"))
    assert {n.node: n.cause for n in runs.nodes}["fc2"] == "its bias is not quantized"


def test_a_node_left_in_float_was_not_asked_for_int8(tmp_path):
    graph = loaded(models.mlp(), tmp_path)
    selection = select(graph, ALL, {"fc2": "said so"})
    amax = dict.fromkeys(selection.activation_tensors, 4.0)
    path = written(insert_qdq(graph, selection, amax), tmp_path)
    nodes = {n.node: n for n in read_back(path, feeds_of("mlp"))[1].nodes}
    assert (nodes["fc2"].asked, nodes["fc2"].ran, nodes["fc2"].cause) == ("fp32", "fp32", "")
    assert nodes["fc1"].asked == "int8"


@pytest.mark.parametrize("optimization", ["disabled", "basic", "extended"])
def test_each_level_of_optimization_is_read_as_it_is(optimization, tmp_path):
    path = written(given("transformer", "native", tmp_path), tmp_path)
    feeds = feeds_of("transformer")
    found, runs = read_back(path, feeds, optimization=optimization)
    assert types(found) == profiled(path, feeds, optimization=optimization)
    assert all(n.ran for n in runs.nodes)
    assert share(runs) == (100 if optimization == "extended" else 0)


def test_what_is_folded_into_a_constant_runs_nowhere(tmp_path):
    proto = models.build(
        [
            helper.make_node("MatMul", ["a", "b"], ["c"], "constant"),
            helper.make_node("MatMul", ["x", "c"], ["y"], "real"),
        ],
        [("x", TensorProto.FLOAT, ["n", 16])],
        [("y", ["n", 16])],
        {name: np.eye(16, dtype=np.float32) for name in "ab"},
    )
    path = tmp_path / "m.onnx"
    onnx.save(proto, path)
    _, runs = read_back(path, {"x": np.ones((2, 16), np.float32)})
    ran = {n.node: (n.ran, n.cause) for n in runs.nodes}
    assert ran["real"] == ("fp32", "")
    assert ran["constant"][0] is None
    assert "folded" in ran["constant"][1]


def test_a_multiplication_inside_a_loop_is_said_to_be_in_no_share(tmp_path):
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("MatMul", ["state", "w"], ["next"], "inner"),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, ["n", 16]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, ["n", 16]),
        ],
    )
    proto = models.build(
        [
            helper.make_node("Loop", ["three", "", "x"], ["h"], "loop", body=body),
            helper.make_node("MatMul", ["h", "w"], ["y"], "outer"),
        ],
        [("x", TensorProto.FLOAT, ["n", 16])],
        [("y", ["n", 16])],
        {"w": np.eye(16, dtype=np.float32), "three": np.int64(3)},
    )
    path = tmp_path / "m.onnx"
    onnx.save(proto, path)
    _, runs = read_back(path, {"x": np.ones((2, 16), np.float32)})
    assert [n.node for n in runs.nodes] == ["outer"]
    assert runs.uncounted == {"MatMul": 1}


def test_one_fused_operator_may_run_many_nodes(tmp_path):
    fused = helper.make_node(
        "Attention",
        ["x", "qkv", "bias"],
        ["mixed"],
        "Attention",
        domain="com.microsoft",
        num_heads=1,
    )
    last = helper.make_node("MatMul", ["mixed", "wo"], ["out"], "project")
    shape = ["batch", "length", 32]
    graph = helper.make_graph(
        [fused, last],
        "optimized",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, shape)],
        [
            numpy_helper.from_array(np.zeros(of, np.float32), name)
            for name, of in (("qkv", (32, 96)), ("bias", 96), ("wo", (32, 32)))
        ],
    )
    onnx.save(helper.make_model(graph), tmp_path / "optimized.onnx")
    given = loaded(models.transformer_block(), tmp_path)
    found = operators(read_optimized(tmp_path / "optimized.onnx"))
    runs = node_runs(given, found, {"x": (2, 6, 32)})
    assert {n.node: n.kernel for n in runs.nodes} == {
        **dict.fromkeys(("query", "key", "scores", "mix"), "Attention"),
        "project": "MatMul",
    }


def test_nodes_of_unknown_shape_have_no_share(tmp_path):
    proto = models.build(
        [
            helper.make_node("NonZero", ["x"], ["at"], "where"),
            helper.make_node("Cast", ["at"], ["rows"], "cast", to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["w", "rows"], ["y"], "unknown"),
            helper.make_node("MatMul", ["x", "v"], ["z"], "known"),
        ],
        [("x", TensorProto.FLOAT, ["n", 16])],
        [("y", [16, "count"]), ("z", ["n", 16])],
        {"w": np.ones((16, 2), np.float32), "v": np.ones((16, 16), np.float32)},
    )
    path = tmp_path / "m.onnx"
    onnx.save(proto, path)
    _, runs = read_back(path, {"x": np.ones((3, 16), np.float32)})
    assert {n.node: n.macs for n in runs.nodes} == {"unknown": None, "known": 3 * 16 * 16}
    assert all(n.ran == "fp32" for n in runs.nodes)
