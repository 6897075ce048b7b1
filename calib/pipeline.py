"""A run from the config to the report: the story on one page."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from calib.analysis.profiles import Profiles
from calib.analysis.tails import BesideFp16
from calib.calibrators.statistics_file import StatisticsFile, save_statistics
from calib.config import Experiment
from calib.environment import environment_record
from calib.errors import ConfigError
from calib.gate.judging import evaluate
from calib.progress import Progress
from calib.report import SampleTables, write_report
from calib.results import (
    CandidateRecord,
    Precision,
    RunResult,
    RunVerdict,
    SampleVerdict,
    SensitivityRecord,
    SpeedRecord,
    TensorError,
    Verdict,
)
from calib.rundir import run_directory
from calib.runtime_log import runtime_log
from calib.stages.analyse import OnRow, Outputs, analyse_candidate
from calib.stages.audit import audit
from calib.stages.calibrate import (
    NATIVE_NOTE,
    TWIN_NOTE,
    Calibration,
    Candidate,
    build_candidates,
    calibrate,
)
from calib.stages.engine_runs import BuiltEngine, with_layer_times
from calib.stages.engines import build_engines
from calib.stages.inputs import Inputs, read_inputs
from calib.stages.keep import keep_models, keep_sessions
from calib.stages.measure import (
    compare,
    compare_layers,
    run_outputs,
)
from calib.stages.observation import observed
from calib.stages.placement import placed
from calib.stages.prepare import prepared
from calib.stages.ran import what_ran
from calib.stages.sensitivity import sensitivity
from calib.stages.shard import Shard
from calib.stages.slices import Slicer, open_slicer
from calib.stages.speed import measure_memory, measure_speed
from calib.stages.tail import explain_tails
from calib.stages.workbench import Workbench, open_workbench
from calib.store import digest_from_key, place, sha256_from_file

_SHOWN = 5
_UNJUDGED = RunVerdict(verdict=Verdict.NO_EVIDENCE, chosen=None, reason="", candidates=())


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """What a run found, and the directory it was written to."""

    result: RunResult
    directory: Path


@dataclass(frozen=True, slots=True)
class _Files:
    """What is written while the engines are compared."""

    folder: Path
    samples: SampleTables
    beside: BesideFp16
    slicer: Slicer

    def on_row(self, candidate: Candidate) -> OnRow:
        """What takes in a candidate's verdicts: those of INT8 get FP16's answer beside them."""

        def add(name: str, verdict: SampleVerdict) -> None:
            if candidate.precision is Precision.FP16:
                self.beside.keep(verdict)
            elif candidate.precision is Precision.INT8:
                verdict = self.beside.beside(verdict)
            self.samples.add(name, verdict)
            self.slicer.add(name, verdict)

        return add


def run_experiment(experiment: Experiment, progress: Progress, jobs: int = 1) -> FinishedRun:
    """Calibrate, build, compare, analyse, judge and report.

    Args:
        experiment: what is asked.
        progress: whom to tell.
        jobs: processes that share the pass over the calibration data; the results are the same.

    Raises:
        InputError: if the model, the data or the config cannot be used.
    """
    parent = experiment.output.reports / experiment.name
    with runtime_log(parent) as log:
        started, begin = datetime.now(UTC), time.perf_counter()
        bench = open_workbench(experiment, progress, jobs)
        inputs = read_inputs(bench)
        slicer = open_slicer(bench, inputs)
        calibration = placed(bench, inputs, calibrate(bench, inputs))
        audited = audit(bench, inputs, calibration)
        candidates = build_candidates(bench, inputs, calibration)
        config = experiment.model_dump(mode="json")
        # Two runs may start within one millisecond.
        own = digest_from_key({"config": config, "process": os.getpid()})
        run_id = f"{started:%Y%m%d-%H%M%S-%f}"[:-3] + f"-{own[:6]}"
        with run_directory(parent, run_id) as folder:
            with SampleTables(folder) as samples:
                files = _Files(folder, samples, BesideFp16(), slicer)
                records, speed = _measure(
                    bench, inputs, calibration, candidates, files, audited.known
                )
            facts = RunResult(
                experiment=experiment.name,
                run_id=run_id,
                started_at=started.isoformat(timespec="seconds"),
                seconds=time.perf_counter() - begin,
                config=config,
                environment=environment_record(bench.backend),
                model=inputs.model.record,
                data=inputs.record,
                calibration=calibration.record,
                remedies=calibration.remedied.record if calibration.remedied else None,
                placement=calibration.placement,
                audit=audited.record,
                candidates=records,
                speed=speed,
                stages=tuple(bench.timings),
                notes=(
                    *bench.notes,
                    *inputs.notes,
                    *_not_compared(records),
                    *([TWIN_NOTE] if any(c.twin for c in candidates) else []),
                    *([NATIVE_NOTE] if calibration.ranges else []),
                    *([f"placement: {p.why}"] if (p := calibration.placement) else []),
                    *filter(None, [log.keep(folder)]),
                ),
                verdict=_UNJUDGED,
            )
            result = facts.model_copy(update={"verdict": evaluate(facts, experiment.limits)})
            with progress.stage("report", None):
                keep_models(candidates, calibration, folder)
                keep_sessions(bench, candidates, result, folder)
                write_report(result, folder)
        return FinishedRun(result, parent / run_id)


def run_calibration(
    experiment: Experiment, progress: Progress, shard: Shard, target: Path, jobs: int = 1
) -> StatisticsFile:
    """Observe the calibration data, or a shard of its batches, and write the statistics.

    Args:
        experiment: what is asked.
        progress: whom to tell.
        shard: which batches.
        target: the file.
        jobs: processes that share them; the file is the same.

    Raises:
        ConfigError: if the data is to be sharded and the pass is to end by itself.
        InputError: if the model, the data or the config cannot be used.
    """
    if shard.of > 1 and experiment.calibration.samples == "auto":
        raise ConfigError(
            "calibration.samples",
            "auto cannot be sharded: when to stop depends on all of the data seen so far",
            fix="Calibrate in one process, or set calibration.samples=all.",
        )
    with runtime_log(experiment.output.reports / experiment.name):
        bench = open_workbench(experiment, progress, jobs)
        inputs = read_inputs(bench)
        content = observed(bench, inputs, prepared(bench, inputs), shard).content
    save_statistics(target, content)
    return content


def run_sensitivity(experiment: Experiment, progress: Progress) -> SensitivityRecord:
    """Where INT8's error comes from, group by group, and what remedies do about it.

    Validation is not touched.

    Raises:
        InputError: if the model, the data or the config cannot be used.
    """
    with runtime_log(experiment.output.reports / experiment.name):
        bench = open_workbench(experiment, progress)
        inputs = read_inputs(bench)
        found = sensitivity(bench, inputs)
        remedied = prepared(bench, inputs).remedied
    return found.model_copy(update={"remedies": remedied.record if remedied else None})


def _measure(
    bench: Workbench,
    inputs: Inputs,
    calibration: Calibration,
    candidates: tuple[Candidate, ...],
    files: _Files,
    known: Profiles | None,
) -> tuple[tuple[CandidateRecord, ...], SpeedRecord | None]:
    """Run every engine over the validation data, and say all there is to say of each."""
    built = {c.name: build_engines(bench, inputs, calibration, c) for c in candidates}
    for name, engines in built.items():
        for engine in engines:
            for suffix in (".plan", ".json"):
                target = files.folder / "engines" / f"{name}-{engine.record.target}{suffix}"
                place(engine.plan.with_suffix(suffix), target)
    candidates = tuple(replace(c, plan=_plan(built[c.name])) for c in candidates)
    outputs = {c.name: run_outputs(bench, inputs, c) for c in candidates}
    reference = outputs[Precision.FP32]
    judged = [
        files.slicer.scored(
            _judged(bench, inputs, calibration, c, Outputs(reference, outputs[c.name]), files)
        )
        for c in candidates
    ]
    facts = explain_tails(bench, inputs, calibration, judged, known)
    speed = measure_speed(bench, inputs, candidates)
    records = tuple(
        fact.model_copy(
            update={
                "latency": speed.latency.get(fact.name, ()),
                "ran": what_ran(bench, inputs, candidate),
                "engines": tuple(with_layer_times(bench, inputs, e) for e in built[fact.name]),
                "load_seconds": speed.load_seconds.get(fact.name),
                "peak_memory_bytes": measure_memory(bench, inputs, candidate),
            }
        )
        for fact, candidate in zip(facts, candidates, strict=True)
    )
    return records, speed.record


def _not_compared(records: tuple[CandidateRecord, ...]) -> Iterator[str]:
    """The tensors of which only a part was compared, in a sentence."""
    errors = [error for c in records for error in (*c.layers, *c.outputs)]
    left_out = {error.tensor: error.left_out for error in errors if error.left_out}
    if left_out:
        shown = ", ".join(f"{name} ({left_out[name]:,})" for name in list(left_out)[:_SHOWN])
        more = f" and {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else ""
        yield (
            f"{len(left_out)} tensors hold values that are not finite, or a mask, in FP32; "
            f"their errors are those of the other values: {shown}{more}"
        )


def _plan(engines: tuple[BuiltEngine, ...]) -> Path | None:
    return next((engine.plan for engine in engines if engine.record.ran_here), None)


def _judged(
    bench: Workbench,
    inputs: Inputs,
    calibration: Calibration,
    candidate: Candidate,
    outputs: Outputs,
    files: _Files,
) -> CandidateRecord:
    is_reference = candidate.precision is Precision.FP32
    errors: tuple[TensorError, ...] = ()
    if not is_reference:
        compared = compare(bench, outputs.reference, outputs.candidate, candidate)
        errors = compared.errors
        place(compared.accuracy_file, files.folder / "polygraphy" / f"{candidate.name}.json")
    layers = compare_layers(bench, inputs, calibration, candidate)
    found = analyse_candidate(bench, inputs, candidate, outputs, files.on_row(candidate))
    broken = (f"{found.not_finite} samples have NaN or infinity in their output",)
    return CandidateRecord(
        name=candidate.name,
        precision=candidate.precision,
        calibrator=candidate.calibrator,
        rest=candidate.rest,
        model_path=_model_name(candidate),
        emulated=_is_emulated(bench, candidate),
        model_sha256=sha256_from_file(candidate.path),
        size_bytes=_size_bytes(candidate, inputs),
        peak_memory_bytes=None,
        outputs=errors,
        layers=layers,
        score=found.score,
        flips=found.flips,
        tail=() if is_reference else tuple(map(files.beside.beside, found.tail)),
        moved=None if is_reference else found.moved,
        warnings=candidate.warnings + (broken if found.not_finite else ()),
    )


def _is_emulated(bench: Workbench, candidate: Candidate) -> bool:
    half = Precision.FP16 in (candidate.precision, candidate.rest)
    return half and bench.builder is None and bench.backend.emulates_fp16


def _size_bytes(candidate: Candidate, inputs: Inputs) -> int:
    if candidate.precision is Precision.FP32:
        return inputs.model.record.size_bytes
    return sum(part.stat().st_size for part in candidate.path.parent.glob("model.onnx*"))


def _model_name(candidate: Candidate) -> str:
    if candidate.precision is Precision.FP32:
        return str(candidate.path)
    return f"models/{candidate.name}/model.onnx"
