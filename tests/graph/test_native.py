"""The layout for ONNX Runtime: what it computes, and that it runs in integers."""

from collections import Counter
from dataclasses import replace

import models
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from layer_models import loaded, ort_run
from onnx import TensorProto, helper

from calib.errors import ModelError
from calib.graph.absorb import absorb
from calib.graph.channel_affine import ChannelAffine, apply_affines
from calib.graph.linear import linears
from calib.graph.native import (
    ADDS,
    BETWEEN,
    insert_native_qdq,
    native_tensors,
    rounded_twice,
    symmetric_range,
    unsigned_grid,
)
from calib.graph.save import save_model
from calib.graph.select import select
from calib.graph.selection_spec import SelectionSpec
from calib.graph.taps import tapped

POOLED = ("QLinearGlobalAveragePool", "QLinearAveragePool")
NATIVE = SelectionSpec(layout="native", min_channels=1)


def residual_net():
    """Two convolutions with a ReLU and a Clip, a residual Add, pooling and a classifier."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "conv1", pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2", "b1"], ["c2"], "conv2", pads=[1] * 4),
        helper.make_node("Clip", ["c2", "zero", "six"], ["k2"], "clip2"),
        helper.make_node("Conv", ["k2", "w3", "b1"], ["c3"], "conv3"),
        helper.make_node("Add", ["c3", "r1"], ["s"], "residual"),
        helper.make_node("GlobalAveragePool", ["s"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "v", "d"], ["y"], "classifier", transB=1),
    ]
    constants = {
        "w1": rng.normal(size=(16, 3, 3, 3), scale=0.3),
        "w2": rng.normal(size=(16, 16, 3, 3), scale=0.1),
        "w3": rng.normal(size=(16, 16, 1, 1), scale=0.3),
        "b1": rng.normal(size=16),
        "v": rng.normal(size=(20, 16)),
        "d": rng.normal(size=20),
        "zero": np.array(0.0),
        "six": np.array(6.0),
    }
    constants = {name: array.astype(np.float32) for name, array in constants.items()}
    inputs = [("x", TensorProto.FLOAT, ["n", 3, 16, 16])]
    return models.build(nodes, inputs, [("y", ["n", 20])], constants)


def ranges_of(graph, tensors, feeds):
    inner = [name for name in tensors if name not in feeds]
    seen = {**feeds, **ort_run(tapped(graph, inner), feeds)}
    return {name: (float(seen[name].min()), float(seen[name].max())) for name in tensors}


def native(proto, folder):
    """(model in FP32, model in the native layout, feeds)."""
    graph = loaded(proto, folder)
    (value,) = graph.graph.inputs
    shape = [8 if not isinstance(size, int) else size for size in value.shape]
    feeds = {value.name: np.random.default_rng(1).normal(size=shape).astype(np.float32)}
    selection = select(graph, NATIVE)
    ranges = ranges_of(graph, native_tensors(graph, selection), feeds)
    return graph, insert_native_qdq(graph, selection, ranges), feeds


def sqnr_db(wanted, found):
    noise = np.square(wanted - found, dtype=np.float64).sum()
    return 10 * np.log10(np.square(wanted, dtype=np.float64).sum() / noise)


def optimized_operators(model, folder):
    """What the runtime makes of it, by number."""
    save_model(model, folder / "native.onnx")
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(str(folder / "native.onnx"), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


@pytest.mark.parametrize("make", [residual_net, models.mlp, models.residual_cnn])
def test_it_computes_what_fp32_does_within_8_bits(make, tmp_path):
    graph, quantized, feeds = native(make(), tmp_path)
    wanted, found = ort_run(graph, feeds), ort_run(quantized, feeds)
    assert list(found) == list(wanted)
    assert all(sqnr_db(wanted[name], found[name]) > 25 for name in wanted)


def test_a_convolutional_net_runs_in_integers_from_end_to_end(tmp_path):
    _, quantized, _ = native(residual_net(), tmp_path)
    operators = optimized_operators(quantized, tmp_path)
    wanted = {"QLinearConv": 3, "QLinearAdd": 1, "QLinearGlobalAveragePool": 1, "QGemm": 1}
    assert {name: operators[name] for name in wanted} == wanted
    assert not {"Conv", "Add", "Relu", "Clip", "Gemm", "MatMul"} & operators.keys()
    assert operators["QuantizeLinear"] == 1


def test_a_grid_holds_zero_exactly_and_ends_where_a_relu_does():
    scale, zero = unsigned_grid(0.0, 5.1)
    assert zero == 0
    assert scale == np.float32(5.1 / 255)
    scale, zero = unsigned_grid(-1.0, 3.0)
    assert zero == round(255 / 4)
    assert abs((255 - int(zero)) * scale - 3) < scale
    assert unsigned_grid(2.0, 4.0)[1] == 0
    assert unsigned_grid(-4.0, -2.0)[1] == 255
    assert unsigned_grid(0.0, 0.0)[0] > 0


def test_a_convolution_that_makes_the_output_stays_in_float(tmp_path):
    only = models.build(
        [helper.make_node("Conv", ["x", "w"], ["y"], "last")],
        [("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [("y", ["n", 4, 6, 6])],
        {"w": np.ones((4, 3, 3, 3), np.float32)},
    )
    with pytest.raises(ModelError, match="leaves no tensor to quantize"):
        select(loaded(only, tmp_path), NATIVE)


def test_a_transformers_residual_path_stays_in_float(tmp_path):
    graph = loaded(models.mlp(), tmp_path)
    selection = select(graph, NATIVE)
    assert native_tensors(graph, selection) == selection.activation_tensors


def test_an_output_without_a_range_is_left_in_float(tmp_path):
    graph = loaded(residual_net(), tmp_path)
    selection = select(graph, NATIVE)
    feeds = {"x": np.random.default_rng(1).normal(size=(4, 3, 16, 16)).astype(np.float32)}
    ranges = ranges_of(graph, native_tensors(graph, selection), feeds)
    extra = [name for name in ranges if name not in selection.activation_tensors]
    fewer = {name: limits for name, limits in ranges.items() if name != extra[0]}
    found = insert_native_qdq(graph, selection, fewer)
    scaled = [n.inputs[0].name for n in found.graph if n.op_type == "QuantizeLinear"]
    assert extra[0] not in scaled
    assert sqnr_db(ort_run(graph, feeds)["y"], ort_run(found, feeds)["y"]) > 25


def test_weights_stay_signed_and_activations_are_not(tmp_path):
    _, quantized, _ = native(residual_net(), tmp_path)
    kinds = {n.inputs[2].dtype for n in quantized.graph if n.op_type == "QuantizeLinear"}
    assert kinds == {ir.DataType.UINT8}


def test_adds_and_pooling_can_be_left_in_float(tmp_path):
    proto = residual_net()
    graph, integer, feeds = native(proto, tmp_path)
    selection = select(graph, NATIVE)
    adds = {site.node for site in selection.activations if site.op_type == "Add"}
    rest = tuple(site for site in selection.activations if site.node not in adds)
    ranges = ranges_of(graph, native_tensors(graph, selection), feeds)
    wanted = ort_run(graph, feeds)["y"]
    errors = [sqnr_db(wanted, ort_run(integer, feeds)["y"])]
    for between, gone in ((BETWEEN - ADDS, {"QLinearAdd"}), ((), {"QLinearAdd", *POOLED})):
        some = replace(selection, activations=rest)
        found = insert_native_qdq(graph, some, ranges, between=between)
        operators = optimized_operators(found, tmp_path)
        assert operators["QLinearConv"] == 3
        assert not gone & operators.keys()
        assert operators["Add"] == 1
        errors.append(sqnr_db(wanted, ort_run(found, feeds)["y"]))
    assert min(errors) > 25


def test_weights_in_7_bits_are_in_every_operator(tmp_path):
    graph, _, feeds = native(residual_net(), tmp_path)
    selection = select(graph, NATIVE)
    ranges = ranges_of(graph, native_tensors(graph, selection), feeds)
    for limit in (63, 127):
        found = insert_native_qdq(graph, selection, ranges, limit=limit)
        codes = [
            value.const_value.numpy()
            for value in found.graph.initializers.values()
            if value.dtype is ir.DataType.INT8 and len(value.shape) > 1
        ]
        assert len(codes) == len(selection.weights)
        assert {int(np.abs(array).max()) for array in codes} == {limit}
        assert sqnr_db(ort_run(graph, feeds)["y"], ort_run(found, feeds)["y"]) > 20


def test_a_threshold_gives_the_grid_of_int8():
    scale, zero = unsigned_grid(*symmetric_range(2.54))
    assert zero == 128
    assert scale == pytest.approx(2.54 / 127)


@pytest.mark.parametrize("shift", [False, True])
def test_a_factor_behind_an_integer_node_is_found_where_nothing_takes_it_up(tmp_path, shift):
    graph = loaded(residual_net(), tmp_path)
    selection = select(graph, NATIVE)
    nodes = linears(graph, selection)
    gain = ChannelAffine(np.full(16, 2.0), np.full(16, 0.5) if shift else None)
    read = {"conv3": "k2", "classifier": "f"}
    chosen = [nodes[name] for name in read]
    changed, renamed = apply_affines(graph, chosen, dict.fromkeys(read.values(), gain))
    absorb(changed, renamed.values())
    left = rounded_twice(changed, select(changed, NATIVE), renamed)
    assert set(left) == {"k2", "f"}
    plain, same = apply_affines(graph, [nodes["conv2"]], {})
    assert rounded_twice(plain, select(plain, NATIVE), same) == ()
