"""MSE: the threshold of least squared error, of rounding and of clipping together."""

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from calib.calibrators.histogram import TensorStatistics
from calib.calibrators.searches import least_squares_threshold


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

    def amax(self, statistics: TensorStatistics) -> float:
        """The threshold of least squared error; the largest of equals."""
        if statistics.amax == 0:
            return 0.0
        counts = statistics.counts[: statistics.bins_used].astype(np.float64)
        counts[0] -= statistics.zeros
        return least_squares_threshold(counts, statistics.bin_width, statistics.amax)
