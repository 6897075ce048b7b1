"""What belongs to each sample of a batch."""

import numpy as np
from numpy.typing import NDArray

from data_loaders.types import Array


def by_sample(squares: Array, samples: int, axis: int | None) -> NDArray[np.float64]:
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
