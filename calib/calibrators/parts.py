"""A tensor's statistics in a few equal parts of the data: what they differ by is chance.

The parts are kept while the one pass goes on, in constant memory: when there would be more than
eight, neighbours are merged, and every part is of twice as many batches from then on.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from calib.calibrators.histogram import StatisticsAccumulator, TensorStatistics
from data_loaders.types import Array

PARTS_MAX = 8


@dataclass(frozen=True, slots=True)
class TensorParts:
    """One tensor's statistics by part of the data.

    Attributes:
        size: batches a part, a power of two.
        parts: at most PARTS_MAX and at least one; part k is of the batches k·size to
            (k+1)·size - 1. One without values belongs to another shard, or was empty.
    """

    size: int
    parts: tuple[TensorStatistics, ...]

    @property
    def name(self) -> str:
        """The tensor."""
        return self.parts[0].name

    def whole(self) -> TensorStatistics:
        """The statistics of all parts together."""
        return reduce(TensorStatistics.merge, self.parts)

    def merge(self, other: "TensorParts") -> "TensorParts":
        """Two shards' statistics together: exact, associative, commutative.

        Raises:
            ValueError: if the two are of different tensors.
        """
        size = max(self.size, other.size)
        return _parts(self.name, size, [*_numbered(self, size), *_numbered(other, size)])

    def renamed(self, name: str) -> "TensorParts":
        """The same statistics for a tensor of the same values."""
        return TensorParts(self.size, tuple(part.renamed(name) for part in self.parts))


class PartedAccumulator:
    """Counts a tensor's values batch by batch, in parts. Not safe for two threads at once."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._kept = TensorParts(1, (StatisticsAccumulator(name).freeze(),))
        self._number = 0
        self._current = StatisticsAccumulator(name)

    def add(
        self,
        batch: int,
        array: Array,
        real: NDArray[np.bool_] | None = None,
        axes: tuple[int, ...] = (1,),
        ids: Sequence[str] = (),
    ) -> None:
        """Count one batch's values; for the other arguments see `StatisticsAccumulator.add`.

        Args:
            batch: the batch's number in the whole data, from 0; never below the last one.
            array: floating point, any shape.
            real: True where a position counts.
            axes: the axes that run along the length.
            ids: of the batch's samples.
        """
        size = part_size(batch + 1)
        if (size, batch // size) != (self._kept.size, self._number):
            self._kept = self._closed(size)
            self._number = batch // size
            self._current = StatisticsAccumulator(self._name)
        self._current.add(array, real, axes, ids)

    def freeze(self) -> TensorParts:
        """What has been counted so far; later additions do not change it."""
        return self._closed(self._kept.size)

    def _closed(self, size: int) -> TensorParts:
        old = self._kept.size
        current = (self._number * old // size, self._current.freeze())
        return _parts(self._name, size, [*_numbered(self._kept, size), current])


def part_size(batches: int) -> int:
    """Batches a part: the smallest power of two that gives at most PARTS_MAX parts."""
    size = 1
    while size * PARTS_MAX < batches:
        size *= 2
    return size


def _numbered(parts: TensorParts, size: int) -> list[tuple[int, TensorStatistics]]:
    """The parts with their numbers among parts of `size` batches."""
    return [(number * parts.size // size, part) for number, part in enumerate(parts.parts)]


def _parts(name: str, size: int, numbered: Iterable[tuple[int, TensorStatistics]]) -> TensorParts:
    merged: dict[int, TensorStatistics] = {}
    for number, part in numbered:
        known = merged.get(number)
        # Most parts of a shard are of other shards: they hold nothing.
        if known is None:
            merged[number] = part
        elif not part.is_empty:
            merged[number] = known.merge(part)
    count = max(merged) + 1
    if len(merged) == count:
        return TensorParts(size, tuple(merged[k] for k in range(count)))
    nothing = StatisticsAccumulator(name).freeze()
    return TensorParts(size, tuple(merged.get(k, nothing) for k in range(count)))
