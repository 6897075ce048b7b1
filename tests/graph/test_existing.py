"""Models that are quantized already: kept and completed, or refused by the tool that made them."""

import models
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from layer_models import normal
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from whole_runs import finished, reasons, sqnr_db, written

from calib.config import load_experiment
from calib.errors import ModelError
from calib.graph.load import load_model
from calib.pipeline import run_sensitivity
from calib.progress import Silent

FLOAT, INT8 = TensorProto.FLOAT, TensorProto.INT8


class Feeds(CalibrationDataReader):
    def __init__(self, x):
        self._left = iter([{"x": x}])

    def get_next(self):
        return next(self._left, None)


def by_onnxruntime(folder, quant_format, **settings):
    """`models.mlp`, quantized by ONNX Runtime's own tool."""
    source, target = folder / "float.onnx", folder / "quantized.onnx"
    onnx.save(models.mlp(), source)
    quantize_static(
        source,
        target,
        Feeds(normal(1, 64, models.FEATURES)),
        quant_format=quant_format,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        extra_options={"ActivationSymmetric": True},
        **settings,
    )
    return target


def pairs_on(path):
    """The tensors that QuantizeLinear reads."""
    return [n.input[0] for n in onnx.load(path).graph.node if n.op_type == "QuantizeLinear"]


def test_existing_pairs_are_kept_and_what_is_missing_is_added(tmp_path):
    path = by_onnxruntime(tmp_path, QuantFormat.QDQ, nodes_to_quantize=["fc1"])
    given = pairs_on(path)
    assert given
    run = finished(
        path,
        {"x": normal(2, 64, models.FEATURES)},
        tmp_path,
        quantization={"min_channels": 1, "existing": "keep"},
    )
    calibration = run.result.calibration
    assert {w.node for w in calibration.weights} == {"fc2"}
    assert {a.tensor for a in calibration.activations} == {"h3"}
    assert any("1 nodes, the first fc1, keep" in w for w in run.result.model.warnings)
    after = pairs_on(written(run))
    assert sorted(after) == sorted([*given, "h3"])
    quantized = onnx.load(written(run))
    stored = [i for i in quantized.graph.initializer if i.data_type == INT8 and len(i.dims) == 2]
    assert len(stored) == 2
    assert sqnr_db(run) > 30
    assert "w1" not in reasons(run)


def with_pairs(behind):
    """x, quantized for a first MatMul; a second reads `behind`."""
    scale = np.array(4 / 127, dtype=np.float32)
    column = np.abs(normal(4, 16, 12)).max(axis=0) / 127
    codes = np.rint(normal(4, 16, 12) / column).astype(np.int8)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"], "q"),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"], "d"),
        helper.make_node("DequantizeLinear", ["w_q", "w_s", "w_z"], ["w"], "wd", axis=1),
        helper.make_node("MatMul", ["xd", "w"], ["a"], "first"),
        helper.make_node("Reshape", ["xd", "same"], ["xr"], "moved"),
        helper.make_node("MatMul", [behind, "v"], ["b"], "second"),
        helper.make_node("Add", ["a", "b"], ["y"], "sum"),
    ]
    constants = {
        "s": scale,
        "z": np.array(0, dtype=np.int8),
        "w_q": codes,
        "w_s": column.astype(np.float32),
        "w_z": np.zeros(12, dtype=np.int8),
        "same": np.array([0, 16], dtype=np.int64),
        "v": normal(5, 16, 12),
    }
    return models.build(nodes, [("x", FLOAT, ["n", 16])], [("y", ["n", 12])], constants)


@pytest.mark.parametrize("behind", ["x", "xd", "xr"])
def test_no_tensor_is_quantized_twice(behind, tmp_path):
    """Read before its pair, behind it, or behind a Reshape of that: the pair is there already."""
    run = finished(
        with_pairs(behind),
        {"x": normal(6, 48, 16)},
        tmp_path,
        quantization={"min_channels": 1, "existing": "keep"},
        engines={"rest": ["fp32", "fp16"]},
    )
    assert [w.node for w in run.result.calibration.weights] == ["second"]
    for name in ("int8-minmax-fp32", "int8-minmax-fp16"):
        assert len(pairs_on(written(run, name))) == 1
        graph = onnx.load(written(run, name)).graph
        makers = {output: node.op_type for node in graph.node for output in node.output}
        second = next(node for node in graph.node if node.name == "second")
        expected = "Reshape" if behind == "xr" else "DequantizeLinear"
        assert [makers[i] for i in second.input] == [expected, "DequantizeLinear"]
        assert sqnr_db(run, name) > 25


def test_by_default_they_are_refused_and_told_of_the_setting(tmp_path):
    path = by_onnxruntime(tmp_path, QuantFormat.QDQ)
    with pytest.raises(ModelError, match=r"already quantized.*made by ONNX Runtime's quantizer"):
        load_model(path)
    with pytest.raises(ModelError, match=r"set quantization\.existing to keep"):
        load_model(path)


def test_a_model_with_nothing_left_to_quantize_says_so(tmp_path):
    path = by_onnxruntime(tmp_path, QuantFormat.QDQ)
    with pytest.raises(ModelError, match="leaves no tensor to quantize"):
        finished(
            path,
            {"x": normal(2, 64, models.FEATURES)},
            tmp_path,
            quantization={"min_channels": 1, "existing": "keep"},
        )


@pytest.mark.parametrize("existing", ["refuse", "keep"])
def test_integer_operators_and_dynamic_ranges_are_refused_whatever_is_asked(existing, tmp_path):
    path = by_onnxruntime(tmp_path, QuantFormat.QOperator)
    with pytest.raises(ModelError, match=r"integer operators.*QLinear.*ONNX Runtime's quantizer"):
        load_model(path, existing)
    dynamic = tmp_path / "dynamic.onnx"
    quantize_dynamic(tmp_path / "float.onnx", dynamic, weight_type=QuantType.QInt8)
    with pytest.raises(ModelError, match=r"dynamically.*ONNX Runtime's quantizer.*Q/DQ pairs"):
        load_model(dynamic, existing)


@pytest.mark.parametrize(
    ("producer", "name", "said"),
    [
        ("modelopt", "q", "NVIDIA ModelOpt"),
        ("onnx.quantize", "q", "ONNX Runtime's quantizer"),
        ("tf2onnx", "q", "TensorFlow's quantizer, through tf2onnx"),
        ("onnx.neural_compressor", "q", "Intel Neural Compressor"),
        ("pytorch", "/fc/_input_quantizer/QuantizeLinear", "NVIDIA's pytorch-quantization"),
        ("pytorch", "/quant/fake_quant/QuantizeLinear", "PyTorch's quantization-aware"),
        ("my-own-tool", "q", "my-own-tool"),
    ],
)
def test_the_tool_is_named(producer, name, said, tmp_path):
    proto = with_pairs("x")
    proto.producer_name = producer
    proto.graph.node[0].name = name
    path = tmp_path / "m.onnx"
    onnx.save(proto, path)
    with pytest.raises(ModelError, match=f"made by {said}"):
        load_model(path)


def test_weights_of_four_bits_keep_their_node_in_float(tmp_path):
    proto = with_pairs("x")
    proto.opset_import[0].version = 21
    proto.ir_version = 10
    four = ir.tensor(np.zeros((16, 12), dtype=np.int8)).numpy()
    narrow = helper.make_tensor("w_q", TensorProto.INT4, [16, 12], four.ravel().tolist())
    zero = helper.make_tensor("w_z", TensorProto.INT4, [12], [0] * 12)
    for tensor, fresh in (("w_q", narrow), ("w_z", zero)):
        next(i for i in proto.graph.initializer if i.name == tensor).CopyFrom(fresh)
    proto.graph.node[3].input[0] = "x"
    run = finished(
        proto,
        {"x": normal(6, 48, 16)},
        tmp_path,
        quantization={"min_channels": 1, "existing": "keep"},
        engines={"fp16": False},
    )
    assert [w.node for w in run.result.calibration.weights] == ["second"]
    graph = onnx.load(written(run)).graph
    first = next(node for node in graph.node if node.name == "first")
    assert first.input[0] == "x"


def test_numpy_agrees_about_what_was_kept(tmp_path):
    """The completed model, step by step in float64."""
    proto = with_pairs("x")
    x = normal(6, 48, 16)
    run = finished(proto, {"x": x}, tmp_path, quantization={"min_channels": 1, "existing": "keep"})
    values = {i.name: numpy_helper.to_array(i).astype(np.float64) for i in proto.graph.initializer}
    step = values["s"]
    rounded = np.clip(np.rint(x / np.float32(step)), -128, 127) * step
    scales = np.abs(values["v"]).max(axis=0) / 127
    v = np.rint(values["v"] / scales) * scales
    wanted = rounded @ (values["w_q"] * values["w_s"]) + rounded @ v

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(written(run)), options)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("behind", ["x", "xd"])
def test_remedies_leave_what_is_kept_alone(behind, tmp_path):
    run = finished(
        with_pairs(behind),
        {"x": normal(6, 64, 16)},
        tmp_path,
        quantization={
            "min_channels": 1,
            "existing": "keep",
            "remedies": "auto",
            "mixed_precision": "auto",
        },
    )
    assert sqnr_db(run) > 25
    experiment = load_experiment(tmp_path / "config.yaml")
    (group,) = run_sensitivity(experiment, Silent()).groups
    assert group.nodes == ("second",)
    assert (group.tensor_db is None) == (behind == "xd")
