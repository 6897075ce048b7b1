"""What a classifier's outputs say of its certainty."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from data_loaders.types import Array

_SUM_TOLERANCE = 1e-3
"""What float32 and the classes of a large softmax may add up to beside 1."""


def are_probabilities(scores: Array) -> bool:
    """Whether one sample's outputs are probabilities already: none negative, 1 in all."""
    values = np.asarray(scores, dtype=np.float64).ravel()
    return bool(
        values.size > 1 and values.min() >= 0 and abs(float(values.sum()) - 1) <= _SUM_TOLERANCE
    )


def probabilities(scores: Array, *, given: bool) -> NDArray[np.float64] | None:
    """Probability of each class, float64 (classes,); None where the outputs do not tell.

    Args:
        scores: one sample's outputs, any shape.
        given: they are probabilities already; else logits, or logarithms of probabilities.
    """
    values = np.asarray(scores, dtype=np.float64).ravel()
    if values.size < 2 or np.isnan(values).any() or np.isposinf(values).any():
        return None
    if given:
        return values
    return np.asarray(softmax(values), dtype=np.float64) if np.isfinite(values).any() else None
