"""The compiled loop that compares two tensors: one sweep, nothing written in between."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.compiling import compiled
from calib.masks import MASK_AMAX
from data_loaders.types import Array

_LIMIT = float(MASK_AMAX)


def error_sums(reference: Array, candidate: Array) -> tuple[int, float, float, float, float, float]:
    """Sums over the values that the reference knows: those that are no mask and not NaN.

    Args:
        reference: any number type, any shape.
        candidate: the same shape.

    Returns:
        (values compared, Σ reference², Σ candidate², Σ reference·candidate, Σ difference², largest
        |difference|), in float64. The last takes no notice of NaN; the sums do.
    """
    narrow = all(a.dtype in (np.float16, np.float32) for a in (reference, candidate))
    # Float64 on the way in holds what others have, float32 all that these two have.
    kind: Any = np.float32 if narrow else np.float64
    one, two = (np.asarray(a, dtype=kind).ravel() for a in (reference, candidate))
    return _sums(one, two)


# Without `reassoc` no sum would be vectorised. NaN and infinity keep their meaning.
@compiled(fastmath={"reassoc", "contract"})
def _sums(
    reference: NDArray[np.floating[Any]], candidate: NDArray[np.floating[Any]]
) -> tuple[int, float, float, float, float, float]:
    compared = 0
    signal = other = cross = noise = largest = 0.0
    for index in range(reference.size):
        a, b = np.float64(reference[index]), np.float64(candidate[index])
        if not abs(a) <= _LIMIT:
            a = b = 0.0
        else:
            compared += 1
        gap = a - b
        signal += a * a
        other += b * b
        cross += a * b
        noise += gap * gap
        size = abs(gap)
        largest = max(largest, size)
    return compared, signal, other, cross, noise, largest
