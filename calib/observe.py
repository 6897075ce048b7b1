"""One pass of the FP32 model over the calibration data: every statistic comes out of it."""

import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calib.analysis.finite import refuse_not_finite
from calib.backends.base import Engine
from calib.backends.onnxruntime import OnnxRuntime
from calib.calibrators.parts import PARTS_MAX, PartedAccumulator, TensorParts, part_size
from calib.graph.blocked import has_convolution, leave_in_blocks
from calib.graph.load import Graph
from calib.graph.save import save_model
from calib.graph.taps import Tap, tapped
from data_loaders.types import Array, Batch

LengthAxes = Mapping[str, tuple[int, ...]]
Stop = Callable[[Mapping[str, TensorParts]], bool]

_WRITABLE_BYTES = 1_500_000_000
"""A larger model is not written again by its runtime: protobuf ends at 2 GB."""


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


@contextmanager
def tapped_model(
    backend: OnnxRuntime,
    graph: Graph,
    taps: Iterable[Tap],
    folder: Path,
    length_axes: LengthAxes | None = None,
) -> Iterator[tuple[Path, bool]]:
    """A file of the FP32 model with the taps among its outputs, and whether it is optimized.

    Outputs may come in the runtime's own layout, with the same values and the same first axis,
    except those that have length axes.

    Args:
        backend: runs it.
        graph: the FP32 model.
        taps: what to show.
        folder: where files are kept meanwhile.
        length_axes: as for `observe`.

    Raises:
        BackendError: if the runtime refuses the model.
    """
    with tempfile.TemporaryDirectory(dir=folder) as own:
        path, blocked = Path(own, "observed.onnx"), Path(own, "blocked.onnx")
        save_model(tapped(graph, [tap.source for tap in taps if not tap.is_input]), path)
        chosen = path
        if (
            backend.computes_in_blocks
            and has_convolution(graph)
            and path.stat().st_size < _WRITABLE_BYTES
        ):
            backend.write_optimized(path, blocked)
            if leave_in_blocks(blocked, keep=(length_axes or {}).keys()):
                chosen = blocked
        yield chosen, chosen == blocked


@contextmanager
def tapped_engine(
    backend: OnnxRuntime,
    graph: Graph,
    taps: Iterable[Tap],
    folder: Path,
    length_axes: LengthAxes | None = None,
) -> Iterator[Engine]:
    """The model of `tapped_model`, ready for `observe`.

    Raises:
        BackendError: if the runtime refuses the model.
    """
    with (
        tapped_model(backend, graph, taps, folder, length_axes) as (path, optimized),
        backend.engine(path, spinning=False, optimized=optimized) as engine,
    ):
        yield engine


def observe(
    engine: Engine,
    batches: Iterable[tuple[int, Batch]],
    taps: tuple[Tap, ...],
    *,
    on_batch: Callable[[int], None],
    length_axes: LengthAxes | None = None,
    outputs: Collection[str] = (),
    scored: str = "",
    threads: int = 1,
    stop: Stop | None = None,
) -> Observation:
    """Count the tapped activations of every batch; those that are not finite apart.

    Args:
        engine: runs the FP32 model with the taps among its outputs.
        batches: the calibration data with each batch's number in the whole of it, from 0 and
            rising; read once, nothing of it is kept.
        taps: what to count.
        on_batch: called after each batch with its number of samples.
        length_axes: by tapped tensor, its axes that run along the padded length (see
            `length_axes`): padded positions are left out. None counts them.
        outputs: the model's own outputs, which must be numbers wherever a sample has data.
        scored: that of them which must be finite.
        threads: how many tensors are counted at once.
        stop: asked each time that the parts of the data are full, which is after 8, 16, 32, …
            batches: True ends the pass.

    Raises:
        DataError: if an output of the model is no number, naming it and the samples.
        BackendError: if the runtime refuses an input.
    """
    counters = {tap.source: PartedAccumulator(tap.source) for tap in taps}
    samples = batch_count = 0
    inside = 0.0
    begin = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        for number, batch in batches:
            start = time.perf_counter()
            found = engine.infer(batch.inputs)
            inside += time.perf_counter() - start
            refuse_not_finite({name: found[name] for name in outputs}, scored, batch)
            count = partial(_count, counters, number, batch, found, length_axes or {})
            queue = iter(taps)
            # A tensor has one counter, so threads never share one. Overlapping with the next
            # inference was measured slower: it has the cores busy already. One queue for all, since
            # handing each tensor to the pool would cost more than counting a small one.
            list(pool.map(count, [queue] * threads))
            # Before the next inference, so that it writes into the same memory.
            del found, count
            samples += len(batch)
            batch_count += 1
            on_batch(len(batch))
            if stop and _are_full(number + 1) and stop(_frozen(counters, taps)):
                break
    seconds = time.perf_counter() - begin
    return Observation(_frozen(counters, taps), samples, batch_count, seconds, inside)


def _are_full(batches: int) -> bool:
    return batches == part_size(batches) * PARTS_MAX


def _frozen(
    counters: Mapping[str, PartedAccumulator], taps: Iterable[Tap]
) -> dict[str, TensorParts]:
    return {tap.source: counters[tap.source].freeze() for tap in taps}


def length_axes(
    lengths: tuple[int, int], shapes: tuple[Mapping[str, Array], Mapping[str, Array]]
) -> LengthAxes:
    """Which axes of which tensors run along the length of the samples.

    An axis does if its size is the sample's length for both of two samples. So it is told from one
    that happens to be as long, such as the features of a head.

    Args:
        lengths: of two samples, unlike.
        shapes: by tensor, int64 (rank,), for each of them alone.
    """
    short, long = shapes
    found = {
        name: tuple(
            axis
            for axis, sizes in enumerate(zip(short[name], long[name], strict=True))
            if axis > 0 and sizes == lengths
        )
        for name in short
    }
    return {name: axes for name, axes in found.items() if axes}


def own_positions(array: Array, batch: Batch, axes: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """`batch.real` if the array is of this batch and its padded length along the axes."""
    if not axes or batch.real is None:
        return None
    sizes = {(array.shape[0], array.shape[axis]) for axis in axes}
    return batch.real if sizes == {batch.real.shape} else None


def _count(
    counters: Mapping[str, PartedAccumulator],
    number: int,
    batch: Batch,
    outputs: Mapping[str, Array],
    length_axes: LengthAxes,
    queue: Iterator[Tap],
) -> None:
    """Count the values of one tap of the queue after another."""
    for tap in queue:
        array = batch.inputs[tap.source] if tap.is_input else outputs[tap.source]
        axes = length_axes.get(tap.source, ())
        counters[tap.source].add(number, array, own_positions(array, batch, axes), axes, batch.ids)
