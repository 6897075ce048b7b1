"""The layouts of one calibration, from end to end."""

from pathlib import Path

import pytest

from calib.config import load_experiment
from calib.errors import ConfigError
from calib.pipeline import run_experiment
from calib.progress import Silent
from calib.results import Verdict


def run(*overrides):
    return run_experiment(load_experiment(Path("config.yaml"), overrides), Silent())


def test_a_processor_that_prefers_uint8_runs_the_same_grid_in_it(workspace, monkeypatch):
    exact = ("throughput.batch_sizes=[]", "backend.optimization=disabled")
    plain = run(*exact)
    monkeypatch.setattr("calib.stages.calibrate.prefers_unsigned", lambda: True)
    twin = run(*exact)
    for name in ("int8-entropy", "int8-minmax"):
        files = {path.name for path in (twin.directory / "models" / name).iterdir()}
        assert files >= {"model.onnx", "onnxruntime.onnx"}
        assert twin.result.candidate(name).outputs == plain.result.candidate(name).outputs
    assert any("onnxruntime.onnx" in note for note in twin.result.notes)


@pytest.mark.parametrize("remedies", ["none", "auto"])
def test_the_native_layout_runs_from_the_same_pass(workspace, remedies):
    result = run(
        f"quantization={{layout: native, remedies: {remedies}, min_channels: 1}}",
        "throughput.batch_sizes=[]",
    ).result
    assert result.verdict.verdict is Verdict.PASS
    plain = run(f"quantization={{remedies: {remedies}, min_channels: 1}}").result
    for name in ("int8-entropy", "int8-minmax"):
        own, other = (r.candidate(name).outputs[0].sqnr_db for r in (result, plain))
        assert own > other - 1
    assert any("layout is native" in note for note in result.notes)


def test_the_native_layout_is_refused_where_tensorrt_engines_are_built(workspace, monkeypatch):
    monkeypatch.setattr("calib.stages.workbench.open_builder", lambda _: object())
    with pytest.raises(ConfigError, match=r"quantization.layout: is for ONNX Runtime"):
        run("quantization.layout=native", "backend={kind: tensorrt_rtx}")
