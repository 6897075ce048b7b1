"""The metrics of a task, in the form that every kind has."""

import numpy as np
from pydantic import Field

from calib.record import Record

_TAIL = tuple(round(k / 1000, 3) for k in range(1, 5))
QUANTILES = (
    *_TAIL,
    *(round(k / 200, 3) for k in range(1, 200)),
    *(round(1 - q, 3) for q in reversed(_TAIL)),
)
"""At which the resampled changes are kept: what a bound at any usual level needs."""
COARSE = tuple(
    q
    for q in QUANTILES
    if min(q, round(1 - q, 3)) in (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5)
)
"""The same for the many figures of classes and slices. Towards its end a tail grows ever flatter,
so a line between two of these lies outside of it: a bound is a little too wide, never too narrow.
"""


def loss_bounds(losses: tuple[float, ...], alpha: float) -> tuple[float, float] | None:
    """The true loss is below the first, or above the second, with chance alpha at most, each.

    A percentile bootstrap; None where too little was resampled for that alpha.

    Args:
        losses: resampled, at QUANTILES or COARSE.
        alpha: chance of an error on each side.
    """
    at = QUANTILES if len(losses) == len(QUANTILES) else COARSE
    if not losses or not at[0] <= alpha <= at[-1]:
        return None
    low, high = np.interp([alpha, 1 - alpha], at, losses)
    return float(low), float(high)


class MetricScore(Record):
    """One figure over all samples, of the candidate and of FP32."""

    name: str
    title: str
    unit: str
    higher_is_better: bool
    value: float | None
    reference: float | None = Field(
        description="FP32's; of agreement, perfection where there is such a thing."
    )
    resampled_losses: tuple[float, ...] = Field(
        default=(),
        description="What the candidate loses against FP32 (in agreement: against perfection) over "
        "bootstrap resamples of the samples, at the quantiles 0.001 to 0.999. Above 0 is worse.",
    )
    resamples: int = 0
    samples: int | None = Field(
        default=None,
        description="Samples that it rests on, where they are a part of all: pictures with an "
        "object of that size.",
    )

    def bounds(self, alpha: float) -> tuple[float, float] | None:
        """The true loss is below the first, or above the second, with chance alpha at most, each.

        A percentile bootstrap; None where too little was resampled for that alpha.
        """
        return loss_bounds(self.resampled_losses, alpha)

    @property
    def text(self) -> str:
        """The candidate's figure, with its unit."""
        return _shown(self.value, self.unit)

    @property
    def reference_text(self) -> str:
        """FP32's figure, with its unit."""
        return _shown(self.reference, self.unit)

    @property
    def loss(self) -> float | None:
        """By how much the candidate is worse than FP32, in the metric's unit."""
        if self.value is None or self.reference is None:
            return None
        change = self.reference - self.value
        return change if self.higher_is_better else -change


def _shown(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    digits = f"{value:.2f}" if unit == "%" else f"{value:.5g}"
    return f"{digits} {unit}" if unit else digits


class ClassMetric(Record):
    """One class: how well it is found by both."""

    name: str
    value: float
    reference: float
    samples: int = Field(default=0, description="In which the class occurs; 0 if not counted.")
    resampled_losses: tuple[float, ...] = Field(
        default=(),
        description="What the candidate loses against FP32 in points over bootstrap resamples of "
        "the samples, at a few quantiles from 0.001 to 0.999. Above 0 is worse.",
    )

    @property
    def loss(self) -> float:
        """By how much the candidate is worse than FP32, in points."""
        return self.reference - self.value
