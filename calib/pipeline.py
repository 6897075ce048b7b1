"""A run from the config to the report: the story on one page."""

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from calib.analysis.tails import BesideFp16
from calib.calibrators.statistics_file import StatisticsFile, save_statistics
from calib.config import Experiment
from calib.environment import environment_record
from calib.errors import ConfigError
from calib.execution import open_executor
from calib.gate.judging import evaluate
from calib.measuring import RunFiles, measure, not_compared
from calib.progress import Progress, Silent
from calib.report import SampleTables, write_report
from calib.results import (
    CandidateRecord,
    RunResult,
    RunVerdict,
    SensitivityRecord,
    SpeedRecord,
    Verdict,
)
from calib.rundir import run_directory
from calib.runtime_log import runtime_log
from calib.stages.audit import Audit, audit
from calib.stages.calibrate import (
    NATIVE_NOTE,
    TWIN_NOTE,
    Calibration,
    Candidate,
    build_candidates,
    calibrate,
)
from calib.stages.inputs import Inputs, read_inputs
from calib.stages.keep import keep_deployment, keep_models
from calib.stages.observation import observed
from calib.stages.placement import placed
from calib.stages.prepare import prepared
from calib.stages.sensitivity import sensitivity
from calib.stages.shard import Shard
from calib.stages.slices import Slicer, open_slicer
from calib.stages.workbench import Workbench, open_workbench
from calib.store import digest_from_key

_UNJUDGED = RunVerdict(verdict=Verdict.NO_EVIDENCE, chosen=None, reason="", candidates=())


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """What a run found, and the directory it was written to."""

    result: RunResult
    directory: Path


def run_experiment(
    experiment: Experiment, progress: Progress, jobs: int | None = None
) -> FinishedRun:
    """Calibrate, build, compare, analyse, judge and report.

    Args:
        experiment: what is asked.
        progress: whom to tell.
        jobs: workers that share the passes over data, instead of `execution.workers`; the results
            are the same.

    Raises:
        InputError: if the model, the data or the config cannot be used.
    """
    parent = experiment.output.reports / experiment.name
    with runtime_log(parent) as log, open_executor(experiment.execution, jobs) as executor:
        started, begin = datetime.now(UTC), time.perf_counter()
        bench = open_workbench(experiment, progress, executor)
        made = _made(bench)
        inputs, calibration = made.inputs, made.calibration
        config = experiment.model_dump(mode="json")
        # Two runs may start within one millisecond.
        own = digest_from_key({"config": config, "process": os.getpid()})
        run_id = f"{started:%Y%m%d-%H%M%S-%f}"[:-3] + f"-{own[:6]}"
        with run_directory(parent, run_id) as folder:
            records, speed = _measured(bench, made, folder)
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
                audit=made.audited.record,
                candidates=records,
                speed=speed,
                stages=tuple(bench.timings),
                notes=(
                    *bench.notes,
                    *inputs.notes,
                    *_notes(calibration, made.candidates, records),
                    *filter(None, [log.keep(folder)]),
                ),
                verdict=_UNJUDGED,
            )
            result = facts.model_copy(update={"verdict": evaluate(facts, experiment.limits)})
            with progress.stage("report", None):
                keep_models(made.candidates, calibration, folder)
                keep_deployment(bench, inputs, made.candidates, result, folder)
                write_report(result, folder)
        return FinishedRun(result, parent / run_id)


def fill_store(experiment: Experiment) -> None:
    """Every stage of a run that the store keeps, and no report.

    Raises:
        InputError: if the model, the data or the config cannot be used.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with runtime_log(folder):
            bench = open_workbench(experiment, Silent())
            _measured(bench, _made(bench), folder)


@dataclass(frozen=True, slots=True)
class _Made:
    """What a run makes before its engines are measured."""

    inputs: Inputs
    slicer: Slicer
    calibration: Calibration
    audited: Audit
    candidates: tuple[Candidate, ...]


def _made(bench: Workbench) -> _Made:
    inputs = read_inputs(bench)
    slicer = open_slicer(bench, inputs)
    calibration = placed(bench, inputs, calibrate(bench, inputs))
    audited = audit(bench, inputs, calibration)
    return _Made(inputs, slicer, calibration, audited, build_candidates(bench, inputs, calibration))


def _measured(
    bench: Workbench, made: _Made, folder: Path
) -> tuple[tuple[CandidateRecord, ...], SpeedRecord | None]:
    with SampleTables(folder) as samples:
        files = RunFiles(folder, samples, BesideFp16(), made.slicer)
        return measure(
            bench, made.inputs, made.calibration, made.candidates, files, made.audited.known
        )


def _notes(
    calibration: Calibration,
    candidates: tuple[Candidate, ...],
    records: tuple[CandidateRecord, ...],
) -> Iterator[str]:
    """What is to be known of the candidates, a sentence each."""
    yield from not_compared(records)
    if any(candidate.twin for candidate in candidates):
        yield TWIN_NOTE
    if calibration.ranges:
        yield NATIVE_NOTE
    if calibration.placement is not None:
        yield f"placement: {calibration.placement.why}"


def run_calibration(
    experiment: Experiment,
    progress: Progress,
    shard: Shard,
    target: Path,
    jobs: int | None = None,
) -> StatisticsFile:
    """Observe the calibration data, or a shard of its batches, and write the statistics.

    Args:
        experiment: what is asked.
        progress: whom to tell.
        shard: which batches.
        target: the file.
        jobs: workers that share them, instead of `execution.workers`; the file is the same.

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
    with (
        runtime_log(experiment.output.reports / experiment.name),
        open_executor(experiment.execution, jobs) as executor,
    ):
        bench = open_workbench(experiment, progress, executor)
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
    with (
        runtime_log(experiment.output.reports / experiment.name),
        open_executor(experiment.execution) as executor,
    ):
        bench = open_workbench(experiment, progress, executor)
        inputs = read_inputs(bench)
        found = sensitivity(bench, inputs)
        remedied = prepared(bench, inputs).remedied
    return found.model_copy(update={"remedies": remedied.record if remedied else None})
