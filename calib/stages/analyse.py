"""From saved outputs to the record of each candidate."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from calib.analysis.accuracy import SamplePair
from calib.analysis.tails import Analysis, analyse
from calib.compare import read_outputs
from calib.results import SampleVerdict, TaskKind
from calib.stages.calibrate import Candidate
from calib.stages.inputs import Inputs
from calib.stages.workbench import Workbench

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
    streams = zip(
        inputs.validation.batches(),
        read_outputs(outputs.reference),
        read_outputs(outputs.candidate),
        strict=True,
    )
    for batch, reference, candidate in streams:
        rows = zip(batch.samples, reference[name], candidate[name], strict=True)
        for sample, expected, got in rows:
            yield SamplePair(sample, expected, got)
