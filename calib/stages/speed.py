"""Running the engines for speed and memory. Each runs once, then is kept."""

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter

from calib.analysis.conditions import load_between, speed_warnings
from calib.analysis.throughput import latency_record, time_engines, warm_up
from calib.backends.base import Engine
from calib.backends.footprint import peak_memory_bytes
from calib.backends.gpu_state import GpuWatch, clock_warning
from calib.backends.machine_state import read_machine_state
from calib.environment import environment_record
from calib.progress import Advance
from calib.results import LatencyRecord, PointRecord, SpeedRecord
from calib.stages.calibrate import Candidate
from calib.stages.engine_runs import open_engine
from calib.stages.inputs import Inputs, speed_batch
from calib.stages.workbench import Workbench
from calib.store import sha256_from_file, write_atomically

_LATENCIES = TypeAdapter(dict[str, tuple[LatencyRecord, ...]])
_POINTS = TypeAdapter(tuple[PointRecord, ...])
_MANY = 2
_LOADS = 3
_LOAD_SECONDS = 0.5
"""Sessions of a model are opened again until this much time went into it."""


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast the candidates are, and how far that can be relied on.

    Attributes:
        latency: by candidate name, a record for each operating point; empty if nothing was timed.
        load_seconds: median time to open a session, by candidate name.
        record: the machine meanwhile; None if nothing was timed.
    """

    latency: dict[str, tuple[LatencyRecord, ...]]
    load_seconds: dict[str, float]
    record: SpeedRecord | None


_NOTHING = Speed({}, {}, None)


def measure_speed(bench: Workbench, inputs: Inputs, candidates: tuple[Candidate, ...]) -> Speed:
    """Latency of all engines at each operating point, taken in turns.

    Nothing if they cannot run here. Copies to the device and back are part of it.
    """
    spec = bench.experiment.throughput
    if bench.builder is not None and not all(c.plan for c in candidates):
        return _NOTHING  # ONNX Runtime's speed would be taken for TensorRT's
    sizes, threads = _timed_sizes(bench, inputs), _timed_threads(bench)
    if not sizes:
        return _NOTHING
    key = {
        "engines": {c.name: c.digest for c in candidates},
        "plans": {c.name: sha256_from_file(c.plan) for c in candidates if c.plan},
        "spec": spec.model_dump(mode="json"),
        "machine": environment_record(bench.backend).hostname_sha256,
        "data": inputs.validation.scan.sha256,
    }

    def make(folder: Path, advance: Advance) -> None:
        points = len(sizes) * len(threads)
        seconds = points * (spec.warmup_seconds_max + spec.seconds_max)
        if points > _MANY:
            bench.progress.note(f"{points} operating points are timed, in {seconds:.0f} s at most")
        timing = _Timing(bench, inputs, candidates, advance)
        for count in threads:
            timing.add(sizes, count)
        timing.write(folder)

    total = spec.runs * len(candidates) * len(sizes) * len(threads)
    found = bench.artifact("speed", "speed", key, make, total).path
    latency = _LATENCIES.validate_json((found / "latency.json").read_bytes())
    points = _POINTS.validate_json((found / "points.json").read_bytes())
    warning = (found / "warning.txt").read_text(encoding="utf-8")
    said = (*filter(None, [warning, _ignored(bench)]), *speed_warnings(points, latency))
    loads = json.loads((found / "load.json").read_text(encoding="utf-8"))
    return Speed(latency, loads, SpeedRecord(points=points, warnings=said))


def _timed_sizes(bench: Workbench, inputs: Inputs) -> list[int]:
    """Those of the config that there are samples for; the model's, where it takes but one."""
    wanted = bench.experiment.throughput.batch_sizes
    if wanted and inputs.axes.size:
        return [inputs.axes.size]
    return sorted({size for size in wanted if size <= inputs.validation.scan.samples})


def _timed_threads(bench: Workbench) -> Sequence[int | None]:
    """Those of the config, or the backend's own; None where threads are none of ours."""
    if bench.builder is not None:
        return [None]
    return sorted(set(bench.experiment.throughput.threads or (bench.backend.threads,)))


def _ignored(bench: Workbench) -> str:
    """What of the config had no effect, in a sentence; `auto` may have become either backend."""
    if bench.builder is None or not bench.experiment.throughput.threads:
        return ""
    return "throughput.threads is for ONNX Runtime: TensorRT's engines have none"


class _Timing:
    """Times the engines, operating point by operating point."""

    def __init__(
        self,
        bench: Workbench,
        inputs: Inputs,
        candidates: tuple[Candidate, ...],
        advance: Advance,
    ) -> None:
        self._bench, self._inputs, self._candidates = bench, inputs, candidates
        self._advance = advance
        self._latency: dict[str, list[LatencyRecord]] = {c.name: [] for c in candidates}
        self._loads: dict[str, list[float]] = {c.name: [] for c in candidates}
        self._points: list[PointRecord] = []
        self._clocks: list[str] = []

    def add(self, sizes: list[int], threads: int | None) -> None:
        """Time every batch size on so many threads."""
        with ExitStack() as stack_:
            engines = {c.name: self._open(c, threads, stack_) for c in self._candidates}
            for size in sizes:
                self._time(engines, size, threads)

    def write(self, folder: Path) -> None:
        """Keep what was found."""
        latency = {name: tuple(found) for name, found in self._latency.items()}
        loads = {name: statistics.median(found) for name, found in self._loads.items()}
        write_atomically(folder / "latency.json", _LATENCIES.dump_json(latency))
        write_atomically(folder / "points.json", _POINTS.dump_json(tuple(self._points)))
        write_atomically(folder / "load.json", json.dumps(loads))
        write_atomically(folder / "warning.txt", next(filter(None, self._clocks), ""))

    def _open(self, candidate: Candidate, threads: int | None, stack_: ExitStack) -> Engine:
        """An engine that stays open, after some that only show how long that takes."""
        loads = self._loads[candidate.name]
        while True:
            with ExitStack() as attempt:
                begin = time.perf_counter()
                engine = attempt.enter_context(_engine(self._bench, candidate, threads))
                loads.append(time.perf_counter() - begin)
                if len(loads) >= _LOADS or sum(loads) > _LOAD_SECONDS:
                    stack_.push(attempt.pop_all())
                    return engine

    def _time(self, engines: Mapping[str, Engine], size: int, threads: int | None) -> None:
        """Time one batch size.

        The GPU's clock is looked at after rounds, when it is as warm as it gets, and held against
        this batch size alone: heavier batches may well run at a lower clock.
        """
        spec = self._bench.experiment.throughput
        watch = GpuWatch(wanted=self._bench.builder is not None)
        feed = speed_batch(self._inputs, size).inputs
        warmups = warm_up(
            engines,
            feed,
            runs_min=spec.warmup_runs,
            runs_max=spec.runs,
            seconds_max=spec.warmup_seconds_max,
            tolerance_pct=spec.warmup_tolerance_pct,
        )
        before = read_machine_state()
        samples = time_engines(
            engines,
            feed,
            runs=spec.runs,
            seconds_max=spec.seconds_max,
            on_run=watch.beside(self._advance),
        )
        self._clocks.append(clock_warning(watch.readings))
        load = load_between(before, read_machine_state())
        self._points.append(PointRecord(batch_size=size, threads=threads, load=load))
        for name, values in samples.items():
            record = latency_record(values, feed, warmups[name], size, threads)
            self._latency[name].append(record)
            self._advance(spec.runs - record.runs)  # those that there was no time for


def _engine(
    bench: Workbench, candidate: Candidate, threads: int | None
) -> AbstractContextManager[Engine]:
    if candidate.plan is not None and bench.builder is not None:
        return open_engine(bench, candidate.plan)
    # Engines take turns: threads that spin after one's run would take the next one's processors.
    return bench.backend.with_threads(threads).engine(candidate.runs, spinning=False)


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
