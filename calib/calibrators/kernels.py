"""The compiled loops: counting values, and the entropy search."""

from typing import Any

import numpy as np
from llvmlite import ir as llvm
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

BAD_VALUE = -1
"""`count_rows` returns this as the index of a bad value when there is none."""

_LANES = 8
_BLOCK = 2048
_PENDING_MAX = 2**31
_STRIDE = 16
_MAGNITUDE = np.int32(0x7FFFFFFF)
_INFINITY = np.int32(0x7F800000)


Scratch = tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.uint16]]


def new_scratch(bins: int) -> Scratch:
    """What `count_rows` works with: zeroed columns and counts, and room for a block's bins."""
    return (
        np.zeros((bins, _LANES), dtype=np.uint32),
        np.zeros(bins, dtype=np.int64),
        np.empty(_BLOCK, dtype=np.uint16),
    )


@njit(cache=True, nogil=True)
def _extremes(ints: NDArray[np.int32]) -> tuple[int, int, int]:
    """(smallest key, largest key, number of zeros) of the float32 with these bit patterns.

    A key is the bit pattern with its magnitude inverted where it is negative: keys order as the
    floats do, NaN outside of the infinities. Integers, because the compiler vectorises them.
    """
    low, high, zeros = np.int32(2**31 - 1), np.int32(-(2**31)), np.int32(0)
    for index in range(ints.size):  # iterating over the values would not be vectorised
        bits = ints[index]
        key = bits ^ ((bits >> np.int32(31)) & _MAGNITUDE)
        low = min(low, key)
        high = max(high, key)
        zeros += np.int32((bits & _MAGNITUDE) == 0)
    return low, high, zeros


@njit(cache=True, nogil=True)
def _first_bad(ints: NDArray[np.int32]) -> int:
    """Index of the first NaN or infinity; BAD_VALUE if there is none."""
    for index in range(ints.size):
        if ints[index] & _MAGNITUDE >= _INFINITY:
            return index
    return BAD_VALUE


@intrinsic
def _prefetch(_: Any, array: Any, index: Any) -> Any:  # noqa: ARG001 - numba reads it
    """Ask for the cache line of array[index], which need not exist; nothing waits for it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        own = context.make_array(signature.args[0])(context, builder, arguments[0])
        byte = llvm.IntType(8).as_pointer()
        address = builder.bitcast(builder.gep(own.data, [arguments[1]]), byte)
        number = llvm.IntType(32)
        kind = llvm.FunctionType(llvm.VoidType(), [byte, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        # For reading (0), to stay in all caches (3), data (1).
        builder.call(function, [address, number(0), number(2), number(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@njit(cache=True, nogil=True)
def _count_block(
    values: NDArray[np.float32],
    ahead: NDArray[np.float32],
    factor: np.float32,
    bins: NDArray[np.uint16],
    lanes: NDArray[np.uint32],
) -> None:
    """Add each |value|·factor to its bin; `ahead` is what will be read next.

    First all bin numbers, which is vectorised; then the counting, in eight columns that take
    turns: equal neighbours would otherwise wait for one another's store. Columns of a bin lie side
    by side, in half a cache line.
    """
    size = values.size
    for index in range(size):
        bins[index] = np.int32(abs(values[index]) * factor)
    whole = size - size % _LANES
    for start in range(0, whole, _LANES):
        # Counting keeps the core busy but not the memory: the next block comes meanwhile.
        _prefetch(ahead, start)
        lanes[bins[start], 0] += np.uint32(1)
        lanes[bins[start + 1], 1] += np.uint32(1)
        lanes[bins[start + 2], 2] += np.uint32(1)
        lanes[bins[start + 3], 3] += np.uint32(1)
        lanes[bins[start + 4], 4] += np.uint32(1)
        lanes[bins[start + 5], 5] += np.uint32(1)
        lanes[bins[start + 6], 6] += np.uint32(1)
        lanes[bins[start + 7], 7] += np.uint32(1)
    for index in range(whole, size):
        lanes[bins[index], 0] += np.uint32(1)


@njit(cache=True, nogil=True)
def _flush(lanes: NDArray[np.uint32], counts: NDArray[np.int64], used: int) -> None:
    """Add the columns of the first `used` bins to the counts, and empty them."""
    for index in range(used):
        for lane in range(_LANES):
            counts[index] += np.int64(lanes[index, lane])
            lanes[index, lane] = np.uint32(0)


@njit(cache=True, nogil=True)
def _widen(counts: NDArray[np.int64], doublings: int) -> None:
    """The same counts on a range 2**doublings as wide: neighbours added in groups, in place."""
    group = 1 << min(doublings, 30)
    for index in range(1, counts.size):
        value = counts[index]
        counts[index] = 0
        counts[index // group] += value


@njit(cache=True, nogil=True)
def _factor(bins: int, exponent: int) -> np.float32:
    """Bins per unit, a power of two: multiplying by it is exact, and so is each value's bin."""
    return np.float32(bins * 2.0 ** (-exponent))


@njit(cache=True, nogil=True)
def count_rows(
    values: NDArray[np.float32],
    lengths: NDArray[np.int64],
    counts: NDArray[np.int64],
    exponent: int,
    scratch: Scratch,
) -> tuple[float, float, int, int, int]:
    """Count |values| into `counts`, widening their power-of-two range as far as is needed.

    One sweep, block by block: extremes and counts of a block come from the cache, and the range
    grows in between where it must.

    Args:
        values: float32 (rows, columns), contiguous.
        lengths: int64 (rows,): how many values of each row count, from its start.
        counts: int64 (bins,), added to; bins is a power of two below 2**16.
        exponent: `counts` is on a range of 2**exponent.
        scratch: of `new_scratch`, for one thread at a time; left as it was found.

    Returns:
        (minimum, maximum, number of zeros, new exponent, index of the first NaN or infinity in the
        flattened values or BAD_VALUE). With a bad value `counts` is as it was, and the other
        results mean nothing.
    """
    lanes, fresh, bins = scratch
    low, high = np.int32(2**31 - 1), np.int32(-(2**31))
    zeros, reached, pending, used = 0, exponent, 0, 0
    factor = _factor(counts.size, reached)
    last = values.shape[0] - 1
    for row in range(values.shape[0]):
        line = values[row, : lengths[row]]
        ints = line.view(np.int32)
        for start in range(0, line.size, _BLOCK):
            block = line[start : start + _BLOCK]
            block_low, block_high, block_zeros = _extremes(ints[start : start + _BLOCK])
            largest = max(block_high, _negative_magnitude(block_low))
            if largest >= _INFINITY:
                bad = _first_bad(ints[start : start + _BLOCK])
                lanes[:] = 0
                fresh[:] = 0
                return 0.0, 0.0, 0, exponent, row * values.shape[1] + start + bad
            low, high = min(low, block_low), max(high, block_high)
            zeros += block_zeros
            # A biased exponent field of e means |x| in [2**(e-127), 2**(e-126)).
            needed = np.int64(largest >> np.int32(23)) - 126
            if needed > reached or pending > _PENDING_MAX:
                _flush(lanes, fresh, used)
                pending, used = 0, 0
            if needed > reached:
                _widen(fresh, needed - reached)
                reached = needed
                factor = _factor(counts.size, reached)
            after = start + _BLOCK
            ahead = line[after:] if after < line.size else values[min(row + 1, last)]
            _count_block(block, ahead, factor, bins, lanes)
            pending += block.size
            used = max(used, _bin_of(largest, factor) + 1)
    _flush(lanes, fresh, used)
    if reached > exponent:
        _widen(counts, reached - exponent)
    for index in range(counts.size):
        counts[index] += fresh[index]
        fresh[index] = 0
    return _float(low), _float(high), zeros, reached, BAD_VALUE


@njit(cache=True, nogil=True)
def _bin_of(magnitude: np.int32, factor: np.float32) -> int:
    """The bin of the non-negative float32 with these bits."""
    return np.int64(_float(magnitude) * factor)


@njit(cache=True, nogil=True)
def _negative_magnitude(key: np.int32) -> np.int32:
    """Bits of the magnitude of a negative number's key; 0 for others."""
    return (key ^ _MAGNITUDE) & _MAGNITUDE if key < 0 else np.int32(0)


@njit(cache=True, nogil=True)
def _float(key: np.int32) -> float:
    """The float32 of a key."""
    bits = np.empty(1, dtype=np.int32)
    bits[0] = key ^ ((key >> np.int32(31)) & _MAGNITUDE)
    return bits.view(np.float32)[0]


@njit(cache=True, nogil=True)
def least_divergent_bin(counts: NDArray[np.float64], levels: int) -> int:
    """The number of kept bins with the least KL divergence; the last one of equals.

    For P with p_i = n_i / N and its quantized version Q, which is constant within a level l over
    the bins where P has mass: KL(P‖Q) = Σ p_i log p_i - Σ_l P_l log q_l. Both P_l and the first sum
    are differences of running sums, so a candidate costs one logarithm a level, not one a bin.

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
    for kept in range(levels, bins + 1):
        divergence = _divergence(mass, occupied, entropy, kept, levels)
        if divergence <= least:
            best, least = kept, divergence
    return best


@njit(cache=True, nogil=True)
def _n_log_n(n: float) -> float:
    return n * np.log(n) if n > 0.0 else 0.0


@njit(cache=True, nogil=True)
def _divergence(
    mass: NDArray[np.float64],
    occupied: NDArray[np.int64],
    entropy: NDArray[np.float64],
    kept: int,
    levels: int,
) -> float:
    """N·KL(P‖Q) for P = the first `kept` bins with everything above piled onto the last.

    Q is those bins without the pile, merged into `levels` and spread back over P's bins with mass.
    The three running sums start with 0: of n, of n > 0, of n log n. Infinity where P has mass and
    Q has none.
    """
    total, inside = mass[-1], mass[kept]
    if inside == 0.0:
        return np.inf
    last = mass[kept] - mass[kept - 1]
    piled = last + total - inside
    divergence = entropy[kept - 1] + _n_log_n(piled)
    for level in range(levels):
        start, stop = level * kept // levels, (level + 1) * kept // levels
        own = mass[stop] - mass[start]
        of_reference, bins = own, occupied[stop] - occupied[start]
        if stop == kept:
            of_reference += total - inside
            bins += last == 0.0 and piled > 0.0
        if bins == 0:
            continue
        if own == 0.0:
            return np.inf
        divergence -= of_reference * np.log(own / bins / inside * total)
    return divergence


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
