"""Token classification: a tag for each token, and the entities that they make."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from calib.tasks.base import Comparison, Metric, output_of, percent, refuse, weighted_sum
from data_loaders.types import Array, Sample

Tags = tuple[str, ...]
Entity = tuple[str, int, int]
"""Its type, its first token and the one after its last."""


class TokenClassificationSpec(BaseModel):
    """A tag for each token, in IOB2; scored by the F1 of whole entities."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["token_classification"] = "token_classification"
    output: str | None = Field(
        default=None, description="Scores, (tokens, tags); the model's first output if absent."
    )
    ignore: int = Field(
        default=-100, description="Tokens of this label count for nothing: padding, word pieces."
    )


class TokenClassification:
    """Entity F1, strict IOB2; tokens without a label are no part of it.

    Args:
        spec: how the output is read.
        names: of the model's outputs.
        class_names: the tags by number: O, B-PER, I-PER, …
    """

    metrics = (
        Metric("entity_f1_pct", "entity F1"),
        Metric("entity_precision_pct", "entity precision"),
        Metric("entity_recall_pct", "entity recall"),
        Metric("token_accuracy_pct", "tokens right"),
    )
    sample_metric = Metric("sample_f1_pct", "entity F1 of the sample")

    def __init__(
        self, spec: TokenClassificationSpec, names: Sequence[str], class_names: Sequence[str] = ()
    ) -> None:
        self._spec, self._tags = spec, tuple(class_names)
        self.outputs = (spec.output or names[0],)

    def answer(self, outputs: Mapping[str, Array], sample: Sample) -> Tags:
        """See `Kind.answer`: the best tag of each token that counts; NaN gives none."""
        scores = output_of(outputs, self.outputs[0], sample)
        if scores.ndim != 2:
            raise refuse(
                sample,
                "the output has no scores for each token",
                f"shape {scores.shape}",
                "two axes",
            )
        numbers = np.where(np.isnan(scores).any(axis=1), -1, scores.argmax(axis=1))
        kept = self._counted(sample, len(numbers))
        return tuple(self._tag(int(n)) for n in numbers[: len(kept)][kept])

    def target(self, sample: Sample) -> Tags | None:
        """See `Kind.target`."""
        if sample.label is None:
            return None
        label = self._label(sample)
        return tuple(self._tag(int(n)) for n in label[label != self._spec.ignore])

    def _counted(self, sample: Sample, tokens: int) -> NDArray[np.bool_]:
        """Which tokens count: those with a label, or that the mask says are there; all else."""
        if sample.label is not None:
            label = self._label(sample)
            if len(label) > tokens:
                raise refuse(
                    sample,
                    "the model gives fewer tokens than are labelled",
                    tokens,
                    f"{len(label)}",
                )
            return np.asarray(label != self._spec.ignore)
        mask = sample.inputs.get("attention_mask")
        if mask is not None and mask.ndim == 1:
            return mask.astype(bool)
        return np.ones(tokens, dtype=bool)

    def _label(self, sample: Sample) -> NDArray[np.int64]:
        if not isinstance(sample.label, np.ndarray) or sample.label.ndim != 1:
            raise refuse(
                sample, "the label holds no tags", type(sample.label).__name__, "one a token"
            )
        return sample.label.astype(np.int64)

    def target_from_answer(self, answer: Tags) -> Tags:
        """See `Kind.target_from_answer`."""
        return answer

    def compare(self, answer: Tags, target: Tags) -> Comparison:
        """See `Kind.compare`; statistics are hits, found, true, tokens right, tokens."""
        found, true = set(entities(answer)), set(entities(target))
        right = sum(a == b for a, b in zip(answer, target, strict=True))
        sums = np.array([len(found & true), len(found), len(true), right, len(target)], float)
        whole = len(found) + len(true)
        score = percent(2 * len(found & true), whole) if whole else 100.0
        return Comparison(score, found == true, sums)

    def is_same(self, first: Tags, second: Tags) -> bool:
        """Whether the entities are the same."""
        return set(entities(first)) == set(entities(second))

    def summarise(
        self, statistics: Sequence[NDArray[np.float64]], weights: NDArray[np.float64] | None = None
    ) -> dict[str, float]:
        """See `Kind.summarise`: micro averages over entities, as seqeval's."""
        hits, found, true, right, tokens = weighted_sum(statistics, weights)
        return {
            "entity_f1_pct": percent(2 * hits, found + true),
            "entity_precision_pct": percent(hits, found),
            "entity_recall_pct": percent(hits, true),
            "token_accuracy_pct": percent(right, tokens),
        }

    def words(self, answer: Tags) -> str:
        """The entities, by token."""
        found = [f"{kind} {begin}-{end - 1}" for kind, begin, end in entities(answer)[:6]]
        return ", ".join(found) or "none"

    def target_words(self, target: Tags) -> str:
        """See `words`."""
        return self.words(target)

    def _tag(self, number: int) -> str:
        return self._tags[number] if 0 <= number < len(self._tags) else f"?{number}"


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities of a sentence, strict IOB2: only B- begins one, only I- of its type goes on.

    This is the strict mode of the CoNLL evaluation as seqeval has it: an I- that follows no entity
    of its type makes none.
    """
    found: list[Entity] = []
    kind, begin = "", 0
    for index, tag in enumerate([*tags, "O"]):
        prefix, _, name = tag.partition("-")
        goes_on = prefix == "I" and name == kind and kind != ""
        if kind and not goes_on:
            found.append((kind, begin, index))
            kind = ""
        if prefix == "B":
            kind, begin = name or "_", index
    return found
