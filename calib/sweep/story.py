"""A sweep from the config to the front: the story on one page."""

import textwrap
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock
from filelock import Timeout as LockTimeout

from calib.environment import environment_record
from calib.errors import InputError, StoreError
from calib.pipeline import run_experiment
from calib.progress import Silent
from calib.report.sweep import write_sweep
from calib.results import RunResult, SweepRecord
from calib.runtime_log import runtime_log
from calib.settings import to_yaml
from calib.stages.inputs import read_inputs
from calib.stages.workbench import open_workbench
from calib.store import digest_from_key, write_atomically
from calib.sweep.judge import ACCURACY, COST, Figures, basis, figures_of
from calib.sweep.labels import labels
from calib.sweep.planning import Plan
from calib.sweep.record import Trial, overrides_of, sweep_record
from calib.sweep.runs import FinishedRuns, digest_of
from calib.sweep.side_by_side import run_side_by_side
from calib.sweep.space import Base, Point, settings_of
from calib.sweep.study import Proposal, Study
from calib.sweep.telling import Telling

_BROKEN_OFF = "remedies so far"
"""The stage of a search that Ctrl-C ended early: its run is no fair trial of its settings."""


@dataclass
class _Sweep:
    """What is known so far."""

    base: Base
    study: Study
    runs: FinishedRuns
    telling: Telling
    problems: list[tuple[Point, InputError]] = field(default_factory=list)
    bases: tuple[str, str] | None = None

    def teach(self, proposal: Proposal, result: RunResult, seconds: float | None) -> None:
        """Keep the run of a proposal, and tell the sampler what came of it."""
        self.study.finish(proposal, result.run_id, seconds, self._values(result))
        self.telling.finished()

    def _values(self, result: RunResult) -> tuple[float, float] | None:
        limits = self.base.experiment.limits
        own = max(1, sum(c.precision == "int8" for c in result.candidates))
        found = figures_of(result, limits, own if limits.judge == "best" else 1)
        if found is None:
            return None
        self.bases = self.bases or (basis([found], ACCURACY), basis([found], COST))
        return _both(found, self.bases)


def _both(found: Figures, bases: tuple[str, str]) -> tuple[float, float] | None:
    accuracy, cost = found.accuracy(bases[0]), found.cost(bases[1])
    return None if accuracy is None or cost is None else (accuracy, cost)


@dataclass(frozen=True, slots=True)
class FinishedSweep:
    """What a sweep found, and the folder that it was written to."""

    record: SweepRecord
    folder: Path


def run_sweep(
    base: Base, plan: Plan, telling: Telling, jobs: int = 1, *, restart: bool = False
) -> FinishedSweep:
    """Try the points of the space, each as a run, and judge them as one of all.

    A point that has a run is not run again. What is interrupted keeps the runs that are finished,
    and is written as far as it went.

    Args:
        base: the experiment and its space.
        plan: of the same.
        telling: whom to tell.
        jobs: trials whose untimed stages are computed side by side.
        restart: forget the trials that are known, and make every run anew.

    Raises:
        InputError: if the model or the data cannot be used, or every trial is refused.
    """
    began = datetime.now(UTC).isoformat(timespec="seconds")
    parent = base.experiment.output.reports / base.experiment.name
    folder = parent / "sweep"
    with _alone(folder):
        telling.note("reading the model and the data")
        study = Study(
            folder / "study.journal", _key(base, parent), base.spec, base.space, restart=restart
        )
        sweep = _Sweep(base, study, FinishedRuns(parent, study.since), telling)
        for done in study.done:
            if sweep.runs.named(done.run_id) is None:
                study.forget(done)
        telling.begin(plan.trials, len(study.done))
        try:
            _try_all(sweep, jobs)
        finally:
            telling.end()
            found = _written(sweep, plan.sampler, began, folder)
    if found is None:
        raise _refused(sweep)
    return FinishedSweep(found, folder)


def _try_all(sweep: _Sweep, jobs: int) -> None:
    minutes = sweep.base.spec.timeout_minutes
    ends = None if minutes is None else time.monotonic() + 60 * minutes
    while ends is None or time.monotonic() < ends:
        proposals = sweep.study.propose(jobs)
        if not proposals:
            return
        open_ones = list(proposals)
        try:
            if jobs > 1:
                _prepare(sweep, proposals)
            while open_ones:
                _try_one(sweep, open_ones[0])
                open_ones.pop(0)
        except BaseException:  # Ctrl-C above all: they are tried again next time
            for proposal in open_ones:
                sweep.study.fail(proposal)
            raise
    sweep.telling.note(f"sweep.timeout_minutes: no trial begins after {minutes:g} minutes")


def _prepare(sweep: _Sweep, proposals: Sequence[Proposal]) -> None:
    """Compute side by side what these trials need, but for what is timed."""
    experiments = []
    for proposal in proposals:
        try:
            experiment = sweep.base.trial(proposal.point)
        except InputError:  # told when its turn comes
            continue
        if sweep.runs.of(experiment) is None:
            experiments.append(experiment)
    inner = sweep.telling.trial(f"{len(experiments)} trials side by side")
    with inner.stage("all but speed", len(experiments)) as advance:
        problem = run_side_by_side(experiments, advance)
    if problem:
        sweep.telling.note(f"trials are run one after another: {problem}")
    sweep.runs.refresh()


def _try_one(sweep: _Sweep, proposal: Proposal) -> None:
    point = proposal.point
    begin = time.perf_counter()
    try:
        experiment = sweep.base.trial(point)
        known = sweep.runs.of(experiment)
        if known is not None:
            sweep.teach(proposal, known, None)
            return
        inner = sweep.telling.trial(labels([point])[0])
        result = run_experiment(experiment, inner).result
    except InputError as error:
        sweep.problems.append((point, error))
        sweep.study.fail(proposal)
        sweep.telling.note(f"not run: {', '.join(settings_of(point))}: {error.problem}")
        sweep.telling.finished()
        return
    if any(stage.name == _BROKEN_OFF for stage in result.stages):
        raise KeyboardInterrupt
    sweep.runs.add(result)
    sweep.teach(proposal, result, time.perf_counter() - begin)


def _written(sweep: _Sweep, sampler: str, began: str, folder: Path) -> SweepRecord | None:
    """The files of what is known so far; None if no trial has a run."""
    trials = [
        Trial(done.point, sweep.runs.named(done.run_id), done.seconds) for done in sweep.study.done
    ]
    if not trials:
        return None
    trials += [Trial(point, None, problem=str(error)) for point, error in sweep.problems]
    record = sweep_record(sweep.base, sampler, began, trials)
    write_sweep(record, folder)
    best = folder / "best.yaml"
    if record.winner is None:
        best.unlink(missing_ok=True)
    else:
        write_atomically(best, _best_yaml(sweep.base, record))
    return record


def _best_yaml(base: Base, record: SweepRecord) -> str:
    """The experiment with the winner's settings, to run or to keep."""
    winner = record.trial(record.winner or 0)
    comment = "\n".join(
        [
            f"{base.file.name} with the settings of trial {winner.number}, run {winner.run_id}:",
            *(f"  {text}" for text in overrides_of(base, winner)),
            *textwrap.wrap(record.reason, 98),
            *textwrap.wrap(record.selection, 98),
        ]
    )
    return to_yaml(_unshared(base.variant(winner.settings)), comment)


def _unshared(value: Any) -> Any:
    """Without objects that stand in two places, for which YAML would write anchors."""
    if isinstance(value, dict):
        return {key: _unshared(item) for key, item in value.items()}
    return [_unshared(item) for item in value] if isinstance(value, list) else value


def _key(base: Base, parent: Path) -> str:
    """What all trials rest on: the experiment, model, data, code and machine.

    Read through the first corner of the space: the config by itself need not be one that runs.
    """
    experiment = base.trial(next(base.space.corners()))
    with runtime_log(parent):
        bench = open_workbench(experiment, Silent())
        inputs = read_inputs(bench)
    data = inputs.record
    key = {
        "experiment": digest_of(base.experiment.model_dump(mode="json")),
        "made_by": bench.made_by,
        "model": inputs.model.record.sha256,
        "data": [data.calibration.sha256, data.validation.sha256],
        "machine": environment_record(bench.backend).hostname_sha256,
    }
    return digest_from_key(key)[:16]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One sweep of an experiment at a time: a second would take the first one's trials for dead."""
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except LockTimeout as error:
        raise StoreError(
            str(folder), "another sweep of this experiment is running", fix="Wait for it."
        ) from error
    except OSError as error:
        raise StoreError(
            str(folder),
            f"cannot write here: {error.strerror or error}",
            fix="Choose another directory with --set output.reports=… or free some space.",
        ) from error
    try:
        yield
    finally:
        lock.release()


def _refused(sweep: _Sweep) -> InputError:
    """The first problem, where no trial could be run."""
    if sweep.problems:
        return sweep.problems[0][1]
    return StoreError(
        "sweep.timeout_minutes", "no trial was finished in time", fix="Give it more time."
    )
