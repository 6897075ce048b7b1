"""AdaRound: each weight is rounded up or down as suits the layer's output, by gradient descent."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calib.remedies.rounding import (
    INT8_MAX,
    Floats,
    in_steps,
    nearest_codes,
    output_error,
    refuse_bad_layer,
)

_LOW, _HIGH = -0.1, 1.1
_EXPONENTS = (20.0, 2.0)
_WARM_SHARE = 0.2
_PENALTY = 0.25
"""Of the regulariser against an input's own energy; 0.2 to 0.6 differ by little."""
_RATE, _MOMENTUM, _SQUARE_MOMENTUM, _EPSILON = 0.05, 0.9, 0.999, 1e-8
_ROUNDING_OF_A_SCALE = 1e-4
"""How far beyond ±127 steps the largest weight may lie because its scale is float32."""


@dataclass(frozen=True, slots=True)
class _Problem:
    """What is minimised, each output by itself, over h in [0, 1], the share of a step rounded up.

    Attributes:
        fraction: float (N, K), where the weight lies above its floor, in steps.
        gram: float (K, K), its mean diagonal 1, so that neither x nor w has a unit.
        penalty: float (K,), the regulariser's factor of each input.
    """

    fraction: Floats
    gram: Floats
    penalty: Floats


def adaround_codes(
    weight: Floats,
    scales: Floats,
    gram: NDArray[np.float64],
    steps: int = 500,
    start: NDArray[np.int8] | None = None,
) -> NDArray[np.int8]:
    """Codes rounded up or down, as learned from the mean squared error of the layer's output.

    M. Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization" (arXiv
    2004.10568), section 3.2: minimise the error plus λ Σ 1 - |2h - 1|^β over V by Adam, where
    h = clip(1.2 sigmoid(V) - 0.1, 0, 1); β falls from 20 to 2 along a cosine, and the
    regulariser is off for the first 20 % of the steps. For a linear layer the Gram matrix is all
    that is needed of the data. Here λ is a share of each input's own diagonal of it, so that any
    unit of x and w gives the same codes. No random numbers are drawn.

    An output keeps, of nearest rounding, `start` and what was learned, the first of least error.

    Args:
        weight: float (N, K).
        scales: float (N,), > 0.
        gram: float64 (K, K), the mean of x xᵀ.
        steps: of Adam, >= 1; each costs one (N, K) by (K, K) product in float32.
        start: int8 (N, K), codes that the result must not be worse than, such as GPTQ's.

    Returns:
        int8 (N, K), in [-127, 127].

    Raises:
        ValueError: if arrays disagree or are not finite, or steps is below 1.
    """
    refuse_bad_layer(weight, scales, gram)
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    target = in_steps(weight, scales)
    floor = np.clip(np.floor(target), -INT8_MAX, INT8_MAX - 1)
    learned = (floor + _rounded_up(target - floor, gram, steps)).astype(np.int8)
    rivals = [nearest_codes(weight, scales), *([] if start is None else [start]), learned]
    errors = [output_error(weight, codes, scales, gram) for codes in rivals]
    return np.asarray(np.choose(np.argmin(errors, axis=0)[:, None], rivals), dtype=np.int8)


def _rounded_up(fraction: Floats, gram: NDArray[np.float64], steps: int) -> NDArray[np.bool_]:
    """Where the descent ends above one half, (N, K)."""
    unit = gram.diagonal().mean() or 1.0
    inside = np.clip(fraction, 0, 1)
    clipped = np.abs(fraction - inside) > _ROUNDING_OF_A_SCALE
    logits = np.log((inside - _LOW) / (_HIGH - inside)).astype(np.float32)
    problem = _Problem(
        # Within the range the start is exact, so that no rounding of float32 passes for a slope.
        fraction=np.where(clipped, fraction, _shares(logits)[1]).astype(np.float32),
        gram=(gram / unit).astype(np.float32),
        penalty=(_PENALTY * gram.diagonal() / unit).astype(np.float32),
    )
    warm = int(_WARM_SHARE * steps)
    if clipped.any():  # else the float weights are where the first steps would lead
        logits = _descended(logits, problem, [None] * warm)
    cosine = (1 + np.cos(np.linspace(0, np.pi, steps - warm))) / 2
    first, last = _EXPONENTS
    return _descended(logits, problem, (last + (first - last) * cosine).tolist()) >= 0


def _descended(logits: Floats, problem: _Problem, exponents: Sequence[float | None]) -> Floats:
    """The logits after one step of Adam (arXiv 1412.6980) for each exponent."""
    logits, mean, square = np.array(logits), np.zeros_like(logits), np.zeros_like(logits)
    for count, exponent in enumerate(exponents, start=1):
        slope = _gradient(logits, problem, exponent)
        mean += (1 - _MOMENTUM) * (slope - mean)
        square += (1 - _SQUARE_MOMENTUM) * (slope * slope - square)
        root = np.sqrt(square / (1 - _SQUARE_MOMENTUM**count)) + _EPSILON
        logits -= _RATE / (1 - _MOMENTUM**count) * mean / root
    return logits


def _gradient(logits: Floats, problem: _Problem, exponent: float | None) -> Floats:
    """The slope of `_loss` by each logit, float (N, K), in the logits' precision."""
    soft, share = _shares(logits)
    slope = 2 * ((share - problem.fraction) @ problem.gram)
    if exponent is not None:
        side = 2 * share - 1
        power = np.abs(side) ** (exponent - 1)
        slope -= np.copysign(2 * exponent * problem.penalty * power, side)
    slope *= (_HIGH - _LOW) * soft * (1 - soft)
    return np.where((share > 0) & (share < 1), slope, 0)


def _loss(logits: Floats, problem: _Problem, exponent: float | None) -> float:
    """Error and regulariser, summed over outputs; exponent None leaves the regulariser off."""
    _, share = _shares(logits)
    difference = share - problem.fraction
    loss = float(np.sum((difference @ problem.gram) * difference))
    if exponent is None:
        return loss
    return loss + float(np.sum(problem.penalty * (1 - np.abs(2 * share - 1) ** exponent)))


def _shares(logits: Floats) -> tuple[Floats, Floats]:
    """The sigmoid of the logits, and the stretched and clipped h of it."""
    soft = 1 / (1 + np.exp(-logits))
    return soft, np.clip((_HIGH - _LOW) * soft + _LOW, 0, 1)
