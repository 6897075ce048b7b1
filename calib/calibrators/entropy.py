"""Entropy: the threshold whose quantized distribution tells most about the original."""

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from calib.calibrators.histogram import BINS, TensorStatistics
from calib.calibrators.searches import least_divergent_bin

_VALUES_A_BIN = 5
_FEWEST_BINS = BINS // 2


class EntropySpec(BaseModel):
    """The threshold of least KL divergence, as TensorRT's `IInt8EntropyCalibrator2` finds it.

    Source: S. Migacz, "8-bit Inference with TensorRT", GTC 2017, S7310. For each number i of kept
    bins, from `levels` to the bin that holds the largest value: P is the first i bins with
    everything above added to the last, Q the first i bins merged into `levels` and spread back over
    those where P has mass. The threshold is (i + 0.5) bin widths, never above the largest |x|.

    One thing is decided here: bin 0 is given the count of bin 1. A tensor behind a ReLU or a mask
    is half zeros; they quantize exactly whatever the scale is, and left in they drown the rest.
    pytorch-quantization does the same.

    The divergence of a histogram that is mostly chance says little: five values a bin are asked for
    on average (W. G. Cochran, "Some Methods for Strengthening the Common χ² Tests", Biometrics
    1954). With fewer the threshold lies far too low, by half for a few hundred normal values.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["entropy"] = "entropy"
    levels: int = Field(default=128, ge=16, le=1024, description="Quantized levels of |x|.")

    @property
    def name(self) -> str:
        """The calibrator's name in candidates and reports."""
        return self.kind

    @property
    def values_min(self) -> int:
        """Fewest values other than zero that a threshold can be found from."""
        return _VALUES_A_BIN * _FEWEST_BINS

    def usable_values(self, statistics: TensorStatistics) -> int:
        """Those that are not zero."""
        return statistics.count - statistics.zeros

    def amax(self, statistics: TensorStatistics) -> float:
        """The threshold (i + 0.5)·bin width for the i of least divergence, at most the maximum."""
        counts = statistics.counts[: statistics.bins_used].astype(np.float64)
        if counts.size <= self.levels:
            return statistics.amax
        counts[0] = counts[1]
        if counts.sum() == 0:
            return statistics.amax
        kept = least_divergent_bin(counts, self.levels)
        return min((kept + 0.5) * statistics.bin_width, statistics.amax)
