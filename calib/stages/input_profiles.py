"""What the model's inputs hold, sample by sample: a few numbers a channel."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from calib.audit import InputProfile
from calib.progress import Advance
from calib.results import TensorSpec
from calib.stages.splits import Split
from data_loaders.types import Array

_CHANNELS_MAX = 1024
_VALUES_MAX = 1 << 24
"""Numbers kept of an input: above this, every second, third, … sample only."""


def input_profiles(
    split: Split, specs: Iterable[TensorSpec], advance: Advance
) -> dict[str, InputProfile]:
    """Each input of a split over its samples, read once.

    Args:
        split: the samples.
        specs: the model's inputs.
        advance: called for each sample.
    """
    names = [spec.name for spec in specs]
    ids: dict[str, list[str]] = {name: [] for name in names}
    rows: dict[str, list[NDArray[np.float32]]] = {name: [] for name in names}
    sizes: dict[str, list[tuple[int, ...]]] = {name: [] for name in names}
    values = dict.fromkeys(names, 1)
    for number, sample in enumerate(split.data):
        for name in names:
            array = sample.inputs[name]
            own, count = channels(array)
            step = 1 + own.size * split.scan.samples // _VALUES_MAX
            if number % step == 0:
                ids[name].append(sample.id)
                rows[name].append(own)
                sizes[name].append(array.shape)
                values[name] = count if number == 0 else min(values[name], count)
        advance(1)
    return {
        name: InputProfile(
            name=name,
            ids=tuple(ids[name]),
            statistics=_stacked(rows[name]),
            values=values[name],
            sizes=np.array(sizes[name], dtype=np.int64).reshape(len(ids[name]), -1),
        )
        for name in names
    }


def channels(array: Array) -> tuple[NDArray[np.float32], int]:
    """(mean, deviation, amax) of each channel of a sample, (channels, 3), and values a channel.

    The channels of a vector are its numbers; of an array they lie along the shorter of its first
    and its last axis, as in CHW and HWC images. With too many, or none, it is one channel. What is
    no floating-point array has none.
    """
    if array.dtype.kind != "f":
        return np.zeros((0, 3), np.float32), 1
    values = np.asarray(array, dtype=np.float64)
    if values.ndim == 1:
        rows = values[:, None]
    elif values.ndim == 0:
        rows = values.reshape(1, 1)
    else:
        axis = 0 if values.shape[0] <= values.shape[-1] else -1
        rows = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
    if len(rows) > _CHANNELS_MAX or not rows.size:
        rows = values.reshape(1, -1)
    if not rows.size:
        return np.zeros((1, 3), np.float32), 1
    table = np.stack([rows.mean(axis=1), rows.std(axis=1), np.abs(rows).max(axis=1)], axis=1)
    return table.astype(np.float32), rows.shape[1]


def _stacked(rows: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """All samples' channels; of samples whose channels differ in number, the whole as one."""
    if len({len(row) for row in rows}) == 1:
        return np.stack(rows)
    whole = [
        [row[:, 0].mean(), row[:, 1].mean(), row[:, 2].max()] if len(row) else [0.0, 0.0, 0.0]
        for row in rows
    ]
    return np.array(whole, dtype=np.float32)[:, None]
