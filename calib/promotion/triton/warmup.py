"""A batch of the calibration data that a new instance runs before it takes requests."""

import io
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from calib.errors import StoreError
from calib.graph.signature import Signature
from calib.promotion.package import Package
from calib.promotion.triton.batching import Batching
from calib.promotion.triton.served import WARMUP_NAME
from calib.promotion.triton.types import raw
from calib.results import TensorSpec
from data_loaders.types import Array

_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")
_BF16_BYTES = 2


@dataclass(frozen=True, slots=True)
class WarmUp:
    """What the instances are warmed up with.

    Attributes:
        shapes: by input name, of one request, without the batch axis where Triton batches; empty
            if there is none.
        files: content by file name, which is the same for every batch size: Triton sends the
            request as often as the batch is large. None: zeros of these shapes.
        names: file name by input name.
        sizes: batch sizes; (1,) where Triton does not batch.
    """

    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    files: Mapping[str, bytes] | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    sizes: tuple[int, ...] = (1,)


def kept_samples(package: Package) -> dict[str, Array]:
    """The batch that the run kept, by input name; empty if it kept none.

    Raises:
        StoreError: if it cannot be read.
    """
    for file in package.files:
        if file.name == WARMUP_NAME:
            try:
                with np.load(io.BytesIO(file.read()), allow_pickle=False) as arrays:
                    return {name: _widened(arrays[name]) for name in arrays.files}
            except (OSError, ValueError, zipfile.BadZipFile) as error:
                raise StoreError(WARMUP_NAME, f"cannot be read: {error}") from error
    return {}


def _widened(array: Array) -> Array:
    """BF16, which numpy keeps as 2 bytes of no type, as float32; texts as objects."""
    if array.dtype.kind == "U":
        return array.astype(object)
    if array.dtype.kind != "V" or array.dtype.itemsize != _BF16_BYTES:
        return array
    return (array.view("<u2").astype(np.uint32) << 16).view(np.float32)


def warm_up(
    package: Package, ends: Signature, batching: Batching, samples: Mapping[str, Array]
) -> WarmUp:
    """From the samples, or zeros of the shapes that were timed; nothing where no shape is known.

    Args:
        package: what is promoted.
        ends: the model's inputs.
        batching: what Triton does with requests.
        samples: a batch by input name; empty if none was kept.
    """
    sizes = tuple(sorted({1, *batching.preferred})) if batching.max_size else (1,)
    if samples.keys() >= {spec.name for spec in ends.inputs}:
        arrays = {spec.name: _request(samples[spec.name], batching) for spec in ends.inputs}
        names = {s.name: f"{i}-{_UNSAFE.sub('_', s.name)}" for i, s in enumerate(ends.inputs)}
        return WarmUp(
            shapes={name: _shape(array, batching) for name, array in arrays.items()},
            files={names[s.name]: raw(arrays[s.name], s.dtype) for s in ends.inputs},
            names=names,
            sizes=sizes,
        )
    timed = package.candidate.latency_at()
    if timed is None or any(not _fits(s, timed.shapes) for s in ends.inputs):
        return WarmUp()
    whole = {spec.name: timed.shapes[spec.name] for spec in ends.inputs}
    cut = 1 if batching.max_size else 0
    return WarmUp(shapes={name: s[cut:] or (1,) for name, s in whole.items()}, sizes=sizes)


def _request(array: Array, batching: Batching) -> Array:
    """One sample where Triton makes the batch, else the batch as it is."""
    return array[:1] if batching.max_size else array


def _shape(array: Array, batching: Batching) -> tuple[int, ...]:
    return (array.shape[1:] if batching.max_size else array.shape) or (1,)


def _fits(spec: TensorSpec, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return len(shapes.get(spec.name, ())) == len(spec.shape) and 0 not in shapes[spec.name]
