"""From saved outputs to the record of each candidate."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from calib.analysis.accuracy import SamplePair, Task
from calib.analysis.tails import Analysis, analyse
from calib.compare import read_outputs
from calib.errors import DataError
from calib.results import HeadRecord, SampleVerdict, TaskKind
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

        task = _open_task(inputs, bench.experiment.task, inputs.class_names or ())
        pairs = _judged_pairs(inputs, outputs, task, None)
        return analyse(task, pairs, bench.experiment.analysis.tail, on_sample)


def analyse_heads(
    bench: Workbench, inputs: Inputs, candidate: Candidate, outputs: Outputs
) -> tuple[HeadRecord, ...]:
    """Judge every further head of one candidate.

    Raises:
        DataError: if a label does not fit a head's output.
    """
    found = []
    for name, spec in bench.experiment.heads.items():
        with bench.timed(f"analyse {candidate.name}, {name}", inputs.validation.scan.samples):
            task = _open_task(inputs, spec, ())
            pairs = _judged_pairs(inputs, outputs, task, name)
            head = analyse(task, pairs, bench.experiment.analysis.tail, lambda _: None)
        found.append(HeadRecord(name=name, score=head.score, flips=head.flips, tail=head.tail))
    return tuple(found)


def _open_task(inputs: Inputs, spec: Any, class_names: tuple[str, ...]) -> Task:
    """A task as the config has it, for this model's outputs."""
    names = [output.name for output in inputs.model.record.outputs]
    return Task(TaskKind(spec.kind), *(kind_from_spec(spec, names, class_names) for _ in range(2)))


def _judged_pairs(
    inputs: Inputs, outputs: Outputs, task: Task, head: str | None
) -> Iterator[SamplePair]:
    """Both sides of each sample that is judged; a head's samples have its own labels."""
    names = task.kind.outputs
    sides = [
        partial(_one_side, inputs, folder, names, head)
        for folder in (outputs.reference, outputs.candidate)
    ]
    is_judged: Callable[[Sample], bool] = lambda _: True  # noqa: E731 - replaced below
    if isinstance(task.kind, Collecting) and isinstance(task.candidate_kind, Collecting):
        for kind, side in zip((task.kind, task.candidate_kind), sides, strict=True):
            kind.collect(side())
        is_judged = task.kind.is_judged
    for (expected, sample), (got, _) in zip(*(side() for side in sides), strict=True):
        if is_judged(sample):
            yield SamplePair(sample, expected, got)


def _one_side(
    inputs: Inputs, folder: Path, names: tuple[str, ...], head: str | None
) -> Iterator[tuple[Mapping[str, Array], Sample]]:
    """Each sample's own outputs, by name, and the sample with the head's label."""
    axes = inputs.axes.outputs
    streams = zip(inputs.validation.batches(), read_outputs(folder), strict=True)
    for batch, found in streams:
        rows = {name: _rows(found[name], axes[name], len(batch), name) for name in names}
        for index, sample in enumerate(batch.samples):
            own = sample
            if head is not None:
                own = replace(sample, label=sample.head_labels.get(head))
            yield {name: array[index] for name, array in rows.items()}, own


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
