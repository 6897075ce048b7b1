"""Statistics of |x| that no order, batch size or shard changes.

A histogram's range is a power of two, its bins are integers, and the range grows by adding bins in
pairs. Both steps are exact, and where it ends depends only on the largest value seen, so the same
activations give the same bytes whoever counted them, and merging is exact.
"""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import cast

import numpy as np
from numpy.typing import NDArray

from calib.calibrators.counting import Scratch, count_rows, new_scratch
from calib.calibrators.not_finite import NONE, NotFinite, not_finite_values
from data_loaders.types import Array

BINS = 4096
"""Twice 2048: the maximum may lie just above half the range, and 2048 bins must cover [0, amax]."""

MIN_EXPONENT = -100
"""The range never gets smaller than [0, 2**-100]: its bin width is still a normal float32."""


@dataclass(frozen=True, slots=True)
class TensorStatistics:
    """What one pass found out about one tensor.

    Attributes:
        name: the tensor.
        counts: int64 (BINS,): values with |x| in [k, k+1)·2**exponent/BINS; zeros in bin 0; a value
            of exactly 2**exponent does not occur, the range is always above the maximum.
        exponent: the range is [0, 2**exponent).
        minimum: smallest finite value, signed; +inf if there was none.
        maximum: largest finite value, signed; -inf if there was none.
        count: number of finite values.
        zeros: number of values that are exactly zero.
        not_finite: what was NaN or infinite beside them; nothing else here heeds it.
    """

    name: str
    counts: NDArray[np.int64]
    exponent: int
    minimum: float
    maximum: float
    count: int
    zeros: int
    not_finite: NotFinite = NONE

    @property
    def amax(self) -> float:
        """Largest finite |x| seen, exactly; 0 if nothing was seen."""
        return max(abs(self.minimum), abs(self.maximum)) if self.count else 0.0

    @property
    def end(self) -> float:
        """Where the range ends, a power of two."""
        return math.ldexp(1.0, self.exponent)

    def folded(self, parts: int) -> tuple[int, ...]:
        """The counts in `parts` equal parts of the range; `parts` divides BINS."""
        return tuple(self.counts.reshape(parts, -1).sum(axis=1).tolist())

    @property
    def bin_width(self) -> float:
        """Width of one bin, a power of two."""
        return float(np.ldexp(1.0, self.exponent) / BINS)

    @property
    def bins_used(self) -> int:
        """Number of bins up to and including the one that holds amax."""
        return int(self.amax / self.bin_width) + 1

    @property
    def is_empty(self) -> bool:
        """Whether no value was counted, finite or not."""
        return self.count == 0 and self.not_finite.values == 0

    def merge(self, other: "TensorStatistics") -> "TensorStatistics":
        """The statistics of both sets of values together: exact, associative, commutative.

        Raises:
            ValueError: if the two are of different tensors.
        """
        if self.name != other.name:
            raise ValueError(f"cannot merge statistics of {self.name!r} and {other.name!r}")
        # Most parts of a shard's file are of other shards.
        if other.is_empty:
            return self
        if self.is_empty:
            return other
        exponent = max(self.exponent, other.exponent)
        return TensorStatistics(
            name=self.name,
            counts=_widened(self, exponent) + _widened(other, exponent),
            exponent=exponent,
            minimum=min(self.minimum, other.minimum),
            maximum=max(self.maximum, other.maximum),
            count=self.count + other.count,
            zeros=self.zeros + other.zeros,
            not_finite=self.not_finite.merge(other.not_finite),
        )

    def renamed(self, name: str) -> "TensorStatistics":
        """The same statistics for a tensor of the same values."""
        return replace(self, name=name)


class StatisticsAccumulator:
    """Counts a tensor's values batch by batch. Not safe for two threads at once."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._counts = np.zeros(BINS, dtype=np.int64)
        self._exponent = MIN_EXPONENT
        self._minimum = np.inf
        self._maximum = -np.inf
        self._count = 0
        self._zeros = 0
        self._not_finite = NotFinite()

    def add(
        self,
        array: Array,
        real: NDArray[np.bool_] | None = None,
        axes: tuple[int, ...] = (1,),
        ids: Sequence[str] = (),
    ) -> None:
        """Count the finite values of one array, and apart from them those that are not.

        Args:
            array: floating point, any shape; float64 is rounded to float32 first.
            real: bool (batch, length), True where a position holds data: only values whose
                position is real along each of `axes` are counted. None counts all.
            axes: the axes of `array` that run along the length; axis 0 is the batch.
            ids: of the samples, to say which of them hold values that are not finite.
        """
        rows, lengths = _rows(array, real, axes)
        if self._count_finite(rows, lengths):
            return
        # What is not finite is rare: only now is there a copy without it.
        values = np.asarray(array, dtype=np.float32)
        kept = _kept(values.shape, real, axes)
        self._not_finite = self._not_finite.merge(not_finite_values(values, kept, ids))
        finite = values[kept & np.isfinite(values)]
        self._count_finite(finite.reshape(1, -1), np.array([finite.size], dtype=np.int64))

    def _count_finite(self, rows: NDArray[np.float32], lengths: NDArray[np.int64]) -> bool:
        """Count what `count_rows` counts; False, and nothing is counted, if not all is finite."""
        total = int(lengths.sum())
        if total == 0:
            return True
        low, high, zeros, exponent, is_finite = count_rows(
            rows, lengths, self._counts, self._exponent, _scratch()
        )
        if not is_finite:
            return False
        self._exponent = exponent
        self._minimum = min(self._minimum, low)
        self._maximum = max(self._maximum, high)
        self._count += total
        self._zeros += zeros
        return True

    def freeze(self) -> TensorStatistics:
        """What has been counted so far; later additions do not change it."""
        return TensorStatistics(
            name=self._name,
            counts=self._counts.copy(),
            exponent=self._exponent,
            minimum=self._minimum,
            maximum=self._maximum,
            count=self._count,
            zeros=self._zeros,
            not_finite=self._not_finite,
        )


_THREAD = threading.local()


def _scratch() -> Scratch:
    """This thread's own; making it anew would cost as much as counting a small tensor."""
    if not hasattr(_THREAD, "scratch"):
        _THREAD.scratch = new_scratch(BINS)
    return cast(Scratch, _THREAD.scratch)


def _rows(
    array: Array, real: NDArray[np.bool_] | None, axes: tuple[int, ...]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The array as (rows, columns) and how many values of each row count, from its start.

    Padding at the end of the length, which is what batches have, needs no copy: a row runs from the
    last length axis on, and one that lies in the padding of another length axis counts nothing.
    """
    values = np.ascontiguousarray(array, dtype=np.float32)
    if real is None:
        return values.reshape(1, -1), np.array([values.size], dtype=np.int64)
    kept = real.sum(axis=1, dtype=np.int64)
    last = max(axes)
    before = values.shape[:last]
    if (real != (np.arange(real.shape[1]) < kept[:, None])).any():
        chosen = values[_kept(values.shape, real, axes)]
        return chosen.reshape(1, -1), np.array([chosen.size], dtype=np.int64)
    inner = math.prod(values.shape[last + 1 :])
    lengths = np.broadcast_to(_along(kept[:, None], 1, last) * inner, before)
    for axis in axes:
        if axis != last:
            lengths = np.where(_along(real, axis, last), lengths, 0)
    return values.reshape(math.prod(before), -1), np.ascontiguousarray(lengths).ravel()


def _kept(
    shape: tuple[int, ...], real: NDArray[np.bool_] | None, axes: tuple[int, ...]
) -> NDArray[np.bool_]:
    """Which values of an array of this shape count, bool of that shape."""
    if real is None:
        return np.broadcast_to(np.True_, shape)
    masks = (_along(real, axis, len(shape)) for axis in axes)
    return np.broadcast_to(reduce(np.logical_and, masks), shape)


def _along(values: Array, axis: int, rank: int) -> Array:
    """(batch, n) so that it broadcasts along axes 0 and `axis` of an array of this rank."""
    shape = [1] * max(rank, 1)
    shape[0] = values.shape[0]
    if values.shape[1] != 1:
        shape[axis] = values.shape[1]
    return values.reshape(shape)


def statistics_from_array(name: str, array: Array) -> TensorStatistics:
    """The statistics of one array; see `StatisticsAccumulator.add`."""
    accumulator = StatisticsAccumulator(name)
    accumulator.add(array)
    return accumulator.freeze()


def clipped_pct(statistics: TensorStatistics, amax: float) -> float:
    """Share of the values beyond a threshold, in %, to the resolution of a bin.

    A bin that the threshold cuts is counted as kept, so 0 means that none is surely clipped.
    """
    if statistics.count == 0:
        return 0.0
    first = int(np.ceil(amax / statistics.bin_width))
    return float(statistics.counts[first:].sum() / statistics.count * 100)


def _widened(statistics: TensorStatistics, exponent: int) -> NDArray[np.int64]:
    """The counts on a range of 2**exponent: neighbours added in groups of 2**(difference)."""
    doublings = exponent - statistics.exponent
    if doublings == 0:
        return statistics.counts
    counts = np.zeros(BINS, dtype=np.int64)
    if doublings >= BINS.bit_length() - 1:
        counts[0] = statistics.counts.sum()
    else:
        group = 1 << doublings
        counts[: BINS // group] = statistics.counts.reshape(-1, group).sum(axis=1)
    return counts
