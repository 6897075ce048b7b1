"""Rounding a layer's weight to symmetric INT8, and what that costs at the layer's output.

The layout of this package: a weight is float64 (N outputs, K inputs), its scales are one an output,
float (N,) > 0, its codes int8 (N, K) in [-127, 127], its Gram matrix float64 (K, K), the mean of
x xᵀ over the rows x that the layer really gets. The zero point is 0; rounding is half to even.
Weights of a reduced range have codes in [-63, 63].
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.floating[Any]]

INT8_MAX = 127
REDUCED_MAX = 63
"""Of a weight in 7 bits.

x86 without VNNI adds two products of uint8 and int8 in an int16 (VPMADDUBSW), which saturates. With
|w| <= 63 no pair can: 255·63·2 = 32130 <= 32767. What pairs come to is added in 32 bits.
"""
SMALLEST_SCALE = float(np.finfo(np.float32).tiny)


def largest_scales(weight: Floats, limit: int = INT8_MAX) -> NDArray[np.float32]:
    """Each output's own largest |w| / limit; a channel of zeros gets scale 1.

    Args:
        weight: float (N, K).
        limit: the largest code.

    Returns:
        float32 (N,), no smaller than the smallest normal number.
    """
    return scales_from_amax(np.abs(weight).max(axis=1), limit)


def scales_from_amax(amax: Floats, limit: int = INT8_MAX) -> NDArray[np.float32]:
    """float32 (N,): amax / limit, no smaller than the smallest normal number; 1 where amax is 0.

    Args:
        amax: float (N,), >= 0, in the weight's unit.
        limit: the largest code.
    """
    wide = np.asarray(amax, dtype=np.float64)
    scales = np.where(wide > 0, np.maximum(wide / limit, SMALLEST_SCALE), 1.0)
    return scales.astype(np.float32)


def nearest_codes(weight: Floats, scales: Floats, limit: int = INT8_MAX) -> NDArray[np.int8]:
    """The codes nearest to weight / scales, halves to even, clipped to ±limit.

    Args:
        weight: float (N, K).
        scales: float (N,), > 0.
        limit: the largest code.

    Returns:
        int8 (N, K).
    """
    return clipped_codes(in_steps(weight, scales), limit)


def in_steps(weight: Floats, scales: Floats) -> NDArray[np.float64]:
    """float64 (N, K): the weight in units of each output's own scale."""
    return np.asarray(weight, dtype=np.float64) / np.asarray(scales, dtype=np.float64)[:, None]


def clipped_codes(steps: Floats, limit: int = INT8_MAX) -> NDArray[np.int8]:
    """int8: values in units of a scale, rounded half to even and clipped to ±limit."""
    return np.clip(np.rint(steps), -limit, limit).astype(np.int8)


def output_error(
    weight: Floats, codes: NDArray[np.int8], scales: Floats, gram: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The mean squared error that rounding leaves at each output.

    dᵀ G d with d = codes · scale - w, which is the mean of (dᵀ x)² over the rows x behind G.

    Args:
        weight: float (N, K).
        codes: int8 (N, K).
        scales: float (N,), > 0.
        gram: float64 (K, K), the mean of x xᵀ.

    Returns:
        float64 (N,), >= 0, in the square of the output's unit.
    """
    wide = np.asarray(scales, dtype=np.float64)[:, None]
    difference = codes * wide - weight
    # A Gram matrix has no negative direction; the last bit of a sum may.
    squares: NDArray[np.float64] = np.einsum("nk,nk->n", difference @ gram, difference)
    return np.maximum(squares, 0.0)


def refuse_bad_layer(weight: Floats, scales: Floats, gram: NDArray[np.float64]) -> None:
    """Check that the three belong together and can be computed with.

    Raises:
        ValueError: if shapes disagree, a value is not finite, or a scale is not positive.
    """
    outputs, inputs = weight.shape
    if scales.shape != (outputs,) or gram.shape != (inputs, inputs):
        raise ValueError(
            f"a weight {weight.shape} needs scales ({outputs},) and a Gram matrix "
            f"({inputs}, {inputs}), got {scales.shape} and {gram.shape}"
        )
    for name, values in (("weight", weight), ("scales", scales), ("gram", gram)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name} must be finite, got NaN or infinity in it")
    if not (scales > 0).all():
        raise ValueError(f"scales must be positive, got {scales.min()}")
