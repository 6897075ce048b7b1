"""Running the engines for speed and memory. Each runs once, then is kept."""

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from calib.analysis.throughput import latency_record, time_engines
from calib.backends.base import Engine
from calib.backends.footprint import peak_memory_bytes
from calib.backends.gpu_state import clock_warning, read_gpu_state
from calib.environment import environment_record
from calib.progress import Advance
from calib.results import LatencyRecord
from calib.stages.calibrate import Candidate
from calib.stages.engine_runs import open_engine
from calib.stages.inputs import Inputs, speed_batch
from calib.stages.workbench import Workbench
from calib.store import sha256_from_file, write_atomically

_LATENCIES = TypeAdapter(dict[str, tuple[LatencyRecord, ...]])


@dataclass(frozen=True, slots=True)
class Speed:
    """Latencies by candidate name, and a sentence if the GPU's clock moved meanwhile."""

    latency: dict[str, tuple[LatencyRecord, ...]]
    warning: str = ""


def measure_speed(bench: Workbench, inputs: Inputs, candidates: tuple[Candidate, ...]) -> Speed:
    """Latency of all engines at each batch size, taken in turns; nothing if they cannot run here.

    Copies to the device and back are part of it.
    """
    spec = bench.experiment.throughput
    if bench.builder is not None and not all(c.plan for c in candidates):
        return Speed({})  # ONNX Runtime's speed would be taken for TensorRT's
    sizes = _timed_sizes(bench, inputs)
    if not sizes:
        return Speed({})
    key = {
        "engines": {c.name: c.digest for c in candidates},
        "plans": {c.name: sha256_from_file(c.plan) for c in candidates if c.plan},
        "spec": spec.model_dump(mode="json"),
        "machine": environment_record(bench.backend).hostname_sha256,
        "data": inputs.validation.scan.sha256,
    }

    def make(folder: Path, advance: Advance) -> None:
        records: dict[str, list[LatencyRecord]] = {c.name: [] for c in candidates}
        before = read_gpu_state() if bench.builder is not None else None
        with ExitStack() as stack_:
            engines = {c.name: stack_.enter_context(_open(bench, c)) for c in candidates}
            for size in sizes:
                _time(bench, inputs, engines, size, records, advance)
        warning = clock_warning(before, read_gpu_state() if before is not None else None)
        write_atomically(folder / "warning.txt", warning)
        content = {name: tuple(found) for name, found in records.items()}
        write_atomically(folder / "latency.json", _LATENCIES.dump_json(content))

    total = spec.runs * len(candidates) * len(sizes)
    found = bench.artifact("speed", "speed", key, make, total)
    latency = _LATENCIES.validate_json((found.path / "latency.json").read_bytes())
    return Speed(latency, (found.path / "warning.txt").read_text(encoding="utf-8"))


def _timed_sizes(bench: Workbench, inputs: Inputs) -> list[int]:
    """Those of the config that there are samples for; the model's, where it takes but one."""
    wanted = bench.experiment.throughput.batch_sizes
    if wanted and inputs.axes.size:
        return [inputs.axes.size]
    return [size for size in wanted if size <= inputs.validation.scan.samples]


def _open(bench: Workbench, candidate: Candidate) -> AbstractContextManager[Engine]:
    if candidate.plan is not None and bench.builder is not None:
        return open_engine(bench, candidate.plan)
    return bench.backend.engine(candidate.runs)


def _time(
    bench: Workbench,
    inputs: Inputs,
    engines: Mapping[str, Engine],
    size: int,
    records: dict[str, list[LatencyRecord]],
    advance: Advance,
) -> None:
    spec = bench.experiment.throughput
    feed = speed_batch(inputs, size).inputs
    samples = time_engines(
        engines,
        feed,
        warmup_runs=spec.warmup_runs,
        runs=spec.runs,
        seconds_max=spec.seconds_max,
        on_run=advance,
    )
    for name, values in samples.items():
        records[name].append(latency_record(values, feed, spec.warmup_runs, size))


def measure_memory(bench: Workbench, inputs: Inputs, candidate: Candidate) -> int | None:
    """Peak resident memory of a process that runs one batch of one engine, in bytes."""
    sizes = bench.experiment.throughput.batch_sizes
    if not sizes or bench.builder is not None:
        return None
    size = inputs.axes.size or min(max(sizes), inputs.validation.scan.samples)
    key = {
        "engine": candidate.digest,
        "data": inputs.validation.scan.sha256,
        "batch_size": size,
        "machine": environment_record(bench.backend).hostname_sha256,
    }

    def make(folder: Path, _: Advance) -> None:
        feed = speed_batch(inputs, size).inputs
        peak = peak_memory_bytes(candidate.runs, bench.backend.spec, feed)
        write_atomically(folder / "peak.json", json.dumps(peak))

    found = bench.artifact("memory", f"memory of {candidate.name}", key, make)
    return int(json.loads((found.path / "peak.json").read_text(encoding="utf-8")))
