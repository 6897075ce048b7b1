"""A pass over the calibration data by several workers; the statistics are those of one."""

import json
from pathlib import Path

from calib.calibrators import TensorParts
from calib.calibrators.statistics_file import load_statistics
from calib.execution import Work
from calib.graph.load import Graph
from calib.graph.taps import Tap
from calib.observe import LengthAxes, Observation, tapped_model
from calib.progress import Advance
from calib.stages.counting_worker import REQUEST, CountingRequest
from calib.stages.inputs import Inputs
from calib.stages.shard import Shard
from calib.stages.share import shares
from calib.stages.workbench import Workbench


def counting_workers(bench: Workbench, inputs: Inputs, shard: Shard) -> int:
    """How many workers share the batches of a shard: as many as asked for, with one at least.

    Where the data ends when enough was seen, that depends on all of it: one, this process.
    """
    if bench.experiment.calibration.samples == "auto":
        return 1
    batches = -(-inputs.calibration.batch_count // shard.of)
    return max(1, min(bench.executor.workers, batches))


def count_by_workers(
    bench: Workbench,
    inputs: Inputs,
    graph: Graph,
    taps: tuple[Tap, ...],
    axes: LengthAxes,
    shard: Shard,
    folder: Path,
    advance: Advance,
) -> Observation:
    """As `observe`, each worker with a session of its own and its share of the batches.

    Each reads its part of the data, or all of it where samples are sorted into batches, and has the
    model and one batch's activations in memory. What they count is merged as they end, so that two
    workers' statistics are held at most.

    Raises:
        InputError: what a worker reports.
        BackendError: if one dies again and again.
    """
    backend, split = bench.backend, inputs.calibration
    workers = counting_workers(bench, inputs, shard)
    total = Total()
    with tapped_model(backend, graph, taps, folder, axes) as (model, optimized):
        requests = [
            CountingRequest(
                optimized=optimized,
                backend=bench.shared_runtime,
                share=share,
                taps=taps,
                length_axes=dict(axes),
                outputs=tuple(str(value.name) for value in graph.graph.outputs),
                scored=inputs.task_output.name,
            )
            for share in shares(split, shard, workers)
        ]
        work = Work(
            handler="calib.stages.counting_worker:count",
            requests=tuple(REQUEST.dump_json(request).decode() for request in requests),
            model=model,
            beside=tuple(model.parent.glob(f"{model.name}.data")),
        )
        bench.executor.run(work, folder, advance, total.take)
    return total.observation()


class Total:
    """What all workers saw, put together as they end; the time is that of the slowest."""

    def __init__(self) -> None:
        self._parts: dict[str, TensorParts] = {}
        self._samples = self._batches = 0
        self._slowest = (0.0, 0.0)

    def take(self, _: int, folder: Path) -> None:
        """Add what a worker has written."""
        found = load_statistics(folder / "statistics.npz")
        facts = json.loads((folder / "facts.json").read_text("utf-8"))
        self._parts = {
            name: self._parts[name].merge(parts) if self._parts else parts
            for name, parts in found.parts.items()
        }
        self._samples += found.samples
        self._batches += found.batches
        self._slowest = max(self._slowest, (facts["seconds"], facts["inference_seconds"]))

    def observation(self) -> Observation:
        """As of one pass."""
        return Observation(self._parts, self._samples, self._batches, *self._slowest)
