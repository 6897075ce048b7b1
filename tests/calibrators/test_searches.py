"""The searches' short cuts: what they skip is never what trying everything would have taken."""

import numpy as np
import pytest

from calib.calibrators.searches import least_squares_threshold, squared_error

RNG = np.random.default_rng(3)
EDGES = np.arange(3000.0) / 3000
SHAPES = {
    "exponential": RNG.poisson(1e5 * np.exp(-EDGES * 12)),
    "normal": RNG.poisson(1e4 * np.exp(-((EDGES * 4) ** 2))),
    "flat": RNG.poisson(40, 3000),
    "few values": RNG.poisson(0.05, 2500),
    "spikes": np.where(np.arange(4096) % 97 == 0, 7, 0),
    "few bins": RNG.poisson(90, 61),
    "one bin": np.array([5]),
    "too many for whole numbers": RNG.poisson(1e5 * np.exp(-EDGES * 12)) * 10**12,
}


def by_trying(counts, width, amax):
    """The documented search, every edge by `squared_error` in full."""

    def error(edge):
        return squared_error(counts, width, amax, edge * width, np.inf)

    tried = {counts.size: squared_error(counts, width, amax, amax, np.inf)}
    tried |= {edge: error(edge) for edge in range(counts.size - 1, 0, -16)}
    best = min(tried, key=tried.get)
    near = range(min(best + 16, counts.size) - 1, max(best - 16, 0), -1)
    tried = {best: tried[best]} | {edge: error(edge) for edge in near if edge != best}
    best = min(tried, key=tried.get)
    return amax if best == counts.size else best * width


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("end", [0.0, 0.37])
def test_the_threshold_is_that_of_trying_each_edge(name, end):
    counts = SHAPES[name].astype(np.float64)
    counts[-1] = max(counts[-1], 1)
    width = 2.0**-9
    amax = (counts.size - 1 + end) * width or width / 3
    assert least_squares_threshold(counts, width, amax) == by_trying(counts, width, amax)
