"""Trials side by side: everything but what is timed, which wants a quiet machine.

The experiment's `execution` says where: processes of this machine, or actors of a Ray cluster whose
machines share the store's folder. Each computes a trial's stages into the store, with speed left
out. Then the trial's own run, alone on this machine, finds them there, times the engines and writes
the report. Where nothing is timed, a process makes the trial's own run.
"""

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from calib.config import Experiment
from calib.errors import BackendError, InputError
from calib.execution import LocalSpec, RaySpec, Work, open_executor
from calib.pipeline import fill_store, run_experiment
from calib.progress import Advance, Silent


def run_side_by_side(experiments: Sequence[Experiment], advance: Advance) -> str:
    """Fill the store with what these trials need, all at once; whatever fails is left to the run.

    Each has the threads of one process: with fewer, ONNX Runtime would round some sums otherwise,
    and the store would hold what no run by itself makes.

    Args:
        experiments: a worker for each.
        advance: called with 1 for each that is finished.

    Returns:
        Why one of them was broken off; empty if none was.
    """
    wanted = [e for e in experiments if not _times_itself(e)]
    if len(wanted) < 2:
        return ""
    own = wanted[0].execution.model_copy(update={"workers": len(wanted), "attempts": 1})
    work = Work("calib.sweep.side_by_side:work", tuple(map(_request, wanted)))
    try:
        with open_executor(own) as executor, tempfile.TemporaryDirectory() as scratch:
            executor.run(work, Path(scratch), advance, lambda *_: None)
    except BackendError as error:
        return str(error)
    return ""


def _request(experiment: Experiment) -> str:
    if isinstance(experiment.execution, RaySpec):  # an actor starts no others
        experiment = experiment.model_copy(update={"execution": LocalSpec()})
    return experiment.model_dump_json()


def _times_itself(experiment: Experiment) -> bool:
    """Whether the trial times engines to choose among them: not beside others."""
    quantization = experiment.quantization
    return quantization.layout == "native" and quantization.placement == "auto"


def work(text: str, _model: Path, _target: Path, advance: Advance) -> None:
    """Serve a request.

    Args:
        text: the experiment in JSON.
        advance: called with 1 at the end.
    """
    experiment = Experiment.model_validate_json(text)
    with suppress(InputError):  # the trial's own run meets it again, and says so
        if not experiment.throughput.batch_sizes:
            run_experiment(experiment, Silent())
        else:
            nothing = experiment.throughput.model_copy(update={"batch_sizes": ()})
            fill_store(experiment.model_copy(update={"throughput": nothing}))
    advance(1)
