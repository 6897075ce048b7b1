"""Whether Triton may stack requests into batches, how large, and how long it may wait for more."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from calib.backends.served import ServedModel
from calib.errors import BackendError
from calib.graph.signature import Signature
from calib.promotion.package import Package
from calib.promotion.triton.served import Served
from calib.results import DatasetRecord, LatencyRecord, TensorSpec
from calib.stages.batch_axes import BatchAxes, input_axes, output_axes
from data_loaders import Scan
from data_loaders.types import Array, Batch

_MS = 1000  # microseconds


@dataclass(frozen=True, slots=True)
class Batching:
    """What config.pbtxt says of batches.

    Attributes:
        axes: where the batch is.
        max_size: the largest batch; 0 if Triton must not batch.
        preferred: batch sizes that answered more samples a second than every smaller one.
        delay_us: how long a request may wait for others.
        why_not: why there is no batching; empty if there is.
    """

    axes: BatchAxes
    max_size: int = 0
    preferred: tuple[int, ...] = ()
    delay_us: int = 0
    why_not: str = ""


def batching(
    package: Package,
    served: Served,
    ends: Signature,
    samples: Mapping[str, Array],
    model: ServedModel | None,
) -> Batching:
    """What a server may do with requests that come together.

    Triton stacks along the first axis, and cuts the outputs along theirs. So every input and output
    must have its batch there, of any size.

    Args:
        package: what is promoted.
        served: of it.
        ends: inputs and outputs as the server's runtime sees them.
        samples: a batch by input name; empty if none was kept.
        model: it, open, to see where the outputs' batch is; None if it cannot be.
    """
    axes = batch_axes(package, samples or _zeros(package), model)
    why_not = _obstacle(axes, ends)
    if why_not:
        return Batching(axes, why_not=why_not)
    timed = timed_points(package)
    largest = max(timed, default=0) or _stacked(samples, axes)
    limit = int(min(profile_limit(served, axes), largest))
    if limit < 1:
        return Batching(axes, why_not="no batch was measured, and none was kept")
    found = Batching(axes, max_size=limit)
    preferred = _worthwhile({b: r for b, r in timed.items() if b <= limit})
    return replace(found, preferred=preferred, delay_us=_delay_us(timed, preferred))


def batch_axes(
    package: Package, samples: Mapping[str, Array], model: ServedModel | None
) -> BatchAxes:
    """Where the run found the batch, by the same rules."""
    record = package.result.model
    given = package.result.config.get("model", {}).get("batch_axes", {})
    data = package.result.data
    scans = (_scan(data.calibration), _scan(data.validation))
    found = input_axes(record.inputs, scans, given)

    def stacked(count: int) -> Batch:
        first = {
            name: array if (axis := found.inputs.get(name)) is None else array.take([0], axis)
            for name, array in samples.items()
        }
        repeated = {
            name: array if (axis := found.inputs.get(name)) is None else array.repeat(count, axis)
            for name, array in first.items()
        }
        return Batch(samples=(), inputs=repeated)

    def shapes(batch: Batch) -> Mapping[str, tuple[int, ...]]:
        if model is None or not samples:
            raise BackendError("outputs", "there is no batch to run")
        return {name: array.shape for name, array in model.infer(batch.inputs).items()}

    try:
        return output_axes(record, found, given, stacked, shapes)
    except BackendError:
        # Nothing tells: an output that is not known to have a row of each sample's own has none.
        none = dict.fromkeys((spec.name for spec in record.outputs), None)
        return BatchAxes(found.inputs, {**none, **_by_name(record.outputs, found)}, found.size)


def _zeros(package: Package) -> dict[str, Array]:
    """Inputs of the shapes that were timed; none if nothing was."""
    timed, inputs = package.candidate.latency_at(), package.result.model.inputs
    if timed is None or any(spec.name not in timed.shapes for spec in inputs):
        return {}
    # BF16 is given as float32, and a string of no length is a zero, too.
    dtypes = {spec.name: spec.dtype.replace("bfloat16", "float32") for spec in inputs}
    return {
        name: np.full(timed.shapes[name], "" if dtype == "object" else 0, dtype)
        for name, dtype in dtypes.items()
    }


def _by_name(outputs: tuple[TensorSpec, ...], found: BatchAxes) -> dict[str, int | None]:
    if found.size is None:
        return {}
    return {o.name: 0 for o in outputs if o.shape and o.shape[0] == found.size}


def _scan(record: DatasetRecord) -> Scan:
    return Scan(
        samples=record.samples,
        labelled=record.labelled,
        ids={},
        sha256=record.sha256,
        dtypes={},
        shapes=record.shapes,
        label_counts={},
    )


def _obstacle(axes: BatchAxes, ends: Signature) -> str:
    if axes.size is not None:
        return f"the model takes batches of {axes.size} and of no other size"
    found = {**axes.inputs, **axes.outputs}
    for spec in (*ends.inputs, *ends.outputs):
        axis = found.get(spec.name)
        if axis is None:
            return f"{spec.name} has no row of each sample's own"
        if axis != 0:
            return f"{spec.name} has its batch along axis {axis}"
        if not spec.shape or isinstance(spec.shape[0], int):
            return f"the first axis of {spec.name} is not dynamic"
    return ""


def timed_points(package: Package) -> dict[int, LatencyRecord]:
    """By batch size, the latencies at the number of threads that the session is served with."""
    latest = package.candidate.latency_at()
    threads = latest.threads if latest is not None else None
    return {r.batch_size: r for r in package.candidate.latency if r.threads == threads}


def profile_limit(served: Served, axes: BatchAxes) -> float:
    """The largest batch of the engines' profiles; infinity where there is none."""
    return min(
        (
            shapes[2][axis]
            for engine in served.engines
            for name, shapes in engine.profile.items()
            if (axis := axes.inputs.get(name)) is not None
        ),
        default=math.inf,
    )


def _stacked(samples: Mapping[str, Array], axes: BatchAxes) -> int:
    sizes = [
        array.shape[axis]
        for name, array in samples.items()
        if (axis := axes.inputs.get(name)) is not None
    ]
    return min(sizes, default=0)


def _worthwhile(timed: Mapping[int, LatencyRecord]) -> tuple[int, ...]:
    chosen: list[int] = []
    best = 0.0
    for size, record in sorted(timed.items()):
        if record.samples_per_second > best and size > 1:
            chosen.append(size)
        best = max(best, record.samples_per_second)
    return tuple(chosen)


def _delay_us(timed: Mapping[int, LatencyRecord], preferred: tuple[int, ...]) -> int:
    """How long a lone request may wait, in microseconds.

    Of B requests that come together, answered one after another in t1 each, the mean one waits
    t1 (B + 1) / 2. In one batch all wait t_B, after the delay. So a delay of up to
    t1 (B + 1) / 2 - t_B leaves the mean request no later. And at most t1: a request that nobody
    joins takes at most twice as long.
    """
    if not preferred or 1 not in timed:
        return 0
    size = preferred[-1]
    one, many = timed[1].p50_ms, timed[size].p50_ms
    return int(np.clip(one * (size + 1) / 2 - many, 0, one) * _MS)
