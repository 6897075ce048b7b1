"""Multi-label classification: any number of classes at once."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from calib.tasks.base import Comparison, Metric, output_of, percent, refuse, stacked
from data_loaders.types import Array, Sample

Scores = NDArray[np.float64]


class MultiLabelSpec(BaseModel):
    """A score for each class, any number of which may be right; scored by F1 and mAP."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["multi_label"] = "multi_label"
    output: str | None = Field(
        default=None, description="Scores, (classes,); the model's first output if absent."
    )
    threshold: float = Field(
        default=0.0, description="A score above it says yes: 0 of logits, 0.5 of probabilities."
    )


class MultiLabel:
    """Micro and macro F1 at a threshold, and mAP over classes.

    Args:
        spec: how the output is read.
        names: of the model's outputs.
        class_names: by class.
    """

    metrics = (
        Metric("micro_f1_pct", "F1 over all labels"),
        Metric("macro_f1_pct", "mean F1 of the classes"),
        Metric("label_map_pct", "mAP of the classes"),
    )
    sample_metric = Metric("sample_f1_pct", "F1 of the sample")
    reads_all = True
    slices_by_score = True

    def __init__(
        self, spec: MultiLabelSpec, names: Sequence[str], class_names: Sequence[str] = ()
    ) -> None:
        self._spec, self._class_names = spec, tuple(class_names)
        self.outputs = (spec.output or names[0],)

    def answer(self, outputs: Mapping[str, Array], sample: Sample) -> Scores:
        """See `Kind.answer`; NaN says no."""
        scores = output_of(outputs, self.outputs[0], sample).ravel().astype(np.float64)
        return np.where(np.isnan(scores), -np.inf, scores)

    def target(self, sample: Sample) -> NDArray[np.bool_] | None:
        """See `Kind.target`."""
        label = sample.label
        if label is None:
            return None
        if not isinstance(label, np.ndarray) or label.ndim != 1:
            raise refuse(
                sample, "the label is no list of 0 and 1", type(label).__name__, "one a class"
            )
        return label.astype(np.float64) > 0

    def target_from_answer(self, answer: Scores) -> NDArray[np.bool_]:
        """What FP32 says yes to."""
        return answer > self._spec.threshold

    def compare(self, answer: Scores, target: NDArray[np.bool_]) -> Comparison:
        """See `Kind.compare`; statistics are the scores and the labels: mAP ranks samples."""
        if answer.shape != target.shape:
            raise ValueError(f"{answer.size} scores for {target.size} labels")
        said = answer > self._spec.threshold
        whole = int(said.sum() + target.sum())
        score = percent(2 * int((said & target).sum()), whole) if whole else 100.0
        return Comparison(score, bool(np.array_equal(said, target)), np.stack([answer, target]))

    def is_same(self, first: Scores, second: Scores) -> bool:
        """Whether they say yes to the same classes."""
        return bool(np.array_equal(self.target_from_answer(first), self.target_from_answer(second)))

    def gathered(self, statistics: Sequence[NDArray[np.float64]]) -> "Labels":
        """See `Gathering`."""
        return Labels(stacked(statistics), self._spec.threshold)

    def summarise(
        self,
        statistics: "Sequence[NDArray[np.float64]] | Labels",
        weights: NDArray[np.float64] | None = None,
    ) -> dict[str, float]:
        """See `Kind.summarise`; macro figures are means over the classes that occur."""
        known = statistics if isinstance(statistics, Labels) else self.gathered(statistics)
        often = np.ones(len(known)) if weights is None else weights
        hits, found, there = known.counts(often)
        occurs = there > 0
        f1 = 200 * hits / np.maximum(found + there, 1)
        precision = [known.average_precision(int(c), often) for c in np.flatnonzero(occurs)]
        return {
            "micro_f1_pct": percent(2 * hits.sum(), found.sum() + there.sum()),
            "macro_f1_pct": float(f1[occurs].mean()) if occurs.any() else float("nan"),
            "label_map_pct": 100 * float(np.mean(precision)) if precision else float("nan"),
        }

    def by_class(
        self,
        statistics: "Sequence[NDArray[np.float64]] | Labels",
        weights: NDArray[np.float64] | None = None,
    ) -> dict[str, float]:
        """Recall of each class that occurs, in %, by name."""
        known = statistics if isinstance(statistics, Labels) else self.gathered(statistics)
        hits, _, there = known.counts(np.ones(len(known)) if weights is None else weights)
        return {
            self._name(int(c)): percent(float(hits[c]), float(there[c]))
            for c in np.flatnonzero(there)
        }

    def class_samples(self, statistics: "Labels") -> dict[str, int]:
        """See `HasClasses`: samples of the class."""
        _, _, there = statistics.counts(np.ones(len(statistics)))
        return {self._name(int(c)): int(there[c]) for c in np.flatnonzero(there)}

    def words(self, answer: Scores) -> str:
        """The classes that it says yes to."""
        return self.target_words(self.target_from_answer(answer))

    def target_words(self, target: NDArray[np.bool_]) -> str:
        """The classes that are right."""
        return ", ".join(self._name(int(c)) for c in np.flatnonzero(target)) or "none"

    def _name(self, label: int) -> str:
        return self._class_names[label] if label < len(self._class_names) else str(label)


class Labels:
    """Scores and labels of all samples, each class sorted once for the many times it is weighed.

    Args:
        table: float64 (samples, 2, classes): scores, and labels of 0 and 1.
        threshold: a score above it says yes.
    """

    def __init__(self, table: NDArray[np.float64], threshold: float) -> None:
        scores, self._true = table[:, 0], table[:, 1] > 0
        said = scores > threshold
        self._counted = [part.astype(np.float64) for part in (said & self._true, said, self._true)]
        self._order = np.argsort(-scores, axis=0, kind="stable")
        ranked = np.take_along_axis(scores, self._order, axis=0)
        # Equal scores are one step of the curve.
        last = np.ones((1, scores.shape[1]), dtype=np.bool_)
        self._is_end = np.concatenate([ranked[1:] != ranked[:-1], last])

    def __len__(self) -> int:
        """How many samples there are."""
        return len(self._true)

    def counts(
        self, weights: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Labels found, said and there, float64 (classes,) each."""
        hits, said, there = (weights @ part for part in self._counted)
        return hits, said, there

    def average_precision(self, label: int, weights: NDArray[np.float64]) -> float:
        """Area under the steps of precision over recall, as scikit-learn's; NaN of nothing to find.

        Args:
            label: the class.
            weights: how often each sample counts, float64 (samples,).
        """
        order, ends = self._order[:, label], self._is_end[:, label]
        count = weights[order]
        right = np.cumsum(count * self._true[order, label])[ends]
        whole = np.cumsum(count)[ends]
        if not right[-1]:
            return float("nan")
        recall = np.diff(right, prepend=0) / right[-1]
        return float((recall * right / np.maximum(whole, np.spacing(1))).sum())
