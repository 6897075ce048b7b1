"""One pass of the FP32 model over the calibration data: every statistic comes out of it."""

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from calib.backends.base import Engine
from calib.calibrators.parts import PARTS_MAX, PartedAccumulator, TensorParts, part_size
from calib.errors import DataError
from calib.graph.taps import Tap
from data_loaders.types import Array, Batch

Stop = Callable[[Mapping[str, TensorParts]], bool]


@dataclass(frozen=True, slots=True)
class Observation:
    """What one pass found.

    Attributes:
        parts: by the tensor that was read.
        samples: samples seen.
        batches: batches seen.
        seconds: wall time of the pass.
        inference_seconds: of that, inside the runtime.
    """

    parts: dict[str, TensorParts]
    samples: int
    batches: int
    seconds: float
    inference_seconds: float


def observe(
    engine: Engine,
    batches: Iterable[tuple[int, Batch]],
    taps: tuple[Tap, ...],
    *,
    ignore_padding: bool,
    on_batch: Callable[[int], None],
    threads: int = 1,
    stop: Stop | None = None,
) -> Observation:
    """Count the tapped activations of every batch.

    Args:
        engine: runs the FP32 model with the taps among its outputs.
        batches: the calibration data with each batch's number in the whole of it, from 0 and
            rising; read once, nothing of it is kept.
        taps: what to count.
        ignore_padding: leave padded positions out of tensors whose first axes are (batch, length).
        on_batch: called after each batch with its number of samples.
        threads: how many tensors are counted at once.
        stop: asked each time that the parts of the data are full, which is after 8, 16, 32, …
            batches: True ends the pass.

    Raises:
        DataError: if an activation is NaN or infinite, naming the tensor and the samples.
        BackendError: if the runtime refuses an input.
    """
    counters = {tap.source: PartedAccumulator(tap.source) for tap in taps}
    samples = batch_count = 0
    inside = 0.0
    begin = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for number, batch in batches:
            start = time.perf_counter()
            outputs = engine.infer(batch.inputs)
            inside += time.perf_counter() - start
            count = partial(_count, counters, number, batch, outputs, ignore_padding)
            # A tensor has one counter, so threads never share one. Overlapping with the next
            # inference was measured slower: it has the cores busy already.
            list(pool.map(count, taps))
            samples += len(batch)
            batch_count += 1
            on_batch(len(batch))
            if stop and _are_full(number + 1) and stop(_frozen(counters)):
                break
    seconds = time.perf_counter() - begin
    return Observation(_frozen(counters), samples, batch_count, seconds, inside)


def _are_full(batches: int) -> bool:
    return batches == part_size(batches) * PARTS_MAX


def _frozen(counters: Mapping[str, PartedAccumulator]) -> dict[str, TensorParts]:
    return {source: counter.freeze() for source, counter in counters.items()}


def _padding_mask(tap: Tap, array: Array, batch: Batch) -> NDArray[np.bool_] | None:
    if batch.real is None or not tap.may_be_padded or array.shape[:2] != batch.real.shape:
        return None
    return batch.real


def _count(
    counters: Mapping[str, PartedAccumulator],
    number: int,
    batch: Batch,
    outputs: Mapping[str, Array],
    ignore_padding: bool,
    tap: Tap,
) -> None:
    array = batch.inputs[tap.source] if tap.is_input else outputs[tap.source]
    mask = _padding_mask(tap, array, batch) if ignore_padding else None
    try:
        counters[tap.source].add(number, array, mask)
    except DataError as error:
        raise DataError(
            error.where,
            "the FP32 model makes a value that is not finite",
            got=f"{error.got}; samples {', '.join(_broken(array, batch)[:3])}",
            fix=error.fix,
        ) from error


def _broken(array: Array, batch: Batch) -> list[str]:
    """The ids of the samples that hold NaN or infinity; all, where no axis tells them apart."""
    if array.ndim == 0 or len(array) != len(batch):
        return list(batch.ids)
    return [
        sample.id
        for sample, values in zip(batch.samples, array, strict=True)
        if not np.isfinite(values).all()
    ]
