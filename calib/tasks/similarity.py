"""Sentence similarity: pairs of texts whose likeness people judged."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import pearsonr, rankdata

from calib.tasks.base import Comparison, Metric, refuse, stacked
from calib.tasks.vectors import Vector, VectorSpec, unit_vector
from data_loaders.targets import PairTarget
from data_loaders.types import Array, Sample


class SimilaritySpec(VectorSpec):
    """Pairs of texts whose likeness people judged; scored by Spearman's rank correlation."""

    kind: Literal["similarity"] = "similarity"


class Similarity:
    """Spearman's and Pearson's correlation of cosines with people's judgements.

    Args:
        spec: how the output is read.
        names: of the model's outputs.
    """

    metrics = (
        Metric("spearman_pct", "Spearman's correlation"),
        Metric("pearson_pct", "Pearson's correlation"),
    )
    sample_metric = Metric("cosine", "cosine of the pair", unit="")
    scores_are_judged = False

    def __init__(self, spec: SimilaritySpec, names: Sequence[str]) -> None:
        self._spec = spec
        self.outputs = (spec.output or names[0],)
        self._open: dict[str, Vector] = {}
        self._cosine: dict[str, float] = {}

    def collect(self, outputs: Iterable[tuple[Mapping[str, Array], Sample]]) -> None:
        """Pair the samples up; only halves that wait for the other are held.

        Raises:
            DataError: if a sample is no half of a pair, or there is no other half.
        """
        self._open, self._cosine = {}, {}
        for found, sample in outputs:
            pair = self._label(sample).pair
            vector = unit_vector(found, self.outputs[0], self._spec.pooling, sample)
            other = self._open.pop(pair, None)
            if other is None:
                self._open[pair] = vector
            else:
                self._cosine[sample.id] = float(other @ vector)

    def _label(self, sample: Sample) -> PairTarget:
        if not isinstance(sample.label, PairTarget):
            raise refuse(
                sample, "the label is no half of a pair", type(sample.label).__name__, "a pair"
            )
        return sample.label

    def is_judged(self, sample: Sample) -> bool:
        """Whether it completes a pair."""
        return sample.id in self._cosine

    def answer(self, outputs: Mapping[str, Array], sample: Sample) -> float:  # noqa: ARG002
        """See `Kind.answer`: the pair's cosine, as collected."""
        return self._cosine[sample.id]

    def target(self, sample: Sample) -> float | None:
        """See `Kind.target`."""
        return self._label(sample).likeness

    def target_from_answer(self, answer: float) -> float:
        """See `Kind.target_from_answer`."""
        return answer

    def compare(self, answer: float, target: float) -> Comparison:
        """See `Kind.compare`; statistics are both figures: ranks need all of them."""
        return Comparison(answer, None, np.array([answer, target]))

    def is_same(self, first: float, second: float) -> bool:
        """Whether they agree to two digits."""
        return abs(first - second) < 0.01

    def summarise(
        self, statistics: Sequence[NDArray[np.float64]], weights: NDArray[np.float64] | None = None
    ) -> dict[str, float]:
        """See `Kind.summarise`; weights are whole numbers: pairs are repeated."""
        table = stacked(statistics)
        if weights is not None:
            table = np.repeat(table, weights.astype(int), axis=0)
        return {
            "spearman_pct": 100 * _correlation(rankdata(table[:, 0]), rankdata(table[:, 1])),
            "pearson_pct": 100 * _correlation(table[:, 0], table[:, 1]),
        }

    def words(self, answer: float) -> str:
        """The cosine."""
        return f"{answer:.3f}"

    def target_words(self, target: float) -> str:
        """The judgement."""
        return f"{target:g}"


def _correlation(first: Vector, second: Vector) -> float:
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(pearsonr(first, second).statistic)
