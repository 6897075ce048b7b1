"""Single samples seen from inside a model."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from calib.analysis.profiles import ProfileAccumulator, load_profiles, nearest, pooled


def test_a_profile_holds_what_numpy_finds_and_comes_back_from_a_file(tmp_path):
    rng = np.random.default_rng(0)
    arrays = [{"h": rng.normal(size=(1, 5, 7)).astype("f4")} for _ in range(3)]
    found = ProfileAccumulator(("h",), {"minmax": {"h": 9.0}, "mse": {"h": 1.0}})
    for number, own in enumerate(arrays):
        found.add(f"s{number}", own, np.arange(4.0), number)
    found.freeze().save(tmp_path / "p.npz")
    profiles = load_profiles(tmp_path / "p.npz")
    assert profiles.ids == ("s0", "s1", "s2")
    assert (profiles.tensors, profiles.calibrators) == (("h",), ("minmax", "mse"))
    assert profiles.predicted.tolist() == [0, 1, 2]
    for row, own in enumerate(arrays):
        x = own["h"].astype("f8")
        statistics = [np.abs(x).max(), x.mean(), np.sqrt((x**2).mean())]
        assert profiles.statistics[row, 0] == pytest.approx(statistics)
        assert profiles.energy[row, 0] == pytest.approx((x**2).sum())
        beyond = np.abs(x)[np.abs(x) > 1]
        assert profiles.clipped[row, 0].tolist() == [0, beyond.size]
        assert profiles.lost[row, 0] == pytest.approx([0, ((beyond - 1) ** 2).sum()])


def test_values_that_are_not_finite_do_not_count():
    found = ProfileAccumulator(("h",), {"minmax": {"h": 1.0}})
    found.add("a", {"h": np.array([np.nan, 2.0, -np.inf, 0.5], "f4")}, np.zeros(2), -1)
    profiles = found.freeze()
    assert profiles.statistics[0, 0, 0] == 2.0
    assert profiles.values[0, 0] == 2
    assert profiles.clipped[0, 0, 0] == 1


def test_the_lowest_value_of_a_shifted_relu_is_not_clipped_by_its_rounding():
    x = np.maximum(np.random.default_rng(0).normal(size=400), 0).astype("f4")
    shifted = x - np.float32(x.max() / 2)
    threshold = float(x.max()) / 2
    found = ProfileAccumulator(("h",), {"minmax": {"h": threshold * (1 - 3e-8)}})
    found.add("a", {"h": shifted}, np.zeros(2), -1)
    assert (np.abs(shifted.astype("f8")) > threshold * (1 - 3e-8)).sum() > 150
    assert found.freeze().clipped[0, 0, 0] == 0


@pytest.mark.parametrize(("shape", "axis"), [((1, 6), -1), ((1, 4, 6), -1), ((1, 6, 3, 3), 1)])
def test_a_hidden_tensor_is_averaged_over_its_positions(shape, axis):
    x = np.random.default_rng(1).normal(size=shape).astype("f4")
    others = tuple(k for k in range(x.ndim) if k != axis % x.ndim)
    assert pooled(x, axis) == pytest.approx(x.mean(axis=others), abs=1e-6)


def test_the_nearest_sample_is_scipys_whatever_the_blocks():
    rng = np.random.default_rng(2)
    queries, points = (rng.normal(size=(n, 8)).astype("f4") for n in (600, 70))
    index, distance = nearest(queries, points)
    expected = cdist(queries, points, "cosine")
    assert index.tolist() == expected.argmin(axis=1).tolist()
    assert distance == pytest.approx(expected.min(axis=1), abs=1e-6)
    own = cdist(queries, queries, "cosine") + np.diag([np.inf] * 600)
    index, distance = nearest(queries, queries, same=True)
    assert index.tolist() == own.argmin(axis=1).tolist()
    assert distance == pytest.approx(own.min(axis=1), abs=1e-6)


def test_a_vector_without_length_is_far_from_all():
    _, distance = nearest(np.zeros((1, 3), "f4"), np.ones((2, 3), "f4"))
    assert distance.tolist() == [1.0]
