"""Statistics that pass from one process to another are those that are kept."""

from dataclasses import replace

import numpy as np
import pytest

from calib.calibrators import statistics_from_array
from calib.calibrators.parts import TensorParts
from calib.calibrators.statistics_file import (
    StatisticsFile,
    load_statistics,
    save_passing,
    save_statistics,
)


@pytest.mark.parametrize("largest", [3, 2**8, 2**16, 2**40])
def test_passing_statistics_come_back_to_the_bit(tmp_path, largest):
    one = statistics_from_array("x", np.random.default_rng(0).normal(size=1000))
    counts = one.counts.copy()
    counts[7] = largest
    parts = {"x": TensorParts(2, (one, replace(one, counts=counts)))}
    content = StatisticsFile(parts, {"model": "m"}, ((2,), 3), 5, 80)
    save_passing(tmp_path / "passing.npz", content)
    found = load_statistics(tmp_path / "passing.npz")
    assert {part.counts.dtype for part in found.parts["x"].parts} == {np.dtype(np.int64)}
    save_statistics(tmp_path / "kept.npz", content)
    save_statistics(tmp_path / "again.npz", found)
    assert (tmp_path / "again.npz").read_bytes() == (tmp_path / "kept.npz").read_bytes()


def test_parts_of_other_shards_take_no_room(tmp_path):
    one = statistics_from_array("x", np.random.default_rng(0).normal(size=1000))
    nothing = statistics_from_array("x", np.zeros(0))
    sizes = []
    for place in (None, 0, 3):
        parts = [one if place in (None, k) else nothing for k in range(8)]
        content = StatisticsFile({"x": TensorParts(2, tuple(parts))}, {}, ((2,), 3), 5, 80)
        save_passing(tmp_path / "passing.npz", content)
        sizes.append((tmp_path / "passing.npz").stat().st_size)
        found = load_statistics(tmp_path / "passing.npz").parts["x"].parts
        for got, part in zip(found, parts, strict=True):
            assert got.is_empty == (part is nothing)
            assert (got.counts == part.counts).all()
            assert (got.exponent, got.minimum, got.count) == (
                part.exponent,
                part.minimum,
                part.count,
            )
    assert sizes[1] == sizes[2] < sizes[0] / 4
