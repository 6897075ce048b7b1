"""MinMax: nothing is clipped."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from calib.calibrators.histogram import TensorStatistics


class MinMaxSpec(BaseModel):
    """The threshold is the largest |x| seen: TensorRT's `IInt8MinMaxCalibrator`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["minmax"] = "minmax"

    @property
    def name(self) -> str:
        """The calibrator's name in candidates and reports."""
        return self.kind

    @property
    def values_min(self) -> int:
        """One value has a largest."""
        return 1

    def usable_values(self, statistics: TensorStatistics) -> int:
        """All."""
        return statistics.count

    def amax(self, statistics: TensorStatistics) -> float:
        """The largest |x| seen."""
        return statistics.amax
