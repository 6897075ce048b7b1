"""Regression and time series: numbers that are held against numbers."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from calib.tasks.base import Comparison, Metric, output_of, refuse, stacked
from data_loaders.types import Array, Sample

_APART_MAX = 64
"""Values of a sample that are each taken for a quantity of its own; more are points of one."""


class RegressionSpec(BaseModel):
    """A number a sample, or several; scored by absolute error, and R² over samples."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["regression"] = "regression"
    output: str | None = Field(
        default=None, description="The output that is scored; the model's first if absent."
    )


class Regression:
    """Errors, R², and how many different outputs there are.

    A net that learned an offset of 300 has a cosine of 0.997 to anything near 300, and its R² tells
    what is left of it; one that rounds to few values tells by their number.

    Args:
        spec: which output.
        names: of the model's outputs.
    """

    metrics = (
        Metric("mean_abs_error", "mean absolute error", unit="", higher_is_better=False),
        Metric("root_mean_square_error", "root mean square error", unit="", higher_is_better=False),
        Metric("r2", "R²", unit=""),
        Metric(
            "error_to_spread_pct",
            "error, of the targets' standard deviation",
            higher_is_better=False,
        ),
        Metric("distinct_pct", "outputs that differ from all others"),
    )
    sample_metric = Metric("abs_error", "absolute error", unit="", higher_is_better=False)
    reads_all = True

    def __init__(self, spec: RegressionSpec, names: Sequence[str]) -> None:
        self.outputs = (spec.output or names[0],)

    def answer(self, outputs: Mapping[str, Array], sample: Sample) -> NDArray[np.float64]:
        """See `Kind.answer`."""
        return output_of(outputs, self.outputs[0], sample).ravel().astype(np.float64)

    def target(self, sample: Sample) -> NDArray[np.float64] | None:
        """See `Kind.target`."""
        if sample.label is None:
            return None
        if not isinstance(sample.label, int | float | np.ndarray):
            raise refuse(sample, "the label is no number", type(sample.label).__name__, "numbers")
        target = np.asarray(sample.label, dtype=np.float64).ravel()
        if not np.isfinite(target).all():
            raise refuse(sample, "the label is not finite", target[:4], "finite numbers")
        return target

    def target_from_answer(self, answer: NDArray[np.float64]) -> NDArray[np.float64]:
        """See `Kind.target_from_answer`."""
        return answer

    def compare(self, answer: NDArray[np.float64], target: NDArray[np.float64]) -> Comparison:
        """See `Kind.compare`; statistics are (6, quantities).

        They are the points, Σ|e|, Σe², Σy, Σy², and what tells two outputs apart. Few values are a
        quantity each; many, a picture's or a series', are points of one.
        """
        if answer.shape != target.shape:
            raise ValueError(f"{answer.size} numbers for {target.size}")
        score = math.inf
        if np.isfinite(answer).all():
            score = float(np.abs(answer - target).mean())
        shape = (1, -1) if answer.size <= _APART_MAX else (-1, 1)
        said, true = answer.reshape(shape), target.reshape(shape)
        # What is no number is as wrong as can be: NaN would hide it from every limit.
        error = np.where(np.isfinite(said), said - true, np.inf)
        parts = (np.ones_like(true), np.abs(error), error**2, true, true**2)
        sums = np.stack([part.sum(axis=0) for part in parts])
        first = said[0] if answer.size <= _APART_MAX else np.full(1, hash(answer.tobytes()))
        return Comparison(score, None, np.vstack([sums, first]))

    def is_same(self, first: NDArray[np.float64], second: NDArray[np.float64]) -> bool:
        """Whether they are equal."""
        return bool(np.array_equal(first, second))

    def summarise(
        self, statistics: Sequence[NDArray[np.float64]], weights: NDArray[np.float64] | None = None
    ) -> dict[str, float]:
        """See `Kind.summarise`; R² and the spread are means over the values of a sample.

        R² is 1 - Σ(y - ŷ)² / Σ(y - ȳ)², NaN for a target that does not vary.
        """
        table = stacked(statistics)
        often = np.ones(len(table)) if weights is None else weights
        # A sample that was not drawn adds nothing, not even an infinity.
        drawn_parts = table[often > 0, :5]
        count, absolute, square, total, squares = np.tensordot(
            often[often > 0], drawn_parts, axes=1
        )
        spread = squares - total**2 / count
        # What rounding leaves of a target that does not vary is no spread.
        varies = spread > 1e-12 * squares
        r2 = 1 - square[varies] / spread[varies]
        share = np.sqrt(square[varies] / spread[varies])
        drawn = table[often > 0, 5]
        return {
            "mean_abs_error": float(absolute.sum() / count.sum()),
            "root_mean_square_error": math.sqrt(float(square.sum() / count.sum())),
            "r2": float(r2.mean()) if varies.any() else math.nan,
            "error_to_spread_pct": 100 * float(share.mean()) if varies.any() else math.nan,
            "distinct_pct": 100 * len(np.unique(drawn, axis=0)) / max(len(drawn), 1),
        }

    def words(self, answer: NDArray[np.float64]) -> str:
        """The first four numbers."""
        shown = " ".join(f"{value:.5g}" for value in answer[:4])
        return shown if answer.size <= 4 else f"{shown} …"

    def target_words(self, target: NDArray[np.float64]) -> str:
        """The first four numbers."""
        return self.words(target)
