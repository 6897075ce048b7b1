"""Scores are compared where FP32's are numbers, centred over those."""

import numpy as np

from calib.analysis.scores import (
    centred_scores,
    changed_decisions,
    decisions_from_output,
    known_scores,
    squares_by_sample,
)


def test_scores_without_masks_are_all_known_and_centred_as_ever():
    scores = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    assert known_scores(scores) is None
    wide = scores.astype(np.float64)
    np.testing.assert_array_equal(centred_scores(scores, None, None), wide)
    mean = wide.mean(axis=-1, keepdims=True)
    np.testing.assert_array_equal(centred_scores(scores, -1, None), wide - mean)


def test_masks_are_zero_and_shift_no_mean():
    scores = np.array([[1, 3, -np.inf, -3.4e38], [np.nan, 5, 7, 9]], dtype=np.float32)
    known = known_scores(scores)
    np.testing.assert_array_equal(known, [[True, True, False, False], [False, True, True, True]])
    np.testing.assert_array_equal(centred_scores(scores, -1, known), [[-1, 1, 0, 0], [0, -2, 0, 2]])
    np.testing.assert_array_equal(centred_scores(scores, None, known), [[1, 3, 0, 0], [0, 5, 7, 9]])


def test_a_variant_that_is_not_finite_where_fp32_is_stays_so():
    known = np.array([[True, False]])
    own = np.array([[np.nan, 1]], dtype=np.float32)
    assert np.isnan(centred_scores(own, -1, known)[0, 0])


def test_sums_and_decisions_are_those_of_each_sample():
    squares = np.arange(12.0).reshape(4, 3)
    np.testing.assert_array_equal(squares_by_sample(squares, 2, 0), [15, 51])
    np.testing.assert_array_equal(squares_by_sample(squares, 3, 0), [66])
    first = decisions_from_output(np.array([[1, 2], [3, 0]]), 0)
    other = decisions_from_output(np.array([[2, 1], [3, 0]]), 0)
    assert changed_decisions(first, other) == 1
    assert decisions_from_output(np.ones((3, 1)), 0) is None
    assert changed_decisions(None, first) == 0


def test_the_batch_may_lie_along_another_axis():
    squares = np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(squares_by_sample(squares, 4, 1), squares.sum(axis=0))
    np.testing.assert_array_equal(squares_by_sample(squares, 2, None), [66])
    scores = np.zeros((3, 2, 5))
    scores[:, 1, 4] = 1
    other = scores.copy()
    other[2, 1, 0] = 2
    first, second = (decisions_from_output(array, 1) for array in (scores, other))
    np.testing.assert_array_equal(first, [[0, 0, 0], [4, 4, 4]])
    assert changed_decisions(first, second) == 1
    assert decisions_from_output(scores, None) is None


def test_the_limit_holds_for_fp16_whose_range_ends_before_it():
    known = known_scores(np.array([1.0, -np.inf, 65504.0], dtype=np.float16))
    assert known is not None
    assert known.tolist() == [True, False, True]
