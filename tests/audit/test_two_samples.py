"""Whether two sets were drawn alike: against scipy, by brute force, and by simulation."""

import itertools

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist

from calib.audit.two_samples import beyond_p_value, distances, standardised


def energy(x, y):
    return 2 * cdist(x, y).mean() - cdist(x, x).mean() - cdist(y, y).mean()


def test_the_distance_is_the_energy_distance_as_a_share():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)), rng.normal(size=(60, 3)) + 0.5
    found = distances({"t": (x, y)}, 99)["t"]
    assert found.value == pytest.approx(energy(x, y) / (2 * cdist(x, y).mean()), rel=1e-4)
    # In one dimension scipy has it, as a square root.
    one = distances({"t": (x[:, :1], y[:, :1])}, 99)["t"].value
    expected = stats.energy_distance(x[:, 0], y[:, 0]) ** 2
    assert one == pytest.approx(expected / (2 * cdist(x[:, :1], y[:, :1]).mean()), rel=1e-4)


def test_the_p_value_is_that_of_all_permutations():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(5, 1)), rng.normal(size=(5, 1)) + 1
    both = np.concatenate([x, y])
    every = [
        energy(both[list(first)], np.delete(both, first, axis=0))
        for first in itertools.combinations(range(10), 5)
    ]
    exact = np.mean(np.array(every) >= energy(x, y) - 1e-9)
    found = distances({"t": (x, y)}, 9999)["t"]
    assert found.p_value == pytest.approx(exact, abs=0.02)
    assert found.p_adjusted == found.p_value


def test_of_many_tensors_drawn_alike_hardly_ever_one_is_found_and_one_that_differs_is():
    rng = np.random.default_rng(2)
    alarms = 0
    for _ in range(40):
        pairs = {
            str(k): standardised(rng.normal(size=(30, 2)), rng.normal(size=(30, 2)))
            for k in range(12)
        }
        alarms += min(d.p_adjusted for d in distances(pairs, 199).values()) <= 0.05
    # 40 · 5 % = 2 are expected; 8 or more has a chance of 0.1 %.
    assert alarms < 8
    pairs["other"] = standardised(rng.normal(size=(30, 2)), rng.normal(size=(30, 2)) + 1.5)
    found = distances(pairs, 199)
    assert found["other"].p_adjusted == 1 / 200
    assert min(d.p_adjusted for name, d in found.items() if name != "other") > 0.05


def test_what_is_constant_is_at_no_distance():
    same = standardised(np.ones((4, 2)), np.ones((5, 2)))
    found = distances({"t": same}, 99)["t"]
    assert (found.value, found.p_value, found.p_adjusted) == (0.0, 1.0, 1.0)


@pytest.mark.parametrize(("beyond", "new", "old"), [(0, 3, 4), (1, 3, 4), (2, 3, 4), (3, 3, 4)])
def test_the_chance_to_exceed_all_old_ones_is_that_of_all_orders(beyond, new, old):
    orders = [set(c) for c in itertools.combinations(range(new + old), new)]
    # A set of places of the new ones; those above all old ones lie at the end.
    counts = [
        next(k for k in range(new + 1) if new + old - 1 - k not in places) for places in orders
    ]
    assert beyond_p_value(beyond, new, old) == pytest.approx(np.mean(np.array(counts) >= beyond))
