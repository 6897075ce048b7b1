"""Where INT8 loses accuracy before anything is done about it."""

from pydantic import Field

from calib.record import Record
from calib.results.remedies import NoisyGroup, RemediesRecord


class GroupSensitivity(NoisyGroup):
    """A group seen closely; dB are SQNR of the model's scores, None = exact."""

    activations_db: float | None = Field(description="Only its activations rounded.")
    weights_db: float | None = Field(description="Only its weights rounded.")
    upto_db: float | None = Field(description="It and all groups before it in INT8.")
    upto_changed: int = Field(description="Samples whose largest score is another one then.")
    tensor_db: float | None = Field(description="At its first activation itself.")
    clipped_pct: float = Field(description="Share of that activation's noise made by clipping.")
    widest_channels: tuple[int, ...] = Field(description="Of that activation, the widest first.")
    width_ratio: float = Field(description="The widest channel over the median one, in max |x|.")


class SensitivityRecord(Record):
    """Every group of the model as it was given, and what remedies make of it."""

    calibrator: str = Field(description="Whose thresholds were taken.")
    samples: int = Field(description="Calibration samples kept aside that it was measured on.")
    int8_db: float | None = Field(description="All groups in INT8.")
    groups: tuple[GroupSensitivity, ...] = Field(description="In graph order.")
    remedies: RemediesRecord | None = None
