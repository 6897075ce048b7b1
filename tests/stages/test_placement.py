"""Where integers run is measured, and the config can name it."""

from collections import Counter
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper
from small import config

from calib.config import load_experiment
from calib.pipeline import run_experiment
from calib.progress import Silent
from calib.report.html import render_html
from calib.stages.placement import BOUND_DB, chosen

QUICK = (
    "throughput.batch_sizes=[]",
    "analysis.layer_samples=0",
    "calibration.calibrators=[{kind: minmax}]",
)


def test_the_fastest_within_the_bound_is_chosen():
    rounds = np.linspace(0.95, 1.05, 21)
    times = {"integer": 10 * rounds, "float_adds": 8 * rounds, "float_between": 5 * rounds}
    sqnr = {"integer": 30.0, "float_adds": 30.0 - BOUND_DB / 2, "float_between": 28.0}
    name, why = chosen(sqnr, times)
    assert name == "float_adds"
    assert "29.5 dB in 8.00 ms" in why
    assert "float_between 28.0 dB in 5.00 ms" in why


def test_of_placements_that_chance_cannot_tell_apart_the_more_accurate_is():
    rng = np.random.default_rng(0)
    times = {name: rng.normal(10, 2, 21) for name in ("integer", "float_adds")}
    assert chosen({"integer": 30.0, "float_adds": 30.5}, times)[0] == "float_adds"
    assert chosen({"integer": 30.5, "float_adds": 30.0}, times)[0] == "integer"


@pytest.fixture
def convolutional(tmp_path, monkeypatch):
    """A residual net with a classifier, and data for it."""
    monkeypatch.chdir(tmp_path)
    proto = models.residual_cnn()
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(16, 20)).astype(np.float32)
    proto.graph.node.extend(
        [
            helper.make_node("GlobalAveragePool", ["y"], ["p"], "pool"),
            helper.make_node("Flatten", ["p"], ["f"], "flatten"),
            helper.make_node("MatMul", ["f", "v"], ["logits"], "classifier"),
        ]
    )
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "v"))
    del proto.graph.output[:]
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 20])
    proto.graph.output.append(logits)
    onnx.save(proto, "model.onnx")
    for name, count in (("calibration", 96), ("validation", 32)):
        x = rng.normal(size=(count, 3, 8, 8)).astype(np.float32)
        label = models.run(proto, {"x": x})["logits"].argmax(axis=1)
        np.savez(f"{name}.npz", x=x, label=label)
    Path("config.yaml").write_text(yaml.safe_dump(config()), encoding="utf-8")


def run(*overrides):
    settings = [*QUICK, *(f"quantization.{text}" for text in overrides)]
    return run_experiment(load_experiment(Path("config.yaml"), settings), Silent())


def operators(finished):
    model = onnx.load(finished.directory / "models/int8-minmax/model.onnx")
    return Counter(node.op_type for node in model.graph.node)


def test_what_was_measured_and_why_one_was_taken_is_in_the_result(convolutional):
    finished = run("layout=native")
    found = finished.result.placement
    assert [trial.name for trial in found.trials] == ["integer", "float_adds", "float_between"]
    (kept,) = [trial for trial in found.trials if trial.kept]
    assert kept.sqnr_db >= max(trial.sqnr_db for trial in found.trials) - found.bound_db
    assert all(trial.median_ms > 0 and trial.rounds > 8 for trial in found.trials)
    assert any(note == f"placement: {found.why}" for note in finished.result.notes)
    assert "Where integers run" in render_html(finished.result)
    named = run("layout=native", f"placement={kept.name}")
    assert operators(named) == operators(finished)
    assert named.result.placement is None


def test_a_placement_that_is_named_is_taken(convolutional):
    integer, adds, between = (
        operators(run("layout=native", f"placement={name}"))["QuantizeLinear"]
        for name in ("integer", "float_adds", "float_between")
    )
    assert integer > between
    assert adds <= integer


def test_nothing_is_measured_where_there_is_no_choice(workspace):
    assert run("layout=native", "min_channels=1").result.placement is None
