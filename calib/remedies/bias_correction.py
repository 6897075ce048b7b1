"""Bias correction: the mean that quantization took from a layer's output is given back."""

import numpy as np
from numpy.typing import NDArray

from calib.remedies.rounding import Floats


def bias_shift(
    weight: Floats, dequantized: Floats, mean_input: Floats, mean_quantized_input: Floats
) -> NDArray[np.float64]:
    """What is to be added to the bias so that the mean output is the float layer's.

    W E[x] - Ŵ E[x̂]: M. Nagel et al., "Data-Free Quantization" (arXiv 1906.04721), section 4.2,
    with means that were measured in place of those derived from batch normalization.

    Args:
        weight: float (N, K), W.
        dequantized: float (N, K), Ŵ, the values that the quantized weight stands for.
        mean_input: float (K,), E[x], the mean input of the float layer.
        mean_quantized_input: float (K,), E[x̂], the mean input of the quantized layer.

    Returns:
        float64 (N,), in the output's unit.

    Raises:
        ValueError: if shapes disagree, or the result is not finite.
    """
    inputs = weight.shape[1:]
    if not dequantized.shape == weight.shape or not (
        mean_input.shape == mean_quantized_input.shape == inputs
    ):
        raise ValueError(
            f"a weight {weight.shape} needs its like dequantized and two means {inputs}, got "
            f"{dequantized.shape}, {mean_input.shape} and {mean_quantized_input.shape}"
        )
    wanted = weight.astype(np.float64) @ mean_input.astype(np.float64)
    shift = wanted - dequantized.astype(np.float64) @ mean_quantized_input.astype(np.float64)
    if not np.isfinite(shift).all():
        raise ValueError("the shift of the bias is not finite: NaN or infinity in a weight or mean")
    return np.asarray(shift, dtype=np.float64)
