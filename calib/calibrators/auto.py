"""Auto: for each tensor, the calibrator that its consumers suffer least from."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from calib.calibrators.entropy import EntropySpec
from calib.calibrators.minmax import MinMaxSpec
from calib.calibrators.mse import MseSpec
from calib.calibrators.percentile import PercentileSpec

FormulaSpec = Annotated[
    EntropySpec | MinMaxSpec | MseSpec | PercentileSpec, Field(discriminator="kind")
]
"""A calibrator that is a function of a tensor's statistics alone."""


class AutoSpec(BaseModel):
    """For each tensor, the candidate with the least error on the output of its consumers.

    The last part of the calibration data is held out: candidates' thresholds come from the other
    parts, each tensor is quantized alone, and the squared error of its consumers' outputs, relative
    to their energy, is added up over the held-out batches. The threshold itself is then the chosen
    calibrator's on all of the data.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["auto"] = "auto"
    candidates: tuple[FormulaSpec, ...] = Field(
        default=(MinMaxSpec(), EntropySpec(), PercentileSpec(), MseSpec()),
        min_length=2,
        description="What to choose from; the first of equals is taken.",
    )
    trial_batches: int = Field(
        default=8, ge=1, description="Held-out batches that are tried, at most."
    )

    @property
    def name(self) -> str:
        """The calibrator's name in candidates and reports."""
        return self.kind

    @model_validator(mode="after")
    def _names_are_distinct(self) -> "AutoSpec":
        names = [candidate.name for candidate in self.candidates]
        if len(set(names)) < len(names):
            raise ValueError(f"two candidates have the same name: {', '.join(names)}")
        return self


def least_error(errors: Mapping[str, float]) -> str:
    """The name with the least error; the first of equals."""
    return min(errors, key=lambda name: errors[name])
