"""What a config can say about TensorRT."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from calib.backends.onnxruntime import OnnxRuntimeSpec

ComputeCapability = Annotated[str, Field(pattern=r"^\d{1,2}\.\d$")]


class ProfileSpec(BaseModel):
    """Shapes of one input that the engine must take, batch axis included."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min: tuple[Annotated[int, Field(ge=0)], ...] = Field(description="Smallest shape.")
    opt: tuple[Annotated[int, Field(ge=0)], ...] = Field(description="Shape to optimize for.")
    max: tuple[Annotated[int, Field(ge=0)], ...] = Field(description="Largest shape.")


class TimingSpec(BaseModel):
    """How engines are timed. What is not given is trtexec's default of that TensorRT version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cuda_graph: bool | None = Field(
        default=None, description="Launch as a CUDA graph; from TensorRT 11 on yes, before no."
    )
    transfers: bool | None = Field(
        default=None, description="Time copies too; from TensorRT 11 on no, before yes."
    )
    spin_wait: bool | None = Field(
        default=None, description="Wait without sleeping; from TensorRT 11 on yes, before no."
    )


class _BuilderSpec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    profiles: dict[str, ProfileSpec] | None = Field(
        default=None,
        description="Shapes by input name; by default the smallest, median and largest of the "
        "data, for batches from 1 to the largest that is run.",
    )
    workspace_mib: int | None = Field(
        default=None, ge=1, description="Limit of the builder's workspace, in MiB."
    )
    optimization_level: int | None = Field(
        default=None,
        ge=0,
        le=5,
        description="Builder optimization level; its own if unset.",
    )
    rebuilds: int = Field(
        default=1,
        ge=1,
        le=20,
        description="Builds of each engine; more than one shows how far builds differ.",
    )
    timing: TimingSpec = Field(default_factory=TimingSpec, description="How engines are timed.")
    build_timeout_seconds: float = Field(
        default=3600.0, gt=0, description="A build that takes longer is stopped, in seconds."
    )
    reference: OnnxRuntimeSpec = Field(
        default_factory=OnnxRuntimeSpec,
        description="What observes the FP32 model, and stands in where no engine can run.",
    )


class TensorRtRtxSpec(_BuilderSpec):
    """TensorRT-RTX: strongly typed, explicit Q/DQ, built ahead of time for named targets."""

    kind: Literal["tensorrt_rtx"] = "tensorrt_rtx"
    compute_capabilities: tuple[ComputeCapability, ...] = Field(
        default=("8.9",),
        min_length=1,
        description="Targets; each gets an engine. No GPU is needed to build.",
    )


class TensorRtSpec(_BuilderSpec):
    """TensorRT 8.6 to 11 on a machine with its GPU."""

    kind: Literal["tensorrt"] = "tensorrt"
    int8: Literal["explicit", "cache", "native"] = Field(
        default="explicit",
        description="Q/DQ in the graph; or, on TensorRT 8.6 to 10, our scales as the cache of a "
        "native calibrator; or TensorRT's own calibrators fed with our samples.",
    )
    timing_cache: Path | None = Field(
        default=None, description="File with measured tactics; one a device, shared and locked."
    )
    version_compatible: bool = Field(
        default=False, description="The engine also loads in later versions of TensorRT."
    )
    hardware_compatible: bool = Field(
        default=False, description="The engine also runs on other GPUs from Ampere on."
    )


class AutoSpec(BaseModel):
    """TensorRT where it can run, else TensorRT-RTX where it can, else ONNX Runtime."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["auto"] = "auto"


BuilderSpec = TensorRtSpec | TensorRtRtxSpec


def _embedded_by_default(value: Any) -> Any:
    if isinstance(value, dict) and "kind" not in value:
        return {"kind": "onnxruntime", **value}
    return value


BackendSpec = Annotated[
    OnnxRuntimeSpec | TensorRtSpec | TensorRtRtxSpec | AutoSpec,
    Field(discriminator="kind"),
    BeforeValidator(_embedded_by_default),
]
