"""Thresholds and histograms against slow, independent versions."""

from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from slow import slow_entropy

from calib.calibrators import (
    SAFE_AMAX,
    EntropySpec,
    MinMaxSpec,
    MseSpec,
    PercentileSpec,
    StatisticsAccumulator,
    TensorStatistics,
    amax_from_statistics,
    clipped_pct,
    statistics_from_array,
    trusted,
)
from calib.calibrators.histogram import BINS
from calib.calibrators.mse import squared_error_at
from calib.calibrators.not_finite import NotFinite

values = hnp.arrays(
    np.float32, st.integers(0, 200), elements=st.floats(-(2.0**60), 2.0**60, width=32)
)


def same(a, b):
    return (a.counts == b.counts).all() and (
        a.exponent,
        a.minimum,
        a.maximum,
        a.count,
        a.zeros,
    ) == (b.exponent, b.minimum, b.maximum, b.count, b.zeros)


@given(values)
@settings(deadline=None)
def test_the_histogram_equals_numpys(x):
    found = statistics_from_array("x", x)
    expected, _ = np.histogram(
        np.abs(x).astype(np.float64), bins=BINS, range=(0, 2.0**found.exponent)
    )
    assert (found.counts == expected).all()
    assert found.count == x.size
    assert found.zeros == (x == 0).sum()
    assert found.amax == (np.abs(x).max() if x.size else 0.0)


@given(st.lists(values, min_size=1, max_size=5), st.randoms())
@settings(deadline=None)
def test_no_order_or_grouping_changes_a_bit(parts, random):
    whole = statistics_from_array("x", np.concatenate(parts))
    shuffled = list(parts)
    random.shuffle(shuffled)
    counter = StatisticsAccumulator("x")
    for part in shuffled:
        counter.add(part)
    merged = statistics_from_array("x", shuffled[0])
    for part in shuffled[1:]:
        merged = statistics_from_array("x", part).merge(merged)
    assert same(counter.freeze(), whole)
    assert same(merged, whole)


@pytest.mark.parametrize(
    "x",
    [
        np.array([-0.0, 0.0, -0.0]),
        np.array([-3.0, -2.0, -5.0]),
        np.array([2.0, 7.0]),
        np.array([-0.0, 4.0]),
        np.array([-1e-45, 1e-45]),
        np.linspace(-9, 4, 5000),
        np.full(4097, -1.5),
    ],
    ids=["zeros", "negative", "positive", "minus zero", "denormal", "blocks", "one value"],
)
def test_extremes_and_zeros_are_numpys_whatever_the_signs(x):
    x = x.astype(np.float32)
    found = statistics_from_array("x", x)
    assert (found.minimum, found.maximum) == (x.min(), x.max())
    assert (found.zeros, found.count, found.counts.sum()) == ((x == 0).sum(), x.size, x.size)


def test_only_the_rows_and_columns_that_count_are_searched_for_what_is_not_finite():
    x = np.ones((40, 3000), dtype=np.float32)
    x[2, 2999], x[3, 100], x[7, 1] = np.nan, np.inf, np.nan
    real = np.zeros((40, 3000), dtype=bool)
    real[:, :2500] = True
    counter = StatisticsAccumulator("x")
    counter.add(x, real, ids=[f"s{row}" for row in range(40)])
    found = counter.freeze()
    assert found.count == 40 * 2500 - 2
    assert found.not_finite == NotFinite(1, 1, 0, 2, ("s3", "s7"))


def test_a_mask_leaves_padded_positions_out():
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    real = np.array([[True, True, False], [True, False, False]])
    counter = StatisticsAccumulator("x")
    counter.add(x, real)
    assert same(counter.freeze(), statistics_from_array("x", x[real]))


@given(
    st.integers(1, 4), st.integers(1, 6), st.sampled_from([(1,), (2,), (1, 2), (2, 3)]), st.data()
)
@settings(deadline=None)
def test_a_mask_along_any_axes_keeps_what_numpy_keeps(batch, length, axes, data):
    """At the end of the length, where nothing is copied, and anywhere else."""
    shape = [batch, 3, 2, 4]
    for axis in axes:
        shape[axis] = length
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    real = data.draw(hnp.arrays(np.bool_, (batch, length)))
    if data.draw(st.booleans()):
        real = np.sort(real, axis=1)[:, ::-1]
    kept = np.ones(shape, dtype=bool)
    for row in range(batch):
        for axis in axes:
            for position in range(length):
                if not real[row, position]:
                    np.moveaxis(kept[row], axis - 1, 0)[position] = False
    counter = StatisticsAccumulator("x")
    counter.add(x, real, axes)
    assert same(counter.freeze(), statistics_from_array("x", x[kept]))


any_values = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=1, max_dims=3, max_side=5),
    elements=st.floats(width=32, allow_nan=True, allow_infinity=True, allow_subnormal=False),
)


@given(st.lists(any_values, min_size=1, max_size=4), st.randoms())
@settings(deadline=None)
def test_finite_values_count_and_the_others_are_counted_in_any_order(arrays, random):
    named = [(f"b{k}-", array) for k, array in enumerate(arrays)]
    counters = [StatisticsAccumulator("x") for _ in range(2)]
    for counter in counters:
        for name, array in named:
            counter.add(array, ids=[f"{name}{row}" for row in range(len(array))])
        random.shuffle(named)
    flat = np.concatenate([array.ravel() for array in arrays])
    one, two = (counter.freeze() for counter in counters)
    assert same(one, two)
    assert one.not_finite == two.not_finite
    assert same(one, statistics_from_array("x", flat[np.isfinite(flat)]))
    bad = one.not_finite
    assert bad.nan == np.isnan(flat).sum()
    assert (bad.positive, bad.negative) == ((flat == np.inf).sum(), (flat == -np.inf).sum())
    broken = sorted(
        f"{name}{row}"
        for name, array in named
        for row in range(len(array))
        if not np.isfinite(array[row]).all()
    )
    assert (bad.samples, bad.ids) == (len(broken), tuple(broken[:3]))


@given(st.lists(any_values, min_size=2, max_size=4))
@settings(deadline=None)
def test_merging_adds_what_was_not_finite(arrays):
    parts = []
    for k, array in enumerate(arrays):
        counter = StatisticsAccumulator("x")
        counter.add(array, ids=[f"{k}.{row}" for row in range(len(array))])
        parts.append(counter.freeze())
    forth, back = reduce(TensorStatistics.merge, parts), reduce(TensorStatistics.merge, parts[::-1])
    assert forth.not_finite == back.not_finite
    flat = np.concatenate([array.ravel() for array in arrays])
    assert forth.not_finite.values == (~np.isfinite(flat)).sum()
    assert forth.count == np.isfinite(flat).sum()


def test_rows_of_a_sample_laid_end_to_end_are_its_own_and_else_all_may_be_broken():
    x = np.ones((6, 2), dtype=np.float32)
    x[3] = np.nan
    counter = StatisticsAccumulator("x")
    counter.add(x, ids=["a", "b", "c"])
    assert counter.freeze().not_finite.ids == ("b",)
    counter = StatisticsAccumulator("x")
    counter.add(np.float32(np.nan), ids=["a", "b", "c", "d"])
    assert counter.freeze().not_finite == NotFinite(1, 0, 0, 4, ("a", "b", "c"))


@pytest.mark.parametrize("seed", range(4))
def test_entropy_equals_the_slow_search(seed):
    rng = np.random.default_rng(seed)
    x = rng.laplace(size=20_000).astype(np.float32)
    if seed % 2:
        x = np.maximum(x, 0)
    # A small range keeps the slow version quick: 2048 bins and a bit are used.
    x = np.append(x, np.float32(2 ** np.ceil(np.log2(np.abs(x).max())) * 0.55))
    found = statistics_from_array("x", x)
    assert EntropySpec().amax(found) == pytest.approx(slow_entropy(found), rel=1e-9)


def test_entropy_keeps_what_no_threshold_above_it_would_lose():
    """A hundred values, each in a level of its own whatever is kept: nothing is to be gained."""
    x = np.repeat(np.linspace(0.02, 2, 100), 50).astype(np.float32)
    found = statistics_from_array("x", x)
    assert EntropySpec().amax(found) == slow_entropy(found) == found.amax


def test_entropy_clips_rare_outliers_and_minmax_does_not():
    rng = np.random.default_rng(0)
    x = np.append(rng.normal(size=200_000), rng.uniform(30, 40, size=10)).astype(np.float32)
    found = statistics_from_array("x", x)
    assert EntropySpec().amax(found) < 6
    assert MinMaxSpec().amax(found) == np.abs(x).max()


@pytest.mark.parametrize("share", [60.0, 99.0, 99.9, 100.0])
def test_percentile_keeps_at_least_its_share_and_is_within_a_bin_of_numpys(share):
    x = np.random.default_rng(1).normal(size=50_000).astype(np.float32)
    found = statistics_from_array("x", x)
    amax = PercentileSpec(percentile=share).amax(found)
    assert (np.abs(x) <= amax).mean() * 100 >= share
    exact = np.percentile(np.abs(x), share, method="inverted_cdf")
    assert abs(amax - exact) <= found.bin_width
    assert clipped_pct(found, amax) <= 100 - share + 1e-9


@pytest.mark.parametrize("spec", [EntropySpec(), MinMaxSpec(), PercentileSpec()])
def test_a_tensor_of_zeros_gets_the_safe_threshold(spec):
    found = statistics_from_array("x", np.zeros(100, dtype=np.float32))
    assert amax_from_statistics(spec, found) == SAFE_AMAX


@pytest.mark.parametrize(
    ("spec", "values"),
    [
        (EntropySpec(), 10_240),
        (PercentileSpec(percentile=99.99), 10_000),
        (PercentileSpec(percentile=99.9), 1_000),
        (PercentileSpec(percentile=100), 1),
        (MinMaxSpec(), 1),
        (MseSpec(), 1),
    ],
)
def test_too_few_values_for_a_calibrator_give_minmax(spec, values):
    assert spec.values_min == values
    x = np.random.default_rng(0).laplace(size=values).astype(np.float32)
    enough = statistics_from_array("x", x)
    assert amax_from_statistics(spec, enough) == spec.amax(enough)
    few = statistics_from_array("x", x[1:])
    if values > 1:
        assert amax_from_statistics(spec, few) == few.amax
        assert trusted(spec, few) == MinMaxSpec()


def test_zeros_do_not_make_up_for_values_in_entropy_and_do_in_a_percentile():
    rng = np.random.default_rng(0)
    x = np.append(rng.normal(size=500), np.zeros(20_000)).astype(np.float32)
    found = statistics_from_array("x", x)
    assert trusted(EntropySpec(), found) == MinMaxSpec()
    assert trusted(PercentileSpec(), found) == PercentileSpec()


@pytest.mark.parametrize("draw", ["normal", "laplace"])
def test_below_its_fewest_values_entropy_would_be_worse_than_minmax(draw):
    """Judged on a million further values: the reason for the fewest."""
    rng = np.random.default_rng(0)
    unseen = getattr(rng, draw)(size=1_000_000)

    def noise(spec, values):
        total = 0.0
        for seed in range(8):
            x = getattr(np.random.default_rng(seed), draw)(size=values).astype(np.float32)
            scale = spec.amax(statistics_from_array("x", x)) / 127
            total += np.square(np.clip(np.rint(unseen / scale), -128, 127) * scale - unseen).sum()
        return total

    assert noise(EntropySpec(), 512) > 1.3 * noise(MinMaxSpec(), 512)
    assert noise(EntropySpec(), 40_960) < 1.1 * noise(MinMaxSpec(), 40_960)
    assert noise(MseSpec(), 512) < 1.05 * noise(MinMaxSpec(), 512)


def test_the_squared_error_at_a_threshold_is_numpys():
    x = np.random.default_rng(0).normal(size=50_000).astype(np.float32)
    found = statistics_from_array("x", x)
    for threshold in (1.0, 2.5, found.amax):
        scale = threshold / 127
        exact = np.square(np.clip(np.rint(x / scale), -127, 127) * scale - x, dtype=np.float64)
        assert squared_error_at(found, threshold) == pytest.approx(exact.sum(), rel=0.02)
