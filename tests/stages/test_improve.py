"""`quantization: auto` as a user has it: what it gives, what it keeps, what it does not touch."""

import json
import signal
import sys
from pathlib import Path

import models
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from calib.cli import main
from calib.config import load_experiment
from calib.errors import ConfigError
from calib.pipeline import run_experiment
from calib.progress import Silent
from calib.stages.panel import Panel

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


def test_the_pinned_settings_give_the_same_choice_again(outliers):
    finished = run(*AUTO)
    pinned = load_experiment(
        Path("config.yaml"),
        [f"quantization={json.dumps(pinned_settings(finished.directory))}", *QUICK],
    ).quantization
    assert pinned.mixed_precision == "none"
    kept = [step for step in finished.result.remedies.steps if step.kept]
    assert pinned.remedies == tuple(dict.fromkeys(p for step in kept for p in step.parts))
    assert "equalize" in pinned.remedies


def pinned_settings(directory):
    return yaml.safe_load((directory / "quantization.yaml").read_text())["quantization"]


def test_pinned_settings_name_every_node_left_in_float(outliers):
    goal = "sqnr_db_min: 200, macs_int8_pct_min: 50"
    asked = f"quantization={{remedies: auto, mixed_precision: auto, {goal}}}"
    finished = run(asked, *PLAIN)
    floats = [n for g in finished.result.remedies.groups if g.in_float for n in g.nodes]
    assert floats
    assert pinned_settings(finished.directory)["exclude"] == floats
    reasons = {r.node: r.reason for r in finished.result.calibration.left_alone}
    assert not {a for a in finished.result.calibration.activations if set(a.consumers) & {*floats}}
    assert reasons


def command(monkeypatch, capsys, *words):
    """What a calib command prints."""
    monkeypatch.setattr(sys, "argv", ["calib", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    return capsys.readouterr().out


def test_sensitivity_shows_every_group_and_the_remedies_without_a_run(
    outliers, monkeypatch, capsys
):
    how = [word for setting in (*AUTO, *QUICK) for word in ("--set", setting)]
    shown = command(monkeypatch, capsys, "sensitivity", "config.yaml", *how)
    for text in ("equalize", "fc1", "fc2", "alone dB", "weights"):
        assert text in shown
    assert not list(Path("reports").glob("small/*"))


def test_sensitivity_tells_activations_from_weights_and_names_the_wide_channels(
    outliers, monkeypatch, capsys
):
    shown = command(monkeypatch, capsys, "sensitivity", "config.yaml", "--csv", "s.csv", "--json")
    record = json.loads(shown)
    assert record["remedies"] is None
    groups = {group["name"]: group for group in record["groups"]}
    first = groups["fc1"]
    assert all(channel % 8 == 3 for channel in first["widest_channels"])
    assert first["width_ratio"] > 30
    # The channels beside the wide ones lose nearly all codes: it is the activation.
    assert first["activations_db"] < first["weights_db"] - 6
    noise = [10 ** (-first[name] / 10) for name in ("activations_db", "weights_db", "alone_db")]
    assert noise[2] == pytest.approx(noise[0] + noise[1], rel=0.25)
    assert record["groups"][-1]["upto_db"] == record["int8_db"]
    assert Path("s.csv").read_text().splitlines()[0].startswith("name,nodes,macs_pct,alone_db")


def test_ctrl_c_keeps_the_best_so_far_and_the_next_run_goes_on(outliers, monkeypatch):
    judge, judged = Panel.judge, []

    def interrupted(panel, graph):
        judged.append(graph)
        if len(judged) == 2:
            signal.raise_signal(signal.SIGINT)
        return judge(panel, graph)

    monkeypatch.setattr(Panel, "judge", interrupted)
    first = run(*AUTO).result.remedies
    assert first.stopped
    assert len(first.steps) == 2
    assert first.groups
    assert not any(group.in_float for group in first.groups)
    judged.clear()
    judged += [None, None]
    second = run(*AUTO).result
    assert not second.remedies.stopped
    assert len(second.remedies.steps) > 2
    assert [s.reused for s in second.stages if s.name == "remedies"] == [False]
    # The steps that the first run had judged were not run again; the rest and the equality were.
    assert len(judged) - 2 < len(second.remedies.steps) + 1
    for one, other in zip(first.steps, second.remedies.steps, strict=False):
        assert one.sqnr_db == other.sqnr_db


def test_too_few_samples_to_fit_and_to_judge_are_refused(outliers):
    content = dict(np.load("calibration.npz"))
    np.savez("calibration.npz", **{name: array[:1] for name, array in content.items()})
    with pytest.raises(ConfigError, match="kept aside"):
        run(*AUTO, "data.calibration_samples_min=1")


def test_tensorrt_builds_every_quantized_node_in_int8_as_before(outliers):
    pytest.importorskip("tensorrt_rtx")
    rtx = ("backend={kind: tensorrt_rtx}", "engines.fp16=false")
    plain, remedied = (run(*how, *rtx).result.candidate("int8-minmax") for how in (PLAIN, AUTO))
    for candidate in (plain, remedied):
        assert candidate.engines[0].demoted == ()
        assert candidate.engines[0].int8_macs_pct == pytest.approx(100)


def in_int8(model):
    made = {output: node.op_type for node in model.graph.node for output in node.output}
    return sorted(
        node.name
        for node in model.graph.node
        if node.op_type in ("MatMul", "Gemm", "Conv")
        and all(made.get(name) == "DequantizeLinear" for name in node.input[:2])
    )


def asked_for(remedies):
    return sorted(n for group in remedies.groups if not group.in_float for n in group.nodes)


def test_everything_is_in_int8_that_the_record_says_is(outliers):
    finished = run(*AUTO)
    model = onnx.load(finished.directory / "models/int8-minmax/model.onnx")
    assert in_int8(model) == asked_for(finished.result.remedies) == ["fc1", "fc2"]


def test_a_side_path_leaves_its_node_in_int8(workspace):
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(320, 48)).astype(np.float32)
    weight[::40] *= 60
    constants = {"w": weight, "v": rng.normal(size=(48, 16)).astype(np.float32)}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="wide"),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("MatMul", ["r", "v"], ["logits"], name="last"),
    ]
    inputs = [("x", TensorProto.FLOAT, ["batch", 320])]
    onnx.save(models.build(nodes, inputs, [("logits", ["batch", 16])], constants), "model.onnx")
    for seed, name in enumerate(("calibration", "validation")):
        x = np.random.default_rng(seed).normal(size=(300, 320)).astype(np.float32)
        np.savez(f"{name}.npz", x=x, label=np.zeros(300, dtype=np.int64))
    finished = run("quantization={remedies: auto}", *PLAIN)
    steps = {step.name: step.kept for step in finished.result.remedies.steps}
    assert steps["channels aside"]
    model = onnx.load(finished.directory / "models/int8-minmax/model.onnx")
    assert in_int8(model) == asked_for(finished.result.remedies) == ["last", "wide"]
    assert sqnr(finished.result) > sqnr(run(*PLAIN).result) + 2


def test_mixed_precision_goes_on_until_few_enough_predictions_are_expected_to_change(outliers):
    def asked(**more):
        settings = {"remedies": "none" if not more else "auto", **more}
        return run(f"quantization={json.dumps(settings)}", *PLAIN).result.remedies

    loose = {"mixed_precision": "auto", "sqnr_db_min": 5, "macs_int8_pct_min": 0}
    first = asked(**loose)
    wanted = first.expected_flips_pct / 3
    second = asked(**loose, flips_pct_max=wanted)
    assert second.expected_flips_pct <= wanted
    assert second.macs_int8_pct < first.macs_int8_pct


def test_a_list_of_remedies_tries_these_alone(outliers):
    found = run("quantization={remedies: [round_together]}", *PLAIN).result.remedies
    assert [step.name for step in found.steps] == ["as it is", "round together"]


def test_sensitivity_says_how_many_samples_it_measured(outliers, monkeypatch, capsys):
    for batch_size, wanted in ((8, 16), (32, 32)):
        words = ("--json", "--set", f"data.batch_size={batch_size}")
        shown = command(monkeypatch, capsys, "sensitivity", "config.yaml", *words)
        assert json.loads(shown)["samples"] == wanted


def test_a_classifier_of_a_single_score_is_improved_without_expected_flips(workspace):
    proto = models.mlp()
    for constant in proto.graph.initializer:
        if constant.name in ("w2", "b2"):
            one = numpy_helper.to_array(constant)[:1].copy()
            constant.CopyFrom(numpy_helper.from_array(one, constant.name))
    proto.graph.output[0].type.tensor_type.shape.dim[-1].dim_value = 1
    onnx.save(proto, "model.onnx")
    for seed, name in enumerate(("calibration", "validation")):
        x = np.random.default_rng(seed).normal(size=(96, models.FEATURES)).astype(np.float32)
        np.savez(f"{name}.npz", x=x, label=np.zeros(96, dtype=np.int64))
    assert run(*AUTO, "limits={samples_min: 1}").result.remedies.expected_flips_pct is None


def test_a_layer_of_no_rows_is_left_as_it_is(workspace):
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.normal(size=(32, 16)).astype(np.float32),
        "v": rng.normal(size=(32, 16)).astype(np.float32),
        "zero": np.array([0]),
    }
    nodes = [
        helper.make_node("Slice", ["x", "zero", "zero", "zero"], ["none"], name="none"),
        helper.make_node("MatMul", ["none", "v"], ["empty"], name="of_none"),
        helper.make_node("MatMul", ["x", "w"], ["all"], name="of_all"),
        helper.make_node("Concat", ["all", "empty"], ["logits"], name="both", axis=0),
    ]
    inputs = [("x", TensorProto.FLOAT, ["batch", 32])]
    onnx.save(models.build(nodes, inputs, [("logits", ["batch", 16])], constants), "model.onnx")
    result = run("quantization={remedies: auto}", *PLAIN).result
    assert sqnr(result) > 25
