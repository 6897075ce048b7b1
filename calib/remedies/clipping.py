"""SeqMSE: a scale for each output below its largest weight, where clipping pays."""

import numpy as np
from numpy.typing import NDArray

from calib.remedies.rounding import (
    Floats,
    largest_scales,
    nearest_codes,
    output_error,
    refuse_bad_layer,
    scales_from_amax,
)


def clipped_scales(
    weight: Floats, gram: NDArray[np.float64], candidates: int = 20
) -> NDArray[np.float32]:
    """Each output's scale of least mean squared error at the layer's output.

    As in AIMET's sequential MSE: amax * k / candidates is tried for k = 1 … candidates, with
    nearest rounding, over the inputs that the quantized layer gets; amax is the output's largest
    |w|. Of equals the widest is kept. Memory is a few times the weight's, whatever `candidates`.

    Args:
        weight: float (N, K).
        gram: float64 (K, K), the mean of x xᵀ.
        candidates: how many, >= 1; each costs one (N, K) by (K, K) product in float64.

    Returns:
        float32 (N,), > 0; a channel of zeros gets scale 1.

    Raises:
        ValueError: if arrays disagree or are not finite, or candidates is below 1.
    """
    best = largest_scales(weight)
    refuse_bad_layer(weight, best, gram)
    if candidates < 1:
        raise ValueError(f"candidates must be at least 1, got {candidates}")
    amax = np.abs(weight).max(axis=1)
    least = output_error(weight, nearest_codes(weight, best), best, gram)
    for k in range(candidates - 1, 0, -1):
        scales = scales_from_amax(amax * (k / candidates))
        error = output_error(weight, nearest_codes(weight, scales), scales, gram)
        best = np.where(error < least, scales, best)
        least = np.minimum(error, least)
    return best
