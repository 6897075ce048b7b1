"""What TensorRT would refuse or change is found first; TensorRT-RTX itself is the witness."""

import models
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from calib.backends.precision import layers_from_dump, node_precisions
from calib.backends.tensorrt_build import BuildRequest, build_engine
from calib.errors import BackendError, ModelError
from calib.graph.read import read_graph
from calib.graph.tensorrt_rules import findings, refuse_for_tensorrt

PROFILE = {"x": ((1, 32), (4, 32), (8, 32))}


NO_OFFSET = np.int8(0)


def quantized(
    *,
    scale=0.02,
    zero=NO_OFFSET,
    weight_scale=0.01,
    quantize_weight=True,
    quantize_input=True,
    opset=21,
):
    """x -> Q -> DQ -> MatMul <- DQ <- int8 weight; the way it should be unless told otherwise."""
    rng = np.random.default_rng(0)
    nodes, left, right = [], "x", "w"
    constants = {"s": np.asarray(scale, np.float32), "ws": np.asarray(weight_scale, np.float32)}
    if quantize_input:
        inputs = ["x", "s"] if zero is None else ["x", "s", "z"]
        tail = ["s"] if zero is None else ["s", "z"]
        nodes.append(helper.make_node("QuantizeLinear", inputs, ["q"], name="quantize"))
        nodes.append(helper.make_node("DequantizeLinear", ["q", *tail], ["d"], name="dequantize"))
        left = "d"
        if zero is not None:
            constants["z"] = np.broadcast_to(zero, np.shape(scale)).copy()
    weight = rng.integers(-127, 128, size=(32, 64)).astype(np.int8)
    constants["w"] = weight if quantize_weight else weight.astype(np.float32) * np.float32(0.01)
    if quantize_weight:
        axis = {"axis": 1} if np.ndim(weight_scale) else {}
        nodes.append(
            helper.make_node("DequantizeLinear", ["w", "ws"], ["wd"], name="weight", **axis)
        )
        right = "wd"
    nodes.append(helper.make_node("MatMul", [left, right], ["y"], name="product"))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 64])],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def problems(proto):
    return [(f.node, f.refused) for f in findings(_model(proto))]


def _model(proto):
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto))


def rtx(proto, folder):
    """Build for SM 8.9; the facts, with the layers' dump."""
    onnx.save(proto, folder / "m.onnx")
    request = BuildRequest("tensorrt_rtx", str(folder / "m.onnx"), PROFILE, "8.9")
    return build_engine(request, folder, 120, lambda _: None)


PER_CHANNEL = np.full(64, 0.01)


def test_a_graph_as_we_write_it_has_no_findings_and_builds(tmp_path):
    proto = quantized(weight_scale=PER_CHANNEL)
    assert problems(proto) == []
    pytest.importorskip("tensorrt_rtx")
    assert rtx(proto, tmp_path)["version"]


REFUSED = {
    "zero_point": quantized(zero=np.int8(3)),
    "scale_zero": quantized(scale=0.0),
    "scale_negative": quantized(scale=-0.1),
    "scale_nan": quantized(scale=np.nan),
    "int16": quantized(zero=np.int16(0)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_tensorrt_refuses_is_refused_first(tmp_path, name):
    with pytest.raises(ModelError, match=r"m\.onnx: node quantize"):
        refuse_for_tensorrt(_model(REFUSED[name]), "m.onnx")
    pytest.importorskip("tensorrt_rtx")
    with pytest.raises(BackendError):
        rtx(REFUSED[name], tmp_path)


@pytest.mark.parametrize("zero", [None, np.uint8(0)], ids=["no zero point", "uint8"])
def test_what_tensorrt_gives_another_meaning_is_refused(tmp_path, zero):
    proto = quantized(zero=zero)
    with pytest.raises(ModelError, match="int8"):
        refuse_for_tensorrt(_model(proto), "m.onnx")
    pytest.importorskip("tensorrt_rtx")
    rtx(proto, tmp_path)  # it builds, as int8, and nobody is told


def _operator(kind, domain="", **attributes):
    node = helper.make_node(kind, ["x"], ["y"], name="it", domain=domain, **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 32])],
    )
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=9)


@pytest.mark.parametrize(
    ("kind", "domain"),
    [("MatMulInteger", ""), ("QLinearConv", ""), ("FusedGelu", "com.microsoft")],
)
def test_operators_that_tensorrt_does_not_have_are_refused(kind, domain):
    (finding,) = findings(ir.from_proto(_operator(kind, domain)))
    assert finding.refused
    assert kind in finding.problem


@pytest.mark.parametrize(
    ("proto", "node"),
    [
        (quantized(quantize_weight=False), "product"),
        (quantized(quantize_input=False, weight_scale=PER_CHANNEL), "product"),
    ],
    ids=["weight in float", "input in float"],
)
def test_one_sided_quantization_is_warned_of_and_does_not_run_in_int8(tmp_path, proto, node):
    assert problems(proto) == [(node, False)]
    (warning,) = refuse_for_tensorrt(_model(proto), "m.onnx")
    assert "does not run in INT8" in warning
    pytest.importorskip("tensorrt_rtx")
    rtx(proto, tmp_path)
    dump = (tmp_path / "layers.txt").read_text()
    product = [line for line in dump.split("\n") if "[ONNX Layer: product]" in line]
    assert product
    assert not any("LayerType: gemm, Inputs: [ { Name" in p and "Int8" in p for p in product)


def test_a_bias_in_int32_is_refused():
    proto = quantized()
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros(64, np.int32), "b"))
    proto.graph.initializer.append(numpy_helper.from_array(np.float32(1e-4), "bs"))
    bias = helper.make_node("DequantizeLinear", ["b", "bs"], ["bd"], name="bias")
    proto.graph.node.insert(0, bias)
    proto.graph.node[-1].output[0] = "p"
    proto.graph.node.append(helper.make_node("Add", ["p", "bd"], ["y"], name="add"))
    with pytest.raises(ModelError, match=r"node bias.*INT32"):
        refuse_for_tensorrt(_model(proto), "m.onnx")


def test_our_own_graphs_have_no_findings(tmp_path):
    from calib.graph.load import load_model
    from calib.graph.qdq import insert_qdq
    from calib.graph.save import save_model
    from calib.graph.select import select
    from calib.graph.selection_spec import SelectionSpec

    for proto in (models.mlp(), models.transformer_block(), models.residual_cnn()):
        onnx.save(proto, tmp_path / "m.onnx")
        graph = load_model(tmp_path / "m.onnx").graph
        selection = select(graph, SelectionSpec())
        amax = dict.fromkeys(selection.activation_tensors, 2.0)
        save_model(insert_qdq(graph, selection, amax), tmp_path / "q.onnx")
        assert findings(read_graph(tmp_path / "q.onnx")) == ()


def test_an_activation_scaled_per_channel_is_warned_of_and_does_not_run_in_int8(tmp_path):
    proto = quantized(scale=np.full(32, 0.02), weight_scale=PER_CHANNEL)
    assert ("quantize", False) in problems(proto)
    pytest.importorskip("tensorrt_rtx")
    rtx(proto, tmp_path)
    layers = layers_from_dump((tmp_path / "layers.txt").read_text())
    asked = frozenset({"product"})
    (node,) = node_precisions(layers, {"product": "MatMul"}, asked, {})
    assert node.ran != "int8"


def test_blocked_scales_are_warned_of():
    proto = quantized(weight_scale=PER_CHANNEL)
    weight = next(node for node in proto.graph.node if node.name == "weight")
    weight.attribute.append(helper.make_attribute("block_size", 16))
    assert ("weight", False) in [(f.node, f.refused) for f in findings(ir.from_proto(proto))]
