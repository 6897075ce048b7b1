"""What single samples look like inside the model: a few numbers a tensor, and where they lie.

A profile is made of one sample at a time, so that no padding counts and no sample is mixed with
another, whatever axis the batch lies along.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_loaders.types import Array

STATISTICS = ("amax", "mean", "rms")
"""Of a sample's finite values of a tensor."""
_BLOCK = 256
_SLACK = 1e-6
"""A shifted ReLU holds its lowest value, the threshold itself, in a large part of its places: what
float32 rounds beyond it is clipped by nothing."""


@dataclass(frozen=True, slots=True)
class Profiles:
    """Samples as FP32 sees them.

    Attributes:
        ids: of the samples.
        tensors: the activations looked at, one of each that hold the same values.
        calibrators: whose thresholds were applied.
        statistics: float64 (samples, tensors, 3): `STATISTICS`.
        values: int64 (samples, tensors): how many finite values.
        clipped: int64 (samples, tensors, calibrators): of these, beyond the threshold, by more than
            float32 rounds.
        lost: float64 (samples, tensors, calibrators): Σ (|x| - threshold)² over these.
        hidden: float32 (samples, features): the last hidden tensor, averaged over positions.
        predicted: int64 (samples,): the largest output; -1 where the task has no classes.
    """

    ids: tuple[str, ...]
    tensors: tuple[str, ...]
    calibrators: tuple[str, ...]
    statistics: NDArray[np.float64]
    values: NDArray[np.int64]
    clipped: NDArray[np.int64]
    lost: NDArray[np.float64]
    hidden: NDArray[np.float32]
    predicted: NDArray[np.int64]

    @property
    def amax(self) -> NDArray[np.float64]:
        """Largest |x|, (samples, tensors)."""
        return self.statistics[..., 0]

    @property
    def energy(self) -> NDArray[np.float64]:
        """Σ x², (samples, tensors)."""
        return np.square(self.statistics[..., 2]) * self.values

    def save(self, path: Path) -> None:
        """Write them as one .npz file."""
        arrays: dict[str, Any] = {f.name: np.asarray(getattr(self, f.name)) for f in fields(self)}
        with path.open("wb") as file:
            np.savez(file, **arrays)


def load_profiles(path: Path) -> Profiles:
    """Read what `Profiles.save` wrote."""
    with np.load(path, allow_pickle=False) as file:
        content: dict[str, Any] = {name: file[name] for name in file.files}
    texts = {n: tuple(map(str, content[n])) for n in ("ids", "tensors", "calibrators")}
    return Profiles(**{**content, **texts})


@dataclass(slots=True)
class ProfileAccumulator:
    """Adds samples to a profile, one at a time.

    Attributes:
        thresholds: by calibrator: threshold by tensor.
        tensors: in the order of the profile.
    """

    tensors: tuple[str, ...]
    thresholds: Mapping[str, Mapping[str, float]]
    _ids: list[str] = field(default_factory=list)
    _rows: list[tuple[Array, ...]] = field(default_factory=list)
    _hidden: list[Array] = field(default_factory=list)
    _predicted: list[int] = field(default_factory=list)

    def add(self, sample: str, arrays: Mapping[str, Array], hidden: Array, predicted: int) -> None:
        """Take in one sample.

        Args:
            sample: its id.
            arrays: by tensor: its values, any shape.
            hidden: float (features,).
            predicted: its class, or -1.
        """
        limits = [[t[name] for t in self.thresholds.values()] for name in self.tensors]
        found = [_row(arrays[name], own) for name, own in zip(self.tensors, limits, strict=True)]
        self._ids.append(sample)
        self._rows.append(tuple(np.array(column) for column in zip(*found, strict=True)))
        self._hidden.append(np.asarray(hidden, dtype=np.float32))
        self._predicted.append(predicted)

    def freeze(self) -> Profiles:
        """The profile of the samples so far.

        Raises:
            ValueError: if there is none.
        """
        statistics, values, clipped, lost = (
            np.stack(column) for column in zip(*self._rows, strict=True)
        )
        shape = (*values.shape, len(self.thresholds))
        return Profiles(
            ids=tuple(self._ids),
            tensors=self.tensors,
            calibrators=tuple(self.thresholds),
            statistics=statistics,
            values=values,
            clipped=clipped.reshape(shape),
            lost=lost.reshape(shape),
            hidden=np.stack(self._hidden),
            predicted=np.array(self._predicted, dtype=np.int64),
        )


def _row(
    array: Array, thresholds: list[float]
) -> tuple[tuple[float, float, float], int, list[int], list[float]]:
    values = np.asarray(array, dtype=np.float64).ravel()
    if not np.isfinite(values).all():
        values = values[np.isfinite(values)]
    size = np.abs(values)
    amax = float(size.max(initial=0.0))
    count = max(values.size, 1)
    rms = float(np.sqrt(np.square(values).sum() / count))
    beyond = [
        size[size > limit * (1 + _SLACK)] - limit if amax > limit else size[:0]
        for limit in thresholds
    ]
    return (
        (amax, float(values.sum() / count), rms),
        values.size,
        [part.size for part in beyond],
        [float(part @ part) for part in beyond],
    )


def pooled(array: Array, axis: int) -> NDArray[np.float32]:
    """A tensor's mean over all axes but one, float32 (features,); what is not finite counts as 0.

    Args:
        array: of one sample, with its batch axis.
        axis: of the features.
    """
    values = np.nan_to_num(np.asarray(array, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    if values.ndim < 2:
        return values.ravel().astype(np.float32)
    rows = np.moveaxis(values, axis, -1)
    means = rows.reshape(-1, rows.shape[-1]).mean(axis=0)
    return np.asarray(means, dtype=np.float32)


def nearest(
    queries: NDArray[np.float32], points: NDArray[np.float32], *, same: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The nearest point of each query by cosine distance, and the distance.

    A block of queries at a time: memory is that of 256 rows of distances. A vector without length
    is at distance 1 from all.

    Args:
        queries: (n, features).
        points: (m, features), m > 0.
        same: the queries are the points: none is its own neighbour; m > 1 then.

    Returns:
        int64 (n,) and float64 (n,), from 0 to 2.
    """
    unit = _unit(points)
    index = np.empty(len(queries), dtype=np.int64)
    distance = np.empty(len(queries), dtype=np.float64)
    for rows in _blocks(len(queries)):
        gaps = 1.0 - _unit(queries[rows]) @ unit.T
        if same:
            gaps[np.arange(len(gaps)), np.arange(rows.start, rows.stop)] = np.inf
        best = gaps.argmin(axis=1)
        index[rows] = best
        distance[rows] = np.clip(gaps[np.arange(len(gaps)), best], 0.0, 2.0)
    return index, distance


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    return np.asarray(np.divide(wide, length, out=np.zeros_like(wide), where=length > 0))


def _blocks(count: int) -> Iterator[slice]:
    for start in range(0, count, _BLOCK):
        yield slice(start, min(start + _BLOCK, count))
