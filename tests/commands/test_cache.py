"""`calib cache`, as it is typed."""

import json
import sys
from pathlib import Path

import models
import numpy as np
import onnx
import pandas as pd
import pytest
import yaml
from small import config

from calib.calibrators.cache_diff import Change, diff_caches
from calib.calibrators.trt_cache import cache_from_amax, load_cache
from calib.cli import main
from calib.config import load_experiment
from calib.pipeline import run_experiment
from calib.progress import Silent

QUICK = ["throughput.batch_sizes=[]", "engines.fp16=false", "analysis.layer_samples=0"]


@pytest.fixture
def calib(workspace, monkeypatch, capsys):
    """Run a command: (exit code, standard output, standard error)."""

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["calib", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code, *capsys.readouterr()

    return command


def write_cache(name, amax, version="8.6.1"):
    Path(name).write_text(cache_from_amax(amax, version, "EntropyCalibration2").text())
    return name


def test_show_says_what_is_in_it_and_keeps_rows_it_does_not_know(calib):
    write_cache("a.cache", {"x": 127.0, "a: b": 1.0})
    with Path("a.cache").open("a") as file:
        file.write("strange row\n")
    code, out, _ = calib("cache", "show", "a.cache")
    assert code == 0
    assert "TensorRT 8.6.1, EntropyCalibration2, 2 tensors" in out
    assert "strange row" in out
    code, out, _ = calib("cache", "show", "a.cache", "--json")
    facts = json.loads(out)
    assert facts["scales"]["x"] == 1.0
    assert facts["unknown_rows"] == ["strange row"]


def test_diff_puts_the_most_dangerous_first(calib):
    before = {"same": 1.0, "gone": 1.0, "coarser": 1.0, "clipped": 1.0, "a little": 1.0}
    after = {"same": 1.0, "new": 1.0, "coarser": 8.0, "clipped": 0.25, "a little": 1.01}
    write_cache("a.cache", before)
    write_cache("b.cache", after)
    code, out, _ = calib(
        "cache", "diff", "a.cache", "b.cache", "--html", "d.html", "--csv", "d.csv"
    )
    assert code == 1
    assert "5 of 6 tensors differ" in out
    table = pd.read_csv("d.csv")
    assert list(table["tensor"]) == ["gone", "coarser", "clipped", "a little", "new", "same"]
    assert table.loc[1, "ratio"] == pytest.approx(8.0)
    assert table.loc[1, "bits_lost"] == pytest.approx(3.0)
    assert table.loc[2, "range_lost_pct"] == pytest.approx(75.0)
    page = Path("d.html").read_text()
    assert page.index("gone") < page.index("coarser")
    assert "clips the upper 75 % of the old range" in page
    assert calib("cache", "diff", "a.cache", "a.cache")[0] == 0


def test_a_scale_that_cannot_be_used_is_no_ratio():
    good = cache_from_amax({"x": 1.0}, "8.6.1", "EntropyCalibration2")
    bad = type(good)(8601, "EntropyCalibration2", {"x": 0.0})
    (row,) = diff_caches(good, bad)
    assert row.change is Change.UNUSABLE
    assert row.ratio is row.bits_lost is row.range_lost_pct is None


def test_names_in_the_page_are_escaped(calib):
    write_cache("a.cache", {"<script>alert(1)</script>": 1.0})
    write_cache("b.cache", {"x": 1.0})
    calib("cache", "diff", "a.cache", "b.cache", "--html", "d.html")
    assert "<script>" not in Path("d.html").read_text()


def test_what_a_run_found_is_exported_with_the_input_and_read_back(calib):
    result = run_experiment(load_experiment(Path("config.yaml"), QUICK), Silent()).result
    run = Path("reports/small") / result.run_id
    arguments = ("--calibrator", "minmax", "--tensorrt", "10.3.0", "-o", "out.cache")
    code, out, _ = calib("cache", "export", run, *arguments)
    assert code == 0
    assert "2 tensors, minmax, for TensorRT 10.3.0" in out
    cache = load_cache(Path("out.cache"))
    assert cache.version == 100300
    for activation in result.calibration.activations:
        scale = np.float32(activation.amax["minmax"] / 127)
        assert cache.scales[activation.tensor] == scale
    assert "x" in cache.scales


def test_all_tensors_are_exported_for_an_engine_that_needs_their_scales(calib):
    overrides = [*QUICK, "calibration.tensors=all"]
    result = run_experiment(load_experiment(Path("config.yaml"), overrides), Silent()).result
    code, out, _ = calib("cache", "export", Path("reports/small") / result.run_id, "-o", "c.cache")
    assert code == 0
    assert "quantized nodes only" not in out
    proto = models.mlp()
    for name in ("h1", "h2", "h3"):
        proto.graph.output.append(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        )
    x = np.load("calibration.npz")["x"]
    exact = {"x": x, **models.run(proto, {"x": x})}
    others = result.calibration.others["minmax"]
    assert set(others) == {"h1", "h2", "logits"}
    for name, amax in others.items():
        assert amax == pytest.approx(np.abs(exact[name]).max(), rel=1e-5)
    scales = load_cache(Path("c.cache")).scales
    assert set(scales) == set(exact)
    entropy = {**result.calibration.others["entropy"]}
    entropy |= {a.tensor: a.amax["entropy"] for a in result.calibration.activations}
    chosen = {"entropy": entropy, "minmax": {**others, "x": exact["x"].max()}}
    judged = result.candidate(result.verdict.chosen).calibrator
    assert scales["h1"] == np.float32(chosen[judged]["h1"] / 127)


def test_an_export_of_what_qdq_needs_says_that_an_engine_needs_more(calib):
    result = run_experiment(load_experiment(Path("config.yaml"), QUICK), Silent()).result
    _, out, _ = calib("cache", "export", Path("reports/small") / result.run_id, "-o", "c.cache")
    assert "--set calibration.tensors=all" in " ".join(out.split())


def test_a_cache_moves_to_qdq_with_the_scales_it_holds(calib):
    write_cache("a.cache", {"x": 4.0, "h3": 2.0, "h1": 1.0, "nobody": 1.0})
    code, out, _ = calib(
        "cache", "to-qdq", "model.onnx", "a.cache", "-o", "q.onnx", "--table", "t.csv"
    )
    assert code == 0
    assert "2 tensors have a scale, 0 lack one" in out
    assert "scales of no tensor of this model: 1 (nobody)" in out
    assert "scales that explicit Q/DQ does not ask for: 1" in out
    assert "SQNR" in out
    quantized = onnx.load("q.onnx")
    scales = {i.name: onnx.numpy_helper.to_array(i) for i in quantized.graph.initializer}
    assert scales["x_scale"] == np.float32(4.0 / 127)
    assert scales["h3_scale"] == np.float32(2.0 / 127)
    table = pd.read_csv("t.csv").set_index("tensor")["found"].to_dict()
    assert table == {
        "x": "matched",
        "h3": "matched",
        "h1": "not quantized by explicit Q/DQ",
        "nobody": "no tensor of the model",
    }
    quantized.opset_import[0].version = 19  # the oldest that the reference evaluator has
    x = np.random.default_rng(0).normal(size=(8, models.FEATURES)).astype(np.float32)
    expected = models.run(models.mlp(), {"x": x})["logits"]
    found = models.run(quantized, {"x": x})["logits"]
    assert np.abs(found - expected).max() < 0.5


def test_a_node_that_lacks_a_scale_stays_in_float_and_is_named(calib):
    write_cache("a.cache", {"h3": 2.0})
    code, out, _ = calib("cache", "to-qdq", "model.onnx", "a.cache", "-o", "q.onnx")
    assert code == 0
    assert "lacks a scale: x; in float: fc1" in out
    nodes = [node.op_type for node in onnx.load("q.onnx").graph.node]
    assert nodes.count("QuantizeLinear") == 1


def test_real_samples_are_compared_when_an_experiment_is_given(calib):
    write_cache("a.cache", {"x": 4.0, "h3": 4.0})
    arguments = ("--config", "config.yaml", "--samples", "40")
    code, out, _ = calib("cache", "to-qdq", "model.onnx", "a.cache", "-o", "q.onnx", *arguments)
    assert code == 0
    assert "compared to FP32 on 40 samples" in out
    assert "random" not in out


def test_a_legacy_calibration_is_judged_as_a_candidate(calib):
    write_cache("legacy.cache", {"x": 4.0, "h3": 3.0})
    calib("cache", "import", "legacy.cache", "model.onnx", "-o", "scales.json")
    content = config()
    content["calibration"]["calibrators"] = [
        {"kind": "minmax"},
        {"kind": "cache", "path": "legacy.cache", "name": "legacy"},
        {"kind": "cache", "path": "scales.json", "name": "imported"},
    ]
    Path("config.yaml").write_text(yaml.safe_dump(content))
    result = run_experiment(load_experiment(Path("config.yaml"), QUICK), Silent()).result
    legacy, imported = result.candidate("int8-legacy"), result.candidate("int8-imported")
    assert legacy.score == imported.score
    amax = {a.tensor: a.amax for a in result.calibration.activations}
    assert amax["x"]["legacy"] == pytest.approx(4.0, rel=1e-6)
    assert amax["h3"]["imported"] == pytest.approx(3.0, rel=1e-6)


def test_a_cache_that_lacks_a_tensor_is_refused_or_filled_up_with_a_warning(calib):
    write_cache("legacy.cache", {"x": 4.0})
    cache = "{kind: cache, path: legacy.cache}"
    arguments = ("run", "config.yaml", *[f for q in QUICK for f in ("--set", q)], "--set")
    code, _, error = calib(*arguments, f"calibration.calibrators=[{cache}]")
    assert code == 2
    assert "legacy.cache has no scale for 1 of 2 tensors (got x; expected h3)" in error
    cache = "{kind: cache, path: legacy.cache, missing: minmax}"
    overrides = [*QUICK, f"calibration.calibrators=[{cache}]"]
    result = run_experiment(load_experiment(Path("config.yaml"), overrides), Silent()).result
    assert "legacy.cache has no scale for h3: minmax was taken" in result.calibration.warnings


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "none.cache"], "there is no such file"),
        (["show", "config.yaml"], "is no TensorRT calibration cache"),
        (["export", "nowhere", "-o", "x"], "holds no result.json"),
        (["to-qdq", "none.onnx", "a.cache", "-o", "q.onnx"], "there is no such model file"),
        (["to-qdq", "model.onnx", "b.cache", "-o", "q.onnx"], "no node has all its scales"),
        (["to-qdq", "model.onnx", "a.cache", "-o", "q.onnx", "--shape", "x"], "is no shape"),
        (["to-qdq", "model.onnx", "a.cache", "-o", "q.onnx", "--shape", "y:1x2"], "names no input"),
        (["to-qdq", "model.onnx", "a.cache", "-o", "q.onnx", "--shape", "x:1x2"], "does not fit"),
    ],
)
def test_bad_input_is_one_message_and_nothing_is_written(calib, arguments, said):
    write_cache("a.cache", {"x": 4.0, "h3": 4.0})
    write_cache("b.cache", {"other": 4.0})
    code, out, error = calib("cache", *arguments)
    assert code == 2
    assert out == ""
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert said in error
    assert not Path("q.onnx").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--calibrator", "mse"], "was not in that run"),
        (["--tensorrt", "11.4.0"], "reads no calibration cache"),
        (["--tensorrt", "ten"], "is no version"),
        (["--algorithm", "Entropy"], "is none of TensorRT's"),
    ],
)
def test_an_export_that_tensorrt_would_ignore_is_refused(calib, arguments, said):
    result = run_experiment(load_experiment(Path("config.yaml"), QUICK), Silent()).result
    run = Path("reports/small") / result.run_id
    code, _, error = calib("cache", "export", run, "-o", "out.cache", *arguments)
    assert code == 2
    assert said in error
    assert not Path("out.cache").exists()
