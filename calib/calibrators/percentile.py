"""Percentile: a fixed share of the values is clipped."""

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from calib.calibrators.histogram import TensorStatistics


class PercentileSpec(BaseModel):
    """The threshold that a given share of all |x| does not exceed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["percentile"] = "percentile"
    percentile: float = Field(
        default=99.99, gt=50, le=100, description="Share of the values that is kept, in %."
    )

    @property
    def name(self) -> str:
        """The calibrator's name in candidates and reports."""
        return f"{self.kind}-{self.percentile:g}"

    @property
    def values_min(self) -> int:
        """So many that one of them is beyond the share; of fewer the largest is taken."""
        beyond = 1 - self.percentile / 100
        return round(1 / beyond) if beyond > 0 else 1

    def usable_values(self, statistics: TensorStatistics) -> int:
        """All."""
        return statistics.count

    def amax(self, statistics: TensorStatistics) -> float:
        """Upper edge of the first bin up to which at least the wanted share of |x| lies.

        Never above the largest |x| seen, which is also the answer at 100 %.
        """
        wanted = statistics.count * (self.percentile / 100)
        kept = np.cumsum(statistics.counts)
        edge = (int(np.searchsorted(kept, wanted)) + 1) * statistics.bin_width
        return min(edge, statistics.amax)
