"""Coordinate descent: one code at a time moves to where the layer's output is best."""

import numpy as np
from numpy.typing import NDArray

from calib.remedies.descent_loop import descend
from calib.remedies.rounding import INT8_MAX, Floats, in_steps, refuse_bad_layer

_BLOCK = 128


def descended_codes(
    weight: Floats,
    scales: Floats,
    gram: NDArray[np.float64],
    codes: NDArray[np.int8],
    sweeps: int = 5,
    limit: int = INT8_MAX,
) -> NDArray[np.int8]:
    """Codes that no change of a single one improves, or as near to it as the sweeps lead.

    With d = codes - weight / scale, the best code of input k, all others held, is the integer
    nearest to codes_k - (G d)_k / G_kk, clipped to ±limit. As each move is the best of its line, no
    output gets worse. Compare A. Zhang et al., "COMQ" (arXiv 2403.07134), and P. Nair and A.
    Suggala, "CDQuant" (arXiv 2406.17542). An input that was always 0 keeps its codes.

    Args:
        weight: float (N, K).
        scales: float (N,), > 0.
        gram: float64 (K, K), the mean of x xᵀ.
        codes: int8 (N, K), in [-limit, limit]: where to start, such as AdaRound's or GPTQ's.
        sweeps: over all inputs, each about as dear as one (N, K) by (K, K) product in float64;
            the descent ends before if nothing moves.
        limit: the largest code.

    Returns:
        int8 (N, K), in [-limit, limit].

    Raises:
        ValueError: if arrays disagree or are not finite.
    """
    refuse_bad_layer(weight, scales, gram)
    if codes.shape != weight.shape:
        raise ValueError(f"codes must have the weight's shape {weight.shape}, got {codes.shape}")
    rows = codes.T.astype(np.float64)
    slope = gram @ (rows - in_steps(weight, scales).T)
    for _ in range(sweeps):
        before = rows.copy()
        for start in range(0, len(rows), _BLOCK):
            block = slice(start, min(start + _BLOCK, len(rows)))
            _descend_block(rows, slope, gram, block, limit)
        if np.array_equal(rows, before):
            break
    return np.ascontiguousarray(rows.T).astype(np.int8)


def _descend_block(
    rows: NDArray[np.float64],
    slope: NDArray[np.float64],
    gram: NDArray[np.float64],
    block: slice,
    limit: int,
) -> None:
    """Move the codes of a block of inputs in place, and the slope G d with them.

    Args:
        rows: float64 (K, N), the codes, a row an input.
        slope: float64 (K, N).
        gram: float64 (K, K).
        block: which inputs.
        limit: the largest code.
    """
    codes, own = (np.ascontiguousarray(part[block].T) for part in (rows, slope))
    # The column of an input, where the loop reads a row: rounding may leave G not quite symmetric.
    descend(codes, own, np.ascontiguousarray(gram[block, block].T), float(limit))
    moved = codes.T - rows[block]
    rows[block], slope[block] = codes.T, own.T
    for others in (slice(0, block.start), slice(block.stop, len(rows))):
        slope[others] += gram[others, block] @ moved


def descended_groups(
    weight: Floats,
    scales: Floats,
    gram: NDArray[np.float64],
    sweeps: int = 5,
    limit: int = INT8_MAX,
) -> NDArray[np.int8]:
    """The same for many small groups at once, from the nearest codes: a depthwise convolution's.

    Args:
        weight: float (G, N, K).
        scales: float (G, N), > 0.
        gram: float64 (G, K, K), the mean of x xᵀ of each group.
        sweeps: over all inputs; the descent ends before if nothing moves.
        limit: the largest code.

    Returns:
        int8 (G, N, K), in [-limit, limit].

    Raises:
        ValueError: if arrays disagree or are not finite.
    """
    groups, outputs, columns = np.shape(weight)
    if gram.shape != (groups, columns, columns) or np.shape(scales) != (groups, outputs):
        raise ValueError(f"expected Gram matrices {(groups, columns, columns)}, got {gram.shape}")
    flat = np.reshape(weight, (-1, columns)), np.reshape(scales, -1)
    refuse_bad_layer(*flat, gram[0])
    if not np.isfinite(gram).all():
        raise ValueError("a Gram matrix has values that are not finite")
    target = in_steps(*flat).reshape(groups, outputs, columns).transpose(0, 2, 1)
    rows = np.clip(np.rint(target), -limit, limit)
    slope = gram @ (rows - target)
    energy = np.diagonal(gram, axis1=1, axis2=2)[:, :, None]
    lives = energy > 0
    for _ in range(sweeps):
        moved = False
        for row in range(columns):
            there = slope[:, row] / np.where(lives[:, row], energy[:, row], 1.0)
            best = np.clip(np.rint(rows[:, row] - there), -limit, limit)
            step = np.where(lives[:, row], best - rows[:, row], 0.0)
            if step.any():
                slope += gram[:, :, row, None] * step[:, None, :]
                rows[:, row] += step
                moved = True
        if not moved:
            break
    return np.ascontiguousarray(rows.transpose(0, 2, 1)).astype(np.int8)
