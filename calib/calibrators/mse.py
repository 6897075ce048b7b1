"""MSE: the threshold of least squared error, of rounding and of clipping together."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from calib.calibrators.histogram import TensorStatistics
from calib.calibrators.searches import least_squares_threshold, squared_error


class MseSpec(BaseModel):
    """The threshold that leaves the least mean squared error of the quantized values.

    The largest |x| and bin edges below it are tried, from coarse to fine. Within a bin values are
    taken as spread evenly, for which the error of rounding to threshold / 127 and clipping has a
    closed form; zeros have no error. Compare R. Banner et al., "Post-training 4-bit quantization",
    NeurIPS 2019 (arXiv 1810.05723), which solves it for Gaussian and Laplace.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["mse"] = "mse"

    @property
    def name(self) -> str:
        """The calibrator's name in candidates and reports."""
        return self.kind

    @property
    def values_min(self) -> int:
        """One: of few values none is worth clipping, so it comes close to the largest by itself.

        Clipping the largest of n by d costs d²/n of the mean square, and saves d·amax/(6·127²) of
        it in rounding: the best d is n·amax/193,548, a hundredth of the range for 2,000 values.
        """
        return 1

    def usable_values(self, statistics: TensorStatistics) -> int:
        """All."""
        return statistics.count

    def amax(self, statistics: TensorStatistics) -> float:
        """The threshold of least squared error; the largest of equals."""
        if statistics.amax == 0:
            return 0.0
        return least_squares_threshold(_counts(statistics), statistics.bin_width, statistics.amax)


def squared_error_at(statistics: TensorStatistics, threshold: float) -> float:
    """Σ (x - q(x))² over the values, of rounding and of clipping; see `MseSpec`."""
    if statistics.amax == 0:
        return 0.0
    counts, width = _counts(statistics), statistics.bin_width
    return squared_error(counts, width, statistics.amax, threshold, np.inf)


def _counts(statistics: TensorStatistics) -> NDArray[np.float64]:
    counts = statistics.counts[: statistics.bins_used].astype(np.float64)
    counts[0] -= statistics.zeros
    return counts
