"""The compiled loop that counts values.

Integers are cast back to 32 bits wherever arithmetic would make them 64 bits wide: half as many of
those fit a vector register.
"""

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir as llvm
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from calib.compiling import compiled

_LANES = 4
_BLOCK = 2048
_PENDING_MAX = 2**31
_SIGN = 2**31
_MAGNITUDE = 2**31 - 1
_INFINITY = 0x7F800000
_ONE = np.uint32(1)
_U16 = np.uint64(0xFFFF)


Scratch = tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.uint16], NDArray[np.float32]]


def new_scratch(bins: int) -> Scratch:
    """What `count_rows` works with: zeroed columns and counts, room for a block and its bins."""
    return (
        np.zeros(bins * _LANES, dtype=np.uint32),
        np.zeros(bins, dtype=np.int64),
        np.empty(_BLOCK, dtype=np.uint16),
        np.empty(_BLOCK, dtype=np.float32),
    )


class _Seen(NamedTuple):
    """What the blocks so far have shown.

    Attributes:
        signed_high: largest bit pattern as int32: of the largest value, if one is >= 0.
        high: largest bit pattern as uint32: of the smallest value, if one is < 0 or -0.
        low: smallest bit pattern as uint32: of the other end, where all have one sign.
        zeros: number of zeros.
        exponent: the bins' range is 2**exponent.
        pending: values in the columns.
        used: bins in use in the columns.
    """

    signed_high: int
    high: int
    low: int
    zeros: int
    exponent: int
    pending: int
    used: int


@compiled()
def _extremes(block: NDArray[np.float32]) -> tuple[int, int, int, int]:
    """(signed_high, high, low, zeros) of a block, see `_Seen`."""
    ints, words = block.view(np.int32), block.view(np.uint32)
    signed_high, high, low = np.int32(-_SIGN), np.uint32(0), np.uint32(2**32 - 1)
    zeros = np.int32(0)
    for index in range(ints.size):  # iterating over the values would not be vectorised
        signed_high = max(signed_high, ints[index])
        high = max(high, words[index])
        low = min(low, words[index])
        is_zero = np.uint32(words[index] << _ONE) == np.uint32(0)
        zeros = np.int32(zeros + np.int32(is_zero))
    return np.int64(signed_high), np.int64(high), np.int64(low), np.int64(zeros)


@compiled()
def _largest(signed_high: int, high: int) -> int:
    """Bits of the largest magnitude; beyond those of infinity for NaN."""
    return max(signed_high, high & _MAGNITUDE)


@compiled()
def _float(bits: int) -> float:
    """The float32 with these bits, an int of 32."""
    return np.float64(np.uint32(bits).view(np.float32))


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


@compiled()
def _count_block(
    block: NDArray[np.float32],
    ahead: NDArray[np.float32],
    factor: np.float32,
    bins: NDArray[np.uint16],
    lanes: NDArray[np.uint32],
) -> None:
    """Add each |value|·factor to its bin; `ahead` is what will be read next.

    First all bin numbers, which is vectorised. Then the counting, in four columns that take turns:
    equal neighbours would otherwise wait for one another's store. The columns of a bin lie side by
    side, and the bin numbers are read four at a time.
    """
    size = block.size
    for index in range(size):
        bins[index] = np.int32(abs(block[index]) * factor) * np.int32(_LANES)
    words = bins.view(np.uint64)
    whole = size // 4
    for index in range(whole):
        if index % 4 == 0:
            # Counting keeps the core busy but not the memory: the next block comes meanwhile.
            _prefetch(ahead, index * 4)
        four = words[index]
        lanes[four & _U16] += _ONE
        lanes[((four >> np.uint64(16)) & _U16) + np.uint64(1)] += _ONE
        lanes[((four >> np.uint64(32)) & _U16) + np.uint64(2)] += _ONE
        lanes[(four >> np.uint64(48)) + np.uint64(3)] += _ONE
    for index in range(whole * 4, size):
        lanes[bins[index]] += _ONE


@compiled()
def _flush(lanes: NDArray[np.uint32], counts: NDArray[np.int64], used: int) -> None:
    """Add the columns of the first `used` bins to the counts, and empty them."""
    for index in range(used):
        for lane in range(_LANES):
            counts[index] += np.int64(lanes[index * _LANES + lane])
            lanes[index * _LANES + lane] = np.uint32(0)


@compiled()
def _widen(counts: NDArray[np.int64], doublings: int) -> None:
    """The same counts on a range 2**doublings as wide: neighbours added in groups, in place."""
    group = 1 << min(doublings, 30)
    for index in range(1, counts.size):
        value = counts[index]
        counts[index] = 0
        counts[index // group] += value


@compiled()
def _factor(bins: int, exponent: int) -> np.float32:
    """Bins per unit, a power of two: multiplying by it is exact, and so is each value's bin."""
    return np.float32(bins * 2.0 ** (-exponent))


@compiled()
def _bins_used(bins: int, exponent: int, largest: int) -> int:
    """Number of bins up to the one of the float32 with these bits."""
    return np.int64(_float(largest) * _factor(bins, exponent)) + 1


@compiled()
def _add_block(
    block: NDArray[np.float32],
    ahead: NDArray[np.float32],
    seen: _Seen,
    fresh: NDArray[np.int64],
    lanes: NDArray[np.uint32],
    bins: NDArray[np.uint16],
) -> _Seen:
    """Count a block's values, unless one of them is not finite."""
    signed_high, high, low, zeros = _extremes(block)
    largest = _largest(signed_high, high)
    exponent, pending, used = seen.exponent, seen.pending, seen.used
    if largest < _INFINITY:
        # A biased exponent field of e means |x| in [2**(e-127), 2**(e-126)).
        needed = (largest >> 23) - 126
        if needed > exponent or pending > _PENDING_MAX:
            _flush(lanes, fresh, used)
            pending, used = 0, 0
        if needed > exponent:
            _widen(fresh, needed - exponent)
            exponent = needed
        _count_block(block, ahead, _factor(fresh.size, exponent), bins, lanes)
        pending += block.size
        used = max(used, _bins_used(fresh.size, exponent, largest))
    return _Seen(
        max(seen.signed_high, signed_high),
        max(seen.high, high),
        min(seen.low, low),
        seen.zeros + zeros,
        exponent,
        pending,
        used,
    )


@compiled()
def count_rows(
    values: NDArray[np.float32],
    lengths: NDArray[np.int64],
    counts: NDArray[np.int64],
    exponent: int,
    scratch: Scratch,
) -> tuple[float, float, int, int, bool]:
    """Count |values| into `counts`, widening their power-of-two range as far as is needed.

    One sweep, block by block: extremes and counts of a block come from the cache, and the range
    grows in between where it must. Pieces of rows that are no whole block are collected in one.

    Args:
        values: float32 (rows, columns), contiguous.
        lengths: int64 (rows,): how many values of each row count, from its start.
        counts: int64 (bins,), added to; bins is a power of two, at most 2**14.
        exponent: `counts` is on a range of 2**exponent.
        scratch: of `new_scratch`, for one thread at a time; left as it was found.

    Returns:
        (minimum, maximum, number of zeros, new exponent, whether all values are finite). If not,
        `counts` is as it was, and the other results mean nothing.
    """
    lanes, fresh, bins, collected = scratch
    seen = _Seen(-_SIGN, 0, 2**32 - 1, 0, exponent, 0, 0)
    flat = values.reshape(-1)
    filled = 0
    for row in range(values.shape[0]):
        begin = row * values.shape[1]
        end = begin + lengths[row]
        for start in range(begin, end, _BLOCK):
            stop = min(start + _BLOCK, end)
            if stop - start == _BLOCK:
                seen = _add_block(flat[start:stop], flat[stop:], seen, fresh, lanes, bins)
                continue
            if filled + stop - start > _BLOCK:
                seen = _add_block(collected[:filled], flat[stop:], seen, fresh, lanes, bins)
                filled = 0
            source, target = flat[start:stop], collected[filled:]
            for index in range(source.size):  # assigning the slice takes three times as long
                target[index] = source[index]
            filled += stop - start
    if filled:
        seen = _add_block(collected[:filled], flat, seen, fresh, lanes, bins)
    largest = _largest(seen.signed_high, seen.high)
    _flush(lanes, fresh, seen.used)
    if largest >= _INFINITY:
        fresh[:] = 0
        return 0.0, 0.0, 0, exponent, False
    if seen.exponent > exponent:
        _widen(counts, seen.exponent - exponent)
    for index in range(_bins_used(counts.size, seen.exponent, largest)):
        counts[index] += fresh[index]
        fresh[index] = 0
    # Of one sign, the patterns order as the magnitudes do.
    minimum = _float(seen.high if seen.high >= _SIGN else seen.low)
    maximum = _float(seen.signed_high if seen.signed_high >= 0 else seen.low)
    return minimum, maximum, seen.zeros, seen.exponent, True
