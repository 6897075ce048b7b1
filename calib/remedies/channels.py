"""What equalization and weight rounding need of an activation, from one pass over the data.

The extremes of each channel are exact, over every value. Beside them a few rows are kept: what a
node reads at some positions of every sample, chosen by a hash of the sample's id, so no order and
no grouping of the data changes them, and shards add up. The mean and the effect of any quantizer
follow from them. Further rows are only added up to their covariance. Memory does not grow with the
data. What holds NaN, infinity or a mask in place of it is given up: nothing can be fitted on that.
"""

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.masks import MASK_AMAX
from calib.remedies.moments import Moments, Rows
from data_loaders.types import Array

_VALUES_ENOUGH = 8192


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
class Kept:
    """How much of an activation is kept for a window, on average of a sample.

    Attributes:
        rows: as they are.
        moments: further rows that only the moments are made of, besides those; 0 = no moments.
    """

    rows: float
    moments: float = 0.0


@dataclass(frozen=True, slots=True)
class ChannelSample:
    """One activation.

    Attributes:
        low: float64 (channels,): the smallest value of each channel.
        high: likewise the largest.
        rows: by window, float32 (groups, rows, columns a group); a column is a channel's tap.
        covariances: by window that has moments, float32 (groups, columns a group, the same), about
            the mean.
        low_growth: float64 (channels,), >= 0: how much lower `low` is than that of half the
            samples, in the mean of two halves.
        high_growth: likewise how much higher `high` is.
        values: how many each channel had.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    rows: dict[Window, NDArray[np.float32]]
    covariances: dict[Window, NDArray[np.float32]]
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
        windows: how its readers see it, and what to keep; all with a kernel (a convolution's input,
            channels on axis 1), or all without (channels on the last).
    """

    def __init__(self, windows: Mapping[Window, Kept]) -> None:
        self._kept = dict(windows)
        self._spatial = any(window.kernel for window in windows)
        self._values = 0
        self._given_up = False
        self._low: dict[int, NDArray[np.float64]] = {}
        self._high: dict[int, NDArray[np.float64]] = {}
        self._rows = {window: Rows() for window in windows}
        self._moments = {window: Moments() for window, kept in windows.items() if kept.moments}

    @property
    def extremes(self) -> tuple[float, float]:
        """The smallest and the largest value so far, NaN if one was; (0, 0) if there was none."""
        if not self._low:
            return 0.0, 0.0
        lows, highs = list(self._low.values()), list(self._high.values())
        return float(np.min(lows, initial=np.inf)), float(np.max(highs, initial=-np.inf))

    def add(self, ids: Sequence[str], array: Array, real: NDArray[np.bool_] | None = None) -> None:
        """Add one batch; nothing more once a value was not finite or beyond MASK_AMAX.

        Args:
            ids: of the samples.
            array: float (batch, …) or (batch · rows, …), channels where the windows say.
            real: bool (batch, length), True where axis 1 holds data and no padding; None = all.
        """
        if self._given_up:
            return
        array = array if self._spatial else _by_sample(array, len(ids))
        has_length = real is not None and array.ndim > 2 and array.shape[:2] == real.shape
        kept = real if has_length and not self._spatial else None
        with np.errstate(invalid="ignore"):
            self._reach_batch(ids, array, kept)
        low, high = self.extremes
        if not (low >= -MASK_AMAX and high <= MASK_AMAX):  # nor is NaN
            self._given_up = True
            self._rows, self._moments = {}, {}
            return
        self._add_rows(ids, array, kept)

    def _reach_batch(
        self, ids: Sequence[str], array: Array, kept: NDArray[np.bool_] | None
    ) -> None:
        halves = np.array([zlib.crc32(sample.encode()) >> 16 & 1 for sample in ids])
        axis = 1 if self._spatial else -1
        if len(array) != len(ids):
            self._widen(-1, array, axis)
        elif kept is None:
            self._widen_each(halves, array, axis)
        else:
            for half in (0, 1):
                self._widen(half, array[halves == half][kept[halves == half]], axis)

    def _add_rows(self, ids: Sequence[str], array: Array, kept: NDArray[np.bool_] | None) -> None:
        rows: dict[Window, list[Array]] = {window: [] for window in self._moments}
        for index, sample in enumerate(ids):
            values = array[index] if len(array) == len(ids) else array[0]
            if not self._spatial:
                values = values if kept is None else values[kept[index]]
                values = values.reshape(-1, values.shape[-1])
            rng = np.random.default_rng(zlib.crc32(sample.encode()))
            for window, kept_each in self._kept.items():
                count = kept_each.rows + kept_each.moments
                found = _rows(window, values, math.ceil(count), rng)
                # Of one and a half rows a sample, every other sample gives two.
                wanted = math.floor(kept_each.rows + rng.random())
                few = wanted < len(found)
                own = found[rng.permutation(len(found))[:wanted]] if few else found
                self._rows[window].add(sample, own.transpose(1, 0, 2))
                if window in rows:
                    rows[window].append(found)
        for window, parts in rows.items():
            self._moments[window].add(np.concatenate(parts).transpose(1, 0, 2))

    def freeze(self) -> ChannelSample | None:
        """What was collected, rows in the order of the samples' ids; None if nothing was.

        None as well if it was given up: see `extremes`.
        """
        if not self._low or self._given_up:
            return None
        lows, highs = np.stack(list(self._low.values())), np.stack(list(self._high.values()))
        low, high = lows.min(axis=0), highs.max(axis=0)
        rows = {window: kept.in_order() for window, kept in self._rows.items()}
        covariances = {window: sums.covariance() for window, sums in self._moments.items()}
        growth = lows.mean(axis=0) - low, high - highs.mean(axis=0)
        return ChannelSample(low, high, rows, covariances, *growth, self._values)

    def _widen(self, half: int, values: Array, axis: int) -> None:
        if not values.size:
            return
        self._values += values.size // values.shape[axis]
        others = tuple(i for i in range(values.ndim) if i != axis % values.ndim)
        self._reach(half, values.min(axis=others), values.max(axis=others))

    def _widen_each(self, halves: NDArray[np.int64], values: Array, axis: int) -> None:
        """The same without copying the samples of a half."""
        if not values.size:
            return
        self._values += values.size // values.shape[axis]
        others = tuple(i for i in range(1, values.ndim) if i != axis % values.ndim)
        low, high = values.min(axis=others), values.max(axis=others)
        for half in (0, 1):
            own = halves == half
            if own.any():
                self._reach(half, low[own].min(axis=0), high[own].max(axis=0))

    def _reach(self, half: int, low: Array, high: Array) -> None:
        low, high = low.astype(np.float64), high.astype(np.float64)
        self._low[half] = np.minimum(self._low.get(half, low), low)
        self._high[half] = np.maximum(self._high.get(half, high), high)


def _rows(window: Window, values: Array, count: int, rng: np.random.Generator) -> Array:
    """Some rows of a sample, (rows, groups, columns a group)."""
    if window.kernel:
        rows = _patches(values, window, count, rng)
    else:
        count = min(count, len(values))
        rows = values[np.sort(rng.choice(len(values), count, replace=False))]
    found: Array = rows.reshape(len(rows), window.groups, rows.shape[1] // window.groups)
    return found


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
    ends = window.pads or (0,) * 2 * rank
    pads = [(ends[i], ends[rank + i]) for i in range(rank)]
    reach = [d * (k - 1) + 1 for d, k in zip(window.dilations, window.kernel, strict=True)]
    sizes = [
        max((size + sum(pad) - r) // stride + 1, 0)
        for size, pad, r, stride in zip(image.shape[1:], pads, reach, window.strides, strict=True)
    ]
    total = math.prod(sizes)
    chosen = np.sort(rng.choice(total, min(count, total), replace=False))
    corners = np.unravel_index(chosen, sizes)
    index: list[Any] = [slice(None)]
    inside: Any = True
    for axis, size in enumerate(image.shape[1:]):
        steps = np.arange(window.kernel[axis]) * window.dilations[axis]
        shape = [1] * (rank + 1)
        shape[axis + 1] = len(steps)
        start = (corners[axis] * window.strides[axis] - pads[axis][0]).reshape(-1, *[1] * rank)
        place = start + steps.reshape(shape)
        index.append(np.clip(place, 0, max(size - 1, 0)))
        inside = inside & (place >= 0) & (place < size)
    read = image[tuple(index)]
    if not np.all(inside):
        read = np.where(inside, read, read.dtype.type(0))
    found = np.moveaxis(read, 1, 0)
    rows: Array = found.reshape(len(chosen), len(image) * window.taps)
    return rows
