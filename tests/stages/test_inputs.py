"""What becomes of samples that are no numbers."""

import math
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from calib.config import load_experiment
from calib.errors import DataError
from calib.pipeline import run_experiment
from calib.progress import Silent
from calib.terminal import print_result

QUICK = ("throughput.batch_sizes=[1, 8]", "throughput.runs=2", "analysis.layer_samples=8")


def run(*overrides):
    return run_experiment(load_experiment(Path("config.yaml"), [*QUICK, *overrides]), Silent())


@pytest.mark.parametrize("split", ["calibration", "validation"])
def test_they_are_refused_by_split_sample_and_input(workspace, split):
    kept = dict(np.load(f"{split}.npz"))
    kept["x"][[3, 9, 11], 2] = np.inf
    np.savez(f"{split}.npz", **kept)
    with pytest.raises(
        DataError,
        match=rf"data.{split}, sample row-000003: input x .*in row-000009, row-000011.*non_finite",
    ):
        run()


def test_samples_that_are_not_finite_are_left_out_everywhere_and_counted(workspace, capsys):
    for name, rows in (("calibration", [0, 5]), ("validation", [0, 7, 119])):
        kept = dict(np.load(f"{name}.npz"))
        clean = {key: np.delete(values, rows, axis=0) for key, values in kept.items()}
        kept["x"][rows, 3] = np.nan, *[np.inf] * (len(rows) - 1)
        np.savez(f"{name}.npz", **kept)
        np.savez(f"{name}_clean.npz", **clean)
    result = run("data.non_finite=drop").result
    records = result.data.calibration, result.data.validation
    assert [(r.samples, r.dropped) for r in records] == [(46, 2), (117, 3)]
    assert result.data.validation.dropped_ids == ("row-000000", "row-000007", "row-000119")
    clean = run(*(f"data.{n}.path={n}_clean.npz" for n in ("calibration", "validation"))).result
    assert thresholds(result) == thresholds(clean)
    for candidate, other in zip(result.candidates, clean.candidates, strict=True):
        assert candidate.score.accuracy_pct == other.score.accuracy_pct
        assert candidate.score.samples == 117
        assert all(math.isfinite(e.sqnr_db) for e in candidate.outputs if e.sqnr_db is not None)
    page = (Path("reports/small") / result.run_id / "report.html").read_text()
    assert "2 more left out for NaN or infinity in an input: row-000000, row-000005" in page
    print_result(Console(width=200), result)
    shown = capsys.readouterr().out
    assert "data.validation: 3 samples left out for NaN or infinity" in shown
    assert clean.data.validation.dropped == 0


def thresholds(result):
    return {a.tensor: a.amax for a in result.calibration.activations}
