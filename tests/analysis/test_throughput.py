"""Rounds, warm-up and percentiles, by engines whose clock is given."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.analysis.throughput import (
    STEADY_WINDOW,
    Warmup,
    frontier,
    latency_record,
    time_engines,
    warm_up,
)

INPUTS = {"x": np.zeros((4, 3))}
DONE = Warmup(runs=2, steady=True)


class Scripted:
    """An engine whose device says what it is told to; the last value for ever."""

    def __init__(self, name, times, log):
        self.name, self.log = name, log
        self.times = itertools.chain(times, itertools.repeat(times[-1]))

    def infer(self, inputs):
        raise AssertionError("the device keeps the time")

    def timed_infer(self, inputs):
        self.log.append(self.name)
        return next(self.times)


class Untimed:
    def __init__(self):
        self.runs = 0

    def infer(self, inputs):
        self.runs += 1
        return {}


def scripted(**times):
    log = []
    return {name: Scripted(name, values, log) for name, values in times.items()}, log


def warmed(seconds_max=60.0, runs_min=1, runs_max=50, **times):
    engines, log = scripted(**times)
    found = warm_up(
        engines,
        INPUTS,
        runs_min=runs_min,
        runs_max=runs_max,
        seconds_max=seconds_max,
        tolerance_pct=5,
    )
    return found, log


def test_engines_take_turns_and_the_order_turns_round():
    engines, log = scripted(a=[1.0], b=[2.0], c=[3.0])
    steps = []
    samples = time_engines(engines, INPUTS, runs=3, seconds_max=60, on_run=steps.append)
    assert "".join(log) == "abc" + "bca" + "cab"
    assert samples == {"a": (1.0,) * 3, "b": (2.0,) * 3, "c": (3.0,) * 3}
    assert steps == [3, 3, 3]
    one = time_engines(engines, INPUTS, runs=99, seconds_max=1e-9)
    assert {len(values) for values in one.values()} == {1}


def test_an_engine_without_a_clock_of_its_own_is_timed_by_ours():
    engine = Untimed()
    samples = time_engines({"a": engine}, INPUTS, runs=4, seconds_max=60)
    assert engine.runs == len(samples["a"]) == 4
    assert all(value >= 0 for value in samples["a"])


def test_a_warm_up_ends_when_the_latency_has_settled():
    # 20 slow runs, then 10 ms: the last five and the five before agree after 30.
    falling = [100.0 * 0.85**k for k in range(20)] + [10.0]
    expected = next(
        n
        for n in range(2 * STEADY_WINDOW, 99)
        if abs(
            np.median((falling + [10.0] * 99)[n - 5 : n])
            / np.median((falling + [10.0] * 99)[n - 10 : n - 5])
            - 1
        )
        <= 0.05
    )
    found, log = warmed(slow=falling, even=[7.0])
    assert found == {"slow": Warmup(expected, True), "even": Warmup(expected, True)}
    assert expected > 20
    assert "".join(name[0] for name in log).startswith("se" + "es" + "se")


def test_a_warm_up_that_never_settles_is_bounded_and_says_so():
    falling = [1000 * 0.9**k for k in range(200)]
    found, _ = warmed(moving=falling, even=[1.0])
    assert found == {"moving": Warmup(50, False), "even": Warmup(50, True)}


@pytest.mark.parametrize(("runs_min", "expected"), [(1, 1), (4, 4), (12, 12)])
def test_a_warm_up_out_of_time_has_the_fewest_runs_and_may_be_too_short_to_tell(runs_min, expected):
    found, _ = warmed(seconds_max=1e-9, runs_min=runs_min, even=[1.0])
    assert found["even"] == Warmup(expected, True if expected >= 2 * STEADY_WINDOW else None)


def test_a_warm_up_can_always_tell_even_where_few_runs_are_timed():
    assert warmed(runs_max=2, even=[1.0])[0]["even"] == Warmup(2 * STEADY_WINDOW, True)


def record(values):
    return latency_record(tuple(values), INPUTS, DONE, 4, 2)


def test_percentiles_are_numpys():
    values = np.random.default_rng(0).exponential(size=1000) + 1
    found = record(values)
    named = (found.p50_ms, found.p90_ms, found.p99_ms, found.p999_ms)
    assert named == pytest.approx(np.percentile(values, [50, 90, 99, 99.9]))
    assert found.samples_per_second == pytest.approx(4000 / np.median(values))
    assert (found.batch_size, found.threads, found.point) == (4, 2, "batch 4, 2 threads")


@pytest.mark.parametrize(
    ("runs", "borne"), [(1, 0), (9, 0), (10, 1), (99, 1), (100, 2), (999, 2), (1000, 3)]
)
def test_a_percentile_needs_a_run_beyond_it(runs, borne):
    found = record(range(1, runs + 1))
    given = [value is not None for value in (found.p90_ms, found.p99_ms, found.p999_ms)]
    assert given == [True] * borne + [False] * (3 - borne)


@given(st.integers(1, 80))
def test_the_medians_interval_is_the_narrowest_pair_of_order_statistics_that_holds(runs):
    """Binomial by counting: the true median lies between the k-th and its mirror."""
    found = record(range(1, runs + 1))

    def coverage(k):
        return 1 - 2 * sum(math.comb(runs, i) for i in range(k)) / 2**runs

    ranks = [k for k in range(1, runs // 2 + 1) if coverage(k) >= 0.95]
    if not ranks:
        assert (found.p50_low_ms, found.p50_high_ms) == (None, None)
        assert runs < 6
    else:
        assert (found.p50_low_ms, found.p50_high_ms) == (max(ranks), runs + 1 - max(ranks))


@given(st.lists(st.tuples(st.integers(1, 9).map(float), st.integers(1, 9).map(float)), max_size=12))
def test_the_frontier_is_what_nothing_beats(points):
    def beaten(a):
        return any(b[0] <= a[0] and b[1] >= a[1] and b != a for b in points)

    kept = {points[i] for i in frontier(points)}
    assert kept == {p for p in points if not beaten(p)}
