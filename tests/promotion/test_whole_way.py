"""An example's whole way: run, attest, verify, promote to two places; a FAIL moves nothing."""

import hashlib
import json
from pathlib import Path

import mlflow
import numpy as np
import onnxruntime as ort
import pytest
from small import ROOT

from calib.cli import main

SMALL = (
    "data.calibration.args.count=64",
    "data.validation.args.count=160",
    "calibration.calibrators=[{kind: minmax}]",
    "analysis={layer_samples: 0, audit_samples: 0, tail: 3}",
    "throughput={batch_sizes: [8], runs: 10, warmup_runs: 1}",
)
PASSES = "limits={accuracy_drop_points_max: 30.0, samples_min: 100}"
FAILS = "limits={accuracy_drop_points_max: 30.0, size_ratio_vs_fp32_max: 0.01}"


@pytest.fixture
def calib(monkeypatch, capsys):
    """Calls the command line; gives the exit code and what was printed."""

    def command(*arguments):
        monkeypatch.setattr("sys.argv", ["calib", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        return code, capsys.readouterr().out

    return command


@pytest.fixture
def run(calib, tmp_path):
    """Runs the example of text lines, small; gives the exit code and the run's directory."""

    def example(limits):
        places = (f"output.reports={tmp_path}/reports", f"output.store={tmp_path}/store")
        given = [part for text in (*SMALL, *places, limits) for part in ("--set", text)]
        code, out = calib("run", ROOT / "configs" / "textline_int8.yaml", *given, "--json")
        line = json.loads(out.splitlines()[-1])
        return code, tmp_path / "reports" / "textline_int8" / line["run_id"]

    return example


def content(folder):
    """Every file below a folder, by name."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_what_passed_is_served_and_a_second_run_that_fails_moves_nothing(
    calib, run, server, tmp_path, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    repository, key = tmp_path / "models", tmp_path / "release.key"
    places = ("--to", f"triton:{repository}", "--to", f"mlflow:{server}")
    named = ("--name", "whole-way", "--key", f"{key}.pub", *places)
    assert calib("keygen", key)[0] == 0

    code, passed = run(PASSES)
    assert code == 0
    assert calib("promote", passed, *named)[0] == 2, "nobody signed it yet"
    assert not repository.exists()
    assert calib("attest", passed, "--key", key)[0] == 0
    judged = passed / "models" / "int8-minmax" / "model.onnx"
    bundle = passed / "run.intoto.jsonl"
    verify = ("verify", bundle, "--key", f"{key}.pub", "--artifact", judged)
    assert calib(*verify)[0] == 0
    assert calib("promote", passed, *named, "--dry-run")[0] == 0
    assert not repository.exists()
    assert calib("promote", passed, *named)[0] == 0

    # What Triton would serve is what was measured, and what MLflow gives out is what was judged.
    served = repository / "whole-way" / "1" / "model.onnx"
    assert served.read_bytes() == (judged.parent / "onnxruntime.onnx").read_bytes()
    assert calib("verify", bundle, "--key", f"{key}.pub", "--artifact", served)[0] == 0
    client = mlflow.MlflowClient(tracking_uri=server)
    champion = client.get_model_version_by_alias("whole-way", "champion")
    logged = mlflow.artifacts.download_artifacts(champion.source, dst_path=str(tmp_path / "logged"))
    copies = [path.read_bytes() for path in Path(logged).rglob("*.onnx")]
    assert judged.read_bytes() in copies
    sample = np.load(judged.parent / "warmup.npz")
    outputs = [
        ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, dict(sample))[0]
        for path in (judged, served)
    ]
    assert outputs[0].shape == outputs[1].shape

    before = content(repository)
    code, failed = run(FAILS)
    assert code == 1
    assert calib("attest", failed, "--key", key)[0] == 0
    assert calib("verify", failed / "run.intoto.jsonl", "--key", f"{key}.pub")[0] == 1
    assert calib("promote", failed, *named)[0] == 1
    assert content(repository) == before
    assert client.get_model_version_by_alias("whole-way", "champion").version == champion.version
    versions = client.search_model_versions("name = 'whole-way'")
    assert [version.version for version in versions] == [champion.version]
