"""Whole runs of a small model on arrays: from the file to the candidates."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import yaml

from calib.config import load_experiment
from calib.pipeline import run_experiment
from calib.progress import Silent


def finished(proto, feeds, folder, **changes):
    """The run of a model, or of a file, whose feeds calibrate it; others like them judge it.

    `changes` are parts of the config that replace those below.
    """
    path = proto
    if not isinstance(proto, Path):
        path = folder / "model.onnx"
        onnx.save(proto, path)
    rng = np.random.default_rng(7)
    others = {
        name: array * (1 + 0.01 * rng.normal(size=array.shape)).astype(array.dtype)
        if array.dtype.kind == "f"
        else np.roll(array, 1, axis=-1)
        for name, array in feeds.items()
    }
    np.savez(folder / "calibration.npz", **feeds)
    np.savez(folder / "validation.npz", **others)
    splits = {
        split: {
            "kind": "arrays",
            "path": str(folder / f"{split}.npz"),
            "inputs": {name: name for name in feeds},
        }
        for split in ("calibration", "validation")
    }
    config = {
        "name": "small",
        "model": {"kind": "onnx", "path": str(path)},
        "data": {**splits, "batch_size": 8, "calibration_samples_min": 1},
        "task": {"kind": "embedding"},
        "calibration": {"calibrators": [{"kind": "minmax"}]},
        "quantization": {"min_channels": 1},
        "throughput": {"batch_sizes": []},
        "output": {"reports": str(folder / "reports"), "store": str(folder / "store")},
        **changes,
    }
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    return run_experiment(load_experiment(file), Silent())


def written(run, name="int8-minmax"):
    """A candidate's ONNX file."""
    return run.directory / run.result.candidate(name).model_path


def sqnr_db(run, name="int8-minmax"):
    """The lowest of the candidate's outputs."""
    errors = run.result.candidate(name).outputs
    return min(np.inf if e.sqnr_db is None else e.sqnr_db for e in errors)


def signature(path):
    """(name, type) of the inputs and of the outputs, in their order."""
    session = ort.InferenceSession(str(path))
    return tuple(
        [(one.name, one.type) for one in ends]
        for ends in (session.get_inputs(), session.get_outputs())
    )


def reasons(run):
    """Why tensors stay in float, by name."""
    return {record.tensor: record.reason for record in run.result.calibration.left_alone}
