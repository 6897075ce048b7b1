"""The records a run leaves behind: `result.json` is `RunResult`, and nothing else is.

Stages write facts here; `gate` judges them and `report` draws them, so both work on a run that
finished long ago. A field is None when there is no evidence for it, never when it is zero.
"""

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from calib.engine_record import EngineRecord
from calib.record import Precision as Precision  # part of this schema too
from calib.record import Record as Record

SCHEMA_VERSION: Literal[1] = 1


class Verdict(StrEnum):
    """What a rule, a candidate or a run came to. No evidence is not a pass."""

    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    FAIL = "FAIL"
    NO_EVIDENCE = "NO_EVIDENCE"


class TaskKind(StrEnum):
    """What the model's outputs mean, hence how they are scored."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"
    EMBEDDING = "embedding"


# --- what went in -------------------------------------------------------------------------------


class TensorSpec(Record):
    """A model input or output; an axis is a size, or the name of a dynamic dimension."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class ModelRecord(Record):
    """The FP32 model under test."""

    path: str
    sha256: str
    size_bytes: int
    opset: int
    ir_version: int
    producer: str
    parameters: int = Field(description="Number of scalars in floating-point initializers.")
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    warnings: tuple[str, ...] = ()


class DatasetRecord(Record):
    """One split, as it was read."""

    kind: str = Field(description="The loader's kind, e.g. text.")
    source: str = Field(description="Where the samples came from, for a person to read.")
    samples: int
    labelled: int
    batches: int
    sha256: str = Field(description="Over the sorted sample ids and content digests.")
    shapes: dict[str, tuple[tuple[int, int, int], ...]] = Field(
        description="Per input and axis after the batch axis: (minimum, median, maximum) size."
    )
    label_counts: dict[str, int] = Field(
        default_factory=dict, description="Classification: number of samples by class name."
    )


class DataRecord(Record):
    """Both splits; content shared by the two is refused, so it is always zero here."""

    calibration: DatasetRecord
    validation: DatasetRecord


class Environment(Record):
    """Where and with what the numbers were taken."""

    hostname_sha256: str = Field(description="First 12 hex digits: tells machines apart.")
    platform: str
    cpu: str
    logical_cores: int
    memory_bytes: int
    gpu: str | None
    python: str
    packages: dict[str, str]
    backend: str
    backend_details: dict[str, str]
    git_commit: str | None
    git_dirty: bool | None


# --- calibration and quantization ---------------------------------------------------------------


class ActivationRecord(Record):
    """One calibrated activation tensor."""

    tensor: str
    consumers: tuple[str, ...] = Field(description="Names of the nodes that read it in INT8.")
    count: int = Field(description="Number of values observed.")
    zeros: int
    minimum: float | None
    maximum: float | None
    amax: dict[str, float] = Field(description="Clipping threshold by calibrator name.")
    clipped_pct: dict[str, float] = Field(
        description="Share of observed values beyond the threshold, by calibrator name, in %."
    )
    growth: dict[str, tuple[float, ...]] = Field(
        default_factory=dict,
        description="By calibrator name: the threshold after each part of the data.",
    )
    standard_error_pct: dict[str, float | None] = Field(
        default_factory=dict,
        description="By calibrator name: jackknife over the parts, in % of the threshold.",
    )
    enough: dict[str, bool | None] = Field(
        default_factory=dict,
        description="By calibrator name: whether more samples would hardly move the threshold.",
    )
    chosen: dict[str, str] = Field(
        default_factory=dict, description="By calibrator that chooses: what it chose here."
    )


class WeightRecord(Record):
    """One quantized weight: symmetric, per output channel, from its own maxima."""

    tensor: str
    node: str
    op_type: str
    axis: int = Field(description="The output-channel axis the scales run along.")
    channels: int
    elements: int
    sqnr_db: float | None


class LeftAloneRecord(Record):
    """A float tensor that stays in high precision, and why."""

    tensor: str
    node: str = Field(description="The node whose input it is, or that produces it.")
    op_type: str
    reason: str


class CalibrationRecord(Record):
    """What the one pass over the calibration data found."""

    samples: int
    batches: int
    values: int = Field(description="Number of activation values counted.")
    passes: int | None = Field(default=1, description="More than one if memory was limited.")
    seconds: float | None = Field(
        description="Wall time of the pass, inference included; None if it was taken from a file."
    )
    inference_seconds: float | None = Field(description="Of that, inside the runtime.")
    part_samples: tuple[int, ...] = Field(
        default=(), description="Samples seen up to the end of each part; see `growth`."
    )
    tolerance_pct: float | None = Field(
        default=None, description="What `enough` was held against, in %."
    )
    calibrators: tuple[str, ...]
    activations: tuple[ActivationRecord, ...]
    others: dict[str, dict[str, float]] = Field(
        default={},
        description="By calibrator and tensor: thresholds of activations that explicit Q/DQ does "
        "not quantize, for a calibration cache; see `calibration.tensors`.",
    )
    weights: tuple[WeightRecord, ...]
    left_alone: tuple[LeftAloneRecord, ...]
    warnings: tuple[str, ...] = ()


# --- candidates ---------------------------------------------------------------------------------


class TensorError(Record):
    """How far one tensor of a candidate is from FP32's, over all samples compared."""

    tensor: str
    node: str = Field(description="The node that produces the tensor; empty for outputs unknown.")
    op_type: str
    samples: int
    sqnr_db: float | None = Field(description="10·log10(Σ ref² / Σ (ref-cand)²); None if exact.")
    cosine: float | None
    max_abs: float
    relative_l2: float | None = Field(description="‖ref-cand‖₂ / ‖ref‖₂; None if ref is zero.")
    quantized: bool = Field(description="True when a node that makes it reads INT8 inputs.")


class ClassScore(Record):
    """One class: how many of its samples are recognised."""

    name: str
    samples: int
    recall_pct: float
    reference_recall_pct: float


class TaskScore(Record):
    """The task metrics of one candidate against labels; `reference_*` are FP32's."""

    kind: TaskKind
    samples: int
    accuracy_pct: float | None = None
    reference_accuracy_pct: float | None = None
    macro_recall_pct: float | None = None
    reference_macro_recall_pct: float | None = None
    classes: tuple[ClassScore, ...] = ()
    mean_abs_error: float | None = None
    reference_mean_abs_error: float | None = None
    root_mean_square_error: float | None = None
    reference_root_mean_square_error: float | None = None
    mean_cosine: float | None = Field(
        default=None, description="Embedding: mean cosine to FP32's embedding of the same sample."
    )
    worst_cosine: float | None = None


class FlipSummary(Record):
    """Predictions that differ from FP32's, by direction; `unlabelled` have no right or wrong."""

    samples: int
    total: int
    worsened: int = Field(description="FP32 right, candidate wrong.")
    improved: int = Field(description="FP32 wrong, candidate right.")
    sideways: int = Field(description="Both wrong, differently.")
    unlabelled: int


class SampleVerdict(Record):
    """One sample: what FP32 said, what the candidate says, and how close it was.

    For classification the margin is the true class's score (FP32's prediction where there is no
    label) less the best other score. For regression it is minus the absolute error against the
    label, for an embedding the cosine to FP32's; so everywhere a lower margin is worse.
    """

    id: str
    label: str | None
    reference_prediction: str
    prediction: str
    reference_margin: float
    margin: float
    margin_loss: float = Field(description="reference_margin - margin.")
    flip: Literal["", "worsened", "improved", "sideways", "unlabelled"]
    saturation_pct: float | None = Field(
        description="Share of this sample's tapped activations that INT8 clips, in %."
    )
    text: str | None = None
    thumbnail_png_base64: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict)


class LatencyRecord(Record):
    """Timed runs of one engine at one batch size; the raw samples are in throughput.csv."""

    batch_size: int
    shapes: dict[str, tuple[int, ...]]
    warmup_runs: int
    runs: int
    p50_ms: float
    p90_ms: float
    p99_ms: float | None = Field(description="None with fewer than 100 runs: it would be a guess.")
    mean_ms: float
    samples_per_second: float = Field(description="batch_size / median latency.")
    samples_ms: tuple[float, ...]


class CandidateRecord(Record):
    """One engine: FP32 itself, or something that wants to replace it."""

    name: str = Field(description="fp32, fp16, int8-entropy, …")
    precision: Precision
    calibrator: str | None
    rest: Precision | None = Field(description="INT8: precision of what is not quantized.")
    model_path: str = Field(description="Relative to the run's directory.")
    model_sha256: str
    size_bytes: int
    peak_memory_bytes: int | None = Field(
        description="Peak resident memory of a process that only runs this engine."
    )
    outputs: tuple[TensorError, ...] = ()
    layers: tuple[TensorError, ...] = ()
    score: TaskScore | None = None
    flips: FlipSummary | None = None
    tail: tuple[SampleVerdict, ...] = ()
    latency: tuple[LatencyRecord, ...] = ()
    engines: tuple[EngineRecord, ...] = Field(
        default=(), description="What a TensorRT builder made of it, one for each target."
    )
    warnings: tuple[str, ...] = ()


# --- judgement ----------------------------------------------------------------------------------


class RuleVerdict(Record):
    """One limit held against one candidate."""

    rule: str = Field(description="The limit's name in the config, e.g. accuracy_drop_points_max.")
    title: str = Field(description="What is asked, with the limit in it.")
    verdict: Verdict
    limit: float
    found: float | None
    unit: str
    samples: int
    details: str


class CandidateVerdict(Record):
    """All rules held against one candidate; it passes only if each of them does."""

    candidate: str
    verdict: Verdict
    rules: tuple[RuleVerdict, ...]


class RunVerdict(Record):
    """The run's answer: which candidate may ship, if any."""

    verdict: Verdict
    chosen: str | None = Field(description="The candidate the verdict speaks of.")
    reason: str
    candidates: tuple[CandidateVerdict, ...]


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
    candidates: tuple[CandidateRecord, ...]
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
