"""The tail of one candidate: how far single samples moved, and what was unusual about them."""

from pydantic import Field

from calib.record import Record

CONFIDENT_AT = (0.5, 0.8, 0.9, 0.95, 0.99)
"""The probabilities from which on FP32 is counted as confident."""
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9, 100.0)
"""Of the loss of margin, as they are kept."""


class RivalAnswer(Record):
    """What another candidate says about the same sample."""

    prediction: str
    probability: float | None
    margin: float


class RangeExcess(Record):
    """An activation that left its range on one sample."""

    tensor: str
    nodes: tuple[str, ...] = Field(description="Those that read it in INT8.")
    amax: float = Field(description="The sample's largest |x|.")
    threshold: float = Field(description="What INT8 can hold: amax of the candidate's calibrator.")
    calibration_amax: float = Field(description="The largest |x| of all calibration samples.")
    clipped_pct: float = Field(description="Share of the sample's values beyond the threshold.")
    lost_pct: float = Field(
        description="Σ (|x| - threshold)² over these, in % of Σ x²: what clipping takes away."
    )


class NearestSample(Record):
    """The calibration sample that FP32 finds most alike."""

    id: str
    distance: float = Field(description="Cosine distance, 0 to 2, between the hidden tensors.")
    prediction: str | None = Field(description="FP32's class for it; None where there are none.")


class ConfidentFlips(Record):
    """Of the samples that FP32 was sure of: how many predictions changed."""

    probability: float = Field(description="FP32's for its own prediction, at least.")
    samples: int
    flips: int
    worsened: int = Field(description="Of these, FP32 right and the candidate wrong.")


class TailSummary(Record):
    """How far the samples moved, all of them together."""

    samples: int
    margin_loss: dict[str, float] = Field(
        description="By percentile: the loss of margin that so many per cent of the samples do not "
        "exceed; linear between samples. Infinite where an output was not finite."
    )
    worst_losses: tuple[float, ...] = Field(
        default=(),
        description="The largest losses, falling: as many as bounds of the 99th percentile need.",
    )
    confident: tuple[ConfidentFlips, ...] = Field(
        default=(), description="By FP32's probability; empty where there are no classes."
    )
