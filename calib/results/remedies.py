"""What was done for INT8's accuracy: where the loss was, each remedy, what it gave and cost."""

import math

from pydantic import Field

from calib.record import Record


class RemedyStep(Record):
    """One remedy, tried on what was kept before it."""

    name: str
    what: str = Field(description="A sentence for the report's reader.")
    sqnr_db: float = Field(description="At the model's outputs, on samples kept aside.")
    changed: int = Field(description="Of those samples: another largest score than FP32's.")
    kept: bool = Field(description="Whether it gave enough to be kept.")
    parts: tuple[str, ...] = Field(default=(), description="`quantization.remedies` for it.")
    nodes: int = Field(description="Operators of the rewritten FP32 model.")
    size_bytes: int = Field(description="Its constants.")


class NoisyGroup(Record):
    """Nodes that are quantized together, and the noise that they make alone."""

    name: str = Field(description="Its first node.")
    nodes: tuple[str, ...]
    macs_pct: float = Field(description="Share of all weighted operators' multiply-accumulates.")
    alone_db: float | None = Field(
        description="SQNR at the model's outputs with nothing else in INT8; None if exact."
    )

    @property
    def order_db(self) -> float:
        """For a table with the noisiest group first."""
        return math.inf if self.alone_db is None else self.alone_db


class GroupRecord(NoisyGroup):
    """A group that mixed precision decides on."""

    in_float: bool = Field(description="Left in float by mixed precision.")


class FloatTrial(Record):
    """A choice of groups in float that was measured."""

    groups: tuple[str, ...] = Field(description="In float.")
    sqnr_db: float
    macs_int8_pct: float
    kept: bool


class RemediesRecord(Record):
    """From the nearest rounding to the model that was kept."""

    fitted_samples: int = Field(description="Calibration samples that remedies were fitted on.")
    kept_aside: int = Field(description="Calibration samples that they were judged on.")
    passes: float = Field(description="Samples run, over the number of calibration samples.")
    seconds: float
    equality_db: float | None = Field(
        description="Rewritten FP32 model against the original: SQNR of the outputs; None if exact."
    )
    steps: tuple[RemedyStep, ...]
    groups: tuple[GroupRecord, ...] = ()
    trials: tuple[FloatTrial, ...] = ()
    macs_int8_pct: float = Field(description="Share of multiply-accumulates left in INT8.")
    expected_flips_pct: float | None = Field(
        default=None,
        description="Classification: predictions unlike FP32's to expect of new samples, by "
        "FP32's margins and the noise of the scores.",
    )
    stopped: bool = Field(default=False, description="By Ctrl-C: the best until then.")
    warnings: tuple[str, ...] = ()
