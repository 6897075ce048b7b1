"""Whether the calibration data are what the thresholds, and validation what the verdict, need."""

from enum import StrEnum

from pydantic import Field

from calib.record import Record


class Severity(StrEnum):
    """How much a finding matters."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class AuditFinding(Record):
    """One thing that is wrong, or may be, and what to do about it."""

    check: str = Field(description="Which check found it, e.g. coverage.")
    severity: Severity
    title: str
    evidence: str
    action: str
    tensor: str | None = None
    nodes: tuple[str, ...] = Field(default=(), description="That read the tensor in INT8.")
    samples: tuple[str, ...] = Field(default=(), description="The first of them, by id.")
    names: tuple[str, ...] = Field(default=(), description="Classes, slices or channels.")


class Saturation(Record):
    """What one calibrator's threshold cuts off a tensor, on calibration and on other samples."""

    clipped_pct: float = Field(description="Share of validation's values beyond the threshold.")
    lost_pct: float = Field(description="Σ (|x| - threshold)² over these, in % of Σ x².")
    calibration_clipped_pct: float
    calibration_lost_pct: float


class TensorAudit(Record):
    """One calibrated activation, on calibration and on validation samples."""

    tensor: str
    nodes: tuple[str, ...]
    distance: float = Field(
        description="Between the samples' amax, rms and mean: energy distance, 0 (alike) to 1."
    )
    p_value: float = Field(description="Of that distance, if the splits were drawn alike.")
    p_adjusted: float = Field(description="The same, for all tensors at once.")
    amax_ratio: float | None = Field(
        description="Median of validation samples' amax over calibration samples'."
    )
    beyond: int = Field(description="Validation samples beyond all of calibration.")
    beyond_p: float = Field(description="Chance of so many or more if drawn alike.")
    beyond_ratio: float = Field(description="Validation's largest |x| over calibration's.")
    beyond_sample: str = Field(description="The sample that reaches farthest.")
    saturation: dict[str, Saturation] = Field(description="By calibrator.")
    resampling_pct: float = Field(
        description="Standard error of calibration's largest |x| by bootstrap over samples, in %."
    )


class GroupCount(Record):
    """How often a class, or the value of a metadata column, occurs in each split."""

    column: str = Field(description="`class`, or the name of the column.")
    name: str
    calibration: int
    validation: int


class AuditRecord(Record):
    """What the audit looked at and found."""

    calibration_samples: int = Field(description="Looked at inside the model.")
    validation_samples: int = Field(description="Looked at inside the model.")
    classes_from: str = Field(
        description="`labels`, or `predictions`: FP32's, where calibration has no labels; empty "
        "where there are no classes."
    )
    findings: tuple[AuditFinding, ...] = Field(description="The gravest first.")
    tensors: tuple[TensorAudit, ...] = Field(description="In graph order.")
    groups: tuple[GroupCount, ...] = ()

    @property
    def worst(self) -> Severity | None:
        """The gravest severity; None if nothing was found."""
        return self.findings[0].severity if self.findings else None
