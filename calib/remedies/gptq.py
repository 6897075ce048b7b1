"""GPTQ: weights are rounded input by input, and what is left to round makes up for the error."""

import numpy as np
from numpy.typing import NDArray

from calib.remedies.rounding import (
    INT8_MAX,
    Floats,
    clipped_codes,
    in_steps,
    nearest_codes,
    refuse_bad_layer,
)

_ATTEMPTS = 4


def gptq_codes(
    weight: Floats,
    scales: Floats,
    gram: NDArray[np.float64],
    damping: float = 0.01,
    block: int = 128,
    limit: int = INT8_MAX,
) -> NDArray[np.int8]:
    """Codes whose errors make up for each other over the inputs that the layer gets.

    E. Frantar et al., "GPTQ" (arXiv 2210.17323), algorithm 1 with the inputs in order of falling
    diagonal. The paper subtracts each input's error over a row of the Cholesky factor of H⁻¹. The
    same codes come, without an inverse, from H = R Rᵀ with R upper triangular: input k is rounded
    at w_k + Σ_{j<k} (w_j - q_j) R_jk / R_kk; J. Chee et al., "QuIP" (arXiv 2307.13304), show the
    two to be one.

    An input that was always 0 gets the nearest codes: the paper gives it 0, but what is silent in
    calibration may speak in production.

    Args:
        weight: float (N, K).
        scales: float (N,), > 0.
        gram: float64 (K, K), the mean of x xᵀ; any unit of x gives the same codes.
        damping: what is added to the diagonal, as a share of its mean over inputs that were not
            always 0. Raised tenfold, up to three times, where the matrix cannot be factorised.
        block: inputs rounded between two updates of those after them; only speed depends on it.
        limit: the largest code.

    Returns:
        int8 (N, K), in [-limit, limit].

    Raises:
        ValueError: if arrays disagree or are not finite, or the Gram matrix cannot be factorised.
    """
    refuse_bad_layer(weight, scales, gram)
    diagonal = gram.diagonal()
    order = np.argsort(-diagonal, kind="stable")
    order = order[diagonal[order] > 0]
    codes = nearest_codes(weight, scales, limit)
    if order.size:
        feedback = _feedback(gram[np.ix_(order, order)], damping)
        target = in_steps(weight, scales)[:, order].T
        codes[:, order] = _rounded(target, feedback, block, limit).T
    return codes


def _feedback(gram: NDArray[np.float64], damping: float) -> NDArray[np.float64]:
    """float64 (K, K): R_jk / R_kk of the damped matrix H = R Rᵀ, R upper triangular."""
    mean = gram.diagonal().mean()
    for attempt in range(_ATTEMPTS):
        damped = gram + damping * 10**attempt * mean * np.eye(len(gram))
        try:
            # The lower factor of H read backwards is the upper one of H.
            upper = np.linalg.cholesky(damped[::-1, ::-1])[::-1, ::-1]
        except np.linalg.LinAlgError:
            continue
        return np.ascontiguousarray(upper / upper.diagonal())
    raise ValueError(
        f"the Gram matrix cannot be factorised, even with {damping * 10 ** (_ATTEMPTS - 1):g} of "
        "its mean diagonal added: it is not a mean of x xᵀ; or give a greater damping"
    )


def _rounded(
    target: NDArray[np.float64], feedback: NDArray[np.float64], block: int, limit: int
) -> NDArray[np.int8]:
    """int8 (K, N): the rows of the target rounded one after the other.

    Args:
        target: float64 (K, N), the weight in steps, a row an input.
        feedback: float64 (K, K), strictly above its diagonal what of a row's error goes where.
        block: rows between two updates of the rest.
        limit: the largest code.
    """
    shifted = np.array(target)
    codes = np.empty(target.shape, dtype=np.int8)
    error = np.empty_like(shifted)
    for start in range(0, len(target), block):
        stop = min(start + block, len(target))
        for row in range(start, stop):
            shifted[row] += feedback[start:row, row] @ error[start:row]
            codes[row] = clipped_codes(shifted[row], limit)
            error[row] = target[row] - codes[row]
        shifted[stop:] += feedback[start:stop, stop:].T @ error[start:stop]
    return codes
