"""One engine: its errors, its score, its speed."""

from typing import Literal

from pydantic import Field

from calib.engine_record import EngineRecord, RanRecord
from calib.record import Precision, Record
from calib.results.kinds import TaskKind
from calib.results.scores import FoundSlice, PairedScore, SliceScore, TaskScore
from calib.results.stability import ResampleRecord
from calib.results.tails import NearestSample, RangeExcess, RivalAnswer, TailSummary
from calib.results.tensors import TensorError


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
    reference_probability: float | None = Field(
        default=None, description="Classification: FP32's for its own prediction."
    )
    probability: float | None = Field(
        default=None, description="Classification: the candidate's for its own prediction."
    )
    fp16: RivalAnswer | None = Field(
        default=None, description="What FP16 says, where the candidate is INT8."
    )
    saturation_pct: float | None = Field(
        description="Share of this sample's tapped activations that INT8 clips, in %."
    )
    left_range: tuple[RangeExcess, ...] = Field(
        default=(), description="Activations beyond their threshold, what clipping costs first."
    )
    left_range_count: int = Field(default=0, description="How many there are in all.")
    nearest: NearestSample | None = Field(
        default=None, description="Of the calibration samples that were looked at."
    )
    text: str | None = None
    thumbnail_png_base64: str | None = None
    metadata: dict[str, str] = Field(default_factory=dict)


class LatencyRecord(Record):
    """Timed runs of one engine at one operating point; the raw samples are in throughput.csv.

    A percentile that fewer than one run is expected to lie beyond is None: it would be a guess.
    """

    batch_size: int
    threads: int | None = Field(
        default=None, description="ONNX Runtime: threads inside one operator."
    )
    shapes: dict[str, tuple[int, ...]]
    warmup_runs: int = Field(description="Runs before the first one that counts.")
    steady: bool | None = Field(
        default=None,
        description="Whether the latency was steady at the end of the warm-up; None if that was "
        "too short to tell.",
    )
    runs: int
    p50_ms: float
    p50_low_ms: float | None = Field(
        default=None,
        description="Lower end of the median's 95 % interval, by order statistics; from 6 runs.",
    )
    p50_high_ms: float | None = Field(default=None, description="Upper end of it.")
    p90_ms: float | None = Field(description="None with fewer than 10 runs.")
    p99_ms: float | None = Field(description="None with fewer than 100 runs.")
    p999_ms: float | None = Field(default=None, description="None with fewer than 1,000 runs.")
    mean_ms: float
    samples_per_second: float = Field(description="batch_size / median latency.")
    drift_pct: float | None = Field(
        default=None,
        description="Median of the last third of the runs over the first third's, less 1, in %; "
        "None where there is no trend beyond chance.",
    )
    samples_ms: tuple[float, ...]

    @property
    def point(self) -> str:
        """The operating point in words."""
        if self.threads is None:
            return f"batch {self.batch_size}"
        return f"batch {self.batch_size}, {self.threads} thread{'s' if self.threads > 1 else ''}"


class HeadRecord(Record):
    """A further head of the model: what its answers came to."""

    name: str
    score: TaskScore
    flips: FlipSummary
    tail: tuple[SampleVerdict, ...] = ()


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
    load_seconds: float | None = Field(
        default=None,
        description="Median time to open a session of it, its file in the page cache.",
    )
    outputs: tuple[TensorError, ...] = ()
    layers: tuple[TensorError, ...] = ()
    score: TaskScore | None = None
    flips: FlipSummary | None = None
    tail: tuple[SampleVerdict, ...] = ()
    heads: tuple[HeadRecord, ...] = Field(
        default=(), description="The model's further heads, as the config names them."
    )
    resampled: tuple[ResampleRecord, ...] = Field(
        default=(), description="Calibrated anew on resampled data, if the config asks for it."
    )
    moved: TailSummary | None = None
    slices: tuple[SliceScore, ...] = ()
    found_slices: tuple[FoundSlice, ...] = ()
    paired: tuple[PairedScore, ...] = Field(
        default=(), description="Against rivals other than FP32, e.g. fp16."
    )
    latency: tuple[LatencyRecord, ...] = ()
    engines: tuple[EngineRecord, ...] = Field(
        default=(), description="What a TensorRT builder made of it, one for each target."
    )
    ran: RanRecord | None = Field(
        default=None,
        description="What ONNX Runtime made of it; None for FP32 and where engines are built.",
    )
    warnings: tuple[str, ...] = ()

    @property
    def tells_flips(self) -> bool:
        """Whether no flips means none: in kinds without right and wrong they are not counted."""
        score, flips = self.score, self.flips
        if score is None or flips is None or score.kind is TaskKind.CLASSIFICATION:
            return True
        return score.reference_right is not None or flips.total > 0

    def latency_at(
        self, batch_size: int | None = None, threads: int | None = None
    ) -> LatencyRecord | None:
        """Its latency at an operating point: of the largest batch, and the most threads, if None.

        That is the point of the figures on the first screen, and of limits that name none.
        """
        found = [
            r
            for r in self.latency
            if batch_size in (None, r.batch_size) and threads in (None, r.threads)
        ]
        return max(found, key=lambda r: (r.batch_size, r.threads or 0), default=None)
