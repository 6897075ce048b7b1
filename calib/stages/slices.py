"""Slices of the validation split: found before anything runs, counted as verdicts come."""

from dataclasses import dataclass, field, replace

from calib.analysis.slice_search import find_slices, find_slices_by_score
from calib.analysis.slices import (
    Features,
    Figure,
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
from calib.tasks import kind_from_spec


@dataclass(frozen=True, slots=True)
class Slicer:
    """What the validation samples can be sliced by, and the outcomes so far, by candidate.

    Attributes:
        spec: which slices.
        has_classes: whether labels are names of classes; then answers are counted.
        known: what each sample can be told apart by, by id.
        families: the slice of each sample, by family and id.
        needs_label: whether nothing is known of a sample without a label.
        score: what a sample's score is, in words, where a search goes by it.
        outcomes: by candidate.
    """

    spec: SlicesSpec
    has_classes: bool
    known: dict[str, Features]
    families: dict[str, dict[str, str]]
    needs_label: bool = True
    score: str | None = None
    outcomes: dict[str, list[Outcome]] = field(default_factory=dict)

    def add(self, candidate: str, verdict: SampleVerdict) -> None:
        """Take in one verdict; what has no label is left out."""
        found = outcome(verdict, has_classes=self.has_classes, needs_label=self.needs_label)
        if found is not None:
            self.outcomes.setdefault(candidate, []).append(found)

    def scored(self, record: CandidateRecord, figure: Figure) -> CandidateRecord:
        """A candidate's record with what became of each slice, and against FP16.

        Args:
            record: of the candidate.
            figure: the task's, on some samples; where answers are counted it is not asked.
        """
        own = self.outcomes.get(record.name, [])
        if record.precision is Precision.FP32 or not own:
            return record
        if record.score is None or record.score.reference_right is None:
            # Where there is no right and wrong nobody has anything right.
            own = [replace(o, lost=0, both_right=False) for o in own]
        asked = None if self.has_classes else figure
        found = (
            find_slices(own, self.known)
            if self.has_classes
            else find_slices_by_score(own, self.known, self.score)
            if self.score is not None
            else ()
        )
        return record.model_copy(
            update={
                "slices": slice_scores(own, self.families, self.spec, asked),
                "found_slices": found,
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
    names = [output.name for output in inputs.model.record.outputs]
    kind = kind_from_spec(bench.experiment.task, names, inputs.class_names or ())
    return Slicer(
        spec,
        has_classes,
        known,
        assignments(known, spec),
        needs_label=TaskKind(bench.experiment.task.kind) is not TaskKind.EMBEDDING,
        score=kind.sample_metric.title if getattr(kind, "scores_are_judged", True) else None,
    )
