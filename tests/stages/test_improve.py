"""`quantization: auto` as a user has it: what it gives, what it keeps, what it does not touch."""

import json
from pathlib import Path

import models
import numpy as np
import onnx
import onnxruntime as ort
import pytest

from calib.config import load_experiment
from calib.pipeline import run_experiment
from calib.progress import Silent

QUICK = ("throughput.batch_sizes=[]", "analysis.layer_samples=0")
AUTO = ("quantization=auto", "calibration.calibrators=[{kind: minmax}]")
PLAIN = ("calibration.calibrators=[{kind: minmax}]",)


def run(*overrides):
    return run_experiment(load_experiment(Path("config.yaml"), [*QUICK, *overrides]), Silent())


def sqnr(result, name="int8-minmax"):
    return result.candidate(name).outputs[0].sqnr_db


@pytest.fixture
def outliers(workspace):
    """Some input channels are a hundred times as wide as the others, and none is negative."""
    width = np.where(np.arange(models.FEATURES) % 8 == 3, 30.0, 0.3)
    for seed, (name, count) in enumerate((("calibration", 400), ("validation", 120))):
        x = np.abs(np.random.default_rng(seed).normal(size=(count, models.FEATURES))) * width
        x = x.astype(np.float32)
        label = models.run(models.mlp(), {"x": x})["logits"].argmax(axis=1)
        np.savez(f"{name}.npz", x=x, label=label)
    return workspace


def test_int8_comes_out_more_accurate_on_data_that_nothing_was_fitted_on(outliers):
    plain, remedied = run(*PLAIN).result, run(*AUTO).result
    assert sqnr(remedied) > sqnr(plain) + 4


def test_each_step_is_recorded_with_what_it_gave(outliers):
    remedies = run(*AUTO).result.remedies
    assert remedies.steps[0].name == "as it is"
    kept = [step.sqnr_db for step in remedies.steps if step.kept]
    assert kept == sorted(kept)
    assert remedies.kept_aside + remedies.fitted_samples == 400
    assert 70 < remedies.kept_aside < 129


def test_the_rewritten_model_is_the_original_within_float_rounding(outliers):
    finished = run(*AUTO)
    x = np.load("validation.npz")["x"]
    session = ort.InferenceSession(str(finished.directory / "models/rewritten/model.onnx"))
    (found,) = session.run(["logits"], {"x": x})
    wanted = models.run(models.mlp(), {"x": x})["logits"]
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max())
    assert finished.result.remedies.equality_db is None or finished.result.remedies.equality_db > 80


def test_fp16_is_made_from_the_model_as_it_was_given(outliers):
    finished = run(*AUTO)
    model = onnx.load(finished.directory / "models/fp16/model.onnx")
    assert not [i.name for i in model.graph.initializer if i.name.endswith(("_gain", "_offset"))]


def test_another_validation_split_changes_nothing_of_it(outliers):
    first = run(*AUTO).result
    content = dict(np.load("validation.npz"))
    np.savez("validation.npz", **{name: array[:60] for name, array in content.items()})
    second = run(*AUTO).result
    assert [s.reused for s in second.stages if s.name == "remedies"] == [True]
    assert second.remedies == first.remedies


def test_the_order_of_the_samples_changes_nothing_of_it(outliers):
    content = dict(np.load("calibration.npz"))
    ids = np.array([f"sample-{i}" for i in range(400)])
    np.savez("calibration.npz", **content, id=ids)
    overrides = (*AUTO, "data.calibration.id=id")
    first = run(*overrides).result.remedies
    order = np.random.default_rng(5).permutation(400)
    np.savez("calibration.npz", id=ids[order], **{n: a[order] for n, a in content.items()})
    second = run(*overrides).result.remedies
    assert [s.kept for s in second.steps] == [s.kept for s in first.steps]
    for one, other in zip(first.steps, second.steps, strict=True):
        assert one.sqnr_db == pytest.approx(other.sqnr_db, abs=0.05)


def test_a_second_run_computes_nothing_again(outliers):
    run(*AUTO)
    stages = {stage.name: stage.reused for stage in run(*AUTO).result.stages}
    assert stages["remedies"]
    assert stages["calibrate: one pass"]


@pytest.mark.parametrize("make", [models.residual_cnn, models.transformer_block])
def test_other_kinds_of_model_are_improved_or_left_as_they_are(workspace, make):
    proto = make()
    onnx.save(proto, "model.onnx")
    sizes = [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]
    shape = [size or 6 for size in sizes[1:]]
    for seed, name in enumerate(("calibration", "validation")):
        x = np.random.default_rng(seed).normal(size=(96, *shape)).astype(np.float32)
        np.savez(f"{name}.npz", x=x)
    without = (
        "task={kind: embedding}",
        "data.calibration.label=null",
        "data.validation.label=null",
        "limits={output_sqnr_db_min: 5}",
    )
    plain, remedied = run(*PLAIN, *without).result, run(*AUTO, *without).result
    assert sqnr(remedied) > sqnr(plain) - 0.3
    assert 0 < remedied.remedies.macs_int8_pct <= 100


def test_the_report_tells_the_story(outliers):
    page = (run(*AUTO).directory / "report.html").read_text(encoding="utf-8")
    for text in ("as it is", "equalize", "kept aside", "models/rewritten"):
        assert text in page or text.replace("kept aside", "judged on") in page


def test_auto_is_never_below_the_best_calibrator_alone(outliers):
    names = ("minmax", "entropy", "mse")
    kinds = ", ".join(f"{{kind: {name}}}" for name in names)
    auto = f"{{kind: auto, candidates: [{kinds}]}}"
    finished = run(f"calibration.calibrators=[{kinds}, {auto}]")
    # Chosen on calibration samples kept aside: on others, within their noise.
    best = max(sqnr(finished.result, f"int8-{name}") for name in names)
    assert sqnr(finished.result, "int8-auto") > best - 1.0


def test_the_statistics_file_is_refused_for_other_remedies(outliers):
    finished = run(*AUTO)
    header = json.loads(str(np.load(finished.directory / "statistics.npz")["header"]))
    assert header["made_from"]["remedies"]
