"""Remedies, mixed precision and `auto` on the native layout are judged on the native graph."""

import zlib
from pathlib import Path

import models
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import yaml
from onnx import TensorProto, helper
from small import config

from calib.config import load_experiment
from calib.errors import ConfigError
from calib.pipeline import run_experiment
from calib.progress import Silent
from calib.stages.panel import Panel

QUICK = ("throughput.batch_sizes=[]", "analysis.layer_samples=0")
MINMAX = "calibration.calibrators=[{kind: minmax}]"


def run(*overrides):
    return run_experiment(load_experiment(Path("config.yaml"), [*QUICK, *overrides]), Silent())


@pytest.fixture
def outliers(workspace):
    """No input is negative, and some channels are wide: half of a symmetric grid is wasted."""
    width = np.where(np.arange(models.FEATURES) % 8 == 3, 30.0, 0.3)
    for seed, (name, count) in enumerate((("calibration", 320), ("validation", 64))):
        x = np.abs(np.random.default_rng(seed).normal(size=(count, models.FEATURES))) * width
        x = x.astype(np.float32)
        label = models.run(models.mlp(), {"x": x})["logits"].argmax(axis=1)
        np.savez(f"{name}.npz", x=x, label=label)
    return workspace


@pytest.fixture
def judged(monkeypatch):
    """The types of the zero points of every model that was judged."""
    seen = []
    judge = Panel.judge

    def spy(self, graph, samples=None):
        nodes = [node for node in graph.graph if node.op_type == "QuantizeLinear"]
        assert not [node for node in graph.graph if node.op_type == "If"]
        seen.append({str(node.inputs[2].dtype) for node in nodes})
        return judge(self, graph, samples)

    monkeypatch.setattr(Panel, "judge", spy)
    return seen


def kept_aside():
    """The calibration samples that remedies are judged by, known by their ids."""
    x = np.load("calibration.npz")["x"]
    ids = [str(index) for index in range(len(x))]
    return x[[zlib.crc32(name.encode()) % 4 == 0 for name in ids]]


def sqnr_db(path, x):
    """Of the logits, about each sample's mean, in float64."""
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(["logits"], {"x": x})[0].astype(np.float64)
    wanted = models.run(models.mlp(), {"x": x})["logits"].astype(np.float64)
    found, wanted = (a - a.mean(axis=1, keepdims=True) for a in (found, wanted))
    return 10 * np.log10(np.square(wanted).sum() / np.square(found - wanted).sum())


def test_what_a_remedy_gives_is_that_of_the_model_that_is_shipped(outliers, judged):
    finished = run("quantization={layout: native, remedies: auto}", MINMAX)
    steps = finished.result.remedies.steps
    last = [step for step in steps if step.kept][-1]
    x = np.load("calibration.npz")["x"]
    shipped = sqnr_db(finished.directory / "models/int8-minmax/model.onnx", x)
    # Remedies leave room for what more data may bring, which calibrated thresholds do not.
    assert shipped - 6 < last.sqnr_db < shipped + 1
    assert last.sqnr_db > steps[0].sqnr_db + 3
    assert {"UINT8"} in judged
    assert all(types <= {"UINT8"} for types in judged)


def test_the_first_step_has_all_codes_for_what_is_never_negative(outliers):
    first = [
        run(f"quantization={{layout: {layout}, remedies: [correct_biases]}}", MINMAX)
        .result.remedies.steps[0]
        .sqnr_db
        for layout in ("native", "tensorrt")
    ]
    assert first[0] > first[1] + 2


def test_mixed_precision_is_decided_by_native_models(outliers, judged):
    settings = "{layout: native, remedies: [equalize], mixed_precision: auto, sqnr_db_min: 70}"
    remedies = run(f"quantization={settings}", MINMAX, "quantization.macs_int8_pct_min=10").result
    remedies = remedies.remedies
    assert any(group.in_float for group in remedies.groups)
    assert len(remedies.trials) > 1
    best = max(remedies.trials, key=lambda trial: trial.sqnr_db)
    assert best.sqnr_db > remedies.steps[-1].sqnr_db
    assert sum({"UINT8"} == types for types in judged) > len(remedies.trials)


def test_auto_is_no_worse_than_each_of_its_candidates_on_the_native_grid(outliers, judged):
    own = "{kind: auto, candidates: [{kind: minmax}, {kind: entropy}]}"
    finished = run(
        "quantization.layout=native",
        f"calibration.calibrators=[{own}, {{kind: minmax}}, {{kind: entropy}}]",
    )
    x = kept_aside()
    found = {
        candidate.calibrator: sqnr_db(finished.directory / candidate.model_path, x)
        for candidate in finished.result.candidates
        if candidate.calibrator
    }
    assert found["auto"] > max(found.values()) - 0.3
    assert judged
    assert all(types <= {"UINT8"} for types in judged)


def test_reduced_weights_come_through_the_remedies(outliers):
    finished = run("quantization={layout: native, remedies: auto, reduce_range: true}", MINMAX)
    model = onnx.load(finished.directory / "models/int8-minmax/model.onnx")
    codes = [
        onnx.numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) > 1
    ]
    assert codes
    assert max(int(np.abs(array).max()) for array in codes) == 63
    assert finished.result.candidate("int8-minmax").outputs[0].sqnr_db > 15


@pytest.mark.parametrize("field", ["reduce_range: true", "placement: float_adds"])
def test_what_only_onnx_runtime_has_is_refused_for_tensorrt(workspace, field):
    with pytest.raises(ConfigError, match=f"{field.partition(':')[0]}: .*set layout: native"):
        load_experiment(Path("config.yaml"), [f"quantization={{{field}}}"])


@pytest.fixture
def clipped(tmp_path, monkeypatch):
    """Channels of unlike width, and Clips between convolutions, which no factor passes."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(5)
    width = np.where(np.arange(16) % 5 == 2, 3.0, 0.1).reshape(-1, 1, 1, 1)
    nodes, constants, last = [], {"zero": np.float32(0), "top": np.float32(8)}, "x"
    for index in range(4):
        inputs = 3 if index == 0 else 16
        weight = rng.normal(size=(16, inputs, 3, 3), scale=0.3) * width
        if index:
            weight /= width.reshape(1, -1, 1, 1)
        constants[f"w{index}"] = weight.astype(np.float32)
        names = [last, f"w{index}"]
        nodes.append(helper.make_node("Conv", names, [f"c{index}"], f"conv{index}", pads=[1] * 4))
        ends = [f"c{index}", "zero", "top"]
        nodes.append(helper.make_node("Clip", ends, [f"k{index}"], f"clip{index}"))
        last = f"k{index}"
    constants["v"] = (rng.normal(size=(16, 20)) / width.reshape(-1, 1)).astype(np.float32)
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("MatMul", ["f", "v"], ["logits"], "classifier"),
    ]
    shapes = [("x", TensorProto.FLOAT, ["n", 3, 8, 8])], [("logits", ["n", 20])]
    proto = models.build(nodes, *shapes, constants)
    onnx.save(proto, "model.onnx")
    for name, count in (("calibration", 160), ("validation", 32)):
        x = rng.normal(size=(count, 3, 8, 8)).astype(np.float32)
        label = models.run(proto, {"x": x})["logits"].argmax(axis=1)
        np.savez(f"{name}.npz", x=x, label=label)
    Path("config.yaml").write_text(yaml.safe_dump(config()), encoding="utf-8")
    return proto


def test_what_mixed_precision_measured_is_what_is_shipped(clipped):
    settings = "{layout: native, remedies: auto, mixed_precision: auto, sqnr_db_min: 60}"
    finished = run(f"quantization={settings}", "quantization.macs_int8_pct_min=40", MINMAX)
    found = finished.result.remedies
    (kept,) = [trial for trial in found.trials if trial.kept]
    assert kept.groups
    shipped = finished.result.candidate("int8-minmax").outputs[0].sqnr_db
    assert abs(shipped - kept.sqnr_db) < 6
    rewritten = onnx.load(finished.directory / "models/rewritten/model.onnx")
    assert "Mul" not in {node.op_type for node in rewritten.graph.node}
