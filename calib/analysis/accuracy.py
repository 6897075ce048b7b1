"""Judging one sample, and adding samples up to the task's metrics."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np

from calib.errors import DataError
from calib.results import ClassScore, FlipSummary, SampleVerdict, TaskKind, TaskScore
from data_loaders.types import Array, Sample

Flip = Literal["", "worsened", "improved", "sideways", "unlabelled"]


@dataclass(frozen=True, slots=True)
class SamplePair:
    """What FP32 and a candidate say about one sample; arrays without batch axis."""

    sample: Sample
    reference: Array
    candidate: Array


@dataclass(frozen=True, slots=True)
class Judged:
    """A sample's verdict and the numbers that the metrics need.

    Attributes:
        verdict: for the report.
        errors: regression with a label: (mean |error|, mean error²) of the candidate, then FP32's.
        cosine: embedding: to FP32's.
    """

    verdict: SampleVerdict
    errors: tuple[float, float, float, float] | None = None
    cosine: float | None = None


def judge(kind: TaskKind, pair: SamplePair, class_names: tuple[str, ...] | None) -> Judged:
    """Score one sample.

    Raises:
        DataError: if FP32's output is not finite, or the label does not fit it.
    """
    if not np.isfinite(pair.reference).all():
        raise DataError(
            f"sample {pair.sample.id}", "FP32's output is not finite", fix="Check the FP32 model."
        )
    match kind:
        case TaskKind.CLASSIFICATION:
            return _judge_classification(pair, class_names)
        case TaskKind.REGRESSION:
            return _judge_regression(pair)
        case TaskKind.EMBEDDING:
            return _judge_embedding(pair)


def _judge_classification(pair: SamplePair, class_names: tuple[str, ...] | None) -> Judged:
    if pair.reference.squeeze().ndim > 1:
        raise DataError(
            f"sample {pair.sample.id}",
            "a class for each position is not supported",
            got=f"an output of shape {pair.reference.shape}",
            expected="a score for each class",
            fix="Name the output that classifies the whole sample in task.output.",
        )
    reference = pair.reference.ravel().astype(np.float64)
    candidate = pair.candidate.ravel().astype(np.float64)
    label = _class_index(pair.sample, reference.size)
    broken = not np.isfinite(candidate).all()
    expected = int(reference.argmax())
    predicted = -1 if broken else int(candidate.argmax())
    truth = expected if label is None else label
    reference_margin = _margin(reference, truth)
    margin = -math.inf if broken else _margin(candidate, truth)
    names = class_names or ()
    verdict = SampleVerdict(
        id=pair.sample.id,
        label=None if label is None else _class_name(label, names),
        reference_prediction=_class_name(expected, names),
        prediction="not finite" if broken else _class_name(predicted, names),
        reference_margin=reference_margin,
        margin=margin,
        margin_loss=reference_margin - margin,
        flip=_flip(label, expected, predicted),
        saturation_pct=None,
        metadata=dict(pair.sample.metadata),
    )
    return Judged(verdict)


def _class_index(sample: Sample, classes: int) -> int | None:
    label = sample.label
    if label is None:
        return None
    if not isinstance(label, int) or not 0 <= label < classes:
        raise DataError(
            f"sample {sample.id}",
            "the label is none of the model's classes",
            got=repr(label),
            expected=f"an integer from 0 to {classes - 1}",
        )
    return label


def _class_name(index: int, names: tuple[str, ...]) -> str:
    return names[index] if index < len(names) else str(index)


def _margin(scores: Array, truth: int) -> float:
    if scores.size == 1:
        return float(scores[0])
    return float(scores[truth] - np.delete(scores, truth).max())


def _flip(label: int | None, expected: int, predicted: int) -> Flip:
    if expected == predicted:
        return ""
    if label is None:
        return "unlabelled"
    if expected == label:
        return "worsened"
    return "improved" if predicted == label else "sideways"


def _judge_regression(pair: SamplePair) -> Judged:
    reference = pair.reference.ravel().astype(np.float64)
    candidate = pair.candidate.ravel().astype(np.float64)
    label = pair.sample.label
    target = reference if label is None else np.asarray(label, dtype=np.float64).ravel()
    if target.shape != reference.shape or not np.isfinite(target).all():
        raise DataError(
            f"sample {pair.sample.id}",
            "the label does not fit the output",
            got=f"{target.size} values",
            expected=f"{reference.size} finite values",
        )
    reference_error, reference_square = _errors(reference, target)
    error, square = _errors(candidate, target)
    verdict = SampleVerdict(
        id=pair.sample.id,
        label=None if label is None else _numbers(target),
        reference_prediction=_numbers(reference),
        prediction=_numbers(candidate),
        reference_margin=-reference_error,
        margin=-error,
        margin_loss=error - reference_error,
        flip="",
        saturation_pct=None,
        metadata=dict(pair.sample.metadata),
    )
    labelled = (error, square, reference_error, reference_square)
    return Judged(verdict, errors=None if label is None else labelled)


def _errors(output: Array, target: Array) -> tuple[float, float]:
    """(mean absolute error, mean square error); infinite where the output is not finite."""
    if not np.isfinite(output).all():
        return math.inf, math.inf
    return float(np.abs(output - target).mean()), float(np.square(output - target).mean())


def _judge_embedding(pair: SamplePair) -> Judged:
    reference = pair.reference.ravel().astype(np.float64)
    candidate = pair.candidate.ravel().astype(np.float64)
    length = float(np.linalg.norm(reference) * np.linalg.norm(candidate))
    usable = math.isfinite(length) and length > 0
    cosine = float(reference @ candidate) / length if usable else -1.0
    verdict = SampleVerdict(
        id=pair.sample.id,
        label=None,
        reference_prediction=_numbers(reference),
        prediction=_numbers(candidate),
        reference_margin=1.0,
        margin=cosine,
        margin_loss=1.0 - cosine,
        flip="",
        saturation_pct=None,
        metadata=dict(pair.sample.metadata),
    )
    return Judged(verdict, cosine=cosine)


def _numbers(values: Array) -> str:
    shown = " ".join(f"{value:.5g}" for value in values[:4])
    return shown if values.size <= 4 else f"{shown} …"


class ScoreAccumulator:
    """Adds samples up to a TaskScore and a FlipSummary."""

    def __init__(self, kind: TaskKind) -> None:
        self._kind = kind
        self._samples = self._labelled = self._right = self._reference_right = 0
        self._flips: Counter[str] = Counter()
        self._classes: dict[str, list[int]] = {}
        self._errors: list[float] = [0.0, 0.0, 0.0, 0.0]
        self._sample_errors: list[tuple[float, float]] = []
        self._cosines: list[float] = []

    def add(self, judged: Judged) -> None:
        """Count one sample."""
        verdict = judged.verdict
        self._samples += 1
        if verdict.flip:
            self._flips[verdict.flip] += 1
        if judged.cosine is not None:
            self._cosines.append(judged.cosine)
        if judged.errors is not None:
            self._labelled += 1
            self._errors = [a + b for a, b in zip(self._errors, judged.errors, strict=True)]
            self._sample_errors.append((judged.errors[0], judged.errors[2]))
        if self._kind is TaskKind.CLASSIFICATION and verdict.label is not None:
            self._add_label(verdict, verdict.label)

    def _add_label(self, verdict: SampleVerdict, label: str) -> None:
        right = int(verdict.prediction == label)
        reference_right = int(verdict.reference_prediction == label)
        self._labelled += 1
        self._right += right
        self._reference_right += reference_right
        lost, gained = verdict.flip == "worsened", verdict.flip == "improved"
        counts = self._classes.setdefault(label, [0, 0, 0, 0, 0])
        for index, value in enumerate((1, right, reference_right, lost, gained)):
            counts[index] += value

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
        match self._kind:
            case TaskKind.CLASSIFICATION:
                return self._classification_score()
            case TaskKind.REGRESSION:
                return self._regression_score()
            case TaskKind.EMBEDDING:
                return self._embedding_score()

    def _classification_score(self) -> TaskScore:
        if not self._labelled:
            return TaskScore(kind=self._kind, samples=0)
        classes = tuple(
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
        return TaskScore(
            kind=self._kind,
            samples=self._labelled,
            accuracy_pct=100 * self._right / self._labelled,
            reference_accuracy_pct=100 * self._reference_right / self._labelled,
            macro_recall_pct=sum(c.recall_pct for c in classes) / len(classes),
            reference_macro_recall_pct=sum(c.reference_recall_pct for c in classes) / len(classes),
            classes=classes,
        )

    def _regression_score(self) -> TaskScore:
        if not self._labelled:
            return TaskScore(kind=self._kind, samples=0)
        absolute, square, reference, reference_square = (e / self._labelled for e in self._errors)
        return TaskScore(
            kind=self._kind,
            samples=self._labelled,
            mean_abs_error=absolute,
            reference_mean_abs_error=reference,
            root_mean_square_error=math.sqrt(square),
            reference_root_mean_square_error=math.sqrt(reference_square),
            sample_errors=tuple(sorted(self._sample_errors)),
        )

    def _embedding_score(self) -> TaskScore:
        cosines = tuple(sorted(self._cosines))
        return TaskScore(
            kind=self._kind,
            samples=self._samples,
            mean_cosine=math.fsum(cosines) / len(cosines) if cosines else None,
            worst_cosine=cosines[0] if cosines else None,
            sample_cosines=cosines,
        )
