"""Classification: one class a sample."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from calib.tasks.base import Comparison, Metric, output_of, percent, refuse, stacked
from data_loaders.types import Array, Sample

BROKEN = -1
"""The class of an answer that holds a NaN or an infinity."""


class ClassificationSpec(BaseModel):
    """Logits or probabilities, (batch, classes); the largest wins, of equals the first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["classification"] = "classification"
    output: str | None = Field(
        default=None, description="The output that is scored; the model's first if absent."
    )


@dataclass(frozen=True, slots=True)
class Scored:
    """The class that won, and the scores, float64 (classes,)."""

    label: int
    scores: NDArray[np.float64]


class Classification:
    """Accuracy and recall; a sample's score is its margin.

    Args:
        spec: which output.
        names: of the model's outputs.
        class_names: by class.
    """

    metrics = (
        Metric("accuracy_pct", "accuracy"),
        Metric("macro_recall_pct", "mean recall of the classes"),
    )
    sample_metric = Metric("margin", "margin", unit="")
    reads_all = True

    def __init__(
        self, spec: ClassificationSpec, names: Sequence[str], class_names: Sequence[str] = ()
    ) -> None:
        self._class_names = tuple(class_names)
        self.outputs = (spec.output or names[0],)

    def answer(self, outputs: Mapping[str, Array], sample: Sample) -> Scored:
        """See `Kind.answer`."""
        array = output_of(outputs, self.outputs[0], sample)
        if array.squeeze().ndim > 1:
            raise refuse(
                sample,
                "a class for each position is none for the whole sample",
                f"an output of shape {array.shape}",
                "a score for each class, or task.kind token_classification or segmentation",
            )
        scores = array.ravel().astype(np.float64)
        return Scored(int(scores.argmax()) if np.isfinite(scores).all() else BROKEN, scores)

    def target(self, sample: Sample) -> int | None:
        """See `Kind.target`."""
        label = sample.label
        if label is None:
            return None
        if not isinstance(label, int) or label < 0:
            raise refuse(
                sample, "the label is none of the model's classes", repr(label), "an integer from 0"
            )
        return label

    def target_from_answer(self, answer: Scored) -> int:
        """See `Kind.target_from_answer`."""
        return answer.label

    def compare(self, answer: Scored, target: int) -> Comparison:
        """See `Kind.compare`; statistics are the class and whether the answer is right.

        The score is the true class's less the best other one's: below 0 is wrong.
        """
        if target >= len(answer.scores):
            last = len(answer.scores) - 1
            raise ValueError(f"class {target} is none of the model's classes, 0 to {last}")
        right = answer.label == target
        return Comparison(margin(answer.scores, target), right, np.array([target, right], float))

    def is_same(self, first: Scored, second: Scored) -> bool:
        """Whether the same class wins."""
        return first.label == second.label

    def summarise(
        self, statistics: Sequence[NDArray[np.float64]], weights: NDArray[np.float64] | None = None
    ) -> dict[str, float]:
        """See `Kind.summarise`."""
        right, samples = _by_class(statistics, weights)
        there = samples > 0
        recall = 100 * right[there] / samples[there]
        return {
            "accuracy_pct": percent(right.sum(), samples.sum()),
            "macro_recall_pct": float(recall.mean()) if there.any() else math.nan,
        }

    def by_class(self, statistics: Sequence[NDArray[np.float64]]) -> dict[str, float]:
        """Recall of each class that occurs, in %, by name."""
        right, samples = _by_class(statistics, None)
        return {self._name(int(c)): percent(right[c], samples[c]) for c in np.flatnonzero(samples)}

    def words(self, answer: Scored) -> str:
        """The class's name."""
        return "not finite" if answer.label == BROKEN else self._name(answer.label)

    def target_words(self, target: int) -> str:
        """The class's name."""
        return self._name(target)

    def _name(self, label: int) -> str:
        return self._class_names[label] if label < len(self._class_names) else str(label)


def _by_class(
    statistics: Sequence[NDArray[np.float64]], weights: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Right answers and samples of each class."""
    table = stacked(statistics)
    often = np.ones(len(table)) if weights is None else weights
    labels = table[:, 0].astype(np.int64)
    right, samples = (np.bincount(labels, w) for w in (often * table[:, 1], often))
    return right.astype(np.float64), samples.astype(np.float64)


def margin(scores: NDArray[np.float64], truth: int) -> float:
    """The true class's score less the best other one's; of one score alone, that."""
    if not np.isfinite(scores).all():
        return -math.inf
    if scores.size == 1:
        return float(scores[0])
    return float(scores[truth] - np.delete(scores, truth).max())
