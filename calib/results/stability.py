"""How much a candidate's figures move when calibration sees other data."""

from pydantic import Field

from calib.record import Record


class ResampleRecord(Record):
    """The candidate calibrated anew on parts of the calibration data, drawn with replacement."""

    seed: int
    value: float | None = Field(description="The task's first metric.")
    flips: int
    worsened: int
    thresholds_moved_pct: float = Field(
        description="The threshold that moved most, in % of what all the data gives."
    )
