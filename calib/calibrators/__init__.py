"""INT8 calibration on plain numpy arrays.

>>> import numpy as np
>>> from calib.calibrators import EntropySpec, MinMaxSpec, statistics_from_array
>>> x = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
>>> statistics = statistics_from_array("x", x)
>>> EntropySpec().amax(statistics) <= MinMaxSpec().amax(statistics) == np.abs(x).max()
True
"""

from typing import Annotated, Protocol

from pydantic import Field

from calib.calibrators.auto import AutoSpec, FormulaSpec
from calib.calibrators.cache import CacheSpec
from calib.calibrators.convergence import Convergence, convergence
from calib.calibrators.entropy import EntropySpec
from calib.calibrators.histogram import (
    StatisticsAccumulator,
    TensorStatistics,
    clipped_pct,
    statistics_from_array,
)
from calib.calibrators.minmax import MinMaxSpec
from calib.calibrators.mse import MseSpec
from calib.calibrators.parts import PartedAccumulator, TensorParts
from calib.calibrators.percentile import PercentileSpec

SAFE_AMAX = 1.0
"""The threshold of a tensor that was zero everywhere: any scale is exact for it."""


class Calibrator(Protocol):
    """A clipping threshold from a tensor's statistics."""

    @property
    def name(self) -> str:
        """The calibrator's name in candidates and reports."""
        ...

    @property
    def values_min(self) -> int:
        """Fewest values that a threshold can be found from."""
        ...

    def usable_values(self, statistics: TensorStatistics) -> int:
        """How many there are."""
        ...

    def amax(self, statistics: TensorStatistics) -> float:
        """The threshold, in the tensor's own unit, > 0 unless every value was zero."""
        ...


CalibratorSpec = Annotated[
    AutoSpec | CacheSpec | EntropySpec | MinMaxSpec | MseSpec | PercentileSpec,
    Field(discriminator="kind"),
]


def trusted(calibrator: Calibrator, statistics: TensorStatistics) -> Calibrator:
    """The calibrator, or minmax where it has too few values to find a threshold from."""
    enough = calibrator.usable_values(statistics) >= calibrator.values_min
    return calibrator if enough else MinMaxSpec()


def amax_from_statistics(calibrator: Calibrator, statistics: TensorStatistics) -> float:
    """The threshold to quantize with, that of `trusted`; SAFE_AMAX where all was zero."""
    amax = trusted(calibrator, statistics).amax(statistics)
    return amax if amax > 0 else SAFE_AMAX


__all__ = [
    "SAFE_AMAX",
    "AutoSpec",
    "CacheSpec",
    "Calibrator",
    "CalibratorSpec",
    "Convergence",
    "EntropySpec",
    "FormulaSpec",
    "MinMaxSpec",
    "MseSpec",
    "PartedAccumulator",
    "PercentileSpec",
    "StatisticsAccumulator",
    "TensorParts",
    "TensorStatistics",
    "amax_from_statistics",
    "clipped_pct",
    "convergence",
    "statistics_from_array",
    "trusted",
]
