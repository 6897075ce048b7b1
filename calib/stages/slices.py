"""Slices of the validation split: found before anything runs, counted as verdicts come."""

from dataclasses import dataclass, field

from calib.analysis.slice_search import find_slices
from calib.analysis.slices import (
    Features,
    Outcome,
    SlicesSpec,
    assignments,
    features,
    outcome,
    paired_scores,
    slice_scores,
)
from calib.results import CandidateRecord, Precision, SampleVerdict, TaskKind
from calib.stages.inputs import Inputs
from calib.stages.workbench import Workbench


@dataclass(frozen=True, slots=True)
class Slicer:
    """What the validation samples can be sliced by, and the outcomes so far, by candidate."""

    spec: SlicesSpec
    has_classes: bool
    known: dict[str, Features]
    families: dict[str, dict[str, str]]
    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)

    def add(self, candidate: str, verdict: SampleVerdict) -> None:
        """Take in one verdict; what has no label is left out."""
        found = outcome(verdict, has_classes=self.has_classes)
        if found is not None:
            self.outcomes.setdefault(candidate, []).append(found)

    def scored(self, record: CandidateRecord) -> CandidateRecord:
        """A candidate's record with what became of each slice, and against FP16."""
        own = self.outcomes.get(record.name, [])
        # In a task without right and wrong nothing is ever lost: that is no evidence.
        has_right = record.score is not None and record.score.reference_right is not None
        if record.precision is Precision.FP32 or not own or not has_right:
            return record
        return record.model_copy(
            update={
                "slices": slice_scores(own, self.families, self.spec),
                "found_slices": find_slices(own, self.known),
                "paired": paired_scores(own, Precision.FP16.value),
            }
        )


def open_slicer(bench: Workbench, inputs: Inputs) -> Slicer:
    """Read the validation split once for what its samples can be sliced by.

    Raises:
        DataError: if the config names a column that no sample has.
    """
    spec = bench.experiment.analysis.slices
    has_classes = TaskKind(bench.experiment.task.kind) is TaskKind.CLASSIFICATION
    with bench.timed("slices", inputs.validation.scan.samples) as advance:
        known: dict[str, Features] = {}
        for sample in inputs.validation.data:
            known[sample.id] = features(sample)
            advance(1)
    return Slicer(spec, has_classes, known, assignments(known, spec))
