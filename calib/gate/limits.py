"""What a candidate must keep to pass. A limit that is absent is not asked."""

from typing import Literal

from pydantic import ConfigDict, Field

from calib.gate.task_limits import AnswerLimits


class LimitsSpec(AnswerLimits):
    """Limits, and how sure a verdict must be; a value or bound equal to its limit passes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    judge: str = Field(
        default="best",
        description="What the run's verdict speaks of: the best INT8 candidate, all, or a name.",
    )
    alpha: float = Field(
        default=0.05,
        gt=0,
        lt=0.5,
        description="How often a candidate that just breaks a limit may pass it by luck. Divided "
        "by the number of INT8 candidates where the best of several is judged.",
    )
    inconclusive: Literal["failure", "skipped"] = Field(
        default="failure", description="What INCONCLUSIVE is in junit.xml."
    )
    batch_size: int | None = Field(
        default=None, ge=1, description="Batch size of the speed limits; the largest if absent."
    )
    threads: int | None = Field(
        default=None, ge=1, description="Threads of the speed limits; the most timed if absent."
    )
    worst_class_min_samples: int = Field(
        default=20, ge=1, description="Classes with fewer samples are pooled, the smallest first."
    )
    worst_slice_min_samples: int = Field(
        default=50, ge=1, description="Slices of a kind with fewer samples are pooled likewise."
    )
    samples_min: int | None = Field(
        default=None, ge=1, description="Fewest validation samples that are evidence."
    )
    worst_slice_drop_points_max: float | None = Field(
        default=None,
        ge=0,
        description="Accuracy lost by the slice of `analysis.slices` that loses most, in points.",
    )
    worst_slice_loss_max: float | None = Field(
        default=None,
        ge=0,
        description="What the task's first metric loses in the slice that loses most, in the "
        "metric's own unit; detection, multi-label and embedding: the mean of the samples' scores. "
        "Not for classification.",
    )
    confident_pct: Literal[50, 80, 90, 95, 99] = Field(
        default=90, description="FP32's probability from which on a prediction is confident, in %."
    )
    confident_flips_pct_max: float | None = Field(
        default=None,
        ge=0,
        le=100,
        description="Predictions that changed, in % of those that FP32 was confident of.",
    )
    margin_loss_p99_max: float | None = Field(
        default=None,
        description="The loss of margin that 99 % of the samples do not exceed, in the margin's "
        "unit.",
    )
    saturation_pct_max: float | None = Field(
        default=None,
        ge=0,
        le=100,
        description="Values of validation samples that the threshold clips, in % of the tensor's, "
        "of the worst tensor; of the samples that the audit runs.",
    )
    output_sqnr_db_min: float | None = Field(
        default=None, description="Signal to quantization noise of the worst output, in dB."
    )
    output_cosine_min: float | None = Field(
        default=None, ge=-1, le=1, description="Cosine of the worst output to FP32's."
    )
    layer_sqnr_db_min: float | None = Field(
        default=None, description="Signal to quantization noise of the worst layer, in dB."
    )
    speedup_vs_fp32_min: float | None = Field(
        default=None, gt=0, description="FP32's median latency over the candidate's."
    )
    speedup_vs_fp16_min: float | None = Field(
        default=None, gt=0, description="FP16's median latency over the candidate's."
    )
    latency_p50_ms_max: float | None = Field(
        default=None, gt=0, description="Median latency, in milliseconds."
    )
    size_ratio_vs_fp32_max: float | None = Field(
        default=None, gt=0, description="Size of the file over FP32's."
    )
    int8_macs_pct_min: float | None = Field(
        default=None,
        ge=0,
        le=100,
        description="Share of the multiply-accumulates that ran in INT8, in %: on TensorRT, or on "
        "ONNX Runtime where the layout is `native`.",
    )
    heads: dict[str, AnswerLimits] = Field(
        default_factory=dict, description="Limits of further heads, by the head's name."
    )

    def of_head(self, name: str) -> "LimitsSpec":
        """A head's own limits, judged as surely as these."""
        return LimitsSpec(
            alpha=self.alpha,
            worst_class_min_samples=self.worst_class_min_samples,
            **self.heads[name].model_dump(),
        )
