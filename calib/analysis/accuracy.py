"""One sample's verdict, and samples added up to the task's metrics."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from calib.results import ClassScore, FlipSummary, MetricScore, SampleVerdict, TaskKind, TaskScore
from calib.tasks.base import Kind
from calib.tasks.judging import Tally, Verdict, judge, vanished
from data_loaders.types import Array, Sample


@dataclass(frozen=True, slots=True)
class Task:
    """How answers are read and judged.

    Attributes:
        name: the kind's.
        kind: reads FP32's outputs.
        candidate_kind: reads the candidate's: another object where samples are collected first.
    """

    name: TaskKind
    kind: Kind[Any, Any]
    candidate_kind: Kind[Any, Any]


@dataclass(frozen=True, slots=True)
class SamplePair:
    """What FP32 and a candidate say about one sample: array by output, without batch axis."""

    sample: Sample
    reference: Mapping[str, Array]
    candidate: Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Judged:
    """A sample's verdict for the report, and the kind's own."""

    verdict: SampleVerdict
    answers: Verdict


def judge_pair(task: Task, pair: SamplePair) -> Judged:
    """Score one sample.

    Raises:
        DataError: if FP32's output is not finite, or the label does not fit it.
    """
    kind = task.kind
    found = judge(kind, pair.sample, pair.reference, pair.candidate, task.candidate_kind)
    sign = 1.0 if kind.sample_metric.higher_is_better else -1.0
    verdict = SampleVerdict(
        id=pair.sample.id,
        label=found.label,
        reference_prediction=found.reference_words,
        prediction=found.words,
        reference_margin=sign * found.reference_score,
        margin=sign * found.score,
        margin_loss=sign * (found.reference_score - found.score),
        flip=found.flip,
        saturation_pct=None,
        metadata=dict(pair.sample.metadata),
    )
    return Judged(verdict, found)


class ScoreAccumulator:
    """Adds samples up to a TaskScore and a FlipSummary."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._tally = Tally(task.kind)
        self._samples = 0
        self._flips: Counter[str] = Counter()
        self._classes: dict[str, list[int]] = {}
        self._sample_errors: list[tuple[float, float]] = []
        self._cosines: list[float] = []

    def add(self, judged: Judged) -> None:
        """Count one sample."""
        verdict, answers = judged.verdict, judged.answers
        self._samples += 1
        self._tally.add(verdict.id, answers)
        if verdict.flip:
            self._flips[verdict.flip] += 1
        match self._task.name:
            case TaskKind.CLASSIFICATION if verdict.label is not None:
                self._add_label(verdict, verdict.label)
            case TaskKind.REGRESSION if verdict.label is not None:
                self._sample_errors.append((answers.score, answers.reference_score))
            case TaskKind.EMBEDDING:
                self._cosines.append(answers.score)

    def _add_label(self, verdict: SampleVerdict, label: str) -> None:
        right = int(verdict.prediction == label)
        reference_right = int(verdict.reference_prediction == label)
        lost, gained = verdict.flip == "worsened", verdict.flip == "improved"
        counts = self._classes.setdefault(label, [0, 0, 0, 0, 0])
        for index, value in enumerate((1, right, reference_right, lost, gained)):
            counts[index] += value

    def part(self, ids: Sequence[str]) -> MetricScore | None:
        """See `Tally.part`."""
        return self._tally.part(ids)

    def flips(self) -> FlipSummary:
        """The predictions that differ from FP32's."""
        return FlipSummary(
            samples=self._samples,
            total=self._flips.total(),
            worsened=self._flips["worsened"],
            improved=self._flips["improved"],
            sideways=self._flips["sideways"],
            unlabelled=self._flips["unlabelled"],
        )

    def score(self) -> TaskScore:
        """The task's metrics; what there is no evidence for is None."""
        tally, name = self._tally, self._task.name
        by_class = tally.classes()
        general = TaskScore(
            kind=name,
            samples=self._samples if name is TaskKind.EMBEDDING else tally.labelled,
            reference_right=tally.reference_right,
            sample_score=self._task.kind.sample_metric.title,
            sample_score_unit=self._task.kind.sample_metric.unit,
            sample_score_negated=not self._task.kind.sample_metric.higher_is_better,
            metrics=tally.metrics(),
            agreement=tally.agreement(),
            by_class=by_class,
            vanished=vanished(by_class),
        )
        return general.model_copy(update=self._own_fields(general))

    def _own_fields(self, score: TaskScore) -> dict[str, object]:
        """What limits and older readers know of a kind by name."""
        if self._task.name is TaskKind.EMBEDDING:
            return self._embedding_fields()
        known = {m.name: m for m in score.metrics}
        names = {
            TaskKind.CLASSIFICATION: ("accuracy_pct", "macro_recall_pct"),
            TaskKind.REGRESSION: ("mean_abs_error", "root_mean_square_error"),
        }.get(self._task.name, ())
        fields: dict[str, object] = {}
        for field in names if known else ():
            fields[field] = known[field].value
            fields[f"reference_{field}"] = known[field].reference
        if self._task.name is TaskKind.CLASSIFICATION:
            fields["classes"] = self._class_scores()
        if self._task.name is TaskKind.REGRESSION:
            fields["sample_errors"] = tuple(sorted(self._sample_errors))
            if any(not math.isfinite(error) for error, _ in self._sample_errors):
                fields["mean_abs_error"] = fields["root_mean_square_error"] = math.inf
        return fields

    def _class_scores(self) -> tuple[ClassScore, ...]:
        return tuple(
            ClassScore(
                name=name,
                samples=total,
                recall_pct=100 * right / total,
                reference_recall_pct=100 * reference_right / total,
                worsened=lost,
                improved=gained,
            )
            for name, (total, right, reference_right, lost, gained) in sorted(self._classes.items())
        )

    def _embedding_fields(self) -> dict[str, object]:
        cosines = tuple(sorted(self._cosines))
        return {
            "mean_cosine": float(np.mean(cosines)) if cosines else None,
            "worst_cosine": cosines[0] if cosines else None,
            "sample_cosines": cosines,
        }
