"""What is said of thresholds from few values, that clip much, or that a mask sets."""

from pathlib import Path

import models
import numpy as np
import onnx
import pandas as pd
import pytest
import yaml
from small import config

from calib.calibrators import (
    AutoSpec,
    EntropySpec,
    MinMaxSpec,
    MseSpec,
    PercentileSpec,
    amax_from_statistics,
    statistics_from_array,
)
from calib.calibrators.trt_cache import load_cache
from calib.cli import main
from calib.config import load_experiment
from calib.pipeline import run_experiment
from calib.progress import Silent
from calib.stages.cautions import clipping, drowned

QUICK = ("throughput.batch_sizes=[]", "engines.fp16=false", "analysis.layer_samples=0")


def run(*overrides):
    return run_experiment(load_experiment(Path("config.yaml"), [*QUICK, *overrides]), Silent())


def images(count, seed):
    """A constant background of -0.42, and a few bright strokes up to 2.02."""
    rng = np.random.default_rng(seed)
    x = np.full((count, 3, 12, 12), -0.42, dtype=np.float32)
    strokes = rng.random(x.shape) < 0.06
    x[strokes] = rng.uniform(0, 2.02, size=int(strokes.sum()))
    return x


def told(spec, arrays, inputs=(), warn_pct=1.0):
    statistics = {name: statistics_from_array(name, x) for name, x in arrays.items()}
    amax = {name: amax_from_statistics(spec, s) for name, s in statistics.items()}
    return list(clipping(spec, statistics, amax, frozenset(inputs), warn_pct)), amax


def test_a_share_of_clipped_values_above_the_limit_is_told_with_all_figures():
    rng = np.random.default_rng(0)
    x = rng.normal(size=100_000).astype(np.float32)
    x[:2_000] = rng.uniform(40, 50, size=2_000)
    percentile = PercentileSpec(percentile=98)
    (text,), amax = told(percentile, {"h": x, "quiet": np.ones(100, np.float32)})
    assert text.startswith("percentile-98 clips much: h (")
    share = float(text.split("(")[1].split(" %")[0])
    assert share == pytest.approx(100 * (np.abs(x) > amax["h"]).mean(), abs=0.1)
    assert f"beyond {amax['h']:.4g}, of a range up to {np.abs(x).max():.4g}" in text
    assert "quiet" not in text
    assert "auto" in text
    assert told(percentile, {"h": x}, warn_pct=5)[0] == []
    assert told(MinMaxSpec(), {"h": x})[0] == []


def test_an_input_is_told_of_wherever_clipping_costs_and_another_tensor_is_not():
    """One value in 200: not much of an activation, but the range of an image is known."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 0.5, size=100_000).astype(np.float32)
    x[:500] = rng.uniform(1.9, 2.0, size=500)
    found, amax = told(PercentileSpec(percentile=99), {"x": x}, ["x"])
    assert amax["x"] < 0.51
    assert "input x (0.5 % beyond" in found[0]
    assert told(PercentileSpec(percentile=99), {"x": x})[0] == []
    assert told(MseSpec(), {"x": x}, ["x"])[0] == []


def test_clipping_within_a_step_is_none():
    x = np.concatenate([np.linspace(0, 1, 20_000), np.full(5_000, 1.003)]).astype(np.float32)
    statistics = {"h": statistics_from_array("h", x)}
    assert list(clipping(MseSpec(), statistics, {"h": 0.999}, frozenset(), 1.0)) == []
    assert list(clipping(MseSpec(), statistics, {"h": 0.98}, frozenset(), 1.0)) != []


def test_an_image_with_a_constant_background_is_warned_about_by_its_calibrator(workspace):
    onnx.save(models.conv_chain(16, 16), "model.onnx")
    for seed, name in enumerate(("calibration", "validation")):
        np.savez(f"{name}.npz", x=images(64, seed))
    content = config() | {"task": {"kind": "embedding"}, "limits": {}}
    for split in ("calibration", "validation"):
        del content["data"][split]["label"]
    Path("config.yaml").write_text(yaml.safe_dump(content))
    calibration = run().result.calibration
    amax = {a.tensor: a.amax for a in calibration.activations}["x"]
    assert amax["minmax"] == pytest.approx(2.02, abs=0.01)
    assert amax["entropy"] < 1.3
    (warned,) = [text for text in calibration.warnings if "input x" in text]
    assert warned.startswith("entropy clips much: input x (")
    assert f"beyond {amax['entropy']:.4g}, of a range up to {amax['minmax']:.4g}" in warned
    quiet = run("calibration.clip_warn_pct=50").result.calibration
    assert any("input x" in text for text in quiet.warnings)


def test_few_values_fall_back_to_minmax_in_report_table_candidate_and_cache(workspace):
    done = run(
        "calibration.calibrators=[{kind: entropy}, {kind: percentile, percentile: 99.99}, "
        "{kind: minmax}, {kind: auto}]",
        "calibration.tensors=all",
    )
    calibration = done.result.calibration
    for activation in calibration.activations:
        few = {c for c, taken in activation.fallback.items() if taken == "minmax"}
        assert few >= {"entropy", "percentile-99.99"}
        assert set(activation.amax.values()) == {activation.amax["minmax"]}
    assert calibration.others["entropy"] == calibration.others["minmax"]
    (told_of,) = [text for text in calibration.warnings if text.startswith("entropy needs 10,240")]
    assert "x (1,536)" in told_of
    assert any(text.startswith("percentile-99.99 needs 10,000") for text in calibration.warnings)
    assert done.result.candidate("int8-entropy").outputs[0].sqnr_db > 30
    table = pd.read_csv(done.directory / "thresholds.csv").set_index("calibrator")
    assert set(table.loc["entropy", "fallback"]) == {"minmax"}
    assert table.loc[["minmax"], "fallback"].isna().all()
    assert "too few values: minmax" in (done.directory / "report.html").read_text()


def test_an_exported_cache_has_the_fallback(workspace, monkeypatch):
    done = run()
    monkeypatch.setattr(
        "sys.argv",
        [
            "calib",
            "cache",
            "export",
            str(done.directory),
            "-o",
            "c",
            "--tensorrt",
            "10.3.0",
            "--calibrator",
            "entropy",
        ],
    )
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 0
    amax = {a.tensor: a.amax["minmax"] for a in done.result.calibration.activations}
    exported = load_cache(Path("c")).amax
    assert exported == pytest.approx(amax, rel=1e-6)


def test_enough_values_are_not_warned_about(workspace):
    x = np.random.default_rng(1).normal(size=(640, models.FEATURES)).astype(np.float32)
    np.savez("calibration.npz", x=x, label=np.zeros(640, dtype=np.int64))
    calibration = run().result.calibration
    assert not any("needs" in text for text in calibration.warnings)
    assert all(not a.fallback for a in calibration.activations)


def test_a_range_that_a_finite_mask_or_an_outlier_sets_is_told():
    rng = np.random.default_rng(0)
    x = rng.normal(size=50_000).astype(np.float32)
    masked = np.where(rng.random(x.size) < 0.5, np.float32(-1e4), x)
    statistics = {
        name: statistics_from_array(name, values)
        for name, values in {"plain": x, "masked": masked, "sparse": np.maximum(x, 0)}.items()
    }
    amax = {name: s.amax for name, s in statistics.items()}
    (text,) = drowned(MinMaxSpec(), statistics, amax)
    assert "masked (up to 1e+04)" in text
    assert "plain" not in text
    assert "sparse" not in text
    assert list(drowned(EntropySpec(), statistics, dict.fromkeys(statistics, 4.0))) == []


def test_auto_says_that_it_measured():
    rng = np.random.default_rng(0)
    x = rng.standard_t(1.5, size=100_000).astype(np.float32)
    statistics = {"h": statistics_from_array("h", x)}
    (text,) = clipping(AutoSpec(), statistics, {"h": 3.0}, frozenset(), 1.0)
    assert text.startswith("auto clips much")
    assert "samples held out" in text
