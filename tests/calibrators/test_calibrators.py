"""Thresholds and histograms against slow, independent versions."""

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
    PercentileSpec,
    StatisticsAccumulator,
    amax_from_statistics,
    clipped_pct,
    statistics_from_array,
)
from calib.calibrators.histogram import BINS
from calib.errors import DataError

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


def test_a_broken_value_is_found_in_rows_that_are_counted_in_part():
    x = np.ones((40, 3000), dtype=np.float32)
    x[2, 2999], x[3, 100], x[7, 1] = np.nan, np.inf, np.nan
    real = np.zeros((40, 3000), dtype=bool)
    real[:, :2500] = True
    with pytest.raises(DataError, match=f"inf at flat index {3 * 3000 + 100}"):
        StatisticsAccumulator("x").add(x, real)
    counter = StatisticsAccumulator("x")
    counter.add(x[:3], real[:3])
    assert counter.freeze().count == 3 * 2500


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


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_by_tensor_and_nothing_is_counted(bad):
    counter = StatisticsAccumulator("layer.3")
    counter.add(np.ones(3, dtype=np.float32))
    with pytest.raises(DataError, match=r"layer\.3"):
        counter.add(np.array([1, bad, 2], dtype=np.float32))
    assert counter.freeze().count == 3


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
