"""Putting samples together: bucketed by length, padded to the longest of their batch."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from data_loaders.errors import DataError
from data_loaders.types import Array, Batch, Sample

WINDOW_BATCHES = 32
"""Batches whose samples are held at once."""


def batches(
    samples: Iterable[Sample],
    batch_size: int,
    *,
    pad_values: Mapping[str, int | float] | None = None,
    axes: Mapping[str, int | None] | None = None,
) -> Iterator[Batch]:
    """Stack samples into batches, in an order that only depends on the samples.

    Within windows of 32 batches samples are sorted by length, so that little is padded; samples of
    one shape keep their order. At most a window is held.

    Args:
        samples: what to stack.
        batch_size: samples a batch; the last one may have fewer, and so has one after which an
            input that a batch shares changes.
        pad_values: fill by input name; 0 where not given. Padding goes to the end of an axis.
        axes: see `stack`.

    Raises:
        DataError: if two samples have different inputs, ranks or dtypes.
    """
    source = iter(samples)
    shared = [name for name, axis in (axes or {}).items() if axis is None]
    while window := list(itertools.islice(source, batch_size * WINDOW_BATCHES)):
        window.sort(key=lambda sample: (_content(sample, shared), _length(sample)))
        for _, alike in itertools.groupby(window, lambda sample: _content(sample, shared)):
            while part := list(itertools.islice(alike, batch_size)):
                yield stack(part, pad_values or {}, axes)


def _content(sample: Sample, names: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(np.ascontiguousarray(sample.inputs[name]).tobytes() for name in names)


def _length(sample: Sample) -> int:
    return max((len(a) for a in sample.inputs.values() if a.ndim == 1), default=0)


def stack(
    samples: Sequence[Sample],
    pad_values: Mapping[str, int | float],
    axes: Mapping[str, int | None] | None = None,
) -> Batch:
    """One batch of these samples, in this order; see `batches`.

    Args:
        samples: at least one.
        pad_values: fill by input name.
        axes: by input name, the axis of the batch; 0 where not given. None: the samples share the
            input, whose value is taken as the first sample has it.
    """
    first = samples[0]
    for other in samples[1:]:
        _refuse_unlike(first, other)
    inputs = {}
    for name, array in first.inputs.items():
        axis = (axes or {}).get(name, 0)
        if axis is None:
            inputs[name] = np.asarray(array)
        else:
            rows = _stacked([s.inputs[name] for s in samples], pad_values.get(name, 0))
            inputs[name] = np.ascontiguousarray(np.moveaxis(rows, 0, axis)) if axis else rows
    return Batch(tuple(samples), inputs, _real(samples))


def _refuse_unlike(first: Sample, other: Sample) -> None:
    kinds = [
        {name: (array.dtype.name, array.ndim) for name, array in sample.inputs.items()}
        for sample in (first, other)
    ]
    if kinds[0] != kinds[1]:
        raise DataError(
            f"sample {other.id}",
            f"does not go into one batch with sample {first.id}",
            got=f"inputs with (dtype, rank) {kinds[1]}",
            expected=str(kinds[0]),
        )


def _stacked(arrays: Sequence[Array], fill: int | float) -> Array:
    shape = np.max([array.shape for array in arrays], axis=0, initial=0).astype(int)
    if arrays[0].ndim == 0 or all(array.shape == arrays[0].shape for array in arrays):
        return np.stack(arrays)
    out = np.full((len(arrays), *shape), fill, dtype=arrays[0].dtype)
    for row, array in zip(out, arrays, strict=True):
        row[tuple(slice(size) for size in array.shape)] = array
    return out


def _real(samples: Sequence[Sample]) -> NDArray[np.bool_] | None:
    lengths = np.array([_length(sample) for sample in samples])
    if lengths.min() == lengths.max():
        return None
    return np.asarray(np.arange(lengths.max()) < lengths[:, None])
