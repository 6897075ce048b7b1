"""A whole run on a tiny model: the verdict, the files, resuming, and judging again."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import models
import numpy as np
import onnx
import pandas as pd
import pytest
import yaml
from small import ROOT, config

from calib.cli import main
from calib.config import load_experiment
from calib.engine_record import EngineIdentity
from calib.evidence.statements import statements_of
from calib.pipeline import run_experiment
from calib.progress import Silent
from calib.promotion.package import files_of
from calib.results import RunResult, Verdict
from calib.store import sha256_from_file

QUICK = ("engines.fp16=false", "throughput.batch_sizes=[]")
"""For what neither FP16 nor speed has to do with."""


def run(*overrides):
    return run_experiment(load_experiment(Path("config.yaml"), overrides), Silent())


def command(monkeypatch, *arguments):
    """The command line in this process: its exit code."""
    monkeypatch.setattr(sys, "argv", ["calib", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main(default_command="run")
    return stopped.value.code


def reused(result):
    return {stage.name: stage.reused for stage in result.stages}


def test_a_run_finds_what_numpy_finds(workspace):
    result = run().result
    x, labels = (np.load("validation.npz")[name] for name in ("x", "label"))
    logits = models.run(models.mlp(), {"x": x})["logits"]
    fp32 = result.candidate("fp32")
    assert fp32.score.accuracy_pct == 100 * (logits.argmax(1) == labels).mean() == 100
    assert [c.name for c in result.candidates] == ["fp32", "fp16", "int8-entropy", "int8-minmax"]
    for candidate in result.candidates[2:]:
        path = workspace / "reports" / "small" / result.run_id / candidate.model_path
        quantized = onnx.load(path)
        quantized.opset_import[0].version = 19  # the oldest that the reference evaluator has
        got = models.run(quantized, {"x": x})["logits"].astype(np.float64)
        sqnr = 10 * np.log10(np.sum(logits**2.0) / np.sum((logits - got) ** 2))
        assert candidate.outputs[0].sqnr_db == pytest.approx(sqnr, abs=0.5)
        assert candidate.score.samples == candidate.flips.samples == 120
    assert result.candidate("fp16").outputs[0].sqnr_db > 50
    minmax = {a.tensor: a.amax["minmax"] for a in result.calibration.activations}
    calibration = np.load("calibration.npz")["x"]
    assert minmax["x"] == np.abs(calibration).max()
    seen = next(a for a in result.calibration.activations if a.tensor == "x")
    bars = np.histogram(np.abs(calibration), len(seen.histogram), (0, seen.histogram_end))[0]
    assert seen.histogram == tuple(bars)
    weights = {i.name: onnx.numpy_helper.to_array(i) for i in models.mlp().graph.initializer}
    hidden = np.maximum(calibration @ weights["w1"] + weights["b1"], 0)
    assert minmax["h3"] == pytest.approx(hidden.max(), rel=1e-5)
    assert result.verdict.verdict is Verdict.PASS


def test_a_run_leaves_its_files_and_nothing_else(workspace):
    finished = run()
    assert sorted(p.name for p in finished.directory.iterdir()) == [
        "junit.xml",
        "layers.csv",
        "models",
        "polygraphy",
        "ran.csv",
        "report.html",
        "result.json",
        "samples.csv",
        "samples.parquet",
        "speed.csv",
        "statistics.npz",
        "summary.md",
        "thresholds.csv",
        "throughput.csv",
        "verdict.json",
    ]
    assert [p.name for p in finished.directory.parent.iterdir()] == [finished.directory.name]
    samples = pd.read_csv(finished.directory / "samples.csv")
    assert samples.groupby("candidate").size().to_dict() == dict.fromkeys(
        ("fp32", "fp16", "int8-entropy", "int8-minmax"), 120
    )
    flips = samples[samples["flip"].notna()].groupby("candidate").size().to_dict()
    for candidate in finished.result.candidates:
        assert flips.get(candidate.name, 0) == candidate.flips.total
    layers = pd.read_csv(finished.directory / "layers.csv")
    assert set(layers["tensor"]) >= {"h1", "h2", "h3", "logits"}
    scales = json.loads((finished.directory / "models/int8-minmax/scales.json").read_text())
    amax = {a.tensor: a.amax["minmax"] for a in finished.result.calibration.activations}
    assert scales == pytest.approx({name: value / 127 for name, value in amax.items()})


def test_a_second_run_infers_nothing_again(workspace, monkeypatch):
    first = run().result
    monkeypatch.setattr("calib.backends.onnxruntime.ort.InferenceSession", None)
    second = run().result
    kept = reused(second)
    assert {name for name, again in kept.items() if not again} <= {
        "model",
        "data",
        "slices",
        *(f"analyse {c.name}" for c in first.candidates),
    }
    assert not any(reused(first).values())
    assert second.candidates == first.candidates
    assert second.run_id != first.run_id


def test_a_changed_limit_runs_nothing_but_the_gate(workspace, monkeypatch):
    assert run().result.verdict.verdict is Verdict.PASS
    monkeypatch.setattr("calib.backends.onnxruntime.ort.InferenceSession", None)
    again = run("limits.output_sqnr_db_min=200").result
    assert again.verdict.verdict is Verdict.FAIL


def test_another_calibrator_reuses_the_pass_over_the_data(workspace):
    run(*QUICK)
    other = "calibration.calibrators=[{kind: percentile, percentile: 99.9}]"
    kept = reused(run(*QUICK, other).result)
    assert kept["calibrate: one pass"]
    assert kept["validate fp32"]
    assert not kept["validate int8-percentile-99.9"]


@pytest.mark.parametrize("change", ["data", "batch_size", "model"])
def test_what_a_result_depends_on_is_not_taken_from_the_store(workspace, change):
    run(*QUICK)
    overrides = []
    if change == "data":
        arrays = dict(np.load("calibration.npz"))
        arrays["x"][0, 0] += 1
        np.savez("calibration.npz", **arrays)
    if change == "batch_size":
        overrides = ["data.batch_size=8"]
    if change == "model":
        proto = models.mlp()
        proto.graph.initializer[0].CopyFrom(
            onnx.numpy_helper.from_array(
                onnx.numpy_helper.to_array(proto.graph.initializer[0]) * 2,
                proto.graph.initializer[0].name,
            )
        )
        onnx.save(proto, "model.onnx")
    assert not reused(run(*QUICK, *overrides).result)["calibrate: one pass"]


def test_scales_do_not_depend_on_the_batch_size_or_the_order(workspace):
    def amax(*overrides):
        # One thread and no fusion: the runtime's own sums must not depend on the batch either.
        result = run(*overrides, "backend.threads=1", *QUICK).result
        return {a.tensor: a.amax for a in result.calibration.activations}

    expected = amax()
    assert amax("data.batch_size=7").keys() == expected.keys()
    arrays = dict(np.load("calibration.npz"))
    order = np.random.default_rng(0).permutation(len(arrays["x"]))
    np.savez("calibration.npz", **{name: array[order] for name, array in arrays.items()})
    assert amax() == expected


def test_a_killed_run_goes_on_where_it_was(workspace):
    code = (
        "import sys, time; from pathlib import Path\n"
        "import calib.measuring as p\n"
        "def stop(*a): Path('reached').touch(); time.sleep(60)\n"
        "p.measure_speed = stop\n"
        "from calib.cli import main; sys.argv = ['calib', 'run', 'config.yaml']; main()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment)
    deadline = time.monotonic() + 120
    while not Path("reached").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert Path("reached").exists()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert list(Path("reports").glob("small/2*")) == []
    kept = reused(run().result)
    assert kept["calibrate: one pass"]
    assert kept["validate int8-minmax"]
    assert not kept["speed"]


def test_an_interrupted_run_says_so_and_leaves_no_report(workspace, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("calib.measuring.measure_speed", interrupt)
    assert command(monkeypatch, "config.yaml") == 130
    assert "finished stages are kept" in capsys.readouterr().err
    assert list(Path("reports/small").iterdir()) == []


@pytest.mark.parametrize(
    ("override", "code", "verdict"),
    [
        ("limits.flips_pct_max=100", 0, "PASS"),
        ("limits.output_sqnr_db_min=500", 1, "FAIL"),
        ("limits.embedding_cosine_mean_min=0.5", 3, "NO_EVIDENCE"),
    ],
)
def test_the_exit_code_is_the_verdict(workspace, monkeypatch, capsys, override, code, verdict):
    given = [part for text in (*QUICK, override) for part in ("--set", text)]
    assert command(monkeypatch, "config.yaml", *given, "--json") == code
    captured = capsys.readouterr()
    line = json.loads(captured.out)
    assert line["verdict"] == verdict
    assert Path(line["report"]).is_file()
    assert captured.err == ""


def test_what_a_person_sees(workspace, monkeypatch, capsys):
    assert command(monkeypatch, "run", "config.yaml") == 0
    out = capsys.readouterr().out
    assert "int8-entropy" in out
    assert "PASS  int8-" in out
    assert Path(out.strip().splitlines()[-1]).name == "report.html"


def test_a_finished_run_is_judged_again_without_being_changed(workspace, monkeypatch, capsys):
    finished = run(*QUICK)
    before = (finished.directory / "result.json").read_bytes()
    Path("strict.yaml").write_text("output_sqnr_db_min: 500\n", encoding="utf-8")
    assert command(monkeypatch, "gate", finished.directory) == 0
    assert command(monkeypatch, "gate", finished.directory, "--limits", "strict.yaml") == 1
    assert "SQNR of the worst output ≥ 500 dB" in capsys.readouterr().out
    assert (finished.directory / "result.json").read_bytes() == before


def test_int8_with_fp16_for_the_rest_is_a_candidate_of_its_own(workspace):
    result = run("engines.rest=[fp32, fp16]", "throughput.batch_sizes=[]").result
    sizes = {c.name: c.size_bytes for c in result.candidates}
    assert sizes["int8-minmax-fp16"] < sizes["int8-minmax-fp32"] < sizes["fp32"]
    assert result.candidate("int8-minmax-fp16").outputs[0].sqnr_db > 15
    assert result.candidate("int8-minmax-fp16").peak_memory_bytes is None


@pytest.mark.parametrize("kind", ["regression", "embedding"])
def test_other_tasks_run_to_a_verdict(workspace, kind):
    limits = {
        "regression": {"mean_abs_error_increase_pct_max": 1e9},
        "embedding": {"embedding_cosine_mean_min": 0.9, "embedding_cosine_worst_min": 0.5},
    }[kind]
    content = {**config(), "task": {"kind": kind}, "limits": limits}
    for name in ("calibration", "validation"):
        x = np.load(f"{name}.npz")["x"]
        target = models.run(models.mlp(), {"x": x})["logits"] + 0.1
        np.savez(f"{name}.npz", x=x, label=target)
        if kind == "embedding":
            content["data"][name].pop("label")
    Path("config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    finished = run(*QUICK)
    assert finished.result.verdict.verdict is Verdict.PASS
    score = finished.result.candidate("fp32").score
    if kind == "regression":
        assert score.mean_abs_error == pytest.approx(0.1, rel=1e-4)
    else:
        assert score.mean_cosine == pytest.approx(1)
    assert (finished.directory / "report.html").is_file()


def test_convolutions_run_end_to_end(workspace):
    onnx.save(models.residual_cnn(), "model.onnx")
    rng = np.random.default_rng(3)
    for name, count in (("calibration", 40), ("validation", 40)):
        np.savez(f"{name}.npz", x=rng.normal(size=(count, 3, 8, 8)).astype(np.float32))
    content = {**config(), "task": {"kind": "embedding"}}
    content["data"]["calibration"].pop("label")
    content["data"]["validation"].pop("label")
    content["limits"] = {"embedding_cosine_worst_min": 0.99}
    Path("config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    result = run("throughput.batch_sizes=[]").result
    assert result.verdict.verdict is Verdict.PASS
    layers = {e.tensor: e for e in result.candidate("int8-minmax").layers}
    assert layers["n1"].quantized
    assert layers["n1"].node == "conv1"


def test_the_result_file_is_the_result(workspace):
    finished = run("throughput.batch_sizes=[]")
    text = (finished.directory / "result.json").read_bytes()
    assert RunResult.model_validate_json(text) == finished.result


needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx_cu13 is not installed"
)


@needs_rtx
def test_engines_that_cannot_run_here_are_built_and_are_no_evidence(workspace, monkeypatch, capsys):
    targets = "backend.compute_capabilities=['8.6', '8.9']"
    arguments = ["--backend", "tensorrt_rtx", "--set", targets, "--set", "engines.rest=[fp16]"]
    limit = ["--set", "limits.int8_macs_pct_min=90"]
    assert command(monkeypatch, "config.yaml", *arguments, *limit, "--json") == 3
    line = json.loads(capsys.readouterr().out)
    result = RunResult.model_validate_json(
        Path(line["report"]).with_name("result.json").read_bytes()
    )
    for candidate in result.candidates:
        assert [e.target for e in candidate.engines] == ["8.6", "8.9"]
        assert candidate.latency == ()
        share = 100 if candidate.name.startswith("int8") else 0
        assert [e.int8_macs_pct for e in candidate.engines] == [share, share]
        assert candidate.engines[0].profile["x"] == ((1, 32), (16, 32), (16, 32))
        assert not any(e.ran_here for e in candidate.engines)
    models = Path(line["report"]).parent / "models"
    for candidate in result.candidates:
        for engine in candidate.engines:
            plan = models / candidate.name / f"{engine.target}.plan"
            assert sha256_from_file(plan) == engine.plan_sha256
            identity = EngineIdentity.model_validate_json(plan.with_suffix(".json").read_bytes())
            assert identity.target == engine.target
    attested = statements_of(result, models.parent, datetime.now(UTC))[0]["subject"]
    digests = {subject["name"]: subject["digest"]["sha256"] for subject in attested}
    own = result.candidate("int8-minmax")
    packed = {f.name: f.sha256 for f in files_of(own, models.parent)}
    assert "models/fp32/8.6.plan" in digests
    for engine in own.engines:
        name = f"{engine.target}.plan"
        assert digests[f"models/int8-minmax/{name}"] == packed[name] == engine.plan_sha256
    judged = {c.candidate: c for c in result.verdict.candidates}["int8-minmax"].rules
    assert {r.rule: r.verdict for r in judged}["int8_macs_pct_min"] is Verdict.PASS
    assert {r.rule: r.verdict for r in judged}["execution"] is Verdict.NO_EVIDENCE
    layers = pd.read_csv(Path(line["report"]).with_name("layers.csv"))
    ran = layers[layers["candidate"] == "int8-minmax"].set_index("tensor")["ran_in"]
    assert ran["h1"] == "int8"


@needs_rtx
def test_rebuilds_show_how_far_builds_differ(workspace):
    rtx = ["backend.kind=tensorrt_rtx", "backend.rebuilds=2", "engines.fp16=false"]
    result = run(*rtx, "calibration.calibrators=[{kind: minmax}]").result
    found = result.candidate("int8-minmax").engines[0].rebuilds
    assert found.builds == len(found.seconds) == len(found.weights_bytes) == 2
    assert found.output_max_abs is None
    assert found.p50_ms == ()


@needs_rtx
def test_a_second_run_builds_no_engine_again(workspace, monkeypatch):
    first = run("backend.kind=tensorrt_rtx").result
    monkeypatch.setattr("calib.backends.tensorrt.build_engine", None)
    assert run("backend.kind=tensorrt_rtx").result.candidates == first.candidates


def test_auto_says_what_it_became_and_why(workspace, monkeypatch, capsys):
    notes = []

    class Noting(Silent):
        def note(self, text):
            notes.append(text)

    result = run_experiment(
        load_experiment(Path("config.yaml"), [*QUICK, "backend.kind=auto"]), Noting()
    )
    note = notes[0]
    assert result.result.notes[0] == note
    if "ONNX Runtime" in note:
        assert "tensorrt: " in note
        assert "tensorrt_rtx: " in note
        assert result.result.verdict.verdict is Verdict.PASS


def test_runs_of_two_processes_never_share_a_directory(workspace, monkeypatch):
    """Even if they start within one millisecond."""
    first = run("throughput.batch_sizes=[]").result.run_id
    monkeypatch.setattr("calib.pipeline.os.getpid", lambda: -1)
    assert run("throughput.batch_sizes=[]").result.run_id[-6:] != first[-6:]
