"""One of several workers that count the activations of a pass: its request, and its part."""

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from calib.backends.onnxruntime import OnnxRuntime, OnnxRuntimeSpec
from calib.calibrators.statistics_file import StatisticsFile, save_passing
from calib.graph.taps import Tap
from calib.observe import observe
from calib.progress import Advance
from calib.stages.share import Share
from calib.store import write_atomically


@dataclass(frozen=True, slots=True)
class CountingRequest:
    """What a worker does.

    Attributes:
        optimized: whether the model is run as it is; see `OnnxRuntime.engine`.
        backend: runs it.
        share: of the calibration data.
        taps: what to count.
        length_axes: see `observe`.
        outputs: see `observe`.
        scored: see `observe`.
    """

    optimized: bool
    backend: OnnxRuntimeSpec
    share: Share
    taps: tuple[Tap, ...]
    length_axes: dict[str, tuple[int, ...]]
    outputs: tuple[str, ...]
    scored: str


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
            request.share.batches(),
            request.taps,
            on_batch=advance,
            length_axes=request.length_axes,
            outputs=request.outputs,
            scored=request.scored,
            threads=backend.threads,
        )
    shard = request.share.shard
    content = StatisticsFile(
        found.parts, {}, ((shard.number,), shard.of), found.batches, found.samples
    )
    save_passing(target / "statistics.npz", content)
    facts = {"seconds": found.seconds, "inference_seconds": found.inference_seconds}
    write_atomically(target / "facts.json", json.dumps(facts))
