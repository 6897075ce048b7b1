"""The compiled searches over a histogram: entropy and MSE."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

_STRIDE = 16
_ROUNDING = 1e-12
"""A divergence below this share of its largest term is none: it comes from rounding."""


@njit(cache=True, nogil=True)
def least_divergent_bin(counts: NDArray[np.float64], levels: int) -> int:
    """The number of kept bins with the least KL divergence; the last one of equals.

    For P with p_i = n_i / N and its quantized version Q, which is constant within a level l over
    the bins where P has mass: KL(P‖Q) = Σ p_i log p_i - Σ_l P_l log q_l. Both P_l and the first sum
    are differences of running sums, so a candidate costs a look-up a level, not a logarithm a bin.

    Args:
        counts: float64 (bins,), whole numbers below 2**53: the values a bin holds.
        levels: number of quantized levels, also the fewest bins a candidate keeps.

    Returns:
        A number of bins in [levels, len(counts)]; len(counts) when there are fewer bins.
    """
    bins = counts.size
    mass = np.zeros(bins + 1)
    occupied = np.zeros(bins + 1, dtype=np.int64)
    entropy = np.zeros(bins + 1)
    for index in range(bins):
        mass[index + 1] = mass[index] + counts[index]
        occupied[index + 1] = occupied[index] + (counts[index] > 0.0)
        entropy[index + 1] = entropy[index] + _n_log_n(counts[index])
    best, least = bins, np.inf
    narrow, wide = _level_terms(mass, occupied, 1), _level_terms(mass, occupied, 2)
    width = 1
    for kept in range(levels, bins + 1):
        if kept // levels > width:
            width += 1
            narrow, wide = wide, _level_terms(mass, occupied, width + 1)
        divergence = _divergence(mass, occupied, entropy, kept, levels, narrow, wide)
        if divergence < _ROUNDING * entropy[-1]:
            divergence = 0.0
        if divergence <= least:
            best, least = kept, divergence
    return best


@njit(cache=True, nogil=True)
def _n_log_n(n: float) -> float:
    return n * np.log(n) if n > 0.0 else 0.0


@njit(cache=True, nogil=True)
def _level_terms(
    mass: NDArray[np.float64], occupied: NDArray[np.int64], width: int
) -> NDArray[np.float64]:
    """By a level's first bin of so many: n log(n / b), for n values in b bins with mass."""
    terms = np.zeros(mass.size)
    for start in range(mass.size - width):
        own = mass[start + width] - mass[start]
        if own > 0.0:
            terms[start] = own * np.log(own / (occupied[start + width] - occupied[start]))
    return terms


@njit(cache=True, nogil=True)
def _divergence(
    mass: NDArray[np.float64],
    occupied: NDArray[np.int64],
    entropy: NDArray[np.float64],
    kept: int,
    levels: int,
    narrow: NDArray[np.float64],
    wide: NDArray[np.float64],
) -> float:
    """N·KL(P‖Q) for P = the first `kept` bins with everything above piled onto the last.

    Q is those bins without the pile, merged into `levels` and spread back over P's bins with mass.
    The three running sums start with 0: of n, of n > 0, of n log n. `narrow` and `wide` are the
    terms of levels of kept // levels bins, and of one more. Infinity where P has mass and Q has
    none.
    """
    total, inside = mass[-1], mass[kept]
    if inside == 0.0:
        return np.inf
    terms = 0.0
    width = kept // levels
    start = 0
    for level in range(1, levels):
        stop = level * kept // levels
        terms += narrow[start] if stop - start == width else wide[start]
        start = stop
    own = inside - mass[start]
    bins = occupied[kept] - occupied[start]
    last = mass[kept] - mass[kept - 1]
    piled = last + total - inside
    if own == 0.0 and piled > 0.0:
        return np.inf
    if own > 0.0:
        bins += last == 0.0 and piled > 0.0
        terms += (own + total - inside) * np.log(own / bins)
    # Q has the mass of P: its values are scaled by total / inside.
    terms += total * np.log(total / inside)
    return entropy[kept - 1] + _n_log_n(piled) - terms


@njit(cache=True, nogil=True)
def _rounding_error(x: float) -> float:
    """∫ (t - q(t))² dt from 0 to x >= 0, for q that rounds to whole numbers up to 127.

    Half a cell on either side of a whole number gives 1/24; beyond 127 everything is clipped to it.
    """
    nearest = min(np.floor(x + 0.5), 127.0)
    return nearest / 12.0 + (x - nearest) ** 3 / 3.0


@njit(cache=True, nogil=True)
def squared_error(
    counts: NDArray[np.float64], width: float, amax: float, threshold: float, enough: float
) -> float:
    """Σ (x - q(x))² over a histogram's values, which are taken as spread evenly within their bin.

    Args:
        counts: float64 (bins,), without the values that are exactly zero; the last bin holds amax.
        width: of a bin.
        amax: where the last bin's values end.
        threshold: q rounds to multiples of threshold / 127 and clips to the threshold.
        enough: stop when the sum is beyond this; then it is only known to be that large.
    """
    scale = threshold / 127.0
    total = 0.0
    upper = amax
    above = _rounding_error(upper / scale)
    for index in range(counts.size - 1, -1, -1):
        lower = index * width
        below = _rounding_error(lower / scale)
        span = (upper - lower) / scale
        if counts[index] > 0.0 and span > 0.0:
            total += counts[index] * scale * scale * (above - below) / span
        elif counts[index] > 0.0:  # all values are amax itself
            step = lower / scale
            total += counts[index] * scale * scale * (step - min(np.rint(step), 127.0)) ** 2
        if total > enough:
            break
        upper, above = lower, below
    return total


@njit(cache=True, nogil=True)
def least_squares_threshold(counts: NDArray[np.float64], width: float, amax: float) -> float:
    """Of amax and the bin edges below it, the threshold of least `squared_error`.

    Every 16th edge is tried, then each between the best one's neighbours; the largest of equals.
    """
    best = amax
    least = squared_error(counts, width, amax, amax, np.inf)
    nearest = counts.size
    for edge in range(counts.size - 1, 0, -_STRIDE):
        # The sum starts with the largest values: what a small threshold clips soon settles it.
        error = squared_error(counts, width, amax, edge * width, least)
        if error < least:
            best, least, nearest = edge * width, error, edge
    for edge in range(min(nearest + _STRIDE, counts.size) - 1, max(nearest - _STRIDE, 0), -1):
        error = squared_error(counts, width, amax, edge * width, least)
        if error < least:
            best, least = edge * width, error
    return best
