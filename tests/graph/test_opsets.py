"""Every opset from 7 to 25: the operators in the form that each had then, held against the source.

The reference of each is the model as it was given, run by ONNX Runtime.
"""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from layer_models import ALL, normal, ort_run
from onnx import TensorProto, helper, numpy_helper
from whole_runs import finished

from calib.errors import ModelError
from calib.graph.fold import fold_batchnorm
from calib.graph.fp16 import to_fp16
from calib.graph.load import load_model
from calib.graph.opset import newest_opset
from calib.graph.qdq import insert_qdq
from calib.graph.select import select
from calib.graph.taps import tapped

FLOAT = TensorProto.FLOAT


class Writer:
    """Nodes of one opset, with what they read as attributes or as constants, as it was then."""

    def __init__(self, opset):
        self.opset = opset
        self.nodes, self.constants = [], {}

    def add(self, op_type, inputs, output, **attributes):
        name = f"{op_type}_{output}"
        self.nodes.append(helper.make_node(op_type, inputs, [output], name, **attributes))
        return output

    def constant(self, name, values, dtype=np.int64):
        self.constants[name] = np.array(values, dtype=dtype)
        return name

    def inputs(self, since, op_type, x, output, **values):
        """Attributes before an opset, inputs in this order from it on."""
        if self.opset < since:
            return self.add(op_type, [x], output, **values)
        inputs = [
            self.constant(f"{output}_{name}", v, np.int64 if np.ndim(v) else np.float32)
            for name, v in values.items()
        ]
        return self.add(op_type, [x, *inputs], output)


def net(opset):
    """(n, 3, 8, 8) to (n, 5)."""
    w = Writer(opset)
    w.constant("W", 0.3 * normal(1, 6, 3, 3, 3), np.float32)
    w.constant("U", 0.3 * normal(2, 12, 6), np.float32)
    for name, low in {"gamma": 0.5, "beta": -0.2, "mean": 0.1, "var": 0.8, "bias": 0.0}.items():
        w.constant(name, np.linspace(low, low + 1, 6), np.float32)
    w.add("Conv", ["x", "W", "bias"], "c", pads=[1] * 4)
    spatial = {"spatial": 1} if opset < 9 else {}
    w.add("BatchNormalization", ["c", "gamma", "beta", "mean", "var"], "n", **spatial)
    w.inputs(11, "Clip", "n", "k", min=0.0, max=6.0)
    if opset < 10:
        given = {"scales": [1.0, 1.0, 2.0, 2.0]} if opset < 9 else {}
        more = [w.constant("scales", [1, 1, 2, 2], np.float32)] if opset == 9 else []
        w.add("Upsample", ["k", *more], "u", mode="nearest", **given)
    else:
        scales = w.constant("scales", [1, 1, 2, 2], np.float32)
        # Opset 10 has the coordinates that Upsample had; newer ones must be asked for them.
        newer = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        roi = w.constant("roi", [], np.float32) if opset in (11, 12) else ""
        inputs = ["k", scales] if opset == 10 else ["k", roi, scales]
        w.add("Resize", inputs, "u", mode="nearest", **(newer if opset > 10 else {}))
    w.add("Dropout", ["u"], "d", **({"ratio": 0.3} if opset < 12 else {}))
    w.inputs(11, "Pad", "d", "p", pads=[0, 0, 1, 1, 0, 0, 1, 1])
    w.inputs(10, "Slice", "p", "s", starts=[1, 1], ends=[17, 17], axes=[2, 3])
    w.add("AveragePool", ["s"], "v", kernel_shape=[4, 4], strides=[4, 4])
    w.inputs(13, "ReduceSum", "v", "r", axes=[3])
    w.inputs(13, "Squeeze", "r", "q", axes=[3])
    w.inputs(13, "Unsqueeze", "q", "z", axes=[3])
    w.add("Softmax", ["z"], "soft", axis=1)
    w.add("Concat", ["z", "z"], "both", axis=3)
    w.add("Transpose", ["both"], "t", perm=[0, 3, 2, 1])
    w.add("Reshape", ["t", w.constant("flat", [0, 8, 6])], "f")
    w.add("MatMul", ["f", w.add("Transpose", ["U"], "Ut", perm=[1, 0])], "m")
    w.inputs(18, "ReduceMean", "soft", "mean_soft", axes=[3])
    w.add("Flatten", ["mean_soft"], "fl", axis=1)
    w.add("Flatten", ["m"], "fm", axis=1)
    w.add("Concat", ["fl", "fm"], "cat", axis=1)
    w.constant("H", 0.2 * normal(9, 5, 6 * 4 + 96), np.float32)
    w.add("Gemm", ["cat", "H", w.constant("h", normal(10, 5), np.float32)], "y", transB=1)
    return w


def model(opset, ir_version):
    w = net(opset)
    tensors = [numpy_helper.from_array(array, name) for name, array in w.constants.items()]
    inputs = [helper.make_tensor_value_info("x", FLOAT, ["n", 3, 8, 8])]
    if ir_version < 4:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    outputs = [helper.make_tensor_value_info("y", FLOAT, ["n", 5])]
    graph = helper.make_graph(w.nodes, "each", inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", opset)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def run(proto, x):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    # Without it, a core that has no VNNI lets products of 8-bit integers overflow.
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = ort.InferenceSession(proto.SerializeToString(), options)
    return session.run(None, {"x": x})[0].astype(np.float64)


@pytest.mark.parametrize("opset", range(7, 26))
def test_it_is_read_quantized_and_halved_and_computes_the_same(opset, tmp_path):
    ir_version = 3 if opset < 11 else min(8 + max(0, opset - 18), 12)
    proto = model(opset, ir_version)
    path = tmp_path / "m.onnx"
    onnx.save(proto, path)
    x = normal(5, 4, 3, 8, 8)
    wanted = run(proto, x)
    graph = fold_batchnorm(load_model(path).graph)
    assert [value.name for value in graph.graph.inputs] == ["x"]
    selection = select(graph, ALL)
    assert sorted(site.op_type for site in selection.weights) == ["Conv", "Gemm", "MatMul"]
    tensors = [tensor for tensor in selection.activation_tensors if tensor != "x"]
    seen = {"x": x, **ort_run(tapped(graph, tensors), {"x": x})}
    amax = {name: float(np.abs(seen[name]).max()) for name in selection.activation_tensors}
    quantized = insert_qdq(graph, selection, amax)
    half, _ = to_fp16(graph)
    for variant, share in ((graph, 1e-9), (quantized, 2e-2), (half, 1e-4)):
        written = ir.to_proto(variant)
        onnx.checker.check_model(written, full_check=True)
        error = np.square(run(written, x) - wanted).sum() / np.square(wanted).sum()
        assert error <= share


def alone(op_type, opset, constants=None, **attributes):
    """A convolution and this operator behind it."""
    constants = {"w": normal(1, 4, 4, 1, 1), **(constants or {})}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node(op_type, ["c", *list(constants)[1:]], ["y"], "last", **attributes),
    ]
    graph = helper.make_graph(
        nodes,
        "alone",
        [helper.make_tensor_value_info("x", FLOAT, ["n", 4, 6, 6])],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=4)


def scales(*values):
    return {"scales": np.array(values, dtype=np.float32)}


@pytest.mark.parametrize(
    "proto",
    [
        alone("Upsample", 7, mode="linear", scales=[1.0, 1.0, 2.0, 2.0]),
        alone("Upsample", 9, scales(1, 1, 1.5, 2.5), mode="linear"),
        alone("Upsample", 9, scales(1, 1, 1.5, 2.5), mode="nearest"),
        alone("Resize", 10, scales(1, 1, 2, 2), mode="linear"),
        alone("Resize", 10, scales(1, 1, 0.7, 0.4), mode="linear"),
        alone("Resize", 10, scales(1, 1, 1.7, 1.3), mode="nearest"),
        alone("Resize", 10, scales(1, 1, 0.7, 0.4), mode="nearest"),
        alone("Softmax", 11, axis=1),
        alone("LogSoftmax", 7, axis=2),
        alone("Hardmax", 9, axis=3),
        alone("Pad", 7, pads=[0, 0, -1, 1, 0, 0, 1, 0], mode="constant", value=2.0),
    ],
)
def test_what_an_operator_meant_then_it_means_after_the_conversion(proto, tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(proto, path)
    x = normal(2, 3, 4, 6, 6)
    found = run(ir.to_proto(load_model(path).graph), x)
    np.testing.assert_allclose(found, run(proto, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("proto", "said"),
    [
        (alone("Hardmax", 9), "Hardmax last has no equal"),
        (alone("Resize", 10, scales(1, 1, 2, 0.5)), "scales 1, 1, 2, 0.5"),
        (
            alone("BatchNormalization", 7, {n: normal(3, 4, 6, 6) for n in "gbmv"}, spatial=0),
            "spatial must have value 1",
        ),
    ],
)
def test_what_has_no_equal_is_refused_with_the_reason(proto, said, tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(proto, path)
    with pytest.raises(ModelError, match=said):
        load_model(path)


def test_a_conversion_that_goes_wrong_is_found_by_running_both(tmp_path, monkeypatch):
    monkeypatch.setattr("calib.graph.opset.with_old_coordinates", lambda *_: None)
    proto = alone("Resize", 10, scales(1, 1, 2, 2), mode="linear")
    with pytest.raises(ModelError, match=r"does not compute the same at opset 17.* dB at output y"):
        finished(proto, {"x": normal(2, 16, 4, 6, 6)}, tmp_path)


def test_an_opset_that_the_runtime_does_not_take_is_lowered_where_no_operator_changed(tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(model(22, 10), path)
    with pytest.raises(ModelError, match=r"opset 22, where \w+ changed with 2\d.*at most 20"):
        load_model(path, newest_opset=20)
    onnx.save(model(24, 10), path)
    found = load_model(path, newest_opset=24)
    assert found.graph.opset_imports[""] == 24
    linear = onnx.helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "fc")],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, ["n", 6])],
        [helper.make_tensor_value_info("y", FLOAT, ["n", 4])],
        [numpy_helper.from_array(normal(1, 6, 4), "w")],
    )
    newer = helper.make_model(linear, opset_imports=[helper.make_opsetid("", 24)], ir_version=10)
    onnx.save(newer, path)
    found = load_model(path, newest_opset=15)
    assert found.graph.opset_imports[""] == 15
    assert "opset 24 was lowered to 15" in found.record.warnings[-1]
    rows = normal(2, 3, 6)
    np.testing.assert_array_equal(run(ir.to_proto(found.graph), rows), run(newer, rows))


def test_what_is_older_or_newer_than_onnx_knows_is_refused_with_the_range(tmp_path):
    path = tmp_path / "m.onnx"
    for change, said in (
        ({"opset": 6}, r"opset 6; expected 7 to \d+"),
        ({"opset": 99}, r"opset 99; expected 7 to \d+"),
        ({"ir": 99}, r"IR 99; expected at most \d+"),
    ):
        proto = model(13, 8)
        proto.opset_import[0].version = change.get("opset", 13)
        proto.ir_version = change.get("ir", 8)
        onnx.save(proto, path)
        with pytest.raises(ModelError, match=said):
            load_model(path)


def test_the_newest_opset_of_a_runtime_is_found_by_asking():
    asked = []

    def takes(file):
        asked.append(onnx.load_from_string(file).opset_import[0].version)
        return asked[-1] <= 19

    assert newest_opset(takes) == 19
    assert asked[0] == onnx.defs.onnx_opset_version()
    assert newest_opset(lambda _: False) is None
