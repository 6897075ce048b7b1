"""What really ran, from a run's config to its files."""

from pathlib import Path

import pandas as pd

from calib.backends.onnxruntime import OnnxRuntime
from calib.backends.processor import is_x86
from calib.config import load_experiment
from calib.errors import BackendError
from calib.pipeline import run_experiment
from calib.progress import Silent
from calib.terminal import ran_lines


def run(*overrides):
    config = load_experiment(Path("config.yaml"), ("throughput.batch_sizes=[]", *overrides))
    return run_experiment(config, Silent())


def test_shares_and_kernels_are_in_the_result_the_csv_and_the_terminal(workspace):
    finished = run("quantization={layout: native, min_channels: 1}", "engines.fp16=true")
    result = finished.result
    assert result.reference.ran is None
    ran = result.candidate("int8-minmax").ran
    assert {n.node: n.kernel for n in ran.nodes} == {"fc1": "QGemm", "fc2": "QGemm"}
    assert {n.node: n.macs for n in ran.nodes} == {"fc1": 16 * 32 * 48, "fc2": 16 * 48 * 16}
    assert (ran.int8_macs_pct, ran.asked_int8_macs_pct) == (100, 100)
    assert list(ran_lines(result)) == [
        "int8-entropy, int8-minmax on ONNX Runtime: 100.0 % of the multiply-accumulates ran in INT8"
    ]
    half = result.candidate("fp16").ran
    assert {n.emulated for n in half.nodes} == {is_x86()}
    table = pd.read_csv(finished.directory / "ran.csv")
    assert len(table) == 3 * 2
    assert "QGemm" in (finished.directory / "report.html").read_text(encoding="utf-8")


def test_what_did_not_run_as_asked_is_told_and_a_failed_view_is_tried_again(workspace, monkeypatch):
    def refuse(*_):
        raise BackendError("model.onnx", "ONNX Runtime refused it: it holds compiled nodes")

    config = "quantization={min_channels: 1}"
    with monkeypatch.context() as patched:
        patched.setattr(OnnxRuntime, "write_structure", refuse)
        blind = run(config).result
    assert blind.candidate("int8-minmax").outputs
    (line,) = ran_lines(blind)
    assert "what really ran is not known" in line
    assert "compiled nodes" in line

    (line,) = ran_lines(run(config).result)
    assert "0.0 % of the multiply-accumulates ran in INT8, 100.0 % were asked for" in line
    assert "because its bias is not quantized" in line

    stages = run(config).result.stages
    reused = {stage.name: stage.reused for stage in stages if "what ran" in stage.name}
    names = ("fp16", "int8-entropy", "int8-minmax")
    assert reused == {f"what ran of {name}": True for name in names}
