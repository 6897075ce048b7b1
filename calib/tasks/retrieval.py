"""Retrieval: queries find documents by their vectors."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from calib.errors import DataError
from calib.tasks.base import Comparison, Metric, percent, refuse, weighted_sum
from calib.tasks.vectors import Vector, VectorSpec, unit_vector
from data_loaders.targets import RelevanceTarget
from data_loaders.types import Array, Sample


class RetrievalSpec(VectorSpec):
    """Queries find documents by the cosine of their vectors; scored by recall and nDCG."""

    kind: Literal["retrieval"] = "retrieval"
    at: int = Field(default=10, ge=1, description="How many documents of the ranking count.")


class Retrieval:
    """Recall, nDCG and reciprocal rank of what each query finds in the corpus of its own engine.

    The documents are samples of the split too; each engine encodes them once.

    Args:
        spec: how the output is read.
        names: of the model's outputs.
    """

    sample_metric = Metric("sample_ndcg_pct", "nDCG of the query")

    def __init__(self, spec: RetrievalSpec, names: Sequence[str]) -> None:
        self._spec = spec
        self.outputs = (spec.output or names[0],)
        self._keys: list[str] = []
        self._corpus: Array = np.zeros((0, 0), dtype=np.float32)
        self.metrics = (
            Metric("recall_pct", f"recall at {spec.at}"),
            Metric("ndcg_pct", f"nDCG at {spec.at}"),
            Metric("mrr_pct", f"reciprocal rank at {spec.at}"),
        )

    def collect(self, outputs: Iterable[tuple[Mapping[str, Array], Sample]]) -> None:
        """Keep the documents' vectors, float32: the corpus is all that is held.

        Raises:
            DataError: if there is none.
        """
        vectors: list[Array] = []
        self._keys = []
        for found, sample in outputs:
            label = sample.label
            if isinstance(label, RelevanceTarget) and label.key is not None:
                self._keys.append(label.key)
                vectors.append(self._vector(found, sample).astype(np.float32))
        if not vectors:
            raise DataError(
                "data.validation",
                "has no documents to search in",
                expected="documents as well as queries",
                fix="Give the corpus to the loader.",
            )
        self._corpus = np.stack(vectors)

    def _vector(self, outputs: Mapping[str, Array], sample: Sample) -> Vector:
        return unit_vector(outputs, self.outputs[0], self._spec.pooling, sample)

    def is_judged(self, sample: Sample) -> bool:
        """Whether it is a query."""
        return not (isinstance(sample.label, RelevanceTarget) and sample.label.key is not None)

    def answer(self, outputs: Mapping[str, Array], sample: Sample) -> tuple[str, ...]:
        """See `Kind.answer`: the documents nearest to the query, the nearest first."""
        likeness = self._corpus @ self._vector(outputs, sample).astype(np.float32)
        order = np.argsort(-likeness, kind="stable")[: self._spec.at]
        return tuple(self._keys[i] for i in order)

    def target(self, sample: Sample) -> Mapping[str, int] | None:
        """See `Kind.target`."""
        if sample.label is None:
            return None
        if not isinstance(sample.label, RelevanceTarget):
            raise refuse(
                sample, "the label names no documents", type(sample.label).__name__, "relevance"
            )
        return sample.label.grades

    def target_from_answer(self, answer: tuple[str, ...]) -> Mapping[str, int]:
        """What FP32 found, all alike."""
        return dict.fromkeys(answer, 1)

    def compare(self, answer: tuple[str, ...], target: Mapping[str, int]) -> Comparison:
        """See `Kind.compare`; statistics are recall, nDCG, reciprocal rank and 1."""
        at = self._spec.at
        gains = np.array([max(target.get(key, 0), 0) for key in answer[:at]], dtype=np.float64)
        relevant = sum(grade > 0 for grade in target.values())
        if not relevant:
            return Comparison(100.0, None, np.zeros(4))
        hits = np.flatnonzero(gains > 0)
        ndcg = discounted(gains) / discounted(
            sorted(map(float, target.values()), reverse=True)[:at]
        )
        rank = 1 / (hits[0] + 1) if len(hits) else 0.0
        sums = np.array([len(hits) / relevant, ndcg, rank, 1.0])
        first_right = bool(len(gains) and gains[0] > 0)
        return Comparison(100 * ndcg, first_right, sums)

    def is_same(self, first: tuple[str, ...], second: tuple[str, ...]) -> bool:
        """Whether the best document is the same."""
        return first[:1] == second[:1]

    def summarise(
        self, statistics: Sequence[NDArray[np.float64]], weights: NDArray[np.float64] | None = None
    ) -> dict[str, float]:
        """See `Kind.summarise`: means over the queries that have a relevant document."""
        recall, ndcg, rank, queries = weighted_sum(statistics, weights)
        return {
            "recall_pct": percent(recall, queries),
            "ndcg_pct": percent(ndcg, queries),
            "mrr_pct": percent(rank, queries),
        }

    def words(self, answer: tuple[str, ...]) -> str:
        """The first three documents."""
        return ", ".join(answer[:3])

    def target_words(self, target: Mapping[str, int]) -> str:
        """The three most relevant documents."""
        return ", ".join(sorted(target, key=lambda key: -target[key])[:3])


def discounted(gains: Sequence[float] | NDArray[np.float64]) -> float:
    """Discounted cumulative gain with linear gains (K. Järvelin, J. Kekäläinen, 2002)."""
    values = np.asarray(gains, dtype=np.float64)
    return float((values / np.log2(np.arange(2, len(values) + 2))).sum())
