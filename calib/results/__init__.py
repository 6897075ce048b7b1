"""The records a run leaves behind: `result.json` is `RunResult`, and nothing else is.

Stages write facts here; `gate` judges them and `report` draws them, so both work on a run that
finished long ago. A field is None when there is no evidence for it, never when it is zero.
"""

from calib.record import Precision, Record
from calib.results.audit import (
    AuditFinding,
    AuditRecord,
    GroupCount,
    Saturation,
    Severity,
    TensorAudit,
)
from calib.results.calibration import (
    ActivationRecord,
    CalibrationRecord,
    LeftAloneRecord,
    NotFiniteRecord,
    WeightRecord,
)
from calib.results.candidates import (
    CandidateRecord,
    FlipSummary,
    HeadRecord,
    LatencyRecord,
    SampleVerdict,
)
from calib.results.comparison import (
    History,
    MetricChange,
    Outcome,
    PrecisionMove,
    RunComparison,
    RunSummary,
    ScaleMove,
    TailChange,
)
from calib.results.inputs import (
    DataRecord,
    DatasetRecord,
    Environment,
    ModelRecord,
    TensorSpec,
)
from calib.results.judgement import (
    CandidateVerdict,
    PairedVerdict,
    RuleVerdict,
    RunVerdict,
    VerdictFile,
)
from calib.results.kinds import (
    ModelPrecision,
    TaskKind,
    Verdict,
)
from calib.results.metrics import ClassMetric, MetricScore
from calib.results.placement import PlacementRecord, PlacementTrial
from calib.results.remedies import (
    FloatTrial,
    GroupRecord,
    RemediesRecord,
    RemedyStep,
)
from calib.results.run import (
    SCHEMA_VERSION,
    RunResult,
    StageRecord,
)
from calib.results.scores import (
    ClassScore,
    FoundSlice,
    PairedScore,
    SliceScore,
    TaskScore,
)
from calib.results.sensitivity import GroupSensitivity, SensitivityRecord
from calib.results.speed import LoadRecord, PointRecord, SpeedRecord
from calib.results.stability import ResampleRecord
from calib.results.sweep import SweepRecord, TrialRecord
from calib.results.tails import (
    CONFIDENT_AT,
    PERCENTILES,
    ConfidentFlips,
    NearestSample,
    RangeExcess,
    RivalAnswer,
    TailSummary,
)
from calib.results.tensors import ChannelErrors, TensorError
from calib.results.waivers import Waiver, holds

__all__ = [
    "CONFIDENT_AT",
    "PERCENTILES",
    "SCHEMA_VERSION",
    "ActivationRecord",
    "AuditFinding",
    "AuditRecord",
    "CalibrationRecord",
    "CandidateRecord",
    "CandidateVerdict",
    "ChannelErrors",
    "ClassMetric",
    "ClassScore",
    "ConfidentFlips",
    "DataRecord",
    "DatasetRecord",
    "Environment",
    "FlipSummary",
    "FloatTrial",
    "FoundSlice",
    "GroupCount",
    "GroupRecord",
    "GroupSensitivity",
    "HeadRecord",
    "History",
    "LatencyRecord",
    "LeftAloneRecord",
    "LoadRecord",
    "MetricChange",
    "MetricScore",
    "ModelPrecision",
    "ModelRecord",
    "NearestSample",
    "NotFiniteRecord",
    "Outcome",
    "PairedScore",
    "PairedVerdict",
    "PlacementRecord",
    "PlacementTrial",
    "PointRecord",
    "Precision",
    "PrecisionMove",
    "RangeExcess",
    "Record",
    "RemediesRecord",
    "RemedyStep",
    "ResampleRecord",
    "RivalAnswer",
    "RuleVerdict",
    "RunComparison",
    "RunResult",
    "RunSummary",
    "RunVerdict",
    "SampleVerdict",
    "Saturation",
    "ScaleMove",
    "SensitivityRecord",
    "Severity",
    "SliceScore",
    "SpeedRecord",
    "StageRecord",
    "SweepRecord",
    "TailChange",
    "TailSummary",
    "TaskKind",
    "TaskScore",
    "TensorAudit",
    "TensorError",
    "TensorSpec",
    "TrialRecord",
    "Verdict",
    "VerdictFile",
    "Waiver",
    "WeightRecord",
    "holds",
]
