"""Extractive question answering: where in a text the answer is."""

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from calib.tasks.base import Comparison, Metric, output_of, percent, refuse, weighted_sum
from data_loaders.targets import AnswersTarget
from data_loaders.types import Array, Sample


class QuestionAnsweringSpec(BaseModel):
    """Scores for the first and the last token of the answer; scored as SQuAD is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["question_answering"] = "question_answering"
    start: str = Field(default="start_logits", description="The output that scores first tokens.")
    end: str = Field(default="end_logits", description="The output that scores last tokens.")
    tokens_max: int = Field(default=30, ge=1, description="Longest answer, in tokens.")
    no_answer: bool = Field(
        default=False, description="The first token stands for: there is no answer (SQuAD 2)."
    )
    no_answer_threshold: float = Field(
        default=0.0, description="By how much no answer must beat the best answer."
    )


class QuestionAnswering:
    """Exact match and F1 over words, the best over the accepted answers.

    Args:
        spec: how the outputs are read.
    """

    metrics = (Metric("answer_f1_pct", "answer F1"), Metric("exact_match_pct", "exact match"))
    sample_metric = Metric("sample_answer_f1_pct", "F1 of the answer")

    def __init__(self, spec: QuestionAnsweringSpec) -> None:
        self._spec = spec
        self.outputs = (spec.start, spec.end)

    def answer(self, outputs: Mapping[str, Array], sample: Sample) -> str:
        """See `Kind.answer`: the text of the best span; empty for no answer, or no finite score."""
        label = self._label(sample)
        scores = [output_of(outputs, name, sample).ravel().astype(float) for name in self.outputs]
        tokens = len(label.offsets)
        if any(len(s) < tokens for s in scores):
            raise refuse(
                sample, "scores fewer tokens than it was given", len(scores[0]), f"{tokens}"
            )
        start, end = (np.where(np.isnan(s), -np.inf, s)[:tokens] for s in scores)
        span = self._best_span(start, end, label.offsets[:, 0] >= 0)
        if span is None:
            return ""
        first, last, score = span
        if self._spec.no_answer and start[0] + end[0] > score + self._spec.no_answer_threshold:
            return ""
        return label.context[label.offsets[first, 0] : label.offsets[last, 1]]

    def _best_span(
        self, start: NDArray[np.float64], end: NDArray[np.float64], allowed: NDArray[np.bool_]
    ) -> tuple[int, int, float] | None:
        """First and last token and score of the best span within the context."""
        sums = np.where(allowed, start, -np.inf)[:, None] + np.where(allowed, end, -np.inf)[None, :]
        place = np.arange(len(start))
        length = place[None, :] - place[:, None]
        sums = np.where((length >= 0) & (length < self._spec.tokens_max), sums, -np.inf)
        best = int(sums.argmax())
        first, last = divmod(best, len(start))
        score = float(sums[first, last])
        return None if score == -np.inf else (first, last, score)

    def _label(self, sample: Sample) -> AnswersTarget:
        if not isinstance(sample.label, AnswersTarget):
            raise refuse(
                sample,
                "has no context to answer from",
                type(sample.label).__name__,
                "a context, its tokens' offsets, and answers",
            )
        return sample.label

    def target(self, sample: Sample) -> tuple[str, ...] | None:
        """See `Kind.target`: the accepted answers."""
        answers = self._label(sample).answers
        return answers or (("",) if self._spec.no_answer else None)

    def target_from_answer(self, answer: str) -> tuple[str, ...]:
        """See `Kind.target_from_answer`."""
        return (answer,)

    def compare(self, answer: str, target: tuple[str, ...]) -> Comparison:
        """See `Kind.compare`; statistics are F1, exact match and 1."""
        f1 = max(word_f1(answer, accepted) for accepted in target)
        exact = any(normalised(answer) == normalised(accepted) for accepted in target)
        return Comparison(100 * f1, exact, np.array([f1, float(exact), 1.0]))

    def is_same(self, first: str, second: str) -> bool:
        """Whether they are the same after SQuAD's normalization."""
        return normalised(first) == normalised(second)

    def summarise(
        self, statistics: Sequence[NDArray[np.float64]], weights: NDArray[np.float64] | None = None
    ) -> dict[str, float]:
        """See `Kind.summarise`."""
        f1, exact, samples = weighted_sum(statistics, weights)
        return {"answer_f1_pct": percent(f1, samples), "exact_match_pct": percent(exact, samples)}

    def words(self, answer: str) -> str:
        """The answer."""
        return answer or "no answer"

    def target_words(self, target: tuple[str, ...]) -> str:
        """The accepted answers."""
        return " / ".join(dict.fromkeys(t or "no answer" for t in target))


def normalised(text: str) -> str:
    """Lower case, without punctuation, articles and spare blanks (P. Rajpurkar et al., 2016)."""
    bare = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def word_f1(answer: str, accepted: str) -> float:
    """Harmonic mean of precision and recall over words; of no words 1 if both have none."""
    said, true = normalised(answer).split(), normalised(accepted).split()
    if not said or not true:
        return float(said == true)
    common = (Counter(said) & Counter(true)).total()
    return 2 * common / (len(said) + len(true))
