"""Whole sweeps of a tiny model: the front, going on after a kill, side by side, without labels."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import models
import numpy as np
import onnx
import pytest
import yaml
from filelock import FileLock
from small import ROOT, config

import calib.pipeline
from calib.cli import main
from calib.config import load_experiment
from calib.errors import StoreError
from calib.gate.judging import evaluate
from calib.gate.limits import LimitsSpec
from calib.pipeline import run_experiment
from calib.results import SweepRecord, Verdict
from calib.rundir import load_result, load_results
from calib.sweep.planning import plan_of
from calib.sweep.record import Trial, sweep_record
from calib.sweep.space import read_base
from calib.sweep.story import run_sweep
from calib.sweep.telling import Quiet

FAST = {
    "engines": {"fp16": False},
    "throughput": {"batch_sizes": []},
    "analysis": {"layer_samples": 0, "audit_samples": 0},
}
SPACE = {
    "calibration.calibrators": {
        "values": [[{"kind": "minmax"}], [{"kind": "percentile", "percentile": 90.0}]]
    },
    "quantization.exclude": {"values": [[], ["fc2"]]},
}
TWO = {"calibration.calibrators": SPACE["calibration.calibrators"]}
TIMED = {"throughput": {"batch_sizes": [4], "runs": 8, "seconds_max": 2, "warmup_runs": 1}}
BRIEF = (
    "import calib.pipeline\n"
    "def brief(result, folder):\n"
    "    (folder / 'result.json').write_text(result.model_dump_json())\n"
    "calib.pipeline.write_report = brief\n"
)
"""A run's pages take most of a tiny run's time, and are tested elsewhere."""


@pytest.fixture(scope="module", autouse=True)
def _brief():
    """Runs of this module write result.json alone."""
    whole_report = calib.pipeline.write_report
    exec(BRIEF, {})
    yield
    calib.pipeline.write_report = whole_report


class Folder:
    """Data, a model and a store that sweeps share; reports of their own."""

    def __init__(self, path):
        self.path = path
        onnx.save(models.mlp(), path / "model.onnx")
        rng = np.random.default_rng(7)
        for name, count in (("calibration", 48), ("validation", 120)):
            x = rng.normal(size=(count, models.FEATURES)).astype(np.float32)
            label = models.run(models.mlp(), {"x": x})["logits"].argmax(axis=1)
            np.savez(path / f"{name}.npz", x=x, label=label)

    def config(self, reports, space=None, labels=True, **changes):
        """The file of a sweep."""
        content = {**config(), **FAST, "sweep": {"space": space or SPACE}, **changes}
        content["model"] = {"kind": "onnx", "path": str(self.path / "model.onnx")}
        for name in ("calibration", "validation"):
            split = {**content["data"][name], "path": str(self.path / f"{name}.npz")}
            if not labels:
                del split["label"]
            content["data"][name] = split
        content["output"] = {
            "reports": str(self.path / reports),
            "store": str(self.path / "store"),
        }
        file = self.path / f"{reports}.yaml"
        file.write_text(yaml.safe_dump(content), encoding="utf-8")
        return file


def swept(file, *overrides, **options):
    base = read_base(file, overrides)
    return run_sweep(base, plan_of(base), Quiet(), **options)


def runs(found):
    return sorted(p.name for p in found.folder.parent.iterdir() if (p / "result.json").is_file())


def by_settings(record):
    return {tuple(t.settings.items()): t for t in record.trials}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return Folder(tmp_path_factory.mktemp("sweep"))


@pytest.fixture(scope="module")
def whole(folder):
    """A sweep of four points, and the file that it is of."""
    file = folder.config("whole")
    return file, swept(file)


def test_every_trial_is_an_ordinary_run_of_its_settings(whole):
    file, found = whole
    assert len(found.record.trials) == 4
    assert runs(found) == sorted(t.run_id for t in found.record.trials)
    results, unreadable = load_results(found.folder.parent)
    assert len(results) == 4
    assert not unreadable
    for trial in found.record.trials:
        given = [f"{path}={text}" for path, text in trial.settings.items()]
        asked = load_experiment(file, given).model_copy(update={"sweep": None})
        assert load_result(found.folder.parent / trial.run_id).config == asked.model_dump(
            mode="json"
        )


def test_the_front_is_what_brute_force_finds(whole):
    trials = whole[1].record.trials
    first = {}
    for trial in trials:
        first.setdefault(trial.model_sha256, trial)
        assert trial.same_model_as in (None, first[trial.model_sha256].number)
    points = {t.number: np.array([t.accuracy, t.cost]) for t in first.values()}
    expected = {
        number
        for number, own in points.items()
        if not any((o <= own).all() and (o < own).any() for o in points.values())
    }
    assert {t.number for t in trials if t.on_front} == expected
    for trial in trials:
        assert trial.cost == trial.size_ratio
        assert trial.accuracy == trial.loss_bound > trial.loss


def test_each_is_judged_as_one_of_all_models_that_were_tried(whole):
    file, found = whole
    limits = read_base(file, []).experiment.limits
    folder = found.folder.parent
    files = [folder / t.run_id / "models" / t.candidate / "model.onnx" for t in found.record.trials]
    count = len({hashlib.sha256(f.read_bytes()).hexdigest() for f in files})
    assert found.record.choices == count > 1
    assert found.record.alpha == 0.05 / count
    for trial in found.record.trials:
        result = load_result(folder / trial.run_id)
        alone = limits.model_copy(update={"alpha": 0.05 / count})
        verdict = evaluate(result, alone)  # of one candidate: the gate divides by 1
        rules = {rule.rule: rule for rule in verdict.candidates[0].rules}
        assert trial.verdict is verdict.verdict
        assert trial.loss_bound == pytest.approx(rules["accuracy_drop_points_max"].high)
        wider = evaluate(result, limits).candidates[0].rules
        assert trial.loss_bound > next(r.high for r in wider if "accuracy" in r.rule)


def test_a_sweep_goes_on_after_a_kill_and_repeats_no_finished_trial(folder):
    file = folder.config("killed")
    code = BRIEF + (
        "import sys, time; from pathlib import Path\n"
        "import calib.sweep.story as s\n"
        "config, mark = sys.argv[1:]\n"
        "real, calls = s.run_experiment, []\n"
        "def run(*arguments):\n"
        "    calls.append(arguments)\n"
        "    if len(calls) == 3:\n"
        "        Path(mark).touch(); time.sleep(60)\n"
        "    return real(*arguments)\n"
        "s.run_experiment = run\n"
        "sys.argv = ['calib', 'sweep', config]\n"
        "from calib.cli import main; main()\n"
    )
    mark = folder.path / "reached"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(file), str(mark)],
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert mark.exists()
    before = sorted(p.name for p in (folder.path / "killed/small").iterdir() if p.name[0] == "2")
    assert len(before) == 2
    found = swept(file)
    assert runs(found)[:2] == before
    assert len(runs(found)) == len(found.record.trials) == 4
    points = [tuple(p.items()) for p in read_base(file, []).space.points()]
    assert sorted(by_settings(found.record)) == sorted(points)


def test_without_labels_agreement_with_fp32_is_what_is_bounded(folder):
    limits = {"disagreement_points_max": 90.0}
    found = swept(folder.config("bare", TWO, labels=False, limits=limits)).record
    assert "no labels" in found.accuracy_words
    for trial in found.trials:
        result = load_result(folder.path / "bare/small" / trial.run_id)
        alone = load_experiment(folder.path / "bare.yaml").limits.model_copy(
            update={"alpha": found.alpha}
        )
        (rule,) = evaluate(result, alone).candidates[0].rules
        assert trial.accuracy == pytest.approx(rule.high)
        share = result.candidates[1].flips.total / result.candidates[1].flips.samples
        assert trial.loss == pytest.approx(100 * share)
    assert found.limit == 90.0
    assert found.verdict is Verdict.PASS


def test_a_trial_that_is_refused_is_told_and_the_others_go_on(folder):
    space = {"data.calibration.samples": {"values": [48, 3]}}
    found = swept(folder.config("refused", space)).record
    assert len(found.trials) == 2
    (refused,) = [t for t in found.trials if t.problem]
    assert refused.settings == {"data.calibration.samples": "3"}
    assert refused.run_id is None
    assert found.winner == 1


def test_a_trial_that_passes_alone_and_not_as_one_of_all_is_no_winner(whole):
    file, found = whole
    best = min(found.record.trials, key=lambda t: t.loss_bound)
    results = [load_result(found.folder.parent / t.run_id) for t in found.record.trials]
    rules = evaluate(results[best.number - 1], LimitsSpec(accuracy_drop_points_max=20.0))
    alone = rules.candidates[0].rules[0].high
    assert alone < best.loss_bound
    base = read_base(file, [f"limits.accuracy_drop_points_max={(alone + best.loss_bound) / 2}"])
    limits = base.experiment.limits
    judged = [r.model_copy(update={"verdict": evaluate(r, limits)}) for r in results]
    settings = [t.settings for t in found.record.trials]
    trials = [Trial(point, result) for point, result in zip(settings, judged, strict=True)]
    stricter = sweep_record(base, "grid", found.record.started_at, trials)
    twin = stricter.trial(best.number)
    assert twin.verdict_alone is Verdict.PASS
    assert twin.verdict is Verdict.INCONCLUSIVE
    assert stricter.winner is None
    assert stricter.verdict.exit_code == 4
    assert re.search(rf"{twin.number}[ ,\d]* pass", stricter.selection)
    assert "No trial passes" in stricter.reason


def test_the_winner_is_written_as_an_experiment_that_gives_its_run(whole):
    found = whole[1]
    winner = found.record.trial(found.record.winner)
    assert winner.verdict is Verdict.PASS
    written = load_experiment(found.folder / "best.yaml")
    result = load_result(found.folder.parent / winner.run_id)
    assert written.model_dump(mode="json") == result.config
    assert all(f"{path}=" in found.record.next_step for path in winner.settings)
    lines = (found.folder / "sweep.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 5
    stored = (found.folder / "sweep.json").read_bytes()
    assert SweepRecord.model_validate_json(stored) == found.record
    page = (found.folder / "sweep.html").read_text(encoding="utf-8")
    for trial in found.record.trials:
        assert f'href="../{trial.run_id}/report.html"' in page


def test_side_by_side_makes_the_same_trials_with_the_same_models(folder, whole):
    space = {**SPACE, "quantization.exclude": {"values": [["fc2"]]}}
    file = folder.config("beside", space, **TIMED)
    found = swept(file, f"output.store={folder.path / 'another-store'}", jobs=2).record
    theirs = by_settings(whole[1].record)
    assert len(found.trials) == 2
    assert "median latency over FP32's at batch 4" in found.cost_words
    passing = [t for t in found.trials if t.verdict is Verdict.PASS]
    fastest = max(passing, key=lambda t: t.speedup)
    # Of those whose speed cannot be told from the fastest's, the most accurate.
    as_fast = [t for t in passing if t.speedup_high >= fastest.speedup_low]
    assert found.winner == min(as_fast, key=lambda t: (t.accuracy, t.cost)).number
    for key, trial in by_settings(found).items():
        assert trial.cost == pytest.approx(1 / trial.speedup)
        assert trial.model_sha256 == theirs[key].model_sha256
        assert trial.loss == theirs[key].loss
        stages = load_result(folder.path / "beside/small" / trial.run_id).stages
        reused = {stage.name: stage.reused for stage in stages}
        assert not reused["speed"]  # taken alone, when the others were done
        assert reused[f"validate {trial.candidate}"]


def test_what_ctrl_c_breaks_off_keeps_what_is_finished(folder, monkeypatch):
    file = folder.config("stopped", TWO)
    calls = []

    def run(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return run_experiment(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr("calib.sweep.story.run_experiment", run)
        with pytest.raises(KeyboardInterrupt):
            swept(file)
    kept = json.loads((folder.path / "stopped/small/sweep/sweep.json").read_text("utf-8"))
    assert len(kept["trials"]) == 1
    found = swept(file)
    assert found.record.trials[0].run_id == kept["trials"][0]["run_id"]
    assert len(runs(found)) == 2
    shutil.rmtree(found.folder.parent / found.record.trials[1].run_id)
    again = swept(file)  # whose run is gone is tried again
    assert len(runs(again)) == 2
    assert again.record.trials[0].run_id == found.record.trials[0].run_id
    anew = swept(file, restart=True)
    assert len(runs(anew)) == 4
    assert not {t.run_id for t in anew.record.trials} & {t.run_id for t in again.record.trials}


def test_no_trial_in_time_and_a_second_sweep_beside_the_first_are_refused(folder):
    file = folder.config("late", TWO)
    with pytest.raises(StoreError, match="no trial was finished in time"):
        swept(file, "sweep.timeout_minutes=1.0e-9")
    with (
        FileLock(folder.path / "late/small/sweep/.lock"),
        pytest.raises(StoreError, match="another sweep of this experiment is running"),
    ):
        swept(file)


def test_the_command_line_tells_the_cost_the_front_and_the_next_step(
    folder, whole, monkeypatch, capsys
):
    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["calib", "sweep", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code, capsys.readouterr()

    code, said = command(folder.config("cli"), "--dry-run")
    assert code == 0
    assert "4 trials of 4 points, each once" in said.out
    assert "no former run tells" in said.out
    assert not (folder.path / "cli").exists()
    file, found = whole
    code, said = command(file, "--dry-run")
    assert "about " in said.out
    before = runs(found)
    code, said = command(file)
    assert code == 0
    assert "PASS" in said.out
    assert "Take these settings: --set " in said.out
    assert "sweep.html" in said.out
    code, said = command(file, "--json")
    assert code == 0
    assert json.loads(said.out)["winner"] == found.record.winner
    assert runs(found) == before
    monkeypatch.setitem(sys.modules, "optuna", None)
    code, said = command(file)
    assert code == 2
    assert "pip install 'calib[sweep]'" in said.err
