import numpy as np
import onnx
import pytest
from models import CLASSES, FEATURES, build, mlp, residual_cnn, run
from onnx import TensorProto, helper

from benchmarks import measure


@pytest.fixture
def samples(tmp_path):
    x = np.random.default_rng(3).normal(size=(21, FEATURES)).astype(np.float32)
    np.savez(tmp_path / "samples.npz", x=x, label=np.arange(21) % CLASSES)
    return tmp_path / "samples.npz"


@pytest.fixture
def dense(tmp_path):
    onnx.save(mlp(), tmp_path / "dense.onnx")
    return tmp_path / "dense.onnx"


def test_outputs_are_those_of_all_samples_in_order(dense, samples):
    x = np.load(samples)["x"]
    found = measure.outputs(dense, samples, batch_size=8, threads=1)
    assert list(found) == ["logits"]
    np.testing.assert_allclose(found["logits"], run(mlp(), {"x": x})["logits"], atol=1e-5)


def _refuse(monkeypatch, *refused):
    """Loading fails in these ways; what is tried is kept."""
    tried, load = [], measure._loaded

    def loaded(model, threads, entries):
        tried.append(entries)
        if entries in refused:
            raise RuntimeError("no such kernel")
        return load(model, threads, entries)

    monkeypatch.setattr(measure, "_loaded", loaded)
    return tried


def test_where_exact_kernels_are_refused_outputs_are_emulated(dense, samples, monkeypatch):
    tried = _refuse(monkeypatch, measure._EXACT)
    assert measure.outputs(dense, samples)["logits"].shape == (21, CLASSES)
    assert tried == [measure._EXACT, measure._EMULATED]


def test_latency_is_never_that_of_emulation(dense, samples, monkeypatch):
    tried = _refuse(monkeypatch, measure._EXACT)
    measure.latency_ms({"one": dense}, samples, 4, rounds=1)
    assert tried == [measure._EXACT, measure._PLAIN]


def test_a_model_that_loads_in_no_way_is_an_error(dense, samples, monkeypatch):
    _refuse(monkeypatch, *measure._FAITHFUL)
    with pytest.raises(RuntimeError, match="no such kernel"):
        measure.outputs(dense, samples)


def test_sqnr_is_signal_power_over_noise_power():
    reference = np.array([[3.0, 4.0], [0.0, 5.0]], np.float32)
    candidate = reference + np.array([[0.3, 0.4], [0.0, 0.5]], np.float32)
    assert measure.sqnr_db(reference, candidate) == pytest.approx(20.0, abs=1e-5)
    assert measure.sqnr_db(reference, reference) == np.inf
    assert measure.sqnr_db(np.zeros(3), np.ones(3)) == -np.inf


def test_sqnr_sums_in_float64():
    reference = np.full(300_000, 1e4, np.float16)
    candidate = np.full(300_000, 9.99e3, np.float16)
    noise = float(np.float16(1e4)) - float(np.float16(9.99e3))
    expected = 20 * np.log10(float(np.float16(1e4)) / noise)
    assert measure.sqnr_db(reference, candidate) == pytest.approx(expected)


def test_flips_and_accuracy_are_by_argmax_on_the_last_axis():
    reference = np.array([[0.1, 0.9], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7]])
    candidate = np.array([[0.2, 0.8], [0.1, 0.9], [0.7, 0.3], [0.4, 0.6]])
    assert measure.flip_share(reference, candidate) == 0.25
    assert measure.flip_share(reference.reshape(2, 2, 2), candidate.reshape(2, 2, 2)) == 0.25
    labels = np.array([1, 0, 1, 1])
    assert measure.accuracy(reference, labels) == 0.75
    assert measure.correct(candidate, labels).tolist() == [True, False, False, True]


def test_paired_interval_is_the_bootstrap_of_the_samples():
    rng = np.random.default_rng(5)
    reference = rng.random(400) < 0.9
    candidate = reference & (rng.random(400) < 0.95)
    low, high = measure.paired_interval(reference, candidate)
    drops = reference.astype(float) - candidate
    means = drops[rng.integers(400, size=(4000, 400))].mean(axis=1) * 100
    np.testing.assert_allclose((low, high), np.quantile(means, (0.025, 0.975)), atol=0.3)
    assert low < drops.mean() * 100 < high
    assert (low, high) == measure.paired_interval(reference, candidate)


def test_paired_interval_of_the_same_verdicts_is_zero():
    same = np.array([True, False, True])
    assert measure.paired_interval(same, same) == (0.0, 0.0)


def test_latency_has_every_model_and_its_own_inputs(dense, samples):
    found = measure.latency_ms({"one": dense, "two": dense}, samples, 4, rounds=3, threads=1)
    assert list(found) == ["one", "two"]
    assert all(0 < value < 1000 for value in found.values())


def _quantized(first_weight, *, between=None):
    """The dense model with FP32's x and first weight replaced by dequantized ones."""
    model = mlp()
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["x_int8"]),
        helper.make_node("DequantizeLinear", ["x_int8", "scale", "zero"], ["x_back"]),
        helper.make_node("DequantizeLinear", ["w_int8", "scale", "zero"], ["w_back"]),
    ]
    if between:
        nodes.append(helper.make_node(between, ["w_back"], ["w_between"]))
    first, *rest = model.graph.node
    first.input[:] = ["x_back", first_weight]
    first.name = ""
    constants = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    constants |= {"scale": np.float32(0.1), "zero": np.int8(0)}
    constants["w_int8"] = np.ones(constants["w1"].shape, np.int8)
    return build(
        [*nodes, first, *rest],
        [("x", TensorProto.FLOAT, ["batch", FEATURES])],
        [("logits", ["batch", CLASSES])],
        constants,
    )


FIRST = 32 * 48 / (32 * 48 + 48 * 16)
"""The first layer's share of the dense model's MACs."""


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (mlp(), 0.0),
        (_quantized("w_back"), FIRST),
        (_quantized("w1"), 0.0),
        (_quantized("w_between", between="Identity"), 0.0),
    ],
    ids=["fp32", "both operands", "activation only", "identity between"],
)
def test_int8_share_is_of_operators_with_both_operands_dequantized(
    tmp_path, samples, model, expected
):
    onnx.save(model, tmp_path / "model.onnx")
    assert measure.int8_mac_share(tmp_path / "model.onnx", samples) == pytest.approx(expected)


def test_int8_share_reads_shapes_from_the_samples(tmp_path):
    onnx.save(residual_cnn(), tmp_path / "model.onnx")
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 3, 8, 8), np.float32))
    assert measure.int8_mac_share(tmp_path / "model.onnx", tmp_path / "x.npz") == 0.0


def test_int8_share_refuses_shapes_that_it_cannot_infer(tmp_path, samples):
    model = mlp()
    model.graph.node[0].domain = "nobody"
    model.opset_import.append(helper.make_opsetid("nobody", 1))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="2 of 2"):
        measure.int8_mac_share(tmp_path / "model.onnx", samples)


def test_text_lines_lose_repeats_then_blanks():
    classes = np.array([[0, 1, 1, 0, 1, 2], [0, 0, 0, 0, 0, 0], [3, 3, 2, 2, 0, 2]])
    logits = np.eye(4)[classes]
    assert measure.read_text_lines(logits) == [(1, 1, 2), (), (3, 2, 2)]
    assert measure.read_text_lines(logits, blank=3)[2] == (2, 0, 2)


def test_mask_iou_counts_what_is_above_the_threshold():
    reference = np.array([0.9, 0.4, 0.2, 0.3])
    candidate = np.array([0.5, 0.1, 0.35, 0.0])
    assert measure.mask_iou(reference, candidate) == pytest.approx(1 / 3)
    assert measure.mask_iou(reference, candidate, threshold=0.95) == 1.0
