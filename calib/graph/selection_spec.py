"""What the config says of which tensors become INT8."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

WeightedOp = Literal["Conv", "ConvTranspose", "MatMul", "Gemm"]
WEIGHTED_OPS: tuple[WeightedOp, ...] = ("Conv", "ConvTranspose", "MatMul", "Gemm")

RemedyName = Literal[
    "equalize", "correct_biases", "shift_channels", "channels_aside", "round_together"
]
"""What may be done to a model before it is quantized, in the order in which it is tried."""


class SelectionSpec(BaseModel):
    """Which tensors become INT8. The defaults are what TensorRT fuses best."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layout: Literal["tensorrt", "native"] = Field(
        default="tensorrt",
        description="`tensorrt`: symmetric int8 at the inputs, what TensorRT runs. `native`: an "
        "INT8 model to ship on ONNX Runtime: asymmetric uint8 from the same pass, outputs "
        "quantized where integers can flow on, Relu and Clip absorbed.",
    )
    ops: tuple[WeightedOp, ...] = Field(
        default=WEIGHTED_OPS, description="Operators whose inputs are quantized."
    )
    residual: Literal["convolution", "none", "all"] = Field(
        default="convolution",
        description="Residual Add: quantize the skip input behind a convolution only, never, or "
        "everywhere. In a transformer it costs points of accuracy.",
    )
    min_channels: int = Field(
        default=16, ge=1, description="MatMul and Gemm with a smaller K or N stay in float."
    )
    exclude: tuple[str, ...] = Field(
        default=(), description="Node names to leave in float; * and ? match any text."
    )
    existing: Literal["refuse", "keep"] = Field(
        default="refuse",
        description="A model that has QuantizeLinear/DequantizeLinear pairs already: refuse it, or "
        "keep them (quantization-aware training, partly quantized) and add what is missing; no "
        "tensor is quantized twice.",
    )
    remedies: Literal["auto", "none"] | tuple[RemedyName, ...] = Field(
        default="none",
        description="`auto`: rewrite the FP32 model so that INT8 keeps its accuracy, and round its "
        "weights together; each remedy only where it is seen to help, on calibration samples kept "
        "aside. A list tries these alone. `quantization: auto` sets this and `mixed_precision`.",
    )
    mixed_precision: Literal["auto", "none"] = Field(
        default="none",
        description="`auto`, with remedies: leave in float what costs few multiply-accumulates and "
        "makes much of the noise, and what `sqnr_db_min` still needs.",
    )
    sqnr_db_min: float = Field(
        default=30.0, description="Mixed precision: the SQNR at the outputs to reach, in dB."
    )
    flips_pct_max: float | None = Field(
        default=None,
        gt=0,
        le=100,
        description="Mixed precision, classification: stay below so many predictions unlike "
        "FP32's, in %, as expected from FP32's margins on calibration samples kept aside; asks for "
        "more than `sqnr_db_min` where that is not enough.",
    )
    macs_int8_pct_min: float = Field(
        default=80.0,
        ge=0,
        le=100,
        description="Mixed precision: multiply-accumulates that stay in INT8 whatever the SQNR, %.",
    )
