"""Embeddings: vectors that are held against FP32's."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from calib.tasks.base import Comparison, Metric, output_of, stacked
from calib.tasks.vectors import Vector, VectorSpec, unit_vector
from data_loaders.types import Array, Sample


class EmbeddingSpec(VectorSpec):
    """A vector a sample; scored by its cosine to FP32's."""

    kind: Literal["embedding"] = "embedding"


class Embedding:
    """Mean and worst cosine to FP32's vector; there is no label.

    Args:
        spec: which output.
        names: of the model's outputs.
    """

    metrics = (
        Metric("mean_cosine", "mean cosine to FP32's", unit=""),
        Metric("worst_cosine", "smallest cosine to FP32's", unit=""),
    )
    sample_metric = Metric("cosine", "cosine to FP32's", unit="")
    reads_all = True
    slices_by_score = True

    def __init__(self, spec: EmbeddingSpec, names: Sequence[str]) -> None:
        self._pooling = spec.pooling
        self.outputs = (spec.output or names[0],)

    def answer(self, outputs: Mapping[str, Array], sample: Sample) -> Vector:
        """See `Kind.answer`; without pooling an output of any shape is one vector."""
        name = self.outputs[0]
        if self._pooling == "none":
            outputs = {name: output_of(outputs, name, sample).ravel()}
        return unit_vector(outputs, name, self._pooling, sample)

    def target(self, sample: Sample) -> Vector | None:  # noqa: ARG002
        """None: an embedding is judged by FP32's."""
        return None

    def target_from_answer(self, answer: Vector) -> Vector:
        """See `Kind.target_from_answer`."""
        return answer

    def compare(self, answer: Vector, target: Vector) -> Comparison:
        """See `Kind.compare`; -1 of a vector that has no direction."""
        cosine = float(answer @ target) if answer.any() and target.any() else -1.0
        return Comparison(cosine, None, np.array([cosine]))

    def is_same(self, first: Vector, second: Vector) -> bool:
        """Whether they are equal."""
        return bool(np.array_equal(first, second))

    def summarise(
        self, statistics: Sequence[NDArray[np.float64]], weights: NDArray[np.float64] | None = None
    ) -> dict[str, float]:
        """See `Kind.summarise`."""
        cosine = stacked(statistics)[:, 0]
        often = np.ones(len(cosine)) if weights is None else weights
        return {
            "mean_cosine": float(often @ cosine / often.sum()),
            "worst_cosine": float(cosine[often > 0].min()),
        }

    def words(self, answer: Vector) -> str:
        """The first four numbers of its direction."""
        return " ".join(f"{value:.3g}" for value in answer[:4]) + (" …" if answer.size > 4 else "")

    def target_words(self, target: Vector) -> str:
        """See `words`."""
        return self.words(target)
