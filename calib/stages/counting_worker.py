"""One of several workers that count the activations of a pass: its request, and its part."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from calib.backends.onnxruntime import OnnxRuntime, OnnxRuntimeSpec
from calib.calibrators.statistics_file import StatisticsFile, save_statistics
from calib.graph.taps import Tap
from calib.observe import observe
from calib.progress import Advance
from calib.stages.batch_axes import BatchAxes
from calib.stages.shard import Shard
from calib.stages.splits import Batches, Origin
from calib.store import write_atomically
from data_loaders import Batch


@dataclass(frozen=True, slots=True)
class CountingRequest:
    """What a worker does.

    Attributes:
        optimized: whether the model is run as it is; see `OnnxRuntime.engine`.
        backend: runs it.
        origin: the calibration data.
        batch_size: see `Batches`.
        batch_axes: see `Batches`.
        shared_shapes: see `Batches`.
        shard: which batches.
        stretch: their first number and the one behind the last, if they lie side by side.
        taps: what to count.
        length_axes: see `observe`.
        outputs: see `observe`.
        scored: see `observe`.
    """

    optimized: bool
    backend: OnnxRuntimeSpec
    origin: Origin
    batch_size: int
    batch_axes: BatchAxes
    shared_shapes: dict[str, tuple[int, ...]]
    shard: Shard
    taps: tuple[Tap, ...]
    length_axes: dict[str, tuple[int, ...]]
    outputs: tuple[str, ...]
    scored: str
    stretch: tuple[int, int] | None = None

    def batches(self) -> Iterator[tuple[int, Batch]]:
        """The batches of its shard with their numbers in the whole data."""
        split = Batches(
            data=self.origin.samples(),
            batch_size=self.batch_size,
            axes=self.batch_axes,
            shared_shapes=self.shared_shapes,
        )
        return split.of_shard(self.shard, None if self.stretch is None else range(*self.stretch))


REQUEST = TypeAdapter(CountingRequest)


def count(text: str, model: Path, target: Path, advance: Advance) -> None:
    """Serve a request.

    Args:
        text: a `CountingRequest` in JSON.
        model: with the taps among its outputs.
        target: the folder, existing, for statistics.npz and facts.json.
        advance: called with the samples done.
    """
    request = REQUEST.validate_json(text)
    backend = OnnxRuntime(request.backend)
    with backend.engine(model, spinning=False, optimized=request.optimized) as engine:
        found = observe(
            engine,
            request.batches(),
            request.taps,
            on_batch=advance,
            length_axes=request.length_axes,
            outputs=request.outputs,
            scored=request.scored,
            threads=backend.threads,
        )
    shards = ((request.shard.number,), request.shard.of)
    content = StatisticsFile(found.parts, {}, shards, found.batches, found.samples)
    save_statistics(target / "statistics.npz", content)
    facts = {"seconds": found.seconds, "inference_seconds": found.inference_seconds}
    write_atomically(target / "facts.json", json.dumps(facts))
