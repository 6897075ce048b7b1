"""The metrics of a task, in the form that every kind has."""

from pydantic import Field

from calib.record import Record

QUANTILES = tuple(round(k / 200, 3) for k in range(1, 200))
"""At which the resampled changes are kept: what a bound at any usual level needs."""


class MetricScore(Record):
    """One figure over all samples, of the candidate and of FP32."""

    name: str
    title: str
    unit: str
    higher_is_better: bool
    value: float | None
    reference: float | None = Field(description="FP32's; None where the truth is FP32 itself.")
    resampled_losses: tuple[float, ...] = Field(
        default=(),
        description="What the candidate loses against FP32 (in agreement: against perfection) over "
        "bootstrap resamples of the samples, at the quantiles 0.005, 0.01 … 0.995. Above 0 is "
        "worse.",
    )
    resamples: int = 0

    @property
    def loss(self) -> float | None:
        """By how much the candidate is worse than FP32, in the metric's unit."""
        if self.value is None or self.reference is None:
            return None
        change = self.reference - self.value
        return change if self.higher_is_better else -change


class ClassMetric(Record):
    """One class: how well it is found by both."""

    name: str
    value: float
    reference: float
