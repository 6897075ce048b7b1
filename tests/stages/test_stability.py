"""Calibration resampled: what moves, and that it is the same each time."""

import numpy as np
from models import FEATURES, mlp
from whole_runs import finished

from calib.calibrators.histogram import StatisticsAccumulator
from calib.calibrators.parts import TensorParts
from calib.stages.stability import drawn


def statistics(value):
    total = StatisticsAccumulator("t")
    total.add(np.full((4, 8), value, dtype=np.float32))
    return total.freeze()


def test_as_many_parts_are_drawn_as_there_are_the_same_for_every_tensor():
    parts = {
        name: TensorParts(1, tuple(statistics(factor * k) for k in range(1, 6)))
        for name, factor in (("a", 1.0), ("b", 10.0))
    }
    for seed in range(5):
        found = drawn(parts, seed)
        assert found["b"].maximum == 10 * found["a"].maximum
        assert found["a"].count == 5 * 32
    chosen = np.random.default_rng(3).integers(0, 5, 5)
    assert drawn(parts, 3)["a"].maximum == chosen.max() + 1


def test_a_run_tells_how_much_its_figures_owe_to_the_data(tmp_path):
    feeds = {"x": np.random.default_rng(0).normal(size=(64, FEATURES)).astype("f4")}
    run = finished(mlp(), feeds, tmp_path, analysis={"resamples": 3})
    found = run.result.candidate("int8-minmax").resampled
    assert [r.seed for r in found] == [0, 1, 2]
    assert all(r.value is not None and 0.9 < r.value <= 1 for r in found)
    assert max(r.thresholds_moved_pct for r in found) > 0
    assert run.result.candidate("fp32").resampled == ()
    assert 'id="resamples"' in (run.directory / "report.html").read_text()
