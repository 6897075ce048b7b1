"""Operating points: every batch size on every number of threads, and what is kept of them."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import records
from rich.console import Console

from calib.backends.onnxruntime import OnnxRuntime, OnnxRuntimeSpec
from calib.config import load_experiment
from calib.errors import ConfigError
from calib.pipeline import run_experiment
from calib.progress import Silent
from calib.results import SpeedRecord
from calib.terminal import print_result

QUICK = (
    "calibration.calibrators=[{kind: minmax}]",
    "analysis.layer_samples=0",
    "engines.fp16=false",
)
SWEEP = "throughput={batch_sizes: [8, 1], threads: [2, 1], runs: 12}"


class Heard(Silent):
    """Notes what is said, and how many steps each stage has and took."""

    def __init__(self):
        self.notes, self.steps, self.totals = [], {}, {}

    def note(self, text):
        self.notes.append(text)

    def stage(self, title, total):
        self.totals[title] = total
        return _Counted(self.steps, title)


class _Counted:
    def __init__(self, steps, title):
        self.steps, self.title = steps, title

    def __enter__(self):
        def advance(count):
            self.steps[self.title] = self.steps.get(self.title, 0) + count

        return advance

    def __exit__(self, *_):
        return None


def run(*overrides, progress=None):
    return run_experiment(load_experiment(Path("config.yaml"), overrides), progress or Silent())


def test_every_batch_size_is_timed_on_every_number_of_threads(workspace):
    progress = Heard()
    finished = run(SWEEP, *QUICK, progress=progress)
    result = finished.result
    expected = [(1, 1), (8, 1), (1, 2), (8, 2)]
    for candidate in result.candidates:
        assert [(r.batch_size, r.threads) for r in candidate.latency] == expected
        assert all(r.runs == len(r.samples_ms) == 12 for r in candidate.latency)
        assert all(r.warmup_runs >= 10 for r in candidate.latency)
        assert all(r.p90_ms is not None and r.p99_ms is None for r in candidate.latency)
        assert candidate.load_seconds > 0
        assert candidate.latency_at().point == "batch 8, 2 threads"
        assert candidate.latency_at(1, 2) is candidate.latency[2]
        assert candidate.latency_at(16) is None
    assert [(p.batch_size, p.threads) for p in result.speed.points] == expected
    assert progress.steps["speed"] == progress.totals["speed"] == 12 * 2 * 4
    assert any("4 operating points are timed, in 120 s at most" in note for note in progress.notes)
    check_files(finished)


def check_files(finished):
    result = finished.result
    summary = pd.read_csv(finished.directory / "speed.csv")
    assert len(summary) == 2 * 4
    fp32 = result.candidate("fp32").latency_at(8, 1)
    row = summary[(summary.candidate == "int8-minmax") & (summary.batch_size == 8)].iloc[0]
    own = result.candidate("int8-minmax").latency_at(8, 1)
    assert row["threads"] == 1
    assert row["speedup_vs_fp32"] == pytest.approx(fp32.p50_ms / own.p50_ms)
    runs = pd.read_csv(finished.directory / "throughput.csv")
    assert runs.groupby(["candidate", "batch_size", "threads"]).size().tolist() == [12] * 8
    session = json.loads((finished.directory / "models/int8-minmax/session.json").read_text())
    assert session["threads"] == 2
    assert session["entries"]["session.force_spinning_stop"] == "1"
    assert session["inputs"]["x"]["shape"][0] == 8


def test_the_first_screen_names_the_operating_point_and_what_spoilt_it():
    warned = SpeedRecord(points=(), warnings=("other processes [bold] used all",))
    console = Console(record=True, width=200)
    print_result(console, records.run(speed=warned))
    text = console.export_text()
    assert "p50 and speed-up at batch 8\n" in text
    assert "warning: speed: other processes [bold] used all" in text


def test_a_point_out_of_time_fills_its_part_of_the_bar(workspace):
    progress = Heard()
    limits = "throughput={batch_sizes: [1], seconds_max: 1.0e-9, warmup_seconds_max: 1.0e-9}"
    result = run(limits, *QUICK, progress=progress).result
    assert {r.runs for c in result.candidates for r in c.latency} == {1}
    assert {r.warmup_runs for c in result.candidates for r in c.latency} == {3}
    assert progress.steps["speed"] == progress.totals["speed"] == 50 * len(result.candidates)
    assert any("too short to tell" in warning for warning in result.speed.warnings)


def test_a_session_of_other_threads_has_the_same_outputs(workspace):
    backend = OnnxRuntime(OnnxRuntimeSpec(threads=1))
    assert backend.with_threads(1) is backend
    assert backend.with_threads(None) is backend
    other = backend.with_threads(3)
    assert (other.threads, other.session_settings()["threads"]) == (3, 3)
    x = np.load("validation.npz")["x"][:8]
    with backend.engine(Path("model.onnx")) as one, other.engine(Path("model.onnx")) as three:
        assert np.allclose(one.infer({"x": x})["logits"], three.infer({"x": x})["logits"])


def test_threads_are_refused_where_the_backend_has_none(workspace):
    overrides = ("throughput.threads=[1, 2]", "backend={kind: tensorrt_rtx}")
    with pytest.raises(ConfigError, match=r"throughput\.threads is for ONNX Runtime"):
        load_experiment(Path("config.yaml"), overrides)
    with pytest.raises(ConfigError, match=r"throughput\.threads\[0\]"):
        load_experiment(Path("config.yaml"), ("throughput.threads=[0]",))
