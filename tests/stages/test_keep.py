"""What a run keeps to serve its models with."""

import numpy as np
import onnxruntime as ort
import pytest
from promotable_runs import finished

from calib.rundir import load_result
from calib.stages import keep


def warmup(run):
    return run / "models/int8-minmax/warmup.npz"


def test_the_batch_kept_is_the_first_of_calibration_and_the_model_takes_it(passed_run):
    batch = dict(np.load(warmup(passed_run)))
    config = load_result(passed_run).config
    calibration = np.load(config["data"]["calibration"]["path"])["x"]
    # 16 samples are a batch, and 8 are the largest that was timed.
    np.testing.assert_array_equal(batch["x"], calibration[:8])
    assert batch["x"].dtype == np.float32
    session = ort.InferenceSession(str(warmup(passed_run).with_name("model.onnx")))
    assert len(session.run(None, batch)[0]) == 8


def test_a_large_batch_becomes_one_sample_and_the_config_can_forbid_it(tmp_path, monkeypatch):
    monkeypatch.setattr(keep, "_WARMUP_BYTES", 500)
    untimed = {"throughput": {"batch_sizes": []}}
    run = finished(tmp_path, **untimed)
    assert len(np.load(warmup(run))["x"]) == 1
    output = {"reports": str(tmp_path / "r"), "store": str(tmp_path / "store")}
    run = finished(tmp_path, **untimed, output={**output, "keep_warmup": False})
    assert not warmup(run).exists()
    assert warmup(run).with_name("model.onnx").is_file()


def test_any_name_of_an_input_can_be_kept(tmp_path):
    arrays = {"file": np.ones((2, 3), np.int64), "a/b:0": np.zeros(4, np.float32)}
    (tmp_path / "w.npz").write_bytes(keep._npz(arrays))
    found = np.load(tmp_path / "w.npz", allow_pickle=False)
    assert sorted(found) == sorted(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("times", [2])
def test_the_same_arrays_are_the_same_bytes(times):
    arrays = {"x": np.arange(6, dtype=np.float32)}
    assert len({keep._npz(arrays) for _ in range(times)}) == 1
