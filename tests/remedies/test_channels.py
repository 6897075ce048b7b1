"""Extremes are exact, and the rows are what the node reads, whatever the order and the batches."""

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from calib.remedies.channels import ChannelAccumulator, Kept, Window

ROW = Window()
ALL = 10_000
"""More rows of a sample than any has."""


def accumulated(batches, windows):
    kept = {w: one if isinstance(one, Kept) else Kept(one) for w, one in windows.items()}
    accumulator = ChannelAccumulator(kept)
    for ids, array, real in batches:
        accumulator.add(ids, array, real)
    return accumulator.freeze()


def assert_equal(found, expected):
    np.testing.assert_array_equal(found.low, expected.low)
    np.testing.assert_array_equal(found.high, expected.high)
    assert found.rows.keys() == expected.rows.keys()
    for window, rows in expected.rows.items():
        np.testing.assert_array_equal(found.rows[window], rows)


def texts(seed, count=9, channels=5):
    """Samples of unlike length: id and (length, channels)."""
    rng = np.random.default_rng(seed)
    return [
        (f"text {number}", rng.normal(size=(length, channels)).astype(np.float32))
        for number, length in enumerate(rng.integers(1, 12, size=count))
    ]


def padded(samples, filler=1e6):
    """One batch, the padding full of a value that nobody should see."""
    length = max(len(values) for _, values in samples)
    array = np.full((len(samples), length, samples[0][1].shape[1]), filler, dtype=np.float32)
    real = np.zeros(array.shape[:2], dtype=bool)
    for row, mask, (_, values) in zip(array, real, samples, strict=True):
        row[: len(values)], mask[: len(values)] = values, True
    return tuple(sample for sample, _ in samples), array, real


def grouped(samples, size):
    return [padded(samples[start : start + size]) for start in range(0, len(samples), size)]


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(9)), st.integers(1, 9), st.integers(1, 20))
def test_neither_order_nor_grouping_of_texts_changes_anything(order, size, rows_each):
    samples = texts(0)
    expected = accumulated([((i,), v[None], None) for i, v in samples], {ROW: rows_each})
    shuffled = [samples[i] for i in order]
    assert_equal(accumulated(grouped(shuffled, size), {ROW: rows_each}), expected)


def test_extremes_are_exact_and_padding_is_left_out_of_them_and_of_the_rows():
    samples = texts(1)
    found = accumulated(grouped(samples, 4), {ROW: ALL})
    values = np.concatenate([v for _, v in samples])
    np.testing.assert_array_equal(found.low, values.min(axis=0))
    np.testing.assert_array_equal(found.high, values.max(axis=0))
    np.testing.assert_array_equal(found.rows[ROW], values[None])
    few = accumulated(grouped(samples, 4), {ROW: 1})
    np.testing.assert_array_equal(few.high, values.max(axis=0))
    assert few.rows[ROW].shape == (1, len(samples), 5)


def test_rows_are_rows_of_their_own_sample_each_at_most_once():
    samples = texts(2)
    found = accumulated(grouped(samples, 3), {ROW: 4}).rows[ROW][0]
    begin = 0
    for _, values in samples:
        count = min(4, len(values))
        kept = found[begin : begin + count]
        matches = (kept[:, None] == values[None]).all(axis=2)
        assert (matches.sum(axis=1) == 1).all()
        assert matches.sum(axis=0).max() == 1
        begin += count
    assert begin == len(found)


def test_rows_that_the_model_lays_end_to_end_are_those_of_each_sample():
    samples = texts(3)
    expected = accumulated(grouped(samples, 3), {ROW: 4})
    flat = [(ids, array.reshape(-1, 5), real) for ids, array, real in grouped(samples, 3)]
    assert_equal(accumulated(flat, {ROW: 4}), expected)


def test_features_that_are_as_many_as_the_padded_length_are_not_taken_for_it():
    rng = np.random.default_rng(4)
    pooled = rng.normal(size=(3, 5)).astype(np.float32)
    real = np.arange(5) < np.array([[2], [5], [3]])
    found = accumulated([(("a", "b", "c"), pooled, real)], {ROW: ALL})
    np.testing.assert_array_equal(found.low, pooled.min(axis=0))
    np.testing.assert_array_equal(found.rows[ROW], pooled[None])


def test_a_sample_that_is_all_padding_adds_nothing():
    samples = texts(5, count=4)
    expected = accumulated([padded(samples)], {ROW: ALL})
    empty = [*samples, ("text 9", np.empty((0, 5), dtype=np.float32))]
    assert_equal(accumulated([padded(empty)], {ROW: ALL}), expected)
    assert_equal(accumulated([padded(samples), padded_only(3)], {ROW: ALL}), expected)


def padded_only(length):
    array = np.full((1, length, 5), 1e6, dtype=np.float32)
    return ("text 9",), array, np.zeros((1, length), dtype=bool)


def test_nothing_seen_is_no_sample():
    assert ChannelAccumulator({ROW: Kept(4)}).freeze() is None


def conv(x, weight, window):
    """Onnxruntime's Conv: (batch, outputs, positions)."""
    node = helper.make_node(
        "Conv",
        ["x", "w"],
        ["y"],
        group=window.groups,
        strides=window.strides,
        dilations=window.dilations,
        pads=window.pads,
    )
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape)
        for name, array in (("x", x), ("w", weight))
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "conv", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x, "w": weight})
    return y.reshape(len(x), len(weight), -1)


GEOMETRIES = {
    "plain": Window(1, (3, 3), (1, 1), (1, 1), (0, 0, 0, 0)),
    "1x1": Window(1, (1, 1), (1, 1), (1, 1), (0, 0, 0, 0)),
    "strides": Window(1, (3, 2), (2, 3), (1, 1), (0, 0, 0, 0)),
    "dilations": Window(1, (3, 2), (1, 1), (2, 3), (0, 0, 0, 0)),
    "pads, unlike on each side": Window(1, (3, 3), (1, 1), (1, 1), (1, 0, 2, 3)),
    "all of them, in groups": Window(2, (3, 2), (2, 1), (1, 2), (1, 2, 0, 1)),
    "depthwise": Window(6, (3, 3), (2, 2), (1, 1), (1, 1, 1, 1)),
    "1D": Window(1, (4,), (2,), (1,), (1, 2)),
    "1D in groups": Window(3, (3,), (1,), (2,), (2, 2)),
    "3D": Window(2, (2, 1, 3), (1, 2, 1), (1, 1, 2), (0, 1, 0, 1, 0, 2)),
}
SIZES = {1: (11,), 2: (9, 8), 3: (4, 5, 6)}


def images(seed, rank, count=3):
    return np.random.default_rng(seed).normal(size=(count, 6, *SIZES[rank])).astype(np.float32)


@pytest.mark.parametrize("kind", GEOMETRIES)
def test_patches_times_the_weight_are_what_onnxruntime_makes_at_every_position(kind):
    window = GEOMETRIES[kind]
    x = images(6, len(window.kernel))
    shape = (12, 6 // window.groups, *window.kernel)
    weight = np.random.default_rng(7).normal(size=shape).astype(np.float32)
    found = accumulated([(("a", "b", "c"), x, None)], {window: ALL})
    matrices = weight.astype(np.float64).reshape(window.groups, 12 // window.groups, -1)
    product = np.matmul(found.rows[window], matrices.transpose(0, 2, 1))
    by_output = product.transpose(0, 2, 1).reshape(12, -1)
    expected = conv(x, weight, window).transpose(1, 0, 2).reshape(12, -1)
    np.testing.assert_allclose(by_output, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found.low, np.moveaxis(x, 1, 0).reshape(6, -1).min(axis=1))
    np.testing.assert_array_equal(found.high, np.moveaxis(x, 1, 0).reshape(6, -1).max(axis=1))


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(5)), st.integers(1, 5), st.integers(1, 90))
def test_neither_order_nor_grouping_of_images_changes_anything(order, size, rows_each):
    windows = {GEOMETRIES["all of them, in groups"]: rows_each, GEOMETRIES["1x1"]: 2}
    x = images(8, 2, count=5)
    expected = accumulated([((f"{i}",), x[i : i + 1], None) for i in range(5)], windows)
    batches = [order[start : start + size] for start in range(0, 5, size)]
    found = accumulated([([f"{i}" for i in b], x[b], None) for b in batches], windows)
    assert_equal(found, expected)


def test_few_patches_are_some_of_all():
    window = GEOMETRIES["strides"]
    x = images(9, 2)
    every, few = (accumulated([("abc", x, None)], {window: n}).rows[window][0] for n in (ALL, 4))
    assert len(few) == 3 * 4
    positions = len(every) // 3
    for number, kept in enumerate(few.reshape(3, 4, -1)):
        own = every[number * positions : (number + 1) * positions]
        matches = (kept[:, None] == own[None]).all(axis=2)
        assert (matches.sum(axis=1) == 1).all()
        assert matches.sum(axis=0).max() == 1


def test_a_part_of_a_row_a_sample_gives_that_many_rows_of_all_samples():
    samples = [(f"text {i}", np.full((20, 3), i, dtype=np.float32)) for i in range(400)]
    found = accumulated([((i,), v[None], None) for i, v in samples], {ROW: 0.25})
    rows = found.rows[ROW][0]
    assert 60 < len(rows) < 140
    again = accumulated([((i,), v[None], None) for i, v in samples[::-1]], {ROW: 0.25})
    np.testing.assert_array_equal(again.rows[ROW][0], rows)


def test_the_covariance_is_that_of_every_row_beside_values_far_from_zero():
    rng = np.random.default_rng(4)
    mixing = rng.normal(size=(6, 6))
    samples = [
        (f"text {i}", (500 + rng.normal(size=(30, 6)) @ mixing).astype(np.float32))
        for i in range(50)
    ]
    everything = {ROW: Kept(ALL, ALL)}
    found = accumulated([((i,), v[None], None) for i, v in samples], everything)
    wanted = np.cov(np.concatenate([v for _, v in samples]).T.astype(np.float64), bias=True)
    np.testing.assert_allclose(found.covariances[ROW][0], wanted, rtol=1e-3, atol=1e-3)
    pairs = [samples[i : i + 5] for i in range(45, -1, -5)]
    batches = [(tuple(i for i, _ in p), np.stack([v for _, v in p]), None) for p in pairs]
    again = accumulated(batches, everything)
    np.testing.assert_allclose(again.covariances[ROW], found.covariances[ROW], rtol=1e-3, atol=1e-3)


def test_a_convolution_has_the_covariance_of_its_patches():
    window = Window(kernel=(3, 3), strides=(1, 1), dilations=(1, 1), pads=(1, 1, 1, 1))
    images = np.random.default_rng(5).normal(size=(4, 2, 7, 6)).astype(np.float32)
    ids = tuple("abcd")
    found = accumulated([(ids, images, None)], {window: Kept(ALL, ALL)})
    rows = found.rows[window][0].astype(np.float64)
    assert len(rows) == 4 * 7 * 6
    wanted = np.cov(rows.T, bias=True)
    np.testing.assert_allclose(found.covariances[window][0], wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -3.4e38])
@pytest.mark.parametrize("window", [ROW, Window(1, (1, 1), (1, 1), (1, 1), (0, 0, 0, 0))])
def test_what_is_no_number_is_given_up_and_says_so_without_a_warning(bad, window):
    clean = np.ones((2, 4, 3, 4), dtype=np.float32)
    broken = clean.copy()
    broken[1, 2, 1, 3] = bad
    for order in ((clean, broken), (broken, clean)):
        accumulator = ChannelAccumulator({window: Kept(2, 4)})
        for number, array in enumerate(order):
            accumulator.add((f"{number} a", f"{number} b"), array)
        assert accumulator.freeze() is None
        low, high = accumulator.extremes
        assert not (low >= -1e18 and high <= 1e18)


def test_what_is_no_number_in_padding_does_not_matter():
    samples = texts(1)
    ids, array, real = padded(samples, filler=np.nan)
    expected = accumulated([((i,), v[None], None) for i, v in samples], {ROW: ALL})
    assert_equal(accumulated([(ids, array, real)], {ROW: ALL}), expected)
