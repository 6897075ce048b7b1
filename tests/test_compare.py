"""Comparing through Polygraphy: kept in its files, batch by batch, for its own tools to read."""

import subprocess
import sys

import models
import numpy as np
import onnx
import pytest

from calib.backends.onnxruntime import OnnxRuntime, OnnxRuntimeSpec
from calib.compare import compare_outputs, output_errors, read_outputs, save_outputs
from calib.errors import BackendError
from data_loaders import Sample, batches

BACKEND = OnnxRuntime(OnnxRuntimeSpec(threads=1))


def data(count=20, features=models.FEATURES):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(count, features)).astype(np.float32)
    return rows, [Sample(f"s{i}", {"x": row}) for i, row in enumerate(rows)]


@pytest.fixture
def saved(tmp_path):
    """Folders with the outputs of a model and of one whose bias is 0.1 larger."""
    rows, samples = data()
    other = models.mlp()
    bias = next(i for i in other.graph.initializer if i.name == "b2")
    shifted = onnx.numpy_helper.to_array(bias) + np.float32(0.1)
    bias.CopyFrom(onnx.numpy_helper.from_array(shifted, "b2"))
    seen = []
    for name, proto in (("a", models.mlp()), ("b", other)):
        onnx.save(proto, tmp_path / f"{name}.onnx")
        (tmp_path / name).mkdir()
        runner = BACKEND.runner(tmp_path / f"{name}.onnx", name)
        save_outputs(runner, batches(samples, 8), tmp_path / name, seen.append)
    assert seen == [8, 8, 4] * 2
    return rows, tmp_path


def test_outputs_come_back_batch_by_batch_as_they_were(saved):
    rows, folder = saved
    found = [outputs["logits"] for outputs in read_outputs(folder / "a")]
    assert [len(array) for array in found] == [8, 8, 4]
    expected = models.run(models.mlp(), {"x": rows})["logits"]
    np.testing.assert_allclose(np.concatenate(found), expected, rtol=1e-5, atol=1e-5)


def test_errors_are_over_all_samples(saved):
    rows, folder = saved
    (error,) = output_errors(folder / "a", folder / "b", {})
    logits = models.run(models.mlp(), {"x": rows})["logits"].astype(np.float64)
    assert error.samples == 20
    assert error.max_abs == pytest.approx(0.1, rel=1e-4)
    sqnr = 10 * np.log10(np.sum(logits**2) / (logits.size * 0.1**2))
    assert error.sqnr_db == pytest.approx(sqnr, rel=1e-4)


@pytest.mark.parametrize(("threshold", "code"), [(1, 0), (90, 1)])
def test_polygraphys_own_tool_judges_the_kept_file_again(saved, threshold, code):
    _, folder = saved
    kept = folder / "accuracy.json"
    compare_outputs(folder / "a", folder / "b", kept)
    arguments = ["--compare", "snr", "--snr-threshold", str(threshold)]
    start = "import sys; from polygraphy.tools import main; sys.exit(main())"
    tool = [sys.executable, "-c", start, "check", "accuracy", str(kept), *arguments]
    done = subprocess.run(tool, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert "iterations" in done.stdout + done.stderr


def test_inputs_that_the_runtime_refuses_are_the_users_error(tmp_path):
    onnx.save(models.mlp(), tmp_path / "m.onnx")
    _, samples = data(features=5)
    with pytest.raises(BackendError, match="cannot run"):
        save_outputs(
            BACKEND.runner(tmp_path / "m.onnx", "m"), batches(samples, 4), tmp_path, lambda _: None
        )
