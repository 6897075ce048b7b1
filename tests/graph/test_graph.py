"""Loading, folding, selecting and quantizing tiny models, against independent arithmetic."""

import models
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from calib.errors import ModelError
from calib.graph.fold import fold_batchnorm
from calib.graph.fp16 import to_fp16
from calib.graph.load import load_model
from calib.graph.qdq import dequantize_weight, insert_qdq, quantize_weight, scale_from_amax
from calib.graph.select import select
from calib.graph.selection_spec import SelectionSpec
from calib.graph.taps import tapped, taps_from_tensors


def load(proto, folder):
    path = folder / "m.onnx"
    onnx.save(proto, path)
    return load_model(path)


def ort_run(graph, feeds):
    session = ort.InferenceSession(
        ir.to_proto(graph).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def test_folding_batchnorm_keeps_the_numbers_and_the_tensor_names(tmp_path):
    proto = models.residual_cnn()
    folded = fold_batchnorm(load(proto, tmp_path).graph)
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    assert "BatchNormalization" not in {node.op_type for node in folded.graph}
    assert "n1" in {value.name for node in folded.graph for value in node.outputs}
    expected = models.run(proto, {"x": x})["y"]
    np.testing.assert_allclose(ort_run(folded, {"x": x})["y"], expected, rtol=1e-4, atol=1e-5)


def test_both_inputs_of_weighted_nodes_are_selected_and_biases_are_not(tmp_path):
    selection = select(load(models.mlp(), tmp_path).graph, SelectionSpec())
    assert selection.activation_tensors == ("x", "h3")
    assert [(w.tensor, w.axis) for w in selection.weights] == [("w1", 1), ("w2", 0)]
    reasons = {record.tensor: record.reason for record in selection.left_alone}
    assert set(reasons) == {"b1", "b2", "h1", "h2", "logits"}
    assert reasons["b1"].startswith("bias")
    assert reasons["b2"].startswith("bias")
    assert "output" in reasons["logits"]


def test_the_skip_input_behind_a_convolution_is_quantized(tmp_path):
    graph = fold_batchnorm(load(models.residual_cnn(), tmp_path).graph)
    sites = {(s.node, s.index) for s in select(graph, SelectionSpec()).activations}
    assert sites == {("conv1", 0), ("conv2", 0), ("residual", 1)}


def test_the_residual_path_of_a_transformer_stays_in_float_unless_asked_for(tmp_path):
    graph = load(models.transformer_block(), tmp_path).graph
    nodes = {site.node for site in select(graph, SelectionSpec()).activations}
    assert nodes == {"query", "key", "scores", "mix", "project"}
    asked = select(graph, SelectionSpec(residual="all"))
    assert "residual" in {site.node for site in asked.activations}


def test_small_matrices_and_excluded_nodes_are_left_alone_with_the_reason(tmp_path):
    graph = load(models.mlp(), tmp_path).graph
    selection = select(graph, SelectionSpec(min_channels=20))
    assert selection.activation_tensors == ("x",)
    reasons = {r.tensor: r.reason for r in selection.left_alone}
    assert "below 20" in reasons["h3"]
    excluded = select(graph, SelectionSpec(exclude=("fc1",)))
    assert excluded.activation_tensors == ("h3",)


def test_an_exclude_pattern_that_matches_nothing_is_refused(tmp_path):
    graph = load(models.mlp(), tmp_path).graph
    with pytest.raises(ModelError, match="matches no node"):
        select(graph, SelectionSpec(exclude=("fc9*",)))


def test_one_tap_stands_for_all_layouts_of_a_tensor(tmp_path):
    graph = load(models.transformer_block(), tmp_path).graph
    tensors = select(graph, SelectionSpec()).activation_tensors
    taps = {tap.source: tap.tensors for tap in taps_from_tensors(graph, tensors)}
    assert taps == {
        "x": ("x",),
        "q": ("q",),
        "k": ("kt",),
        "shares": ("shares",),
        "mixed": ("mixed",),
    }


def test_tapping_adds_outputs_and_changes_no_number(tmp_path):
    proto = models.mlp()
    graph = load(proto, tmp_path).graph
    x = np.random.default_rng(3).normal(size=(4, models.FEATURES)).astype(np.float32)
    found = ort_run(tapped(graph, ["h3"]), {"x": x})
    assert list(found) == ["logits", "h3"]
    np.testing.assert_allclose(found["logits"], models.run(proto, {"x": x})["logits"], atol=1e-5)


def fake_quantize(x, amax):
    scale = np.float32(amax / 127)
    return np.clip(np.rint(x.astype(np.float32) / scale), -128, 127).astype(np.float64) * scale


def fake_quantize_weight(w, axis):
    moved = np.moveaxis(w.astype(np.float64), axis, 0)
    flat = moved.reshape(len(moved), -1)
    scale = (np.abs(flat).max(axis=1, keepdims=True) / 127).astype(np.float32)
    rounded = np.clip(np.rint(flat / scale), -127, 127) * scale
    return np.moveaxis(rounded.reshape(moved.shape), 0, axis)


def test_qdq_graph_equals_fake_quantization_in_numpy(tmp_path):
    proto = models.mlp()
    model = load(proto, tmp_path)
    selection = select(model.graph, SelectionSpec())
    quantized = insert_qdq(model.graph, selection, {"x": 2.5, "h3": 1.7})
    onnx.checker.check_model(ir.to_proto(quantized), full_check=True)
    x = np.random.default_rng(4).normal(size=(16, models.FEATURES)).astype(np.float32)
    c = {i.name: onnx.numpy_helper.to_array(i) for i in proto.graph.initializer}
    hidden = fake_quantize(x, 2.5) @ fake_quantize_weight(c["w1"], 1) + c["b1"]
    hidden = fake_quantize(np.maximum(hidden, 0), 1.7)
    expected = hidden @ fake_quantize_weight(c["w2"], 0).T + c["b2"]
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(ir.to_proto(quantized).SerializeToString(), options)
    (got,) = session.run(None, {"x": x})
    # A value on a rounding edge may fall to either side in float32: one step of one input.
    np.testing.assert_allclose(got, expected, atol=0.02)
    assert np.abs(got - expected).mean() < 1e-4


def test_each_tensor_has_one_pair_and_the_source_graph_is_not_changed(tmp_path):
    model = load(models.transformer_block(), tmp_path)
    before = ir.to_proto(model.graph).SerializeToString(deterministic=True)
    selection = select(model.graph, SelectionSpec())
    quantized = insert_qdq(model.graph, selection, dict.fromkeys(selection.activation_tensors, 1.0))
    to_fp16(quantized)
    assert ir.to_proto(model.graph).SerializeToString(deterministic=True) == before
    pairs = [n for n in quantized.graph if n.op_type == "QuantizeLinear"]
    assert len(pairs) == len(selection.activation_tensors)


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=3, max_side=6),
        elements=st.floats(-1e4, 1e4, width=32),
    )
)
def test_a_quantized_weight_is_within_half_a_step_of_the_original(weight):
    quantized = quantize_weight(weight, 0)
    steps = quantized.scales.astype(np.float64).reshape(-1, *[1] * (weight.ndim - 1))
    assert (quantized.scales > 0).all()
    error = np.abs(dequantize_weight(quantized, 0) - weight)
    assert (error <= steps * 0.5 * (1 + 1e-4)).all()


def test_scale_is_amax_over_127_and_refuses_what_is_no_threshold():
    assert scale_from_amax(127.0) == np.float32(1.0)
    assert scale_from_amax(1e-300) > 0
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="finite and positive"):
            scale_from_amax(bad)


def test_fp16_graph_is_strongly_typed_with_float32_io_and_close(tmp_path):
    graph = load(models.transformer_block(), tmp_path).graph
    x = np.random.default_rng(5).normal(size=(2, 5, models.FEATURES)).astype(np.float32)
    half, warnings = to_fp16(graph)
    onnx.checker.check_model(ir.to_proto(half), full_check=True)
    found = ort_run(half, {"x": x})["y"]
    assert warnings == ()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, ort_run(graph, {"x": x})["y"], atol=5e-3)
    stored = {i.data_type for i in ir.to_proto(half).graph.initializer}
    assert onnx.TensorProto.FLOAT not in stored


def test_int8_with_fp16_is_about_as_far_from_fp32_as_int8_with_fp32(tmp_path):
    # FP16 tips values over rounding edges of INT8, so the two differ by whole INT8 steps: what
    # must hold is that FP16 adds little to the error that INT8 makes anyway.
    graph = load(models.transformer_block(), tmp_path).graph
    selection = select(graph, SelectionSpec())
    quantized = insert_qdq(graph, selection, dict.fromkeys(selection.activation_tensors, 4.0))
    half, warnings = to_fp16(quantized)
    onnx.checker.check_model(ir.to_proto(half), full_check=True)
    assert warnings == ()
    x = np.random.default_rng(5).normal(size=(64, 5, models.FEATURES)).astype(np.float32)
    exact = ort_run(graph, {"x": x})["y"]
    error, half_error = (
        np.linalg.norm(ort_run(g, {"x": x})["y"] - exact) for g in (quantized, half)
    )
    assert 0 < half_error < 1.05 * error
    stored = {i.data_type for i in ir.to_proto(half).graph.initializer}
    assert onnx.TensorProto.FLOAT not in stored


def test_a_mask_beyond_fp16_is_clamped_with_a_warning(tmp_path):
    proto = models.mlp()
    bias = next(i for i in proto.graph.initializer if i.name == "b1")
    array = onnx.numpy_helper.to_array(bias).copy()
    array[0] = -3.4e38
    bias.CopyFrom(onnx.numpy_helper.from_array(array, "b1"))
    half, warnings = to_fp16(load(proto, tmp_path).graph)
    assert len(warnings) == 1
    assert "b1" in warnings[0]
    x = np.zeros((1, models.FEATURES), dtype=np.float32)
    assert np.isfinite(ort_run(half, {"x": x})["logits"]).all()


def test_missing_damaged_and_truncated_models_are_refused(tmp_path):
    with pytest.raises(ModelError, match="no such model file"):
        load_model(tmp_path / "none.onnx")
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"this is no model")
    with pytest.raises(ModelError, match="no ONNX model"):
        load_model(bad)
    whole = models.mlp().SerializeToString()
    bad.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError):
        load_model(bad)


def test_missing_external_data_is_refused_by_its_name(tmp_path):
    path = tmp_path / "m.onnx"
    onnx.save(
        models.mlp(), path, save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    assert load_model(path).record.parameters == sum(
        onnx.numpy_helper.to_array(i).size for i in models.mlp().graph.initializer
    )
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelError, match=r"weights\.bin|external data"):
        load_model(path)


def test_a_quantized_model_is_refused(tmp_path):
    model = load(models.mlp(), tmp_path)
    selection = select(model.graph, SelectionSpec())
    quantized = insert_qdq(model.graph, selection, {"x": 1.0, "h3": 1.0})
    with pytest.raises(ModelError, match="already quantized"):
        load(ir.to_proto(quantized), tmp_path)


def test_training_mode_and_weightless_models_are_refused(tmp_path):
    proto = models.residual_cnn()
    norm = next(node for node in proto.graph.node if node.op_type == "BatchNormalization")
    norm.attribute.append(onnx.helper.make_attribute("training_mode", 1))
    norm.output.extend(["m_out", "v_out"])
    with pytest.raises(ModelError, match="training mode"):
        load(proto, tmp_path)
    relu = models.build(
        [onnx.helper.make_node("Relu", ["x"], ["y"], name="relu")],
        [("x", onnx.TensorProto.FLOAT, ["batch", 4])],
        [("y", ["batch", 4])],
        {},
    )
    with pytest.raises(ModelError, match="no float weights"):
        load(relu, tmp_path)
