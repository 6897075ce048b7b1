"""Scores of FP32 and of a variant, as they are compared: centred, and masks left out."""

import numpy as np
from numpy.typing import NDArray

from calib.masks import MASK_AMAX
from data_loaders.types import Array


def known_scores(reference: Array) -> NDArray[np.bool_] | None:
    """Where FP32's scores are no masks, bool of their shape; None if they are none anywhere."""
    with np.errstate(invalid="ignore"):
        # As float64: FP16 would make an infinity of the limit, and take -inf for a score.
        found = np.abs(reference) <= np.float64(MASK_AMAX)
    return None if found.all() else found


def centred_scores(
    array: Array, axis: int | None, known: NDArray[np.bool_] | None
) -> NDArray[np.float64]:
    """The scores less their mean along the axis, float64; 0 where they are not known."""
    if known is None:
        wide = array.astype(np.float64)
        return wide if axis is None else wide - wide.mean(axis=axis, keepdims=True)
    wide = np.where(known, array, 0.0).astype(np.float64)
    if axis is None:
        return wide
    count = np.maximum(known.sum(axis=axis, keepdims=True), 1)
    return np.where(known, wide - wide.sum(axis=axis, keepdims=True) / count, 0.0)


def squares_by_sample(squares: Array, samples: int, axis: int | None) -> NDArray[np.float64]:
    """Sums of a batch's values: float64 (samples,), or (1,) where they cannot be told apart.

    Args:
        squares: any shape.
        samples: in the batch.
        axis: of the batch. Along the first, a sample may have several rows.
    """
    if axis == 0 and squares.ndim and len(squares) % samples == 0:
        rows = squares
    elif axis is not None and axis < squares.ndim and squares.shape[axis] == samples:
        rows = np.moveaxis(squares, axis, 0)
    else:
        return np.array([squares.sum()], dtype=np.float64)
    return np.asarray(rows.reshape(samples, -1).sum(axis=1), dtype=np.float64)


def decisions_from_output(output: Array, axis: int | None) -> Array | None:
    """The index of the largest of the last axis, the batch first; None where there are no scores.

    Args:
        output: any shape.
        axis: of the batch.
    """
    last = output.ndim - 1
    if axis is None or axis >= last or output.shape[last] < 2:
        return None
    return np.asarray(np.moveaxis(output.argmax(axis=last), axis, 0))


def changed_decisions(reference: Array | None, found: Array | None) -> int:
    """How many samples have another decision somewhere."""
    if reference is None or found is None or reference.shape != found.shape:
        return 0
    return int((reference != found).reshape(len(reference), -1).any(axis=1).sum())
