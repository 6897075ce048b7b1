"""Running an engine over the validation split by several workers; the outputs are those of one."""

from pathlib import Path

from calib.compare import move_batches
from calib.execution import Work
from calib.graph.load import files_of_model
from calib.progress import Advance
from calib.stages.calibrate import Candidate
from calib.stages.inputs import Inputs
from calib.stages.shard import Shard
from calib.stages.share import shares
from calib.stages.validating_worker import REQUEST, ValidatingRequest
from calib.stages.workbench import Workbench


def validating_workers(bench: Workbench, inputs: Inputs, candidate: Candidate) -> int:
    """How many workers share the validation batches; one, this process, for a TensorRT engine."""
    if candidate.plan is not None:
        return 1
    return max(1, min(bench.executor.workers, inputs.validation.batch_count))


def save_by_workers(
    bench: Workbench, inputs: Inputs, candidate: Candidate, folder: Path, advance: Advance
) -> None:
    """As `save_outputs`, each worker with a session of its own and its share of the batches.

    The files are those of one process, but for the seconds that Polygraphy notes in them.

    Raises:
        InputError: what a worker reports.
        BackendError: if one dies again and again.
    """
    workers = validating_workers(bench, inputs, candidate)
    requests = [
        ValidatingRequest(
            name=candidate.name,
            backend=bench.shared_runtime,
            reduced=bench.backend.reduced,
            share=share,
        )
        for share in shares(inputs.validation, Shard(), workers)
    ]
    model, *beside = files_of_model(candidate.runs)
    work = Work(
        handler="calib.stages.validating_worker:validate",
        requests=tuple(REQUEST.dump_json(request).decode() for request in requests),
        model=model,
        beside=tuple(beside),
    )
    bench.executor.run(work, folder, advance, lambda _, made: move_batches(made, folder))
