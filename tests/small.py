"""The repository's folder, and a config that runs in seconds."""

from pathlib import Path

ROOT = Path(__file__).parent.parent


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
