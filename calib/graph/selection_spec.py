"""What the config says of which tensors become INT8."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from calib.remedies.rounding import INT8_MAX, REDUCED_MAX

WeightedOp = Literal["Conv", "ConvTranspose", "MatMul", "Gemm"]
WEIGHTED_OPS: tuple[WeightedOp, ...] = ("Conv", "ConvTranspose", "MatMul", "Gemm")

RemedyName = Literal[
    "equalize", "correct_biases", "shift_channels", "channels_aside", "round_together"
]
"""What may be done to a model before it is quantized, in the order in which it is tried."""


PlacementName = Literal["integer", "float_adds", "float_between", "float_products"]
"""Where integers run in the native layout."""


class SelectionSpec(BaseModel):
    """Which tensors become INT8. The defaults are what TensorRT fuses best."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layout: Literal["tensorrt", "native"] = Field(
        default="tensorrt",
        description="`tensorrt`: symmetric int8 at the inputs, what TensorRT runs. `native`: an "
        "INT8 model to ship on ONNX Runtime: asymmetric uint8 from the same pass, outputs "
        "quantized where integers can flow on, Relu and Clip absorbed.",
    )
    reduce_range: bool = Field(
        default=False,
        description="Layout `native`: weights in 7 bits. On x86 without VNNI pairs of products are "
        "added in 16 bits, which 8-bit weights overflow, and ONNX Runtime's exact kernels are "
        "asked for; 7 bits cannot overflow, and run faster at 2 dB less or so. No gain elsewhere.",
    )
    placement: Literal["auto"] | PlacementName = Field(
        default="auto",
        description="Layout `native`: where integers run beside convolutions and products with "
        "weights. `integer`: wherever both sides are; `float_adds`: not in Adds; `float_between`: "
        "nor in pooling; `float_products`: not in products of two activations. `auto`: those that "
        "differ are run and timed on calibration samples kept aside, and the fastest within 1 dB "
        "of the best is taken.",
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

    @property
    def weight_limit(self) -> int:
        """The largest code of a weight."""
        return REDUCED_MAX if self.reduce_range else INT8_MAX

    @model_validator(mode="after")
    def _only_natively(self) -> Self:
        given = {"reduce_range": self.reduce_range, "placement": self.placement != "auto"}
        found = " and ".join(name for name, is_set in given.items() if is_set)
        if found and self.layout != "native":
            raise ValueError(
                f"{found}: for ONNX Runtime's kernels only, and layout is tensorrt, whose weights "
                "have 8 bits and whose placement TensorRT decides; set layout: native, or leave "
                "it out"
            )
        return self
