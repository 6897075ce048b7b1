"""The INT8 codes of a weight for what its layer really reads."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from calib.remedies.coordinate_descent import descended_codes, descended_groups
from calib.remedies.gptq import gptq_codes
from calib.remedies.moments import covariance_from_rows
from calib.remedies.quantized_input import (
    Equalized,
    Reader,
    quantized_covariance,
    quantized_rows,
    scaled_weight,
)
from calib.remedies.rounding import largest_scales, nearest_codes

Rounding = Literal["nearest", "gptq"]
_SWEEPS = 2
"""Of coordinate descent over GPTQ's codes: the first ones give nearly all."""


def rounded(
    reader: Reader,
    choice: Equalized,
    rounding: Rounding,
    covariance: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """The codes (groups, outputs a group, columns a group) and the scales (outputs,).

    The Gram matrix is that of the quantized inputs about their mean, which a bias takes care of.

    Args:
        reader: what is rounded.
        choice: what is done to its input.
        rounding: how.
        covariance: of its input as it was, (groups, columns a group, the same); where there is
            none, the reader's rows have to do.
    """
    weight = scaled_weight(reader, choice)
    limit = reader.limit
    scales = largest_scales(weight.reshape(-1, weight.shape[2]), limit).reshape(weight.shape[:2])
    if rounding == "nearest":
        flat = nearest_codes(weight.reshape(-1, weight.shape[2]), scales.ravel(), limit)
        return flat.reshape(weight.shape), scales.ravel()
    if covariance is None:
        _, inputs = quantized_rows(reader, choice)
        grams = covariance_from_rows(inputs).astype(np.float64)
    else:
        grams = quantized_covariance(reader, choice, covariance)
    if len(weight) > 1:
        codes = descended_groups(weight, scales, grams, sweeps=2 * _SWEEPS, limit=limit)
        return codes, scales.ravel()
    (matrix,), (own,), (gram,) = weight, scales, grams
    return _together(matrix, own, gram, limit)[None], scales.ravel()


def _together(
    weight: NDArray[np.float64],
    scales: NDArray[np.float32],
    gram: NDArray[np.float64],
    limit: int,
) -> NDArray[np.int8]:
    """One group's codes whose errors cancel; inputs that never change leave the nearest."""
    first = gptq_codes(weight, scales, gram, limit=limit)
    return descended_codes(weight, scales, gram, first, sweeps=_SWEEPS, limit=limit)
