"""Equalized channels compute the same, keep zero, and lose less, against plain arithmetic."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.remedies.equalization import (
    EXPONENTS,
    Extremes,
    Options,
    as_it_is,
    best,
    choices,
)
from calib.remedies.quantized_input import (
    Equalized,
    Reader,
    quantized_covariance,
    quantized_rows,
    scaled_weight,
)

SIDE = 2


def extremes_of(rows):
    return Extremes(rows.min(axis=0).astype(np.float64), rows.max(axis=0).astype(np.float64))


def dense(rows, *weights):
    """The extremes and the readers of rows (R, K) by weights (N, K)."""
    return extremes_of(rows), [Reader(weight[None], rows[None]) for weight in weights]


def activation(seed, channels=24, rows=300, spread=1.0):
    """Rows of correlated channels of unlike size, none of them centred."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(rows, channels)) @ rng.normal(size=(channels, channels))
    sizes = np.exp(spread * rng.normal(size=channels))
    return ((mixed + 3 * rng.normal(size=channels)) * sizes).astype(np.float32)


def weight_of(seed, outputs=10, channels=24):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(outputs, channels)) * np.exp(rng.normal(size=channels))


def outliers(seed, channels=64):
    """Most channels about 1, three of them about a hundred, as in a transformer's residual."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(600, channels))
    rows[:, [5, 20, 41]] *= [60, 100, 140]
    return rows.astype(np.float32), rng.normal(size=(48, channels))


def true_error(choice, rows, weight):
    """What INT8 leaves at the output over its variance, in float64 and from the start."""
    x = rows.astype(np.float64)
    used = np.array([k not in choice.side for k in range(x.shape[1])])
    offset = np.zeros(x.shape[1]) if choice.offset is None else choice.offset
    gain = np.where(used, choice.gain, 1.0)
    moved = np.where(used, x * gain + offset, 0)
    step = choice.amax / 127
    inputs = np.clip(np.rint(moved / step), -127, 127) * step
    divided = np.where(used, weight / gain, 0)
    scales = np.abs(divided).max(axis=1, keepdims=True) / 127
    codes = np.clip(np.rint(divided / scales), -127, 127)
    found = inputs @ (codes * scales).T - divided @ offset + x[:, ~used] @ weight[:, ~used].T
    error = found - x @ weight.T
    return error.var(axis=0).sum() / (x @ weight.T).var(axis=0).sum()


def grouped_readers(seed, *, depthwise):
    """Patches of a convolution of 2 groups, or of one for each channel, with 9 taps."""
    rng = np.random.default_rng(seed)
    groups, each = (6, 1) if depthwise else (2, 3)
    image = np.exp(rng.normal(size=6))[:, None] * (rng.normal(size=(6, 1)) + rng.random((6, 900)))
    rows = image.reshape(groups, each, 100, 9).transpose(0, 2, 1, 3).reshape(groups, 100, -1)
    weight = rng.normal(size=(groups, 4, each * 9))
    extremes = Extremes(image.min(axis=1), image.max(axis=1))
    return extremes, [Reader(weight, rows.astype(np.float32), taps=9)]


def every(extremes, readers, **options):
    return choices(extremes, readers, Options(**options))


def assert_exact(choice, reader):
    """x' through W', what the shift made taken off and the side added, is x through W."""
    moved, _ = quantized_rows(reader, choice)
    inner = scaled_weight(reader, choice)
    turned = inner.transpose(0, 2, 1)
    found = np.matmul(moved.astype(np.float64), turned)
    by_column = np.repeat(np.eye(len(choice.gain)), reader.taps, axis=1)
    if choice.offset is not None:
        columns = (choice.offset @ by_column).reshape(len(reader.weight), 1, -1)
        found -= np.matmul(columns, turned)
    beside = by_column[list(choice.side)].sum(axis=0).reshape(len(reader.weight), 1, -1)
    found += np.matmul(reader.rows.astype(np.float64) * beside, reader.weight.transpose(0, 2, 1))
    expected = np.matmul(reader.rows.astype(np.float64), reader.weight.transpose(0, 2, 1))
    size = np.matmul(np.abs(reader.rows), np.abs(reader.weight).transpose(0, 2, 1)).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * size)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 1.0, 2.5]))
def test_every_choice_is_exact_before_it_is_rounded(seed, spread):
    rows = activation(seed, spread=spread)
    extremes, readers = dense(rows, weight_of(seed), weight_of(seed + 1, outputs=3))
    for choice in every(extremes, readers, side=SIDE):
        for reader in readers:
            assert_exact(choice, reader)


@pytest.mark.parametrize("depthwise", [False, True])
def test_every_choice_for_a_grouped_convolution_is_exact(depthwise):
    extremes, readers = grouped_readers(1, depthwise=depthwise)
    for choice in every(extremes, readers):
        assert choice.gain.shape == (6,)
        assert_exact(choice, readers[0])


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_a_shift_is_a_whole_number_of_steps_so_zero_is_a_code(seed):
    rows = activation(seed)
    rows[:, ::2] = np.maximum(rows[:, ::2], 0)
    extremes, readers = dense(rows, weight_of(seed))
    shifted = [c for c in every(extremes, readers, side=SIDE) if c.offset is not None]
    assert len([c for c in shifted if not c.side]) == len(EXPONENTS)
    assert any(c.side for c in shifted)
    for choice in shifted:
        steps = choice.offset / (choice.amax / 127)
        np.testing.assert_allclose(steps, np.rint(steps), atol=1e-9)
        holds_zero = (extremes.low <= 0) & (extremes.high >= 0)
        assert np.abs(steps[holds_zero]).max(initial=0) <= 127
        zero = Reader(readers[0].weight, np.zeros_like(readers[0].rows))
        moved, rounded = quantized_rows(zero, choice)
        np.testing.assert_allclose(
            rounded[..., holds_zero], moved[..., holds_zero], atol=1e-5 * choice.amax
        )


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 1.0, 2.5]))
def test_nothing_that_was_seen_is_clipped_and_the_range_is_used(seed, spread):
    rows = activation(seed, spread=spread)
    extremes, readers = dense(rows, weight_of(seed))
    for choice in every(extremes, readers, side=SIDE):
        moved, rounded = quantized_rows(readers[0], choice)
        largest = np.abs(moved).max()
        assert largest <= choice.amax * (1 + 1e-5)
        assert largest >= choice.amax * (1 - 1.5 / 127)
        assert np.abs(rounded - moved).max() <= choice.amax / 127 * (0.5 + 1e-3)


def test_a_channel_of_zeros_or_of_one_value_does_no_harm():
    rows = activation(2)
    rows[:, 3], rows[:, 7] = 0, 2.5
    weight = weight_of(2)
    weight[:, 9] = 0
    extremes, readers = dense(rows, weight)
    for choice in every(extremes, readers, side=SIDE):
        assert np.isfinite(choice.gain).all()
        assert ((choice.gain > 0) | np.isin(np.arange(24), choice.side)).all()
        assert_exact(choice, readers[0])
    silent, readers = dense(np.zeros_like(rows), weight)
    for choice in every(silent, readers, side=SIDE):
        assert choice.error == 0
        assert choice.amax > 0
    assert best(every(silent, readers), scale=True, shift=True, side=True).exponent is None


def test_as_it_is_is_first_and_changes_nothing():
    rows, weight = outliers(3)
    extremes, readers = dense(rows, weight)
    first = every(extremes, readers)[0]
    assert first.exponent is None
    assert first.offset is None
    assert first.side == ()
    assert (first.gain == 1).all()
    assert first.amax == np.abs(rows).max()
    assert first.error == as_it_is(extremes, readers).error


def test_the_error_is_that_of_the_output_where_the_weight_has_no_rounding():
    rng = np.random.default_rng(4)
    weight = rng.integers(-126, 127, size=(10, 24)).astype(np.float64)
    weight[:, 0] = 127
    rows = activation(4)
    extremes, readers = dense(rows, weight)
    assert as_it_is(extremes, readers).error == pytest.approx(
        true_error(as_it_is(extremes, readers), rows, weight), rel=1e-3
    )


def test_the_error_ranks_choices_as_the_true_error_does():
    rows, weight = outliers(5)
    extremes, readers = dense(rows, weight)
    found = every(extremes, readers, side=SIDE)
    told = np.log([choice.error for choice in found])
    true = np.log([true_error(choice, rows, weight) for choice in found])
    assert np.corrcoef(told, true)[0, 1] > 0.98
    assert np.abs(told - true).max() < np.log(2.1)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from([0.0, 1.0, 2.5]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_the_best_is_allowed_and_never_worse_than_as_it_is(seed, spread, scale, shift, side):
    rows = activation(seed, rows=100, spread=spread)
    extremes, readers = dense(rows, weight_of(seed), weight_of(seed + 1))
    found = every(extremes, readers, side=SIDE)
    picked = best(found, scale=scale, shift=shift, side=side)
    assert picked.error <= found[0].error
    assert scale or picked.exponent is None
    assert shift or picked.offset is None
    assert side or picked.side == ()


def test_the_simpler_is_taken_where_more_gives_next_to_nothing():
    def choice(error, *, offset=False, side=()):
        shift = np.zeros(2) if offset else None
        return Equalized(np.ones(2), shift, 1.0, 0.5, side, error)

    nearly = [choice(1.05), choice(1.02, offset=True), choice(1.0, side=(1,))]
    assert best(nearly, scale=True, shift=True, side=True) is nearly[0]
    less = [choice(1.2), choice(1.02, offset=True), choice(1.0, side=(1,))]
    assert best(less, scale=True, shift=True, side=True) is less[1]
    much = [choice(2.0), choice(1.5, offset=True), choice(1.0, side=(1,))]
    assert best(much, scale=True, shift=True, side=True) is much[2]
    assert best(much, scale=True, shift=False, side=False) is much[0]


@pytest.mark.parametrize("seed", range(3))
def test_outlier_channels_lose_far_less_equalized(seed):
    rows, weight = outliers(seed)
    extremes, readers = dense(rows, weight)
    found = every(extremes, readers)
    equalized = best(found, scale=True, shift=False, side=False)
    assert true_error(equalized, rows, weight) < 0.1 * true_error(found[0], rows, weight)


def test_several_readers_share_one_choice_that_helps_them_all():
    rows, first = outliers(6)
    second = outliers(7)[1] * 5
    extremes, readers = dense(rows, first, second)
    found = every(extremes, readers)
    picked = best(found, scale=True, shift=False, side=False)
    for weight in (first, second):
        assert true_error(picked, rows, weight) < 0.1 * true_error(found[0], rows, weight)


@pytest.mark.parametrize("seed", range(3))
def test_an_activation_that_is_never_negative_is_shifted_and_gains_by_it(seed):
    rng = np.random.default_rng(seed)
    rows = np.abs(rng.normal(size=(600, 48))).astype(np.float32)
    weight = rng.normal(size=(32, 48))
    extremes, readers = dense(rows, weight)
    found = every(extremes, readers)
    plain, shifted = (best(found, scale=True, shift=s, side=False) for s in (False, True))
    assert shifted.offset is not None
    assert (shifted.offset < 0).all()
    assert true_error(shifted, rows, weight) < 0.75 * true_error(plain, rows, weight)


@pytest.mark.parametrize("shift", [False, True])
def test_channels_beside_are_those_with_the_widest_weights_and_have_no_factor(shift):
    rng = np.random.default_rng(8)
    rows = rng.normal(size=(400, 48)).astype(np.float32)
    weight = rng.normal(size=(32, 48))
    weight[:, [9, 30]] *= 40
    extremes, readers = dense(rows, weight)
    beside = [c for c in every(extremes, readers, side=SIDE, shift=shift) if c.side]
    assert {c.offset is not None for c in beside} == {False, shift}
    for choice in beside:
        assert choice.side == (9, 30)
        assert np.flatnonzero(choice.gain == 0).tolist() == [9, 30]
        assert choice.offset is None or not choice.offset[[9, 30]].any()
        assert not scaled_weight(readers[0], choice)[..., [9, 30]].any()
        moved, rounded = quantized_rows(readers[0], choice)
        assert not moved[..., [9, 30]].any()
        assert not rounded[..., [9, 30]].any()
    found = every(extremes, readers, side=SIDE)
    picked = best(found, scale=True, shift=True, side=True)
    assert picked.side == (9, 30)
    without = best(found, scale=True, shift=True, side=False)
    assert true_error(picked, rows, weight) < 0.5 * true_error(without, rows, weight)


def test_only_what_the_options_allow_is_tried():
    rows, weight = outliers(9)
    found = every(*dense(rows, weight), shift=False, exponents=(0.5, 1.0))
    assert [c.exponent for c in found] == [None, 0.5, 1.0]
    assert all(c.offset is None and c.side == () for c in found)


def test_the_covariance_of_quantized_inputs_follows_from_that_of_the_inputs():
    rng = np.random.default_rng(8)
    rows = (rng.normal(size=(40_000, 5)) @ rng.normal(size=(5, 5))).astype(np.float32)
    rows[:, 3] = 0.0
    reader = Reader(rng.normal(size=(1, 4, 5)), rows[None])
    gain = np.exp(rng.normal(size=5))
    offset = np.rint(rng.normal(size=5) * 20) / 10
    amax = float(np.abs(rows * gain + offset).max())
    choice = Equalized(gain, offset, amax, 0.5)
    _, rounded = quantized_rows(reader, choice)
    measured = np.cov(rounded[0].T.astype(np.float64), bias=True)
    before = np.cov(rows.T.astype(np.float64), bias=True).astype(np.float32)[None]
    found = quantized_covariance(reader, choice, before)
    np.testing.assert_allclose(found[0], measured, rtol=0.02, atol=0.01 * measured.max())
    # One step's twelfth is seen on the diagonal of the narrow channels.
    plain = before[0] * np.outer(gain, gain)
    narrow = int(np.argmin(np.where(np.arange(5) == 3, np.inf, np.diag(plain))))
    assert found[0, narrow, narrow] == pytest.approx(measured[narrow, narrow], rel=0.02)
    assert found[0, 3, 3] == 0.0
