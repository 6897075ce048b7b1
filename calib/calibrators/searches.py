"""The compiled searches over a histogram: entropy and MSE."""

import numpy as np
from numpy.typing import NDArray

from calib.compiling import compiled

_STRIDE = 16
_ROUNDING = 1e-12
"""A divergence below this share of its largest term is none: it comes from rounding."""
_ALIKE = 1e-9
"""Two ways to add up the same errors differ by far less than this share."""
_MOMENTS_MAX = 2.0**62
_FEW_BINS = 256
"""Below two bins a quantized value, looking up saves nothing."""


@compiled()
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
    narrow = _level_terms(mass, occupied, 1, levels)
    wide = _level_terms(mass, occupied, 2, levels)
    width = 1
    for kept in range(levels, bins + 1):
        if kept // levels > width:
            width += 1
            narrow, wide = wide, _level_terms(mass, occupied, width + 1, levels)
        divergence = _divergence(mass, occupied, entropy, kept, levels, narrow, wide)
        if divergence < _ROUNDING * entropy[-1]:
            divergence = 0.0
        if divergence <= least:
            best, least = kept, divergence
    return best


@compiled()
def _n_log_n(n: float) -> float:
    return n * np.log(n) if n > 0.0 else 0.0


@compiled()
def _level_terms(
    mass: NDArray[np.float64], occupied: NDArray[np.int64], width: int, levels: int
) -> NDArray[np.float64]:
    """By a level's first bin of so many: n log(n / b), for n values in b bins with mass.

    Only as far as candidates reach that have levels of this width.
    """
    terms = np.zeros(mass.size)
    for start in range(min(mass.size - width, (width + 1) * levels)):
        own = mass[start + width] - mass[start]
        if own > 0.0:
            terms[start] = own * np.log(own / (occupied[start + width] - occupied[start]))
    return terms


@compiled()
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
    over = kept - width * levels
    start = carried = 0
    for _ in range(1, levels):  # level · kept // levels, without a division
        carried += over
        is_wide = carried >= levels
        terms += wide[start] if is_wide else narrow[start]
        carried -= levels * is_wide
        start += width + is_wide
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


@compiled()
def _rounding_error(x: float) -> float:
    """∫ (t - q(t))² dt from 0 to x >= 0, for q that rounds to whole numbers up to 127.

    Half a cell on either side of a whole number gives 1/24; beyond 127 everything is clipped to it.
    """
    nearest = min(np.floor(x + 0.5), 127.0)
    return nearest / 12.0 + (x - nearest) ** 3 / 3.0


@compiled()
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


@compiled()
def least_squares_threshold(counts: NDArray[np.float64], width: float, amax: float) -> float:
    """Of amax and the bin edges below it, the threshold of least `squared_error`.

    Every 16th edge is tried, then each between the best one's neighbours; the largest of equals.
    """
    moments = _moments(counts)
    nearest = _best_edge(counts, width, amax, moments, (counts.size, counts.size - 1, 0, _STRIDE))
    first, last = min(nearest + _STRIDE, counts.size) - 1, max(nearest - _STRIDE, 0)
    best = _best_edge(counts, width, amax, moments, (nearest, first, last, 1))
    return amax if best == counts.size else best * width


@compiled()
def _best_edge(
    counts: NDArray[np.float64],
    width: float,
    amax: float,
    moments: NDArray[np.int64],
    tried: tuple[int, int, int, int],
) -> int:
    """The edge of least `squared_error`; counts.size stands for amax.

    What `_edge_error` says of all of them leaves a few, which `squared_error` decides between.

    Args:
        counts: as there.
        width: as there.
        amax: as there.
        moments: of the counts; empty if they do not fit.
        tried: the edge that has to be beaten, then the first, the end and the stride of the others,
            which go down.
    """
    best, first, last, stride = tried
    least = squared_error(
        counts, width, amax, amax if best == counts.size else best * width, np.inf
    )
    found = np.zeros(max(first - last + stride - 1, 0) // stride)
    if len(moments):
        bound = least
        for index in range(found.size):
            found[index] = _edge_error(counts, width, amax, moments, first - index * stride, bound)
            bound = min(bound, found[index])
        found -= bound * (1 + _ALIKE)
    for index in range(found.size):
        edge = first - index * stride
        if found[index] <= 0:
            error = squared_error(counts, width, amax, edge * width, least)
            if error < least:
                best, least = edge, error
    return best


@compiled()
def _moments(counts: NDArray[np.float64]) -> NDArray[np.int64]:
    """Running sums of n, n·m and n·m² for n values in a bin whose middle is m half widths.

    int64 (bins + 1, 3): whole numbers, so that their differences are exact. Empty where they would
    be too large.
    """
    if counts.sum() * (4.0 * counts.size * counts.size) >= _MOMENTS_MAX:
        return np.zeros((0, 3), dtype=np.int64)
    sums = np.zeros((counts.size + 1, 3), dtype=np.int64)
    for index in range(counts.size):
        number, middle = np.int64(counts[index]), 2 * index + 1
        sums[index + 1, 0] = sums[index, 0] + number
        sums[index + 1, 1] = sums[index, 1] + number * middle
        sums[index + 1, 2] = sums[index, 2] + number * middle * middle
    return sums


@compiled()
def _edge_error(
    counts: NDArray[np.float64],
    width: float,
    amax: float,
    moments: NDArray[np.int64],
    edge: int,
    enough: float,
) -> float:
    """`squared_error` at an edge, but for the order of sums: a look-up for each quantized value.

    The values of the bins between two of its limits are all rounded to the same: their error is
    their second moment about it. A bin that a limit lies in, and the last, are taken by themselves.
    """
    if edge < _FEW_BINS:
        return squared_error(counts, width, amax, edge * width, enough)
    scale = edge / 127.0  # in bins
    limit = counts.size - 1
    total = _bin_error(limit, amax / width, scale) * counts[limit]
    start = limit
    for level in range(127, -1, -1):
        # Bins of `begin` and above are within this level or, at the last, beyond it.
        lower = (level - 0.5) * scale
        begin = min(max(int(np.ceil(lower)), 0), start)
        total += _moment_about(moments, begin, start, level * scale)
        start = begin
        if start > 0 and start > lower > start - 1:
            start -= 1
            total += _bin_error(start, start + 1.0, scale) * counts[start]
        if total * width * width > enough * (1 + _ALIKE):
            break
    return total * width * width


@compiled()
def _bin_error(index: int, upper: float, scale: float) -> float:
    """Mean squared error of values spread evenly over a bin, in squared bin widths."""
    span = upper - index
    if span <= 0.0:
        step = index / scale
        return (scale * (step - min(np.rint(step), 127.0))) ** 2
    above, below = _rounding_error(upper / scale), _rounding_error(index / scale)
    return scale**3 * (above - below) / span


@compiled()
def _moment_about(moments: NDArray[np.int64], begin: int, end: int, value: float) -> float:
    """Σ (x - value)² over the bins from `begin` to before `end`, in squared bin widths."""
    number = moments[end, 0] - moments[begin, 0]
    if number == 0:
        return 0.0
    # About a whole number near by first, exactly: what is left then cancels nothing.
    near = np.int64(2 * value)
    first = moments[end, 1] - moments[begin, 1]
    second = moments[end, 2] - moments[begin, 2]
    second += near * (near * number - 2 * first)
    first -= near * number
    rest = 2 * value - near
    return (second - 2 * rest * first + rest * rest * number) / 4.0 + number / 12.0
