"""What a built engine says when it is looked at and, where the machine can, run."""

import json
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from calib.backends.precision import layers_from_dump, layers_from_inspector
from calib.backends.tensorrt_runtime import refuse_unfit
from calib.backends.tensorrt_timing import TensorRtEngine, open_timed_engine, timing_from_spec
from calib.engine_record import EngineIdentity, EngineLayer, EngineRecord, RebuildRecord
from calib.stages.inputs import Inputs, speed_batch
from calib.stages.workbench import Workbench

_PROFILED_RUNS = 20


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """An engine's record and its file."""

    record: EngineRecord
    plan: Path


def engine_layers(folder: Path) -> tuple[EngineLayer, ...]:
    """The layers of a built engine: from the builder's dump, else from the inspector."""
    inspected = folder / "layers.json"
    if inspected.is_file():
        return layers_from_inspector(inspected.read_text(encoding="utf-8"))
    return layers_from_dump((folder / "layers.txt").read_text(encoding="utf-8"))


def rebuild_record(
    bench: Workbench, inputs: Inputs, folders: list[Path], *, runs: bool
) -> RebuildRecord:
    """How far several builds of one engine differ; outputs and latency only where they run."""
    facts = [json.loads((f / "facts.json").read_text(encoding="utf-8")) for f in folders]
    layers = [{(x.name, x.precision, x.tactic) for x in engine_layers(f)} for f in folders]
    spread: float | None = None
    medians: tuple[float, ...] = ()
    if runs:
        spread, medians = _run_all(bench, inputs, [f / "engine.plan" for f in folders])
    return RebuildRecord(
        builds=len(folders),
        layers_differ=len(set().union(*layers) - layers[0].intersection(*layers[1:])),
        weights_bytes=tuple(fact["weights_bytes"] for fact in facts),
        seconds=tuple(fact["seconds"] for fact in facts),
        output_max_abs=spread,
        p50_ms=medians,
    )


def _run_all(
    bench: Workbench, inputs: Inputs, plans: list[Path]
) -> tuple[float, tuple[float, ...]]:
    """Largest difference between the builds' outputs, and each one's median latency."""
    feed = speed_batch(inputs, inputs.validation.batch_size).inputs
    outputs, medians = [], []
    for plan in plans:
        with open_engine(bench, plan) as engine:
            outputs.append(engine.infer(feed))
            times = [engine.timed_infer(feed) for _ in range(bench.experiment.throughput.runs)]
            medians.append(float(np.median(times)))
    first = outputs[0]
    gaps = [np.abs(other[n] - first[n]).max() for other in outputs[1:] for n in first]
    return float(max(gaps)), tuple(medians)


def open_engine(bench: Workbench, plan: Path) -> AbstractContextManager[TensorRtEngine]:
    """A built engine for running and timing, as the config says."""
    builder = bench.builder
    if builder is None:
        raise AssertionError("only a builder makes plans")
    identity = EngineIdentity.model_validate_json(plan.with_suffix(".json").read_bytes())
    target = builder.gpu.compute_capability if builder.spec.kind == "tensorrt_rtx" else None
    refuse_unfit(identity, builder.availability.version, target or identity.target, str(plan))
    timing = timing_from_spec(builder.spec.timing, builder.availability.version)
    return open_timed_engine(plan, builder.spec.kind, timing)


def with_layer_times(bench: Workbench, inputs: Inputs, engine: BuiltEngine) -> EngineRecord:
    """The record with what the device says of each layer, where the engine can run."""
    builder = bench.builder
    if builder is None or not engine.record.ran_here:
        return engine.record
    feed = speed_batch(inputs, inputs.validation.batch_size).inputs
    with bench.timed("layer times"), open_engine(bench, engine.plan) as running:
        times = running.layer_times_ms(feed, _PROFILED_RUNS)
        timing = asdict(running.timing)
    update = {"layer_times_ms": times, "timing": timing}
    return engine.record.model_copy(update=update)
