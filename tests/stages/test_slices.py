"""A run judges its slices: they come from the data, and a limit on the worst is held."""

from pathlib import Path

import numpy as np
import pytest

from calib.config import load_experiment
from calib.errors import DataError
from calib.pipeline import run_experiment
from calib.progress import Silent

LIMIT = "limits={worst_slice_drop_points_max: 90, worst_slice_min_samples: 5}"


def test_a_run_slices_its_samples_and_judges_the_worst(workspace):
    with np.load("validation.npz") as arrays:
        given = dict(arrays)
    source = np.array(["left", "right"])[np.arange(len(given["x"])) % 2]
    np.savez("validation.npz", **given, source=source)
    np.savez("calibration.npz", **np.load("calibration.npz"), source=["left"] * 48)
    overrides = [
        LIMIT,
        *(f"data.{split}.slices=[source]" for split in ("calibration", "validation")),
    ]
    result = run_experiment(load_experiment(Path("config.yaml"), overrides), Silent()).result
    assert result.reference.slices == ()
    own = result.candidate(result.verdict.chosen)
    by_source = {s.name: s for s in own.slices if s.family == "source"}
    assert {name: s.samples for name, s in by_source.items()} == {"left": 60, "right": 60}
    assert sum(s.worsened for s in by_source.values()) == own.flips.worsened
    assert sum(s.improved for s in by_source.values()) == own.flips.improved
    (judged,) = [v for v in result.verdict.candidates if v.candidate == own.name]
    (rule,) = [r for r in judged.rules if r.rule == "worst_slice_drop_points_max"]
    assert rule.verdict == "PASS"
    assert rule.high < 90
    if "fp16" in {c.name for c in result.candidates}:
        assert [p.rival for p in judged.paired] == ["fp32", "fp16"]


def test_a_column_that_the_data_has_not_is_refused_before_anything_is_built(workspace):
    overrides = ["analysis={slices: {by: [colour]}}"]
    with pytest.raises(DataError, match=r"analysis\.slices\.by.*colour"):
        run_experiment(load_experiment(Path("config.yaml"), overrides), Silent())
    assert not list(Path("reports").glob("small/*"))
