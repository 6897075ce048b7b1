"""The audit of a config: what it costs, what it takes from the store, and the command."""

import json
import sys
from pathlib import Path

import models
import numpy as np
import onnx
import pytest

from calib.cli import main
from calib.config import load_experiment
from calib.progress import Silent
from calib.stages.audit import run_audit
from calib.stages.profiles import some_ids
from data_loaders import scan
from data_loaders.types import Sample


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["calib", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main(default_command="run")
    return stopped.value.code


def audited(*overrides):
    return run_audit(load_experiment(Path("config.yaml"), overrides), Silent())


def test_nothing_is_quantized_and_a_second_audit_infers_nothing(workspace, monkeypatch):
    first = audited()
    assert {p.name for p in Path("reports/.store").iterdir()} & {"int8", "fp16", "outputs"} == set()
    monkeypatch.setattr("calib.backends.onnxruntime.ort.InferenceSession", None)
    assert audited() == first
    assert (first.calibration_samples, first.validation_samples) == (48, 120)


def test_no_more_samples_are_run_than_asked_for(workspace):
    found = audited("analysis.audit_samples=20")
    assert (found.calibration_samples, found.validation_samples) == (20, 20)


def test_what_is_in_the_labels_alone_is_not_taken_from_the_store(workspace):
    audited()
    arrays = dict(np.load("calibration.npz"))
    arrays["label"][:] = 3
    np.savez("calibration.npz", **arrays)
    (lacking,) = [f for f in audited().findings if f.title.startswith("calibration lacks")]
    assert "3" not in lacking.names


def test_tensors_are_those_that_a_run_calibrates_with_numpys_saturation(workspace):
    onnx.save(models.mlp(), "model.onnx")
    arrays = dict(np.load("validation.npz"))
    arrays["x"] *= 1.5
    np.savez("validation.npz", **arrays)
    found = {t.tensor: t for t in audited().tensors}
    assert set(found) == {"x", "h3"}
    largest = np.abs(np.load("calibration.npz")["x"]).max()
    x = np.abs(arrays["x"].astype("f8"))
    own = found["x"].saturation["minmax"]
    assert own.clipped_pct == pytest.approx(100 * (x > largest).mean())
    over = np.maximum(x - largest, 0)
    assert own.lost_pct == pytest.approx(100 * (over**2).sum() / (x**2).sum())
    assert own.calibration_clipped_pct == 0
    assert found["x"].beyond == (x.max(axis=1) > largest).sum()
    assert found["x"].distance > 0.1
    assert found["x"].p_adjusted < 0.01


@pytest.mark.parametrize("batch", [1, 4])
def test_a_model_of_a_fixed_batch_size_is_looked_at_sample_by_sample(workspace, batch):
    free = audited("data.calibration_samples_min=1")
    proto = models.mlp()
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].ClearField("dim_param")
        value.type.tensor_type.shape.dim[0].dim_value = batch
    onnx.save(proto, "model.onnx")
    fixed = audited(f"data.batch_size={batch}")
    for own, other in zip(free.tensors, fixed.tensors, strict=True):
        assert own.beyond == other.beyond
        assert own.distance == pytest.approx(other.distance, rel=1e-3, abs=1e-6)
        for name, saturation in own.saturation.items():
            assert saturation.clipped_pct == pytest.approx(other.saturation[name].clipped_pct)


def test_without_labels_classes_are_fp32s_predictions(workspace):
    arrays = dict(np.load("calibration.npz"))
    logits = models.run(models.mlp(), {"x": arrays["x"]})["logits"]
    np.savez("calibration.npz", x=arrays["x"])
    overrides = ["data.calibration={kind: arrays, inputs: {x: x}, path: calibration.npz}"]
    found = audited(*overrides)
    assert found.classes_from == "predictions"
    counts = {g.name: g.calibration for g in found.groups}
    names, times = np.unique(logits.argmax(axis=1), return_counts=True)
    assert {n: c for n, c in counts.items() if c} == {
        str(n): c for n, c in zip(names, times, strict=True)
    }


def test_the_samples_looked_at_do_not_depend_on_the_order_and_are_no_pattern_of_the_ids():
    samples = [Sample(f"row-{k:06d}", {"x": np.array([k], "f4")}) for k in range(1000)]

    class Of:
        def __init__(self, data):
            self.scan = scan(data, "data")

    chosen = some_ids(Of(samples), 250)
    assert chosen == some_ids(Of(samples[::-1]), 250)
    last = np.array([int(name[-1]) for name in chosen])
    # Ten digits, 25 each but for chance (deviation below 5).
    assert np.bincount(last, minlength=10).min() >= 8


def test_the_command_prints_findings_and_ends_with_1_on_an_error(workspace, monkeypatch, capsys):
    assert command(monkeypatch, "audit", "config.yaml") == 0
    shown = capsys.readouterr().out
    assert "audit: " in shown
    assert "48 calibration and 120 validation samples looked at" in shown
    arrays = dict(np.load("validation.npz"))
    arrays["x"] *= 100
    np.savez("validation.npz", **arrays)
    assert command(monkeypatch, "audit", "config.yaml", "--json") == 1
    content = json.loads(capsys.readouterr().out)
    assert content["findings"][0]["severity"] == "error"
    assert "times larger than calibration on input x" in content["findings"][0]["title"]
    assert command(monkeypatch, "audit", "config.yaml", "--set", "analysis.audit_samples=0") == 2
    assert "analysis.audit_samples" in capsys.readouterr().err
