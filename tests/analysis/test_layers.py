"""Tensor errors against numpy in float64, whatever the batches."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.analysis import layers
from calib.analysis.layers import TensorErrorAccumulator


def pair(seed=0, shape=(24, 5, 7)):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=shape).astype(np.float32)
    return a, a + rng.normal(scale=0.05, size=shape).astype(np.float32)


@settings(deadline=None)  # the first run compiles
@given(st.lists(st.integers(1, 23), max_size=4))
def test_errors_are_those_of_all_values_together(cuts):
    reference, candidate = pair()
    total = TensorErrorAccumulator("t", "n", "MatMul", quantized=True)
    for a, b in zip(
        np.split(reference, sorted(cuts)), np.split(candidate, sorted(cuts)), strict=True
    ):
        total.add(a, b)
    found = total.result()
    a, b = reference.astype(np.float64).ravel(), candidate.astype(np.float64).ravel()
    noise = np.sum((a - b) ** 2)
    assert found.samples == 24
    assert found.sqnr_db == pytest.approx(10 * np.log10(np.sum(a**2) / noise))
    assert found.cosine == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert found.max_abs == pytest.approx(np.abs(a - b).max())
    assert found.relative_l2 == pytest.approx(np.linalg.norm(a - b) / np.linalg.norm(a))


def test_a_tensor_larger_than_a_chunk_is_counted_whole(monkeypatch):
    reference, candidate = pair()
    whole = TensorErrorAccumulator("t")
    whole.add(reference, candidate)
    monkeypatch.setattr(layers, "_CHUNK_VALUES", 100)
    pieces = TensorErrorAccumulator("t")
    pieces.add(reference, candidate)
    assert pieces.result().sqnr_db == pytest.approx(whole.result().sqnr_db)
    assert pieces.result().max_abs == whole.result().max_abs


def result(reference, candidate):
    total = TensorErrorAccumulator("t")
    total.add(np.asarray(reference, np.float32), np.asarray(candidate, np.float32))
    return total.result()


def test_equal_tensors_have_no_sqnr_and_a_cosine_of_one():
    found = result([[1, 2]], [[1, 2]])
    assert (found.sqnr_db, found.max_abs, found.relative_l2) == (None, 0, 0)
    assert found.cosine == pytest.approx(1)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_infinitely_wrong(bad):
    found = result([[1, 2]], [[1, bad]])
    assert (found.sqnr_db, found.cosine, found.max_abs) == (-math.inf, -1, math.inf)


def test_noise_on_silence_is_infinitely_wrong_and_has_no_cosine():
    found = result([[0, 0]], [[0, 1]])
    assert (found.sqnr_db, found.cosine, found.relative_l2) == (-math.inf, None, None)


def test_batches_whose_shapes_differ_are_counted_and_not_compared():
    total = TensorErrorAccumulator("t")
    total.add(np.ones((1, 2)), np.ones((1, 1)))
    total.add(np.ones((1, 2)), 2 * np.ones((1, 2)))
    found = total.result()
    assert (found.unlike_batches, found.left_out, found.max_abs) == (1, 2, 1.0)


@settings(deadline=None)
@given(st.lists(st.sampled_from([np.nan, np.inf, -np.inf, -3.4e38, 3.4e38]), max_size=9))
def test_where_the_reference_is_no_number_nothing_is_compared(bad):
    reference, candidate = pair(shape=(4, 6))
    reference.ravel()[: len(bad)], candidate.ravel()[: len(bad)] = bad, 7.0
    total = TensorErrorAccumulator("t")
    for half in (slice(2), slice(2, 4)):
        total.add(reference[half], candidate[half])
    a, b = (v.ravel()[len(bad) :].astype(np.float64) for v in (reference, candidate))
    found = total.result()
    assert found.left_out == len(bad)
    assert found.samples == 4
    assert found.sqnr_db == pytest.approx(10 * np.log10(a @ a / np.sum((a - b) ** 2)))
    assert found.max_abs == pytest.approx(np.abs(a - b).max())
    candidate[3, 5] = np.nan
    total.add(reference, candidate)
    assert total.result().sqnr_db == -math.inf


@pytest.mark.parametrize(
    ("reference_type", "candidate_type"),
    [
        (np.float16, np.float32),
        (np.float32, np.float16),
        (np.float64, np.float32),
        (np.int32, np.float64),
        (np.bool_, np.bool_),
    ],
)
def test_types_are_compared_without_losing_digits(reference_type, candidate_type):
    a, b = (v.astype(t) for v, t in zip(pair(), (reference_type, candidate_type), strict=True))
    total = TensorErrorAccumulator("t")
    total.add(a.transpose(2, 0, 1), b.transpose(2, 0, 1))
    wide, other = a.astype(np.float64), b.astype(np.float64)
    found = total.result()
    assert found.relative_l2 == pytest.approx(
        np.linalg.norm(wide - other) / np.linalg.norm(wide), rel=1e-10
    )
    assert found.max_abs == np.abs(wide - other).max()


def test_a_tensor_of_masks_alone_is_no_evidence():
    total = TensorErrorAccumulator("t")
    total.add(np.full((3, 2), -np.inf, np.float32), np.full((3, 2), -np.inf, np.float32))
    found = total.result()
    assert (found.samples, found.left_out, found.sqnr_db) == (0, 6, None)
