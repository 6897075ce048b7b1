"""Errors of one tensor, and of its channels."""

from pydantic import Field

from calib.record import Record


class ChannelErrors(Record):
    """One output channel by channel, over all samples: values of a kind share a channel."""

    axis: int = Field(description="Of the channels, in a batch's output.")
    channels: int
    constant: int = Field(description="Channels that FP32 itself never varies.")
    worst: int | None = Field(description="The channel that the candidate explains least of.")
    worst_r2: float | None = Field(
        description="1 - Σ(ref-cand)² / Σ(ref-mean ref)² of that channel; below 0 a constant would "
        "do better."
    )
    collapsed: int = Field(description="Channels that vary in FP32 and no longer here.")
    collapsed_channels: tuple[int, ...] = Field(description="The first of these.")


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
        default=0,
        description="Values that were not compared: NaN, infinite or a mask in FP32, or of a "
        "shape that the candidate's has not.",
    )
    unlike_batches: int = Field(
        default=0, description="Batches in which its shape is not FP32's, as of boxes found."
    )
    channels: ChannelErrors | None = Field(
        default=None, description="Of an output with more than one channel."
    )
