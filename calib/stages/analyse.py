"""From saved outputs to the record of each candidate."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calib.analysis.accuracy import SamplePair
from calib.analysis.tails import Analysis, analyse
from calib.compare import read_outputs
from calib.errors import DataError
from calib.results import SampleVerdict, TaskKind
from calib.stages.calibrate import Candidate
from calib.stages.inputs import Inputs
from calib.stages.workbench import Workbench
from data_loaders.types import Array

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

        return analyse(
            TaskKind(bench.experiment.task.kind),
            _pairs(inputs, outputs),
            inputs.class_names,
            bench.experiment.analysis.tail,
            on_sample,
        )


def _pairs(inputs: Inputs, outputs: Outputs) -> Iterator[SamplePair]:
    name = inputs.task_output.name
    axis = inputs.axes.outputs[name]
    streams = zip(
        inputs.validation.batches(),
        read_outputs(outputs.reference),
        read_outputs(outputs.candidate),
        strict=True,
    )
    for batch, reference, candidate in streams:
        pair = (_rows(found[name], axis, len(batch), name) for found in (reference, candidate))
        for sample, expected, got in zip(batch.samples, *pair, strict=True):
            yield SamplePair(sample, expected, got)


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
