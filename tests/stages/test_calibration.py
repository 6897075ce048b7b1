"""Calibration as a user has it: shards, files, budgets, when to stop, and what auto chooses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import models
import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper
from small import ROOT, config

from calib.backends.onnxruntime import OnnxRuntime, OnnxRuntimeSpec
from calib.calibrators.statistics_file import load_statistics
from calib.cli import main
from calib.config import load_experiment
from calib.errors import ConfigError, DataError
from calib.graph.load import load_model
from calib.graph.qdq import scale_from_amax
from calib.graph.save import save_model
from calib.graph.select import select
from calib.graph.selection_spec import SelectionSpec
from calib.graph.taps import Tap, groups_within, tapped, taps_from_tensors
from calib.graph.trial import trial_model
from calib.observe import observe
from calib.pipeline import run_calibration, run_experiment
from calib.progress import Silent
from calib.stages.shard import Shard
from data_loaders import Batch, Sample

QUICK = ("throughput.batch_sizes=[]", "engines.fp16=false", "analysis.layer_samples=0")
EXACT = ("backend.threads=1", "backend.optimization=disabled")
ALL = (
    "calibration.calibrators=[{kind: minmax}, {kind: entropy}, {kind: percentile, percentile: 99}, "
    "{kind: percentile, percentile: 99.9}, {kind: mse}, {kind: auto}]"
)
FORMULAS = ALL.replace(", {kind: auto}", "")


def run(*overrides):
    return run_experiment(load_experiment(Path("config.yaml"), [*QUICK, *overrides]), Silent())


def thresholds(result):
    return {a.tensor: a.amax for a in result.calibration.activations}


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["calib", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code


@pytest.fixture
def many(workspace):
    """640 calibration samples: 40 batches."""
    x = np.random.default_rng(1).normal(size=(640, models.FEATURES)).astype(np.float32)
    np.savez("calibration.npz", x=x, label=np.zeros(640, dtype=np.int64))
    return workspace


def test_all_calibrators_come_out_of_one_pass(many):
    result = run(ALL).result
    assert result.calibration.passes == 1
    assert [c.name for c in result.candidates] == [
        "fp32",
        "int8-minmax",
        "int8-entropy",
        "int8-percentile-99",
        "int8-percentile-99.9",
        "int8-mse",
        "int8-auto",
    ]
    for activation in result.calibration.activations:
        amax = activation.amax
        assert amax["percentile-99"] <= amax["percentile-99.9"] <= amax["minmax"]
        if activation.chosen["auto"] in amax:
            assert amax["auto"] == amax[activation.chosen["auto"]]
        assert len(activation.growth["mse"]) == len(result.calibration.part_samples)


def test_a_small_budget_takes_more_passes_and_finds_the_same(many):
    onnx.save(models.transformer_block(), "model.onnx")
    samples = np.random.default_rng(0).normal(size=(48, 6, models.FEATURES)).astype(np.float32)
    np.savez("calibration.npz", x=samples, label=samples)
    np.savez("validation.npz", x=samples[:40] + 1, label=samples[:40])
    task = ("task={kind: embedding, output: y}", "limits={}")
    splits = [f"data.{name}.label=null" for name in ("calibration", "validation")]
    one = run(*EXACT, *task, *splits).result
    several = run(*EXACT, *task, *splits, "calibration.memory_mb=0.02").result
    assert one.calibration.passes == 1
    assert several.calibration.passes > 1
    assert thresholds(several) == thresholds(one)
    assert several.calibration.values == one.calibration.values


def test_groups_hold_what_fits_and_nothing_is_lost():
    sizes = {"a": 4, "b": 4, "c": 9, "d": 1, "e": 1}
    assert groups_within(sizes, 8) == [["a", "b"], ["c"], ["d", "e"]]


def test_auto_samples_stops_when_thresholds_have_settled(many):
    x = np.random.default_rng(1).uniform(-1, 1, size=(640, models.FEATURES)).astype(np.float32)
    np.savez("calibration.npz", x=x, label=np.zeros(640, dtype=np.int64))
    minmax = "calibration.calibrators=[{kind: percentile, percentile: 99}]"
    stopped = run(minmax, "calibration.samples=auto").result.calibration
    assert stopped.samples == 8 * 16
    assert all(a.enough["percentile-99"] for a in stopped.activations)
    strict = run(minmax, "calibration.samples=auto", "calibration.tolerance_pct=1e-6").result
    assert strict.calibration.samples == 640


def test_shards_of_separate_processes_merge_to_the_file_of_one(many, monkeypatch, capsys):
    plain = ["--set", "backend.threads=1"]
    for arguments in (
        ["-o", "whole.npz"],
        *(["--shard", f"{k}/3", "-o", f"{k}.npz"] for k in (1, 2, 3)),
    ):
        subprocess.run(
            [sys.executable, "-m", "calib", "calibrate", "config.yaml", *plain, *arguments],
            check=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
        )
    assert command(monkeypatch, "merge", "3.npz", "1.npz", "-o", "part.npz") == 0
    assert "1 of 3 shards are still missing" in capsys.readouterr().out
    assert command(monkeypatch, "merge", "part.npz", "2.npz", "-o", "merged.npz") == 0
    assert Path("merged.npz").read_bytes() == Path("whole.npz").read_bytes()
    part = ["--set", "calibration.statistics=part.npz"]
    assert command(monkeypatch, "run", "config.yaml", *part) == 2
    assert (
        "holds only a part of the calibration data (got shards 1, 3 of 3)"
        in capsys.readouterr().err
    )


def test_a_run_takes_given_statistics_and_observes_nothing(many, monkeypatch):
    expected = thresholds(run(*EXACT).result)
    made = run_calibration(
        load_experiment(Path("config.yaml"), EXACT), Silent(), Shard(), Path("given.npz")
    )
    assert made.samples == 640
    monkeypatch.setattr("calib.stages.observation.observe", None)
    given = run(*EXACT, "calibration.statistics=given.npz", "output.store=empty").result
    assert thresholds(given) == expected
    assert given.calibration.samples == 640
    assert given.calibration.seconds is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("data.batch_size=8", "another batch size (got batch_size 16; expected batch_size 8)"),
        ("calibration.ignore_padding=false", "another ignore padding"),
        ("quantization.exclude=[fc1]", "another tensors"),
        ("data.calibration.path=validation.npz", "another data"),
    ],
)
def test_stale_statistics_are_refused_with_the_reason(workspace, monkeypatch, capsys, change, said):
    assert command(monkeypatch, "calibrate", "config.yaml", "-o", "given.npz") == 0
    capsys.readouterr()
    if "validation" in change:
        np.savez("other.npz", **{k: v[:40] for k, v in np.load("validation.npz").items()})
        np.savez("validation.npz", **{k: v[40:] for k, v in np.load("validation.npz").items()})
        change = "data.calibration.path=other.npz"
    given = ["--set", "calibration.statistics=given.npz", "--set", change]
    assert command(monkeypatch, "run", "config.yaml", *given) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: given.npz: is stale: it was made from")
    assert said in error


def test_a_statistics_file_says_what_it_was_made_from(workspace):
    content = run_calibration(
        load_experiment(Path("config.yaml")), Silent(), Shard(), Path("s.npz")
    )
    made = load_statistics(Path("s.npz")).made_from
    assert made == content.made_from
    assert set(made) >= {"model", "data", "batch_size", "tensors", "ignore_padding"}


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0"])
def test_what_is_no_shard_is_refused(workspace, monkeypatch, capsys, text):
    arguments = ["calibrate", "config.yaml", "-o", "x.npz", "--shard", text]
    assert command(monkeypatch, *arguments) == 2
    assert "expected K/N" in capsys.readouterr().err


def test_auto_samples_cannot_be_sharded(workspace):
    experiment = load_experiment(Path("config.yaml"), ["calibration.samples=auto"])
    with pytest.raises(ConfigError, match="auto cannot be sharded"):
        run_calibration(experiment, Silent(), Shard(1, 2), Path("x.npz"))


def test_auto_needs_a_batch_to_hold_out(workspace):
    auto = "calibration.calibrators=[{kind: auto}]"
    with pytest.raises(ConfigError, match="holds out a part"):
        run(auto, "data.batch_size=64")


def quantized(x, amax):
    scale = float(scale_from_amax(amax))
    return np.clip(np.rint(x / scale), -128, 127) * scale


def trial(proto, amax, feeds, folder):
    onnx.save(proto, folder / "m.onnx")
    graph = load_model(folder / "m.onnx").graph
    selection = select(graph, SelectionSpec())
    every = {c: dict.fromkeys(selection.activation_tensors, v) for c, v in amax.items()}
    model, outputs = trial_model(graph, selection, every)
    save_model(model, folder / "trial.onnx")
    with OnnxRuntime(OnnxRuntimeSpec(optimization="basic")).engine(folder / "trial.onnx") as engine:
        found = engine.infer(feeds)
    return {(o.tensor, o.site, o.candidate): found[o.name] for o in outputs}


def test_the_trial_is_each_tensor_quantized_alone(tmp_path):
    x = np.random.default_rng(2).normal(size=(20, models.FEATURES)).astype(np.float32)
    found = trial(models.mlp(), {"wide": 8.0, "narrow": 0.5}, {"x": x}, tmp_path)
    w = {i.name: onnx.numpy_helper.to_array(i) for i in models.mlp().graph.initializer}
    w = {name: array.astype(np.float64) for name, array in w.items()}
    hidden = np.maximum(x @ w["w1"] + w["b1"], 0)
    for name, amax in (("wide", 8.0), ("narrow", 0.5)):
        first = (quantized(x, amax) - x) @ w["w1"]
        second = (quantized(hidden, amax) - hidden) @ w["w2"].T
        assert found["x", 0, name] == pytest.approx(np.square(first).sum(), rel=1e-3)
        assert found["h3", 1, name] == pytest.approx(np.square(second).sum(), rel=1e-3)
    energy = np.square(hidden @ w["w2"].T + w["b2"]).sum()
    assert found["h3", 1, None] == pytest.approx(energy, rel=1e-4)


def test_the_trial_keeps_positions_apart_so_that_padding_can_be_left_out(tmp_path):
    x = np.random.default_rng(2).normal(size=(3, 5, models.FEATURES)).astype(np.float32)
    found = trial(models.transformer_block(), {"a": 2.0}, {"x": x}, tmp_path)
    w = {
        i.name: onnx.numpy_helper.to_array(i) for i in models.transformer_block().graph.initializer
    }
    error = np.square((quantized(x, 2.0) - x) @ w["wq"].astype(np.float64)).sum(axis=-1)
    assert found["x", 0, "a"].shape == (3, 5)
    assert found["x", 0, "a"] == pytest.approx(error, rel=1e-3)


def test_auto_takes_the_candidate_that_hurts_the_consumer_least(many):
    """A threshold that clips nearly everything must lose against one that fits."""
    spec = (
        "calibration.calibrators=[{kind: auto, candidates: [{kind: percentile, percentile: 51}, "
        "{kind: minmax}]}]"
    )
    result = run(spec).result
    assert {a.chosen["auto"] for a in result.calibration.activations} == {"minmax"}


def odd_model():
    """Two inputs, one of integers; a MatMul inside a branch; and one that everything can see."""
    branch = [
        helper.make_graph(
            [
                helper.make_node(
                    "MatMul", ["hidden", weight], [f"{weight}_out"], name=f"in_{weight}"
                )
            ],
            weight,
            [],
            [helper.make_tensor_value_info(f"{weight}_out", TensorProto.FLOAT, ["batch", 16])],
        )
        for weight in ("left", "right")
    ]
    rng = np.random.default_rng(0)
    return models.build(
        [
            helper.make_node("Gather", ["table", "ids"], ["rows"], name="gather"),
            helper.make_node("Add", ["rows", "x"], ["both"], name="add"),
            helper.make_node("MatMul", ["both", "w"], ["hidden"], name="fc"),
            helper.make_node("ReduceSum", ["hidden"], ["total"], name="total", keepdims=0),
            helper.make_node("Greater", ["total", "zero"], ["positive"], name="greater"),
            helper.make_node(
                "If", ["positive"], ["y"], name="if", then_branch=branch[0], else_branch=branch[1]
            ),
        ],
        [("x", TensorProto.FLOAT, ["batch", 32]), ("ids", TensorProto.INT64, ["batch"])],
        [("y", ["batch", 16])],
        {
            "table": rng.normal(size=(10, 32)).astype(np.float32),
            "w": rng.normal(size=(32, 24)).astype(np.float32),
            "left": rng.normal(size=(24, 16)).astype(np.float32),
            "right": rng.normal(size=(24, 16)).astype(np.float32),
            "zero": np.array(0, dtype=np.float32),
        },
    )


def test_subgraphs_several_inputs_and_integers_work_and_only_floats_are_tapped(workspace):
    onnx.save(odd_model(), "model.onnx")
    rng = np.random.default_rng(4)
    for name, count in (("calibration", 48), ("validation", 60)):
        x = rng.normal(size=(count, 32)).astype(np.float32)
        np.savez(f"{name}.npz", x=x, ids=rng.integers(0, 10, size=count))
    content = config()
    for name in ("calibration", "validation"):
        content["data"][name] |= {"inputs": {"x": "x", "ids": "ids"}, "label": None}
    content |= {"task": {"kind": "embedding"}, "limits": {}}
    Path("config.yaml").write_text(yaml.safe_dump(content))
    result = run().result
    assert list(thresholds(result)) == ["both"]


def test_scalars_and_empty_tensors_are_counted_and_a_bad_scalar_names_the_batch():
    class Fixed:
        """An engine whose outputs are given: the loop around it is what is tested."""

        def __init__(self, outputs):
            self.outputs = outputs

        def infer(self, _):
            return self.outputs

    taps = (Tap("scalar", ("scalar",), False), Tap("empty", ("empty",), False))
    axes = {"empty": (1,)}
    batch = Batch((Sample("a", {}), Sample("b", {})), {}, np.array([[True, False], [True, True]]))
    outputs = {"scalar": np.float32(-3), "empty": np.zeros((2, 0, 4), np.float32)}
    outputs = {name: np.asarray(value) for name, value in outputs.items()}
    seen = observe(Fixed(outputs), [(0, batch)], taps, on_batch=lambda _: None, length_axes=axes)
    assert seen.parts["scalar"].whole().amax == 3
    assert seen.parts["empty"].whole().count == 0
    outputs["scalar"] = np.asarray(np.float32(np.nan))
    seen = observe(Fixed(outputs), [(0, batch)], taps, on_batch=lambda _: None, length_axes=axes)
    bad = seen.parts["scalar"].whole().not_finite
    assert (bad.nan, bad.ids) == (1, ("a", "b"))
    with pytest.raises(DataError, match=r"output scalar.*samples a, b"):
        observe(Fixed(outputs), [(0, batch)], taps, on_batch=lambda _: None, outputs=["scalar"])


def test_an_output_of_infinities_that_is_not_scored_has_no_threshold_and_a_warning(workspace):
    proto = models.mlp()
    proto.graph.node.append(helper.make_node("Log", ["h3"], ["log"], name="log"))
    proto.graph.output.append(
        helper.make_tensor_value_info("log", TensorProto.FLOAT, ["batch", models.HIDDEN])
    )
    onnx.save(proto, "model.onnx")
    result = run("calibration.tensors=all", "task.output=logits", "limits={}").result
    assert set(result.calibration.others["minmax"]) == {"h1", "h2", "logits"}
    assert any("log was not always finite" in text for text in result.calibration.warnings)
    assert set(thresholds(result)) == {"x", "h3"}


def test_tensors_of_the_same_values_are_read_once(tmp_path):
    onnx.save(models.transformer_block(), tmp_path / "m.onnx")
    graph = load_model(tmp_path / "m.onnx").graph
    taps = taps_from_tensors(graph, ["k", "kt", "q"])
    assert [(tap.source, tap.tensors) for tap in taps] == [("k", ("k", "kt")), ("q", ("q",))]
    names = [o.name for o in tapped(graph, ["k", "q"]).graph.outputs]
    assert names == ["y", "k", "q"]


def test_a_constant_and_a_dead_tensor_are_reported_and_safe(workspace):
    proto = models.mlp()
    weights = {i.name: i for i in proto.graph.initializer}
    weights["w1"].CopyFrom(
        onnx.numpy_helper.from_array(np.zeros((models.FEATURES, models.HIDDEN), np.float32), "w1")
    )
    weights["b1"].CopyFrom(
        onnx.numpy_helper.from_array(np.full(models.HIDDEN, -1, np.float32), "b1")
    )
    onnx.save(proto, "model.onnx")
    result = run("limits={}", ALL).result
    assert set(thresholds(result)["h3"].values()) == {1.0}
    assert "h3 was zero in every calibration sample" in result.calibration.warnings
    weights["b1"].CopyFrom(
        onnx.numpy_helper.from_array(np.full(models.HIDDEN, 0.5, np.float32), "b1")
    )
    onnx.save(proto, "model.onnx")
    result = run("limits={}", ALL).result
    assert "h3 was 0.5 in every calibration sample" in result.calibration.warnings
    assert all(0 < amax <= 0.5 for amax in thresholds(result)["h3"].values())
    assert json.loads((Path("reports") / "small" / result.run_id / "result.json").read_text())


def test_padding_cannot_change_a_scale_whatever_the_batch_size(workspace):
    """Attention scores included: the thresholds are those of samples that are never padded."""
    onnx.save(models.attention_over_tokens(), "model.onnx")
    content = config() | {"task": {"kind": "embedding"}, "limits": {}}
    data = {"kind": "python", "entry": "models:texts"}
    content["data"] = {
        "batch_size": 1,
        "calibration": data | {"args": {"seed": 0}},
        "validation": data | {"args": {"seed": 1}},
    }
    Path("config.yaml").write_text(yaml.safe_dump(content))
    alone = thresholds(run(FORMULAS).result)
    assert alone.keys() == {"rows", "q", "kt", "shares", "mixed"}
    for size in (7, 40):
        for tensor, amax in thresholds(run(FORMULAS, f"data.batch_size={size}").result).items():
            assert amax == pytest.approx(alone[tensor], rel=1e-5), tensor
    counted = run(FORMULAS, "data.batch_size=7", "calibration.ignore_padding=false").result
    assert thresholds(counted)["rows"]["minmax"] == 100
