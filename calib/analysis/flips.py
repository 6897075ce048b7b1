"""How many predictions a given noise is expected to change."""

import math

import numpy as np
from numpy.typing import NDArray

from calib.masks import MASK_AMAX
from data_loaders.types import Array

_STEPS = 60
_FAR = 1e8


def margins(scores: Array) -> NDArray[np.float64]:
    """By how much the largest score of each row exceeds the second, float64 (rows,).

    Over a class that is masked, by -inf or a number that stands for it, the margin is the widest of
    the others; a row without two numbers has none.

    Args:
        scores: float (…, classes), two classes at least.
    """
    rows = scores.reshape(-1, scores.shape[-1]).astype(np.float64)
    largest = np.partition(rows, -2, axis=1)[:, -2:]
    with np.errstate(invalid="ignore"):
        found = largest[:, 1] - largest[:, 0]
    found = found[~np.isnan(found)]
    is_mask = found > MASK_AMAX
    return np.where(is_mask, found.max(initial=1.0, where=~is_mask), found)


def expected_flips_pct(margin: NDArray[np.float64], variance: float) -> float:
    """Per cent of predictions expected to change.

    The errors of the two largest scores are taken as independent and normal, each of the same
    variance, so a margin m is overcome with probability Φ(-m / √(2·variance)). A third score that
    comes as close is left out of account.

    Args:
        margin: see `margins`.
        variance: of the error of one score, in the scores' unit squared.
    """
    if not len(margin) or variance <= 0:
        return 0.0
    chances = [math.erfc(m / (2 * math.sqrt(variance))) / 2 for m in margin.tolist()]
    return 100 * math.fsum(chances) / len(chances)


def variance_for_flips(margin: NDArray[np.float64], flips_pct: float) -> float:
    """The largest variance that is expected to change no more than that share, by bisection.

    Args:
        margin: see `margins`.
        flips_pct: > 0; half of the predictions is the most that noise can change so.
    """
    widest = float(np.square(margin).max(initial=0.0))
    if not widest or expected_flips_pct(margin, widest * _FAR) <= flips_pct:
        return math.inf
    low, high = widest / _FAR**2, widest * _FAR
    for _ in range(_STEPS):
        middle = math.sqrt(low * high)
        if expected_flips_pct(margin, middle) <= flips_pct:
            low = middle
        else:
            high = middle
    return low
