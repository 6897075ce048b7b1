"""keygen, attest, verify and waive, as a user types them."""

import json
import sys

import pytest
import records

from calib.cli import main
from calib.gate.judging import evaluate
from calib.gate.limits import LimitsSpec
from calib.store import sha256_from_file


@pytest.fixture
def call(monkeypatch):
    """The exit code of a command line."""

    def called(*arguments):
        monkeypatch.setattr(sys, "argv", ["calib", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main(default_command="run")
        return stopped.value.code or 0

    return called


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "run/models/int8-minmax/model.onnx"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"model")
    candidate = records.candidate(
        model_path="models/int8-minmax/model.onnx", model_sha256=sha256_from_file(model)
    )
    result = records.run(records.fp32(), candidate)
    verdict = evaluate(result, LimitsSpec(samples_min=10**6))
    made = result.model_copy(update={"verdict": verdict})
    (tmp_path / "run/result.json").write_text(made.model_dump_json())
    return tmp_path / "run"


def test_from_a_key_to_a_waived_verdict(run, call, capsys):
    assert call("keygen", "key") == 0
    assert call("attest", run, "--key", "key") == 0
    bundle, model = run / "run.intoto.jsonl", run / "models/int8-minmax/model.onnx"
    checked = ["verify", bundle, "--key", "key.pub", "--artifact", model, "--json"]
    capsys.readouterr()
    assert call(*checked) == 1
    assert json.loads(capsys.readouterr().out)["verdict"] == "FAIL"
    waived = call(
        *("waive", "samples_min", "--model", model, "--owner", "Ada Lovelace", "--days", 3),
        *("--reason", "a pilot with ten users", "--key", "key"),
    )
    assert waived == 0
    capsys.readouterr()
    assert call(*checked, "--waiver", "waiver.intoto.jsonl") == 0
    assert json.loads(capsys.readouterr().out)["waived"] == ["samples_min"]


def test_a_file_of_another_model_a_lost_key_and_a_threshold_out_of_reach_are_refused(
    run, call, capsys
):
    call("keygen", "key")
    call("attest", run, "--key", "key")
    bundle = run / "run.intoto.jsonl"
    (run / "other.onnx").write_bytes(b"other")
    for arguments in (
        ("--key", "key.pub", "--artifact", run / "other.onnx"),
        ("--key", "nowhere.pub"),
        ("--key", "key.pub", "--threshold", 2),
    ):
        assert call("verify", bundle, *arguments) == 2
        assert "Traceback" not in capsys.readouterr().err
