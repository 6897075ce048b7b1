"""One pass of the FP32 model over the calibration data: every statistic comes out of it."""

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calib.backends.base import Engine
from calib.calibrators import StatisticsAccumulator, TensorStatistics
from calib.errors import DataError
from calib.graph.taps import Tap
from data_loaders.types import Array, Batch


@dataclass(frozen=True, slots=True)
class Observation:
    """What one pass found.

    Attributes:
        statistics: by tensor name; tensors that share a tap share the values.
        samples: samples seen.
        batches: batches seen.
        seconds: wall time of the pass.
        inference_seconds: of that, inside the runtime.
    """

    statistics: dict[str, TensorStatistics]
    samples: int
    batches: int
    seconds: float
    inference_seconds: float

    @property
    def values(self) -> int:
        """Number of values counted, each tap once."""
        seen = {id(s.counts): s.count for s in self.statistics.values()}
        return sum(seen.values())


def observe(
    engine: Engine,
    batches: Iterable[Batch],
    taps: tuple[Tap, ...],
    *,
    ignore_padding: bool,
    on_batch: Callable[[int], None],
    threads: int = 1,
) -> Observation:
    """Count the tapped activations of every batch.

    Args:
        engine: runs the FP32 model with the taps among its outputs.
        batches: the calibration data; read once, nothing of it is kept.
        taps: what to count.
        ignore_padding: leave padded positions out of tensors whose first axes are (batch, length).
        on_batch: called after each batch with its number of samples.
        threads: how many tensors are counted at once.

    Raises:
        DataError: if an activation is NaN or infinite, naming the tensor and the samples.
        BackendError: if the runtime refuses an input.
    """
    counters = {tap.source: StatisticsAccumulator(tap.source) for tap in taps}
    samples = batch_count = 0
    inside = 0.0
    begin = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for batch in batches:
            start = time.perf_counter()
            outputs = engine.infer(batch.inputs)
            inside += time.perf_counter() - start
            values = {**outputs, **batch.inputs}

            def count(tap: Tap, batch: Batch = batch, values: Mapping[str, Array] = values) -> None:
                array = values[tap.source]
                mask = _padding_mask(tap, array, batch) if ignore_padding else None
                _count(counters[tap.source], array, mask, batch)

            # A tensor has one counter, so threads never share one. Overlapping with the next
            # inference was measured slower: it has the cores busy already.
            list(pool.map(count, taps))
            samples += len(batch)
            batch_count += 1
            on_batch(len(batch))
    frozen = {source: counter.freeze() for source, counter in counters.items()}
    statistics = {name: _renamed(frozen[t.source], name) for t in taps for name in t.tensors}
    seconds = time.perf_counter() - begin
    return Observation(statistics, samples, batch_count, seconds, inside)


def _padding_mask(tap: Tap, array: Array, batch: Batch) -> NDArray[np.bool_] | None:
    if batch.real is None or not tap.may_be_padded or array.shape[:2] != batch.real.shape:
        return None
    return batch.real


def _count(
    counter: StatisticsAccumulator,
    array: Array,
    mask: NDArray[np.bool_] | None,
    batch: Batch,
) -> None:
    try:
        counter.add(array, mask)
    except DataError as error:
        bad = [
            sample.id
            for sample, values in zip(batch.samples, array, strict=False)
            if not np.isfinite(values).all()
        ]
        raise DataError(
            error.where,
            "the FP32 model makes a value that is not finite",
            got=f"{error.got}; samples {', '.join(bad[:3])}",
            fix=error.fix,
        ) from error


def _renamed(statistics: TensorStatistics, name: str) -> TensorStatistics:
    return TensorStatistics(
        name=name,
        counts=statistics.counts,
        exponent=statistics.exponent,
        minimum=statistics.minimum,
        maximum=statistics.maximum,
        count=statistics.count,
        zeros=statistics.zeros,
    )
