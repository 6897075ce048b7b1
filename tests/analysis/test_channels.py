"""Errors channel by channel, against numpy over everything at once."""

import numpy as np
import pytest

from calib.analysis.channels import ChannelAccumulator, channel_axis


def found(reference, candidate, axis=0, batches=3):
    total = ChannelAccumulator(axis)
    for pair in zip(
        np.array_split(reference, batches, axis=axis or 0),
        np.array_split(candidate, batches, axis=axis or 0),
        strict=True,
    ):
        total.add(*pair)
    return total.result()


def test_r2_is_that_of_all_values_of_a_channel():
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(30, 5, 4, 6)) + np.arange(5)[:, None, None] * 100
    candidate = (
        reference
        + rng.normal(size=reference.shape) * np.array([0.1, 0.2, 0.9, 0.3, 0.1])[:, None, None]
    )
    result = found(reference, candidate)
    by_channel = [
        1
        - np.square(reference[:, c] - candidate[:, c]).sum()
        / np.square(reference[:, c] - reference[:, c].mean()).sum()
        for c in range(5)
    ]
    assert (result.axis, result.channels, result.collapsed) == (1, 5, 0)
    assert result.worst == int(np.argmin(by_channel)) == 2
    assert result.worst_r2 == pytest.approx(min(by_channel), rel=1e-9)


def test_scores_that_all_became_zero_beside_boxes_are_found_though_the_cosine_is_one():
    rng = np.random.default_rng(1)
    boxes, scores = rng.uniform(0, 640, (8, 4, 300)), rng.uniform(0, 1, (8, 3, 300))
    reference = np.concatenate([boxes, scores], axis=1)
    candidate = np.concatenate([boxes, 0 * scores], axis=1)
    cosine = (reference * candidate).sum() / np.linalg.norm(reference) / np.linalg.norm(candidate)
    assert cosine > 0.9999
    result = found(reference, candidate)
    assert result.collapsed_channels == (4, 5, 6)
    assert result.worst in (4, 5, 6)


def test_a_channel_that_fp32_never_varies_is_not_the_candidates_fault():
    reference = np.stack([np.arange(12.0), np.full(12, 3.0)], axis=1)
    result = found(reference, reference)
    assert (result.constant, result.collapsed, result.worst, result.worst_r2) == (1, 0, 0, 1.0)


def test_a_channel_that_is_not_finite_explains_nothing():
    reference = np.random.default_rng(2).normal(size=(9, 3))
    candidate = reference.copy()
    candidate[4, 1] = np.nan
    result = found(reference, candidate)
    assert (result.worst, result.worst_r2) == (1, -np.inf)


@pytest.mark.parametrize(
    ("shape", "batch", "axis"),
    [
        ((8, 20), 0, 1),
        ((8, 84, 8400), 0, 1),
        ((8, 25200, 85), 0, 2),
        ((8, 21, 64, 64), 0, 1),
        ((8, 64, 64, 21), 0, 3),
        ((40, 8, 97), 1, 0),
        ((8,), 0, None),
        ((0, 4), None, None),
        ((8, 50_000), 0, None),
    ],
)
def test_the_channels_are_where_people_put_them(shape, batch, axis):
    assert channel_axis(shape, batch) == axis


def test_an_output_with_one_channel_or_of_other_shapes_says_nothing():
    assert found(np.ones((6, 1)), np.ones((6, 1))) is None
    total = ChannelAccumulator(None)
    total.add(np.ones((3, 4)), np.ones((2, 4)))
    assert total.result() is None
