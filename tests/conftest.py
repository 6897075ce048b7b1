"""Shared fixtures: tiny models, tiny data, a config that runs in seconds."""

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(ROOT))

import models  # noqa: E402


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A directory with a model, data and a config; it is the current directory."""
    monkeypatch.chdir(tmp_path)
    onnx.save(models.mlp(), "model.onnx")
    rng = np.random.default_rng(7)
    for name, count in (("calibration", 48), ("validation", 120)):
        x = rng.normal(size=(count, models.FEATURES)).astype(np.float32)
        label = models.run(models.mlp(), {"x": x})["logits"].argmax(axis=1)
        np.savez(f"{name}.npz", x=x, label=label)
    Path("config.yaml").write_text(yaml.safe_dump(config()), encoding="utf-8")
    return tmp_path


def config():
    """A small experiment with two calibrators."""
    arrays = {"kind": "arrays", "inputs": {"x": "x"}, "label": "label"}
    return {
        "name": "small",
        "model": {"kind": "onnx", "path": "model.onnx"},
        "data": {
            "batch_size": 16,
            "calibration": {**arrays, "path": "calibration.npz"},
            "validation": {**arrays, "path": "validation.npz"},
        },
        "task": {"kind": "classification"},
        "calibration": {"calibrators": [{"kind": "entropy"}, {"kind": "minmax"}]},
        "throughput": {"batch_sizes": [1, 8], "runs": 5, "warmup_runs": 1},
        "limits": {"accuracy_drop_points_max": 20.0, "output_sqnr_db_min": 10.0},
    }


@pytest.fixture(scope="session")
def passed_run(tmp_path_factory):
    """The directory of a small run that passed; whoever changes it takes a copy."""
    import promotable_runs

    return promotable_runs.finished(tmp_path_factory.mktemp("passed"))
