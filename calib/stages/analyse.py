"""From saved outputs to the record of each candidate."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calib.analysis.accuracy import SamplePair, Task
from calib.analysis.tails import Analysis, analyse
from calib.compare import read_outputs
from calib.errors import DataError
from calib.results import SampleVerdict, TaskKind
from calib.stages.calibrate import Candidate
from calib.stages.inputs import Inputs
from calib.stages.workbench import Workbench
from calib.tasks import kind_from_spec
from calib.tasks.base import Collecting
from data_loaders.types import Array, Sample

OnRow = Callable[[str, SampleVerdict], None]


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where the saved outputs of a candidate and of FP32 are."""

    reference: Path
    candidate: Path


def analyse_candidate(
    bench: Workbench, inputs: Inputs, candidate: Candidate, outputs: Outputs, on_row: OnRow
) -> Analysis:
    """Judge every validation sample of one candidate.

    Raises:
        DataError: if a label does not fit the output.
    """
    total = inputs.validation.scan.samples
    with bench.timed(f"analyse {candidate.name}", total) as advance:

        def on_sample(verdict: SampleVerdict) -> None:
            on_row(candidate.name, verdict)
            advance(1)

        task = open_task(bench, inputs)
        pairs = _pairs(inputs, outputs, task.kind.outputs)
        if isinstance(task.kind, Collecting) and isinstance(task.candidate_kind, Collecting):
            for kind, folder in (
                (task.kind, outputs.reference),
                (task.candidate_kind, outputs.candidate),
            ):
                kind.collect(_one_side(inputs, folder, task.kind.outputs))
            judged = task.kind.is_judged
            pairs = (pair for pair in pairs if judged(pair.sample))
        return analyse(task, pairs, bench.experiment.analysis.tail, on_sample)


def open_task(bench: Workbench, inputs: Inputs) -> Task:
    """The task as the config has it, for this model's outputs."""
    spec = bench.experiment.task
    names = [output.name for output in inputs.model.record.outputs]
    kinds = (kind_from_spec(spec, names, inputs.class_names or ()) for _ in range(2))
    return Task(TaskKind(spec.kind), *kinds)


def _pairs(inputs: Inputs, outputs: Outputs, names: tuple[str, ...]) -> Iterator[SamplePair]:
    """Both sides of each sample."""
    sides = (_one_side(inputs, f, names) for f in (outputs.reference, outputs.candidate))
    for (expected, sample), (got, _) in zip(*sides, strict=True):
        yield SamplePair(sample, expected, got)


def _one_side(
    inputs: Inputs, folder: Path, names: tuple[str, ...]
) -> Iterator[tuple[Mapping[str, Array], Sample]]:
    """Each sample's own outputs, by name, and the sample."""
    axes = inputs.axes.outputs
    streams = zip(inputs.validation.batches(), read_outputs(folder), strict=True)
    for batch, found in streams:
        rows = {name: _rows(found[name], axes[name], len(batch), name) for name in names}
        for index, sample in enumerate(batch.samples):
            yield {name: array[index] for name, array in rows.items()}, sample


def _rows(array: Array, axis: int | None, samples: int, name: str) -> Array:
    """Each sample's own output: its first axis is the batch."""
    if axis is None and samples == 1:
        return array[None]
    if axis is None or axis >= array.ndim or array.shape[axis] != samples:
        raise DataError(
            f"model.batch_axes.{name}",
            "this output has no row for each sample there",
            got=f"axis {axis} of an output of shape {array.shape}",
            expected=f"an axis of {samples}, as many as there are samples in the batch",
            fix="Give the axis of the batch, or null if the output has none.",
        )
    return np.moveaxis(array, axis, 0)
