"""Calibration and quantization."""

from pydantic import Field

from calib.record import Record


class ActivationRecord(Record):
    """One calibrated activation tensor."""

    tensor: str
    consumers: tuple[str, ...] = Field(description="Names of the nodes that read it in INT8.")
    count: int = Field(description="Number of finite values observed.")
    zeros: int
    minimum: float | None
    maximum: float | None
    amax: dict[str, float] = Field(description="Clipping threshold by calibrator name.")
    clipped_pct: dict[str, float] = Field(
        description="Share of observed values beyond the threshold, by calibrator name, in %."
    )
    histogram: tuple[int, ...] = Field(
        default=(),
        description="Numbers of values by |x|, in equal parts of [0, histogram_end); zeros are in "
        "the first.",
    )
    histogram_end: float = 0.0
    growth: dict[str, tuple[float, ...]] = Field(
        default_factory=dict,
        description="By calibrator name: the threshold after each part of the data.",
    )
    standard_error_pct: dict[str, float | None] = Field(
        default_factory=dict,
        description="By calibrator name: jackknife over the parts, in % of the threshold.",
    )
    halves_pct: dict[str, float | None] = Field(
        default_factory=dict,
        description="By calibrator name: by how much the thresholds of the two halves of the data "
        "differ, in % of the smaller one; None with a single part.",
    )
    enough: dict[str, bool | None] = Field(
        default_factory=dict,
        description="By calibrator name: whether more samples would hardly move the threshold.",
    )
    chosen: dict[str, str] = Field(
        default_factory=dict, description="By calibrator that chooses: what it chose here."
    )
    fallback: dict[str, str] = Field(
        default_factory=dict,
        description="By calibrator that had too few values here: what was taken in its place.",
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


class NotFiniteRecord(Record):
    """An observed tensor that held NaN or infinity; its finite values alone were counted."""

    tensor: str
    finite: int = Field(description="Number of its finite values.")
    nan: int
    positive: int = Field(description="Number of +inf.")
    negative: int = Field(description="Number of -inf.")
    samples: int = Field(description="Samples that hold one or more.")
    ids: tuple[str, ...] = Field(description="The first of them, by name.")


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
    not_finite: tuple[NotFiniteRecord, ...] = ()
    warnings: tuple[str, ...] = ()
