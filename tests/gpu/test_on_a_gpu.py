"""The same stories with engines that run. `pytest -m gpu` on a machine with TensorRT and a GPU.

Not run so far: no such machine was at hand. They print what they verified.
"""

import sys
from pathlib import Path

import models
import numpy as np
import pytest
import yaml
from small import config

from calib.backends.availability import tensorrt_availability
from calib.backends.gpu import find_gpu
from calib.config import load_experiment
from calib.pipeline import run_experiment
from calib.progress import Silent

GPU = find_gpu()
pytestmark = pytest.mark.gpu


@pytest.fixture(params=["tensorrt", "tensorrt_rtx"])
def kind(request):
    """A TensorRT that can run here."""
    found = tensorrt_availability(request.param, GPU)
    if not found.can_run:
        pytest.skip(f"{request.param}: {found.problem}")
    return request.param


def run(workspace, kind, **backend):
    content = {**config(), "backend": {"kind": kind, **backend}}
    if kind == "tensorrt_rtx":
        content["backend"]["compute_capabilities"] = [GPU.compute_capability]
    Path("config.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return run_experiment(load_experiment(Path("config.yaml")), Silent()).result


def test_outputs_come_from_the_engines_and_are_close_to_the_reference_evaluator(workspace, kind):
    result = run(workspace, kind)
    x = np.load("validation.npz")["x"]
    labels = models.run(models.mlp(), {"x": x})["logits"].argmax(axis=1)
    assert all(e.ran_here for c in result.candidates for e in c.engines)
    fp32 = result.candidate("fp32")
    assert fp32.score.accuracy_pct > 99
    assert result.candidate("int8-minmax").outputs[0].sqnr_db > 20
    assert all(c.latency for c in result.candidates)
    sys.stdout.write(
        f"\nverified on {GPU.name} with {kind} {fp32.engines[0].version}: "
        f"{len(labels)} samples, {len(result.candidates)} engines\n"
    )


@pytest.mark.parametrize("int8", ["cache", "native"])
def test_native_calibrators_of_tensorrt_8_to_10(workspace, int8):
    found = tensorrt_availability("tensorrt", GPU)
    if not found.can_run or int(found.version.split(".")[0]) >= 11:
        pytest.skip(f"needs TensorRT 8.6 to 10: {found.problem or found.version}")
    result = run(workspace, "tensorrt", int8=int8)
    assert result.candidate("int8-entropy").outputs[0].sqnr_db > 15
    sys.stdout.write(f"\nverified on {GPU.name}: INT8 by {int8} on TensorRT {found.version}\n")
