"""Text recognition: the characters in a picture or a sound, by CTC."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from rapidfuzz.distance import Levenshtein

from calib.tasks.base import Comparison, Metric, output_of, percent, refuse, weighted_sum
from data_loaders.types import Array, Sample


class TextRecognitionSpec(BaseModel):
    """Scores of characters by time step, read by CTC; scored by the character error rate."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["text_recognition"] = "text_recognition"
    output: str | None = Field(
        default=None, description="Scores, (steps, characters); the model's first if absent."
    )
    characters: str | None = Field(
        default=None, description="The characters in the order of the scores, the blank left out."
    )
    blank: int = Field(default=0, description="The score of no character; -1 is the last.")
    lengths: str | None = Field(
        default=None, description="The output that tells how many steps are real."
    )
    case_sensitive: bool = Field(default=True, description="Whether A is not a.")


class TextRecognition:
    """Character and word error rates of greedy CTC decoding.

    Args:
        spec: how the output is read.
        names: of the model's outputs.
        class_names: of the characters, where the spec has none; more than one letter each is fine.
    """

    metrics = (
        Metric("cer_pct", "character error rate", higher_is_better=False),
        Metric("wer_pct", "word error rate", higher_is_better=False),
        Metric("lines_right_pct", "lines without an error"),
    )
    sample_metric = Metric("sample_cer_pct", "characters wrong", higher_is_better=False)

    def __init__(
        self, spec: TextRecognitionSpec, names: Sequence[str], class_names: Sequence[str] = ()
    ) -> None:
        self._spec = spec
        self._characters = tuple(spec.characters or class_names)
        self.outputs = tuple(n for n in (spec.output or names[0], spec.lengths) if n)

    def answer(self, outputs: Mapping[str, Array], sample: Sample) -> str:
        """See `Kind.answer`: the best of each step, repeats joined, blanks left out."""
        scores = output_of(outputs, self.outputs[0], sample)
        while scores.ndim > 2 and 1 in scores.shape:
            scores = scores.squeeze(scores.shape.index(1))
        expected = len(self._characters) + 1
        if scores.ndim == 2 and scores.shape[1] != expected == scores.shape[0]:
            scores = scores.T
        if scores.ndim != 2 or scores.shape[1] != expected:
            raise refuse(
                sample,
                "the output does not fit the characters",
                f"shape {scores.shape}",
                f"(steps, {expected}): {expected - 1} characters and the blank",
            )
        if self._spec.lengths is not None:
            scores = scores[: int(output_of(outputs, self._spec.lengths, sample).ravel()[0])]
        blank = self._spec.blank % expected
        # A step that is no number says nothing.
        best = np.where(np.isnan(scores).any(axis=1), blank, scores.argmax(axis=1))
        return "".join(self._characters[k - (k > blank)] for k in collapsed(best, blank))

    def target(self, sample: Sample) -> str | None:
        """See `Kind.target`."""
        if sample.label is None or isinstance(sample.label, str):
            return sample.label
        raise refuse(sample, "the label is no text", type(sample.label).__name__, "text")

    def target_from_answer(self, answer: str) -> str:
        """See `Kind.target_from_answer`."""
        return answer

    def compare(self, answer: str, target: str) -> Comparison:
        """See `Kind.compare`; statistics are edits, characters, word edits, words, right, 1."""
        said, true = self._folded(answer), self._folded(target)
        edits = Levenshtein.distance(said, true)
        word_edits = Levenshtein.distance(said.split(), true.split())
        right = said == true
        sums = [edits, len(true), word_edits, len(true.split()), right, 1]
        score = 100 * edits / max(len(true), 1)
        return Comparison(score, right, np.array(sums, dtype=np.float64))

    def _folded(self, text: str) -> str:
        return text if self._spec.case_sensitive else text.casefold()

    def is_same(self, first: str, second: str) -> bool:
        """Whether both read the same."""
        return self._folded(first) == self._folded(second)

    def summarise(
        self, statistics: Sequence[NDArray[np.float64]], weights: NDArray[np.float64] | None = None
    ) -> dict[str, float]:
        """See `Kind.summarise`: edits over the length of all texts."""
        edits, characters, word_edits, words, right, samples = weighted_sum(statistics, weights)
        return {
            "cer_pct": percent(edits, characters),
            "wer_pct": percent(word_edits, words),
            "lines_right_pct": percent(right, samples),
        }

    def words(self, answer: str) -> str:
        """The text."""
        return answer

    def target_words(self, target: str) -> str:
        """The text."""
        return target


def collapsed(best: NDArray[np.int64], blank: int) -> list[int]:
    """Greedy CTC: repeats joined, then blanks left out (A. Graves et al., ICML 2006)."""
    first = np.append(True, best[1:] != best[:-1]) if len(best) else np.zeros(0, dtype=bool)
    return [int(k) for k in best[first] if k != blank]
