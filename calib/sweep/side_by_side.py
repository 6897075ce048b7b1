"""Trials side by side in processes: everything but what is timed, which wants a quiet machine.

Each process computes a trial's stages into the shared store, with speed left out. Then the trial's
own run, alone on the machine, finds them there, times the engines and writes the report. Where
nothing is timed, a process makes the trial's own run.

`run_side_by_side` is all that knows of processes: another way to run trials elsewhere replaces it.
"""

import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel

from calib.analysis.tails import BesideFp16
from calib.config import Experiment
from calib.errors import BackendError, InputError
from calib.execution import LocalSpec, Work
from calib.execution.local import LocalExecutor
from calib.measuring import RunFiles, measure
from calib.pipeline import run_experiment
from calib.progress import Advance, Silent
from calib.report import SampleTables
from calib.runtime_log import runtime_log
from calib.stages.audit import audit
from calib.stages.calibrate import build_candidates, calibrate
from calib.stages.inputs import read_inputs
from calib.stages.placement import placed
from calib.stages.slices import open_slicer
from calib.stages.workbench import open_workbench


class _Request(BaseModel):
    experiment: Experiment
    timed: bool
    cores: tuple[int, ...]


def run_side_by_side(experiments: Sequence[Experiment], advance: Advance) -> str:
    """Fill the store with what these trials need, all at once; whatever fails is left to the run.

    Args:
        experiments: a process for each.
        advance: called with 1 for each that is finished.

    Returns:
        Why they were broken off; empty if they were not.
    """
    wanted = [e for e in experiments if not _times_itself(e)]
    if len(wanted) < 2:
        return ""
    requests = tuple(
        _Request(
            experiment=_untimed(e), timed=bool(e.throughput.batch_sizes), cores=cores
        ).model_dump_json()
        for e, cores in zip(wanted, _shares(len(wanted)), strict=True)
    )
    work = Work("calib.sweep.side_by_side:work", requests)
    executor = LocalExecutor(LocalSpec(workers=len(requests), attempts=1))
    try:
        with tempfile.TemporaryDirectory(prefix="calib-sweep-") as scratch:
            executor.run(work, Path(scratch), advance, lambda *_: None)
    except BackendError as error:
        return str(error)
    return ""


def _times_itself(experiment: Experiment) -> bool:
    """Whether the trial times engines to choose among them: not beside others."""
    quantization = experiment.quantization
    return quantization.layout == "native" and quantization.placement == "auto"


def _untimed(experiment: Experiment) -> Experiment:
    nothing = experiment.throughput.model_copy(update={"batch_sizes": ()})
    return experiment.model_copy(update={"throughput": nothing})


def _shares(count: int) -> list[tuple[int, ...]]:
    """The processors dealt out; each process has one at least."""
    cores = sorted(os.sched_getaffinity(0))
    return [tuple(cores[n::count] or [cores[n % len(cores)]]) for n in range(count)]


def work(text: str, _model: Path, _target: Path, advance: Advance) -> None:
    """Serve a request.

    Args:
        text: a `_Request` in JSON.
        advance: called with 1 at the end.
    """
    request = _Request.model_validate_json(text)
    # Not the number of threads in the config: the store knows stages by that.
    with suppress(OSError):
        os.sched_setaffinity(0, request.cores)
    with suppress(InputError):  # the trial's own run meets it again, and says so
        if request.timed:
            _fill_store(request.experiment)
        else:
            run_experiment(request.experiment, Silent())
    advance(1)


def _fill_store(experiment: Experiment) -> None:
    """Every stage of a run that the store keeps, and no report."""
    with tempfile.TemporaryDirectory(prefix="calib-sweep-") as scratch:
        folder = Path(scratch)
        with runtime_log(folder), SampleTables(folder) as samples:
            bench = open_workbench(experiment, Silent())
            inputs = read_inputs(bench)
            slicer = open_slicer(bench, inputs)
            calibration = placed(bench, inputs, calibrate(bench, inputs))
            audited = audit(bench, inputs, calibration)
            candidates = build_candidates(bench, inputs, calibration)
            files = RunFiles(folder, samples, BesideFp16(), slicer)
            measure(bench, inputs, calibration, candidates, files, audited.known)
