"""Shared fixtures: tiny models, tiny data."""

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
from small import config  # noqa: E402


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


@pytest.fixture(scope="session")
def passed_run(tmp_path_factory):
    """The directory of a small run that passed; whoever changes it takes a copy."""
    import promotable_runs

    return promotable_runs.finished(tmp_path_factory.mktemp("passed"))
