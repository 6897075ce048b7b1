"""The pass over the calibration data: whole or a shard of it, at once or in groups of tensors."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calib.calibrators import AutoSpec, CacheSpec, Calibrator, TensorParts, convergence
from calib.calibrators.statistics_file import (
    StatisticsFile,
    load_statistics,
    refuse_stale,
    save_statistics,
)
from calib.errors import StoreError
from calib.graph.load import Graph
from calib.graph.native import native_tensors
from calib.graph.select import Selection
from calib.graph.taps import Tap, float_tensors, groups_within, taps_from_tensors
from calib.observe import LengthAxes, Observation, observe, tapped_engine
from calib.progress import Advance
from calib.stages.counting import count_by_workers, counting_workers
from calib.stages.inputs import Inputs
from calib.stages.memory import activations_mb
from calib.stages.padding import padded_axes, shapes_by_batch
from calib.stages.prepare import Prepared
from calib.stages.shard import Shard
from calib.stages.workbench import Workbench
from calib.store import sha256_from_file, write_atomically
from data_loaders import Batch

ENOUGH_SHARE = 0.95
"""`samples: auto` does not wait for the last few thresholds: some never settle."""

_FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class PassFacts:
    """How the pass went; None where the statistics came from a file."""

    passes: int | None = None
    seconds: float | None = None
    inference_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """The statistics, where they are, and a digest of everything they depend on."""

    content: StatisticsFile
    path: Path
    digest: str
    facts: PassFacts


def observed(bench: Workbench, inputs: Inputs, ready: Prepared, shard: Shard) -> Observed:
    """The statistics of the selected activations: observed, from the store, or from a file.

    Raises:
        StoreError: if `calibration.statistics` is unusable, stale, or lacks a shard.
        DataError: if an output of the FP32 model is not finite.
    """
    graph = ready.graph
    key = made_from(bench, inputs, ready)
    given = bench.experiment.calibration.statistics
    if given is not None:
        return _given(given, key)

    def make(folder: Path, advance: Advance) -> None:
        _observe(bench, inputs, graph, key, shard, folder, advance)

    total = inputs.calibration.scan.samples // shard.of
    parts = {"shard": [shard.number, shard.of]} if shard.of > 1 else {}
    budget = {"memory_mb": bench.experiment.calibration.memory_mb}
    found = bench.artifact(
        "observe", "calibrate: one pass", {**key, **budget, **parts}, make, total
    )
    path = found.path / "statistics.npz"
    facts = PassFacts(**json.loads((found.path / "pass.json").read_text(encoding="utf-8")))
    return Observed(load_statistics(path), path, found.digest, facts)


def observed_tensors(bench: Workbench, graph: Graph, selection: Selection) -> tuple[str, ...]:
    """The activations that get a threshold, those that are quantized among them."""
    wanted = bench.experiment.calibration.tensors
    makes_cache = bench.builder is not None and bench.builder.int8 == "cache"
    if wanted == "all" or (wanted == "auto" and makes_cache):
        return float_tensors(graph)
    if bench.experiment.quantization.layout == "native":
        return native_tensors(graph, selection)
    return selection.activation_tensors


def made_from(bench: Workbench, inputs: Inputs, ready: Prepared) -> dict[str, Any]:
    """What the statistics depend on: the header of the file that holds them."""
    settings = bench.experiment.calibration
    key: dict[str, Any] = {
        "model": inputs.model.record.sha256,
        "data": inputs.calibration.scan.sha256,
        "batch_size": inputs.calibration.batch_size,
        "tensors": list(observed_tensors(bench, ready.graph, ready.selection)),
        "ignore_padding": settings.ignore_padding,
        "fold_batchnorm": bench.experiment.engines.fold_batchnorm,
        "samples": settings.samples,
    }
    if ready.remedied is not None:
        key["remedies"] = ready.remedied.digest
    if settings.samples == "auto":
        names = [spec.name for spec in settings.calibrators]
        key |= {"tolerance_pct": settings.tolerance_pct, "calibrators": names}
    return key


def _given(path: Path, key: Mapping[str, Any]) -> Observed:
    content = load_statistics(path)
    refuse_stale(path, content.made_from, key)
    if not content.is_whole:
        held, of = content.shards
        raise StoreError(
            str(path),
            "holds only a part of the calibration data",
            got=f"shards {', '.join(map(str, held))} of {of}",
            fix="Put all shards together with `calib merge`.",
        )
    return Observed(content, path, sha256_from_file(path), PassFacts())


def _observe(
    bench: Workbench,
    inputs: Inputs,
    graph: Graph,
    key: dict[str, Any],
    shard: Shard,
    folder: Path,
    advance: Advance,
) -> None:
    taps = taps_from_tensors(graph, key["tensors"])
    groups = _groups(bench, inputs, graph, taps, counting_workers(bench, inputs, shard))
    axes = padded_axes(bench, inputs, graph, taps)
    passes = [_pass(bench, inputs, graph, group, axes, shard, folder, advance) for group in groups]
    parts = {source: part for seen in passes for source, part in seen.parts.items()}
    content = StatisticsFile(
        parts={name: parts[tap.source].renamed(name) for tap in taps for name in tap.tensors},
        made_from=key,
        shards=((shard.number,), shard.of),
        batches=max(seen.batches for seen in passes),
        samples=max(seen.samples for seen in passes),
    )
    save_statistics(folder / "statistics.npz", content)
    facts = {
        "passes": len(passes),
        "seconds": sum(seen.seconds for seen in passes),
        "inference_seconds": sum(seen.inference_seconds for seen in passes),
    }
    write_atomically(folder / "pass.json", json.dumps(facts))


def _pass(
    bench: Workbench,
    inputs: Inputs,
    graph: Graph,
    taps: tuple[Tap, ...],
    axes: LengthAxes,
    shard: Shard,
    folder: Path,
    advance: Advance,
) -> Observation:
    settings = bench.experiment.calibration
    if counting_workers(bench, inputs, shard) > 1:
        return count_by_workers(bench, inputs, graph, taps, axes, shard, folder, advance)
    calibrators = _formulas(bench)

    def stop(parts: Mapping[str, TensorParts]) -> bool:
        answers = [
            convergence(p, c).enough(settings.tolerance_pct) is True
            for p in parts.values()
            for c in calibrators
        ]
        return bool(answers) and sum(answers) >= ENOUGH_SHARE * len(answers)

    with tapped_engine(bench.backend, graph, taps, folder, axes) as engine:
        return observe(
            engine,
            _batches(inputs, shard),
            taps,
            on_batch=advance,
            length_axes=axes,
            outputs=[str(value.name) for value in graph.graph.outputs],
            scored=inputs.task_output.name,
            threads=bench.backend.threads,
            stop=stop if settings.samples == "auto" else None,
        )


def _formulas(bench: Workbench) -> list[Calibrator]:
    """Every calibrator that is a function of the statistics, those that auto tries included."""
    found: dict[str, Calibrator] = {}
    for spec in bench.experiment.calibration.calibrators:
        if isinstance(spec, CacheSpec):
            continue
        for formula in spec.candidates if isinstance(spec, AutoSpec) else (spec,):
            found[formula.name] = formula
    return list(found.values())


def _batches(inputs: Inputs, shard: Shard) -> Iterator[tuple[int, Batch]]:
    split = inputs.calibration
    return split.of_shard(shard, split.stretch(shard) if shard.of > 1 else None)


def _groups(
    bench: Workbench, inputs: Inputs, graph: Graph, taps: tuple[Tap, ...], processes: int
) -> list[tuple[Tap, ...]]:
    """The taps in groups that fit the budget, by what the largest batch needs.

    The memory that is free is for so many processes together.
    """
    inner = {tap.source: tap for tap in taps if not tap.is_input}
    split = inputs.calibration
    budget = bench.experiment.calibration.memory_mb
    if budget is None:
        free = activations_mb(graph, split.scan, split.batch_size * processes, inner)
        budget = None if free is None else free / processes
    if budget is None or not inner:
        return [taps]
    largest = max(inputs.calibration.batches(), key=_values)
    (shapes,) = shapes_by_batch(bench, graph, list(inner), [largest])
    sizes = {n: math.prod(shape.tolist()) * _FLOAT_BYTES for n, shape in shapes.items()}
    groups = [tuple(inner[n] for n in names) for names in groups_within(sizes, budget * 1e6)]
    # Model inputs are there anyway.
    groups[0] = (*(tap for tap in taps if tap.is_input), *groups[0])
    if len(groups) > 1:
        bench.progress.note(f"calibration.memory_mb = {budget:g}: {len(groups)} passes")
    return groups


def _values(batch: Batch) -> int:
    return sum(array.size for array in batch.inputs.values())
