"""Trials side by side in processes: everything but what is timed, which wants a quiet machine.

Each process runs a trial into the shared store, with speed left out, and its report is thrown away.
Then the trial's own run, alone on the machine, finds every stage there, times the engines and
writes the report. Where nothing is timed, a process makes the trial's own run.

`run_side_by_side` is all that knows of processes: another way to run trials elsewhere replaces it.
"""

import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel

from calib.config import Experiment
from calib.errors import BackendError, InputError
from calib.execution import LocalSpec, Work
from calib.execution.local import LocalExecutor
from calib.pipeline import run_experiment
from calib.progress import Advance, Silent


class _Request(BaseModel):
    experiment: Experiment
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
    with tempfile.TemporaryDirectory(prefix="calib-sweep-") as scratch:
        shares = _shares(len(wanted))
        requests = [
            _Request(experiment=_untimed(e, Path(scratch)), cores=cores).model_dump_json()
            for e, cores in zip(wanted, shares, strict=True)
        ]
        work = Work(
            handler="calib.sweep.side_by_side:work",
            requests=tuple(requests),
            model=Path(os.devnull),  # each finds its own in its experiment
        )
        executor = LocalExecutor(LocalSpec(workers=len(requests), attempts=1))
        try:
            executor.run(work, Path(scratch), advance, lambda *_: None)
        except BackendError as error:
            return str(error)
    return ""


def _times_itself(experiment: Experiment) -> bool:
    """Whether the trial times engines to choose among them: not beside others."""
    quantization = experiment.quantization
    return quantization.layout == "native" and quantization.placement == "auto"


def _untimed(experiment: Experiment, scratch: Path) -> Experiment:
    if not experiment.throughput.batch_sizes:
        return experiment
    return experiment.model_copy(
        update={
            "throughput": experiment.throughput.model_copy(update={"batch_sizes": ()}),
            "output": experiment.output.model_copy(update={"reports": scratch}),
        }
    )


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
        run_experiment(request.experiment, Silent())
    advance(1)
