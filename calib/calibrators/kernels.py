"""The compiled loops: counting values, and the entropy search."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

BAD_VALUE = -1
"""`count_values` returns this as the index of a bad value when there is none."""

_LANES = 4
_ABS_MASK = np.uint32(0x7FFFFFFF)
_INFINITY_BITS = np.uint32(0x7F800000)


@njit(cache=True, nogil=True)
def _extremes(values: NDArray[np.float32]) -> tuple[float, float, int]:
    """(minimum, maximum, number of zeros); NaN does not survive a comparison, so it is ignored."""
    low, high, zeros = np.float32(np.inf), np.float32(-np.inf), 0
    for value in values:
        low = min(low, value)
        high = max(high, value)
        zeros += value == np.float32(0.0)
    return low, high, zeros


@njit(cache=True, nogil=True)
def _first_bad(values: NDArray[np.float32]) -> int:
    """Index of the first NaN or infinity; BAD_VALUE if there is none."""
    bits = values.view(np.uint32)
    for index in range(bits.size):
        if bits[index] & _ABS_MASK >= _INFINITY_BITS:
            return index
    return BAD_VALUE


@njit(cache=True, nogil=True)
def _largest_bits(values: NDArray[np.float32]) -> int:
    """Largest |value| as its bit pattern: NaN > infinity > every finite number."""
    bits = values.view(np.uint32)
    largest = np.uint32(0)
    for index in range(bits.size):
        largest = max(largest, bits[index] & _ABS_MASK)
    return largest


@njit(cache=True, nogil=True)
def _count_bins(values: NDArray[np.float32], counts: NDArray[np.int64], scale: float) -> None:
    """Add each |value|·scale to its bin.

    Four tables take turns: equal neighbours would otherwise wait for one another's store.
    """
    bins = counts.size
    lanes = np.zeros((_LANES, bins), dtype=np.uint32)
    factor = np.float32(scale)
    whole = values.size - values.size % _LANES
    for start in range(0, whole, _LANES):
        lanes[0, np.uint32(abs(values[start]) * factor)] += np.uint32(1)
        lanes[1, np.uint32(abs(values[start + 1]) * factor)] += np.uint32(1)
        lanes[2, np.uint32(abs(values[start + 2]) * factor)] += np.uint32(1)
        lanes[3, np.uint32(abs(values[start + 3]) * factor)] += np.uint32(1)
    for index in range(whole, values.size):
        lanes[0, np.uint32(abs(values[index]) * factor)] += np.uint32(1)
    for lane in range(_LANES):
        for position in range(bins):
            counts[position] += np.int64(lanes[lane, position])


@njit(cache=True, nogil=True)
def count_values(
    values: NDArray[np.float32], counts: NDArray[np.int64], min_exponent: int
) -> tuple[float, float, int, int, int]:
    """Count |values| into `counts`, on the smallest power-of-two range above their maximum.

    Multiplying by a power of two is exact in float32, so each value falls into its true bin.

    Args:
        values: float32 (n,), contiguous, at most 2**32 - 1 of them.
        counts: int64 (bins,), added to.
        min_exponent: the range is at least 2**min_exponent.

    Returns:
        (minimum, maximum, number of zeros, exponent, index of the first NaN or infinity or
        BAD_VALUE); nothing is counted when there is a bad value.
    """
    largest = _largest_bits(values)
    if largest >= _INFINITY_BITS:
        return 0.0, 0.0, 0, 0, _first_bad(values)
    low, high, zeros = _extremes(values)
    # A biased exponent field of e means |x| in [2**(e-127), 2**(e-126)).
    exponent = max(np.int64(largest >> np.uint32(23)) - 126, min_exponent)
    # A range beyond 2**127 cannot be reached by one float32 factor of bins / 2**exponent only if
    # that factor is below the smallest normal number; bins is 2**12, so it never is.
    _count_bins(values, counts, counts.size * 2.0 ** (-exponent))
    return low, high, zeros, exponent, BAD_VALUE


@njit(cache=True, nogil=True)
def _divergence(
    reference: NDArray[np.float64], counts: NDArray[np.float64], levels: int, total: float
) -> float:
    """KL(P‖Q) for P = reference and Q = counts merged into `levels` and spread back.

    A level's mass is shared evenly by those of its bins where P has mass. Returns infinity where P
    has mass and Q has none.
    """
    bins = counts.size
    kept = counts.sum()
    if kept == 0.0:
        return np.inf
    divergence = 0.0
    for level in range(levels):
        start = level * bins // levels
        stop = (level + 1) * bins // levels
        mass, occupied = 0.0, 0
        for index in range(start, stop):
            mass += counts[index]
            occupied += reference[index] > 0.0
        if occupied == 0:
            continue
        if mass == 0.0:
            return np.inf
        q = mass / occupied / kept
        for index in range(start, stop):
            if reference[index] > 0.0:
                p = reference[index] / total
                divergence += p * np.log(p / q)
    return divergence


@njit(cache=True, nogil=True)
def least_divergent_bin(counts: NDArray[np.float64], levels: int) -> int:
    """The number of kept bins with the least KL divergence; the last one of equals.

    Args:
        counts: float64 (bins,), the values a bin holds.
        levels: number of quantized levels, also the fewest bins a candidate keeps.

    Returns:
        A number of bins in [levels, len(counts)]; len(counts) when there are fewer bins.
    """
    bins = counts.size
    best, least = bins, np.inf
    total = counts.sum()
    above = total - counts[: min(levels, bins)].sum()
    reference = counts.copy()
    for candidate in range(levels, bins + 1):
        # P: the kept bins, with everything above them piled onto the last.
        reference[candidate - 1] = counts[candidate - 1] + above
        divergence = _divergence(reference[:candidate], counts[:candidate], levels, total)
        reference[candidate - 1] = counts[candidate - 1]
        if divergence <= least:
            best, least = candidate, divergence
        if candidate < bins:
            above -= counts[candidate]
    return best
