"""A pass over the calibration data by several processes; the statistics are those of one."""

import json
from functools import reduce
from pathlib import Path

from calib.calibrators.statistics_file import load_statistics
from calib.graph.load import Graph
from calib.graph.taps import Tap
from calib.observe import LengthAxes, Observation, tapped_model
from calib.progress import Advance
from calib.stages.counting_worker import REQUEST, CountingRequest
from calib.stages.inputs import Inputs
from calib.stages.shard import Shard
from calib.stages.workbench import Workbench
from calib.stages.workers import run_workers, threads_by_worker


def processes(bench: Workbench, inputs: Inputs, shard: Shard) -> int:
    """How many processes share the batches of a shard: as many as asked for, with one at least.

    Where the data ends when enough was seen, that depends on all of it: one.
    """
    if bench.experiment.calibration.samples == "auto":
        return 1
    batches = -(-inputs.calibration.batch_count // shard.of)
    return max(1, min(bench.jobs, batches))


def count_in_processes(
    bench: Workbench,
    inputs: Inputs,
    graph: Graph,
    taps: tuple[Tap, ...],
    axes: LengthAxes,
    shard: Shard,
    folder: Path,
    advance: Advance,
) -> Observation:
    """As `observe`, each process with a session of its own and its share of batches and threads.

    Each reads all of the data, and has the model and one batch's activations in memory.

    Raises:
        InputError: what a process reports.
        BackendError: if one dies.
    """
    backend, split = bench.backend, inputs.calibration
    shards = shard.split(processes(bench, inputs, shard))
    threads = threads_by_worker(backend.threads, len(shards))
    targets = [folder / f"process-{number}" for number in range(len(shards))]
    with tapped_model(backend, graph, taps, folder, axes) as (model, optimized):
        requests = []
        for share, count, target in zip(shards, threads, targets, strict=True):
            target.mkdir()
            request = CountingRequest(
                model=model,
                optimized=optimized,
                backend=backend.spec.model_copy(update={"threads": count}),
                origin=split.origin,
                batch_size=split.batch_size,
                batch_axes=split.axes,
                shared_shapes=dict(split.shared_shapes),
                shard=share,
                taps=taps,
                length_axes=dict(axes),
                outputs=tuple(str(value.name) for value in graph.graph.outputs),
                scored=inputs.task_output.name,
                target=target,
            )
            requests.append(REQUEST.dump_json(request).decode())
        run_workers("calib.stages.counting_worker", requests, advance)
    return _together(targets)


def _together(targets: list[Path]) -> Observation:
    """What all processes saw; the time is that of the slowest."""
    contents = [load_statistics(target / "statistics.npz") for target in targets]
    facts = [json.loads((target / "facts.json").read_text("utf-8")) for target in targets]
    slowest = max(facts, key=lambda fact: fact["seconds"])
    for target in targets:
        for file in ("statistics.npz", "facts.json"):
            (target / file).unlink()
        target.rmdir()
    parts = {
        name: reduce(lambda one, two: one.merge(two), (found.parts[name] for found in contents))
        for name in contents[0].parts
    }
    return Observation(
        parts,
        sum(found.samples for found in contents),
        sum(found.batches for found in contents),
        slowest["seconds"],
        slowest["inference_seconds"],
    )
