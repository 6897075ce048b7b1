"""Failures that were put there on purpose are found: in the tail, or by the audit, and where."""

import json

import numpy as np
import onnx
import pandas as pd
import pytest
import yaml
from models import build
from onnx import TensorProto, helper

from calib.config import load_experiment
from calib.pipeline import run_experiment
from calib.progress import Silent
from calib.stages.audit import run_audit

CLASSES, FEATURES, HIDDEN = 8, 24, 64
RNG = np.random.default_rng(5)
PROTOTYPES = RNG.normal(size=(CLASSES, FEATURES))
W1 = (RNG.normal(size=(FEATURES, HIDDEN)) / 4).astype("f4")
B1 = RNG.normal(size=HIDDEN).astype("f4") * 0.1
W2 = (RNG.normal(size=(HIDDEN, HIDDEN)) / 6).astype("f4")


def hidden(x):
    return np.maximum(np.maximum(x @ W1 + B1, 0) @ W2, 0)


def trained(x, label):
    """A net of two random layers whose head is fitted to the labels by least squares."""
    features = hidden(x)
    target = 8 * np.eye(CLASSES)[label] - 4
    gram = features.T @ features + 0.1 * np.eye(HIDDEN)
    head = np.linalg.solve(gram, features.T @ target).astype("f4")
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h1"], name="fc1"),
        helper.make_node("Relu", ["h1"], ["r1"], name="relu1"),
        helper.make_node("MatMul", ["r1", "w2"], ["h2"], name="fc2"),
        helper.make_node("Relu", ["h2"], ["r2"], name="relu2"),
        helper.make_node("MatMul", ["r2", "w3"], ["logits"], name="head"),
    ]
    return build(
        nodes,
        [("x", TensorProto.FLOAT, ["batch", FEATURES])],
        [("logits", ["batch", CLASSES])],
        {"w1": W1, "b1": B1, "w2": W2, "w3": head},
    )


def draw(seed, count, classes=CLASSES):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, count)
    x = PROTOTYPES[label] + 0.4 * rng.normal(size=(count, FEATURES))
    return x.astype("f4"), label


class Planted:
    """Two splits, a model, and what the run of them found."""

    def __init__(self, folder):
        self.folder = folder
        self.x, self.label = draw(1, 1000)
        self.calibration = draw(0, 400)
        self.training = draw(2, 2000)

    def config(self, **changes):
        onnx.save(trained(*self.training), self.folder / "model.onnx")
        for name, (x, label) in (
            ("calibration", self.calibration),
            ("validation", (self.x, self.label)),
        ):
            np.savez(self.folder / f"{name}.npz", x=x, label=label)
        splits = {
            name: {
                "kind": "arrays",
                "path": str(self.folder / f"{name}.npz"),
                "inputs": {"x": "x"},
                "label": "label",
            }
            for name in ("calibration", "validation")
        }
        config = {
            "name": "planted",
            "model": {"kind": "onnx", "path": str(self.folder / "model.onnx")},
            "data": {**splits, "batch_size": 32},
            "task": {"kind": "classification"},
            "calibration": {"calibrators": [{"kind": "minmax"}]},
            "quantization": {"min_channels": 1},
            "engines": {"fp16": False},
            "analysis": {"layer_samples": 0, "tail": 10},
            "throughput": {"batch_sizes": []},
            "output": {
                "reports": str(self.folder / "reports"),
                "store": str(self.folder / "store"),
            },
            **changes,
        }
        path = self.folder / "config.yaml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return load_experiment(path)

    def run(self, **changes):
        finished = run_experiment(self.config(**changes), Silent())
        table = pd.read_parquet(finished.directory / "samples.parquet")
        ranked = table[table["candidate"].str.startswith("int8")].sort_values("rank")
        # The top 1 % of 1,000 samples.
        return finished.result, [int(name.split("-")[1]) for name in ranked["id"][:10]]


@pytest.fixture
def planted(tmp_path):
    return Planted(tmp_path)


def found_by(record, check):
    return [f for f in record.findings if f.check == check]


def test_without_a_planted_failure_nothing_grave_is_found(planted):
    found = run_audit(planted.config(), Silent())
    assert [f for f in found.findings if f.severity == "error"] == []
    assert {f.check for f in found.findings} <= {"converged", "resampling", "duplicates"}


def test_a_rare_class_of_outliers_that_calibration_never_saw(planted):
    rare = CLASSES - 1
    planted.calibration = draw(0, 400, CLASSES - 1)
    x, label = draw(1, 1000, CLASSES - 1)
    outliers = np.arange(50, 1000, 100)
    x[outliers] = 6 * PROTOTYPES[rare] + 0.4 * RNG.normal(size=(10, FEATURES))
    label[outliers] = rare
    planted.x, planted.label = x.astype("f4"), label
    training = draw(2, 2000)
    strong = training[1] == rare
    training[0][strong] += (5 * PROTOTYPES[rare]).astype("f4")
    planted.training = training
    result, top = planted.run()
    assert len({*top} & {*outliers.tolist()}) >= 9
    tail = result.candidate("int8-minmax").tail
    rows = [v for v in tail if int(v.id.split("-")[1]) in outliers]
    for verdict in rows:
        left = {e.tensor: e for e in verdict.left_range}
        assert {"x", "r1"} <= {*left}
        x = planted.x[int(verdict.id.split("-")[1])]
        assert left["x"].amax == pytest.approx(np.abs(x).max())
        assert left["x"].amax > left["x"].threshold
        assert verdict.nearest.distance > 0.05
    lacking = found_by(result.audit, "coverage")
    assert [f.names for f in lacking] == [(str(rare),)]
    assert f"samples of class {rare}" in lacking[0].action
    (ranges,) = found_by(result.audit, "ranges")
    assert ranges.severity == "error"


def test_an_input_channel_wrongly_preprocessed_in_one_sample_of_a_hundred(planted):
    broken = np.arange(7, 1000, 100)
    planted.x[broken, 4] *= 255
    result, _ = planted.run()
    (inputs,) = found_by(result.audit, "inputs")
    assert (inputs.tensor, inputs.names, inputs.severity) == ("x", ("4",), "error")
    assert {int(name.split("-")[1]) for name in inputs.samples} == {*broken.tolist()}
    assert "wrong preprocessing?" in inputs.title
    (ranges,) = found_by(result.audit, "ranges")
    assert (ranges.tensor, ranges.nodes) == ("x", ("fc1",))
    # Margins of these may well grow; those that lose are explained by the input's range.
    caught = [v for v in result.candidate("int8-minmax").tail if v.left_range]
    assert caught
    assert all(v.left_range[0].tensor == "x" for v in caught)


@pytest.mark.parametrize(("tensor", "node"), [("x", "fc1"), ("r1", "fc2"), ("r2", "head")])
def test_one_layer_with_a_tenth_of_its_scale(planted, tensor, node):
    scales = {}
    x, _ = planted.calibration
    r1 = np.maximum(x @ W1 + B1, 0)
    for name, values in (("x", x), ("r1", r1), ("r2", hidden(x))):
        scales[name] = float(np.abs(values).max() / 127) / (10 if name == tensor else 1)
    path = planted.folder / "scales.json"
    path.write_text(json.dumps(scales), encoding="utf-8")
    given = {"calibrators": [{"kind": "cache", "path": str(path)}]}
    found = run_audit(planted.config(calibration=given), Silent())
    (finding,) = [f for f in found.findings if f.check == "saturation"]
    assert (finding.tensor, finding.nodes, finding.severity) == (tensor, (node,), "error")


def test_a_broken_class_is_the_top_of_the_tail(planted):
    """Two classes differ by less than a step of INT8 beside the others: one of them is lost."""
    rng = np.random.default_rng(9)
    for x, label in (planted.training, planted.calibration, (planted.x, planted.label)):
        x *= 8
        x[label == 0, 1] = 300
        for weak, sign in ((3, 1), (4, -1)):
            own = label == weak
            x[own] = (0.2 * rng.normal(size=(own.sum(), FEATURES))).astype("f4")
            x[own, 0] += sign
    result, top = planted.run()
    candidate = result.candidate("int8-minmax")
    lost = {c.name: c.reference_recall_pct - c.recall_pct for c in candidate.score.classes}
    worst = max(lost, key=lambda name: lost[name])
    assert worst in "34"
    assert lost[worst] > 30
    assert {str(planted.label[k]) for k in top} == {worst}
