"""What equalization and weight rounding need of an activation, from one pass over the data.

The extremes of each channel are exact, over every value. Beside them a few rows are kept: what a
node reads at some positions of every sample, chosen by a hash of the sample's id, so no order and
no grouping of the data changes them, and shards add up. The Gram matrix, the mean and the effect
of any quantizer follow from the rows, in memory that does not grow with the data.
"""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_loaders.types import Array

_VALUES_ENOUGH = 8192
_BLOCK_VALUES = 1 << 18


@dataclass(frozen=True, slots=True)
class Window:
    """The positions of its input that a node reads at once; without a kernel, one row.

    Attributes:
        groups: of a grouped convolution.
        kernel: spatial sizes; () for a MatMul.
        strides: of the convolution, as are dilations and pads (begins, then ends).
        dilations: see strides.
        pads: see strides.
    """

    groups: int = 1
    kernel: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()

    @property
    def taps(self) -> int:
        """Columns of an input channel."""
        return math.prod(self.kernel)


@dataclass(frozen=True, slots=True)
class ChannelSample:
    """One activation.

    Attributes:
        low: float64 (channels,): the smallest value of each channel.
        high: likewise the largest.
        rows: by window, float32 (groups, rows, columns a group); a column is a channel's tap.
        low_growth: float64 (channels,), >= 0: how much lower `low` is than that of half the
            samples, in the mean of two halves.
        high_growth: likewise how much higher `high` is.
        values: how many each channel had.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    rows: dict[Window, NDArray[np.float32]]
    low_growth: NDArray[np.float64]
    high_growth: NDArray[np.float64]
    values: int

    @property
    def expected(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The extremes to expect of more data: each doubling adds what the last one did.

        With one factor a tensor only its widest channel can be clipped by new data; with one a
        channel all of them can. A value beyond the largest of n comes once in n, a tenth of the
        range beyond it; with 8,192 that makes as much noise as rounding does, so as many doublings
        are added as lead there, and one at least.
        """
        doublings = max(1.0, math.log2(_VALUES_ENOUGH / max(self.values, 1)))
        return self.low - doublings * self.low_growth, self.high + doublings * self.high_growth


class ChannelAccumulator:
    """Collects one activation batch by batch. Not safe for two threads at once.

    Args:
        windows: how its readers see it, and how many rows to keep of a sample on average; all
            with a kernel (a convolution's input, channels on axis 1), or all without (channels on
            the last).
    """

    def __init__(self, windows: Mapping[Window, float]) -> None:
        self._windows = tuple(windows)
        self._rows_each = dict(windows)
        self._values = 0
        self._low: dict[int, NDArray[np.float64]] = {}
        self._high: dict[int, NDArray[np.float64]] = {}
        self._rows = {window: _Rows() for window in self._windows}

    def add(self, ids: Sequence[str], array: Array, real: NDArray[np.bool_] | None = None) -> None:
        """Add one batch.

        Args:
            ids: of the samples.
            array: float (batch, …) or (batch · rows, …), channels where the windows say.
            real: bool (batch, length), True where axis 1 holds data and no padding; None = all.
        """
        spatial = bool(self._windows[0].kernel)
        array = array if spatial else _by_sample(array, len(ids))
        has_length = real is not None and array.ndim > 2 and array.shape[:2] == real.shape
        kept = real if has_length and not spatial else None
        halves = np.array([zlib.crc32(sample.encode()) >> 16 & 1 for sample in ids])
        for half in (0, 1) if len(array) == len(ids) else (-1,):
            part = array if half < 0 else array[halves == half]
            if kept is not None:
                part = part[kept[halves == half]]
            self._widen(half, part, 1 if spatial else -1)
        for index, sample in enumerate(ids):
            values = array[index] if len(array) == len(ids) else array[0]
            if not spatial:
                values = values if kept is None else values[kept[index]]
                values = values.reshape(-1, values.shape[-1])
            for window in self._windows:
                self._keep(window, sample, values)

    def freeze(self) -> ChannelSample | None:
        """What was collected, rows in the order of the samples' ids; None if nothing was."""
        if not self._low:
            return None
        lows, highs = np.stack(list(self._low.values())), np.stack(list(self._high.values()))
        low, high = lows.min(axis=0), highs.max(axis=0)
        rows = {window: kept.in_order() for window, kept in self._rows.items()}
        growth = lows.mean(axis=0) - low, high - highs.mean(axis=0)
        return ChannelSample(low, high, rows, *growth, self._values)

    def _widen(self, half: int, values: Array, axis: int) -> None:
        if not values.size:
            return
        self._values += values.size // values.shape[axis]
        others = tuple(i for i in range(values.ndim) if i != axis % values.ndim)
        low, high = (bound(values, axis=others).astype(np.float64) for bound in (np.min, np.max))
        self._low[half] = np.minimum(self._low.get(half, low), low)
        self._high[half] = np.maximum(self._high.get(half, high), high)

    def _keep(self, window: Window, sample: str, values: Array) -> None:
        rng = np.random.default_rng(zlib.crc32(sample.encode()))
        # Of one and a half rows a sample, every other sample gives two.
        wanted = math.floor(self._rows_each[window] + rng.random())
        if window.kernel:
            rows = _patches(values, window, wanted, rng)
        else:
            count = min(wanted, len(values))
            rows = values[np.sort(rng.choice(len(values), count, replace=False))]
        columns = rows.shape[1] // window.groups
        grouped = rows.reshape(len(rows), window.groups, columns)
        self._rows[window].add(sample, grouped.transpose(1, 0, 2))


class _Rows:
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


def _by_sample(array: Array, samples: int) -> Array:
    """(samples, rows a sample, …) where the model has laid the rows of all samples end to end."""
    if len(array) == samples or not samples or len(array) % samples:
        return array
    return array.reshape(samples, len(array) // samples, *array.shape[1:])


def _patches(image: Array, window: Window, count: int, rng: np.random.Generator) -> Array:
    """What a convolution reads at some of its output positions: (rows, channels · taps).

    Args:
        image: (channels, *spatial).
        window: of the convolution.
        count: how many positions, at most.
        rng: chooses them.
    """
    rank = len(window.kernel)
    pads = [(window.pads[i], window.pads[rank + i]) for i in range(rank)]
    padded = np.pad(image, [(0, 0), *pads]) if any(window.pads) else image
    reach = [d * (k - 1) + 1 for d, k in zip(window.dilations, window.kernel, strict=True)]
    sizes = [
        max((size - r) // stride + 1, 0)
        for size, r, stride in zip(padded.shape[1:], reach, window.strides, strict=True)
    ]
    total = math.prod(sizes)
    chosen = np.sort(rng.choice(total, min(count, total), replace=False))
    corners = np.unravel_index(chosen, sizes)
    index: list[Any] = [slice(None)]
    for axis in range(rank):
        steps = np.arange(window.kernel[axis]) * window.dilations[axis]
        shape = [1] * (rank + 1)
        shape[axis + 1] = len(steps)
        start = (corners[axis] * window.strides[axis]).reshape(-1, *[1] * rank)
        index.append(start + steps.reshape(shape))
    found = np.moveaxis(padded[tuple(index)], 1, 0)
    rows: Array = found.reshape(len(chosen), len(image) * window.taps)
    return rows
