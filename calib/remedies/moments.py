"""Rows of an activation, kept as they are or added up to their covariance."""

import numpy as np
from numpy.typing import NDArray

from data_loaders.types import Array

_BLOCK_VALUES = 1 << 18
_ROWS_AT_ONCE = 256


class Moments:
    """Covariance of the columns, added up over any number of rows."""

    def __init__(self) -> None:
        self._count = 0
        self._pivot = np.zeros(0, dtype=np.float32)
        self._sum = np.zeros(0)
        self._products = np.zeros(0, dtype=np.float32)
        self._waiting: list[Array] = []

    def add(self, rows: Array) -> None:
        """Add (groups, rows, columns a group)."""
        if rows.shape[1]:
            self._waiting.append(rows)
        # One product for many rows: each reads and writes all of the sums.
        if sum(part.shape[1] for part in self._waiting) >= _ROWS_AT_ONCE:
            self._add_up()

    def _add_up(self) -> None:
        if not self._waiting:
            return
        rows = np.concatenate(self._waiting, axis=1)
        self._waiting.clear()
        if not self._count:
            # Near the mean: float32 would lose what is small beside it.
            self._pivot = rows.mean(axis=1, keepdims=True).astype(np.float32)
            self._sum = np.zeros((len(rows), rows.shape[2]))
            self._products = np.zeros((len(rows), rows.shape[2], rows.shape[2]), dtype=np.float32)
        near = np.asarray(rows - self._pivot, dtype=np.float32)
        self._count += rows.shape[1]
        self._sum += near.sum(axis=1, dtype=np.float64)
        self._products += near.transpose(0, 2, 1) @ near

    def covariance(self) -> NDArray[np.float32]:
        """float32 (groups, columns a group, the same)."""
        self._add_up()
        mean = (self._sum / max(self._count, 1)).astype(np.float32)
        found = self._products / np.float32(max(self._count, 1))
        found -= mean[:, :, None] * mean[:, None, :]
        return found


def covariance_from_rows(rows: Array) -> NDArray[np.float32]:
    """Of (groups, rows, columns a group): float32 (groups, columns a group, the same)."""
    sums = Moments()
    sums.add(rows)
    return sums.covariance()


class Rows:
    """Rows of many samples in a few large arrays: small ones would leave the memory in pieces."""

    def __init__(self) -> None:
        self._blocks: list[NDArray[np.float32]] = []
        self._used = 0
        self._places: list[tuple[str, int, int, int]] = []

    def add(self, sample: str, rows: Array) -> None:
        """Keep (groups, rows, columns) of a sample."""
        groups, count, columns = rows.shape
        if not self._blocks or self._used + count > self._blocks[-1].shape[1]:
            room = max(count, _BLOCK_VALUES // max(groups * columns, 1))
            self._blocks.append(np.empty((groups, room, columns), dtype=np.float32))
            self._used = 0
        stop = self._used + count
        self._blocks[-1][:, self._used : stop] = rows
        self._places.append((sample, len(self._blocks) - 1, self._used, stop))
        self._used = stop

    def in_order(self) -> NDArray[np.float32]:
        """All rows in the order of the samples' names, float32 (groups, rows, columns)."""
        places = sorted(self._places)
        parts = [self._blocks[block][:, start:stop] for _, block, start, stop in places]
        return np.concatenate(parts, axis=1)
