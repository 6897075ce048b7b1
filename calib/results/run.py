"""Everything one run found."""

from typing import Any, Literal

from pydantic import Field

from calib.record import Precision, Record
from calib.results.audit import AuditRecord
from calib.results.calibration import CalibrationRecord
from calib.results.candidates import CandidateRecord
from calib.results.inputs import DataRecord, Environment, ModelRecord
from calib.results.judgement import RunVerdict
from calib.results.placement import PlacementRecord
from calib.results.remedies import RemediesRecord
from calib.results.speed import SpeedRecord

SCHEMA_VERSION: Literal[1] = 1


class StageRecord(Record):
    """One stage of the run: how long it took and whether it was taken from the store."""

    name: str
    seconds: float
    reused: bool


class RunResult(Record):
    """Everything one run found."""

    schema_version: Literal[1] = SCHEMA_VERSION
    experiment: str
    run_id: str
    started_at: str = Field(description="UTC, ISO 8601.")
    seconds: float
    config: dict[str, Any] = Field(description="The experiment with every default filled in.")
    environment: Environment
    model: ModelRecord
    data: DataRecord
    calibration: CalibrationRecord
    remedies: RemediesRecord | None = Field(
        default=None, description="What was done to the model before it was quantized."
    )
    placement: PlacementRecord | None = Field(
        default=None, description="Where integers run, where that was measured."
    )
    audit: AuditRecord | None = Field(
        default=None, description="Of the calibration data; None where it was not asked for."
    )
    candidates: tuple[CandidateRecord, ...]
    speed: SpeedRecord | None = Field(
        default=None, description="The machine while the engines were timed."
    )
    stages: tuple[StageRecord, ...]
    notes: tuple[str, ...] = Field(default=(), description="E.g. which backend `auto` became.")
    verdict: RunVerdict

    def candidate(self, name: str) -> CandidateRecord:
        """The candidate called `name`.

        Raises:
            KeyError: if this run has none of that name.
        """
        for record in self.candidates:
            if record.name == name:
                return record
        raise KeyError(name)

    @property
    def reference(self) -> CandidateRecord:
        """The FP32 engine that all others are compared with."""
        return self.candidate(Precision.FP32)
