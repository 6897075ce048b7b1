"""Finished runs compared and put in a row, through the command line."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from calib.cli import main
from calib.config import load_experiment
from calib.pipeline import run_experiment
from calib.progress import Silent


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["calib", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main(default_command="run")
    return stopped.value.code


def run(*overrides):
    fast = ["throughput.batch_sizes=[]", "engines.fp16=false", "analysis.layer_samples=0"]
    return run_experiment(load_experiment(Path("config.yaml"), [*fast, *overrides]), Silent())


@pytest.fixture
def runs(workspace):
    """A run, and one whose fc2 stays in float and whose thresholds clip nearly all."""
    first = run("calibration.calibrators=[{kind: minmax}]")
    scales = {"x": 0.001}
    Path("scales.json").write_text(json.dumps(scales), encoding="utf-8")
    second = run(
        "calibration.calibrators=[{kind: cache, path: scales.json}]", "quantization.exclude=[fc2]"
    )
    return first, second


def test_runs_are_compared_and_put_in_a_row(runs, monkeypatch, capsys, tmp_path):
    first, second = (finished.directory for finished in runs)
    assert command(monkeypatch, "compare", first, first) == 0
    assert "no worse by more than chance" in capsys.readouterr().out
    page = tmp_path / "compare.html"
    assert command(monkeypatch, "compare", first, second, "--html", page) == 1
    shown = capsys.readouterr().out
    assert "worse by more than chance" in shown or "The verdict was PASS" in shown
    assert re.search(r"fc2: int8.* → float: excluded by the config", shown)
    assert "config calibration.calibrators.0.kind: minmax → cache" in shown
    text = page.read_text(encoding="utf-8")
    assert "fc2" in text
    assert "excluded by the config" in text
    assert not re.search(r"(src|href)=\"?https?:", text)
    assert command(monkeypatch, "compare", first, second, "--json") == 1
    content = json.loads(capsys.readouterr().out)
    accuracy = next(m for m in content["metrics"] if m["name"] == "accuracy")
    expected = [f.result.candidate(f.result.verdict.chosen).score.accuracy_pct for f in runs]
    assert accuracy["difference"] == pytest.approx(expected[1] - expected[0])
    assert accuracy["low"] <= accuracy["difference"] <= accuracy["high"] < 0
    scale = next(s for s in content["scales"] if s["tensor"] == "x")
    assert scale["second"] == pytest.approx(0.127)

    page = tmp_path / "history.html"
    shutil.copytree(first, first.parent / "20200101-000000-000-abcdef")
    (first.parent / "20200101-000000-000-abcdef" / "result.json").write_text("{}")
    assert command(monkeypatch, "history", "small", "--html", page) == 0
    shown = capsys.readouterr().out
    assert shown.index(first.name) < shown.index(second.name)
    assert "not read: 20200101-000000-000-abcdef" in shown
    assert "<svg" in page.read_text(encoding="utf-8")
    assert command(monkeypatch, "history", first.parent, "--json") == 0
    assert [r["run_id"] for r in json.loads(capsys.readouterr().out)["runs"]] == [
        first.name,
        second.name,
    ]


def test_without_runs_one_message_says_what_to_give(workspace, monkeypatch, capsys):
    assert command(monkeypatch, "history", "nothing") == 2
    assert "holds no finished run" in capsys.readouterr().err
    assert command(monkeypatch, "compare", "a", "b") == 2
    assert "holds no result.json" in capsys.readouterr().err
