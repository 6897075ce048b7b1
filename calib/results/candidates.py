"""One engine: its errors, its score, its speed."""

from typing import Literal

from pydantic import Field

from calib.engine_record import EngineRecord, RanRecord
from calib.record import Precision, Record
from calib.results.kinds import TaskKind


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
    left_out: int = Field(
        default=0, description="Values that were not compared: NaN, infinite or a mask in FP32."
    )


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
    emulated: bool = Field(
        default=False,
        description="It was run in a wider precision than its own, for want of kernels: its time "
        "says nothing.",
    )
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
    ran: RanRecord | None = Field(
        default=None,
        description="What ONNX Runtime made of it; None for FP32 and where engines are built.",
    )
    warnings: tuple[str, ...] = ()
