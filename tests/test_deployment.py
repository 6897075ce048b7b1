"""An INT8 model goes out with the session that it was measured with."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from calib.config import load_experiment
from calib.pipeline import run_experiment
from calib.progress import Silent


@pytest.mark.parametrize("layout", ["tensorrt", "native"])
def test_the_script_opens_the_model_as_it_was_measured(workspace, layout):
    overrides = [f"quantization={{layout: {layout}, min_channels: 1}}", "backend.threads=1"]
    finished = run_experiment(load_experiment(Path("config.yaml"), overrides), Silent())
    folder = finished.directory / "models" / "int8-minmax"
    settings = json.loads((folder / "session.json").read_text())
    assert settings["threads"] == 1
    assert settings["optimization"] == "ORT_ENABLE_ALL"
    assert settings["inputs"] == {"x": {"dtype": "float32", "shape": [8, 32]}}
    assert (folder / settings["model"]).is_file()
    np.savez("batch.npz", x=np.ones((3, 32), np.float32))
    for arguments in ([], ["batch.npz"]):
        command = [sys.executable, str(folder / "time_model.py"), *arguments]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert said.startswith("median ")
        assert said.endswith(" ms over 50 runs\n")


def test_nothing_is_written_for_what_was_not_timed(workspace):
    overrides = ["throughput.batch_sizes=[]"]
    finished = run_experiment(load_experiment(Path("config.yaml"), overrides), Silent())
    assert not list(finished.directory.rglob("session.json"))
