"""The experiment: what one YAML file says, with every default filled in."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from calib.analysis.slices import SlicesSpec
from calib.backends.onnxruntime import OnnxRuntimeSpec
from calib.backends.tensorrt_specs import BackendSpec
from calib.calibrators import CalibratorSpec
from calib.execution.spec import ExecutionSpec, LocalSpec
from calib.gate.limits import LimitsSpec
from calib.graph.selection_spec import SelectionSpec
from calib.results import Precision
from calib.settings import parse, read_yaml, with_overrides
from calib.specs.base import Spec
from calib.specs.model import ModelSpec
from calib.specs.sweep import SweepSpec
from calib.specs.throughput import ThroughputSpec
from calib.tasks import TaskSpec
from data_loaders import DataSpec


class ExperimentDataSpec(Spec):
    """The two splits, and how samples are put into batches."""

    calibration: DataSpec = Field(description="Samples that set the INT8 ranges.")
    validation: DataSpec = Field(description="Samples that the verdict rests on.")
    batch_size: int = Field(default=16, ge=1, le=2**24, description="Samples a batch.")
    calibration_samples_min: int = Field(
        default=32, ge=1, description="Fewer calibration samples than this are refused."
    )
    non_finite: Literal["refuse", "drop"] = Field(
        default="refuse",
        description="A sample with NaN or infinity in an input: refuse the data, naming it, or "
        "leave it out of its split and count it in the report.",
    )


class CalibrationSpec(Spec):
    """How INT8 ranges are found; all calibrators share one pass over the data."""

    calibrators: tuple[CalibratorSpec, ...] = Field(
        min_length=1, description="One INT8 candidate is built for each."
    )
    tensors: Literal["auto", "quantized", "all"] = Field(
        default="auto",
        description="Which activations get a threshold: those that explicit Q/DQ quantizes, or "
        "`all` float ones, which a TensorRT calibration cache needs: TensorRT 8.6 to 10 runs a "
        "layer in INT8 only if its outputs have scales too. `auto`: all if the backend's `int8` is "
        "`cache`, else quantized.",
    )
    ignore_padding: bool = Field(
        default=True, description="Leave padded positions out of the statistics."
    )
    samples: Literal["all", "auto"] = Field(
        default="all",
        description="`auto` ends the pass when enough samples were seen: asked after 8, 16, 32, … "
        "batches, 95 % of all thresholds are within `tolerance_pct`.",
    )
    tolerance_pct: float = Field(
        default=5.0,
        gt=0,
        description="A threshold has seen enough samples when its standard error, and what the "
        "later half of them changed, are within this, in %.",
    )
    clip_warn_pct: float = Field(
        default=1.0,
        ge=0,
        le=100,
        description="Warn of a calibrator that clips more than this share of a tensor's values by "
        "more than a quantization step, in %. Of a model's input it warns wherever clipping costs.",
    )
    memory_mb: float | None = Field(
        default=None,
        gt=0,
        description="What one batch's observed activations may take; if they do not fit, they are "
        "observed in groups over several passes.",
    )
    statistics: Path | None = Field(
        default=None,
        description="Take the statistics from this file, made by `calib calibrate` or an earlier "
        "run, instead of observing; refused if it was made from another model, data or settings.",
    )


class EnginesSpec(Spec):
    """Which candidates are built beside the FP32 reference."""

    fp16: bool = Field(default=True, description="Build an FP16 candidate: INT8's real rival.")
    rest: tuple[Literal[Precision.FP32, Precision.FP16], ...] = Field(
        default=(Precision.FP32,),
        min_length=1,
        description="INT8: precision of everything that is not quantized; one candidate each.",
    )
    fold_batchnorm: bool = Field(
        default=True, description="Fold BatchNormalization into the weights before quantizing."
    )


class AnalysisSpec(Spec):
    """How deep the comparison goes."""

    layer_samples: int = Field(
        default=64,
        ge=0,
        le=2**40,
        description="Validation samples for the per-layer errors; 0 = none.",
    )
    tail: int = Field(default=20, ge=0, le=5000, description="Worst samples shown in the report.")
    audit_samples: int = Field(
        default=256,
        ge=0,
        le=4096,
        description="Samples of each split that the audit of the calibration data runs, one at a "
        "time; 0 = no audit.",
    )
    resamples: int = Field(
        default=0,
        ge=0,
        le=50,
        description="How often each INT8 candidate is calibrated anew on resampled calibration "
        "data, built and judged: how much its figures owe to the data. Each costs a build and a "
        "pass over the validation data.",
    )
    slices: SlicesSpec = Field(
        default_factory=SlicesSpec, description="By what labelled samples are sliced."
    )


class OutputSpec(Spec):
    """Where things are written."""

    reports: Path = Field(default=Path("reports"), description="Parent of the runs' directories.")
    store: Path = Field(default=Path("reports/.store"), description="The cache of finished stages.")
    keep_warmup: bool = Field(
        default=True,
        description="Keep the first calibration batch beside each INT8 model, for servers to warm "
        "up with. It holds samples: false where those are confidential.",
    )


def _spelled_out(value: Any) -> Any:
    """`quantization: auto` in full."""
    if value == "auto":
        return {"remedies": "auto", "mixed_precision": "auto"}
    if isinstance(value, str):
        raise ValueError("must be auto, or settings of its own")
    return value


QuantizationSpec = Annotated[
    SelectionSpec,
    BeforeValidator(_spelled_out, json_schema_input_type=Literal["auto"] | SelectionSpec),
]


class Experiment(Spec):
    """One question: may this model ship in INT8, judged on this data by these limits?"""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="Names the report's directory."
    )
    description: str = Field(default="", description="A sentence for the report's reader.")
    model: ModelSpec = Field(description="The FP32 model.")
    data: ExperimentDataSpec = Field(description="Calibration and validation samples.")
    task: TaskSpec = Field(description="What the outputs mean.")
    heads: dict[Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")], TaskSpec] = Field(
        default_factory=dict,
        description="Further heads of the model, each judged by its own kind: a task by name. "
        "Their labels are the samples' `head_labels`, their limits `limits.heads`.",
    )
    calibration: CalibrationSpec = Field(description="How INT8 ranges are found.")
    quantization: QuantizationSpec = Field(
        default_factory=SelectionSpec,
        description="Which tensors become INT8; `auto`: with remedies and mixed precision.",
    )
    engines: EnginesSpec = Field(default_factory=EnginesSpec, description="What is built.")
    backend: BackendSpec = Field(
        default_factory=OnnxRuntimeSpec, description="What runs the engines."
    )
    execution: ExecutionSpec = Field(
        default_factory=LocalSpec, description="Who shares the passes over data."
    )
    analysis: AnalysisSpec = Field(default_factory=AnalysisSpec, description="Depth of analysis.")
    throughput: ThroughputSpec = Field(
        default_factory=ThroughputSpec, description="How speed is measured."
    )
    limits: LimitsSpec = Field(
        default_factory=LimitsSpec, description="What a candidate must keep to pass."
    )
    output: OutputSpec = Field(default_factory=OutputSpec, description="Where results go.")
    sweep: SweepSpec | None = Field(
        default=None, description="What `calib sweep` tries; a single run does not look at it."
    )

    @model_validator(mode="after")
    def _candidates_have_distinct_names(self) -> "Experiment":
        names = self.candidate_names
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"two candidates would have the same name: {', '.join(repeated)}")
        return self

    @model_validator(mode="after")
    def _limits_are_of_heads_that_are_there(self) -> "Experiment":
        unknown = sorted(self.limits.heads.keys() - self.heads.keys())
        if unknown:
            raise ValueError(f"limits.heads.{unknown[0]}: there is no such head in heads")
        return self

    @model_validator(mode="after")
    def _threads_are_onnx_runtimes(self) -> "Experiment":
        if self.throughput.threads and self.backend.kind in ("tensorrt", "tensorrt_rtx"):
            raise ValueError(
                "throughput.threads is for ONNX Runtime (got backend.kind "
                f"{self.backend.kind!r}; leave throughput.threads out)"
            )
        return self

    @model_validator(mode="after")
    def _judge_names_a_candidate(self) -> "Experiment":
        if self.limits.judge not in ("best", "all", *self.candidate_names):
            raise ValueError(
                f"limits.judge names no candidate (got {self.limits.judge!r}; expected best, all, "
                f"{', '.join(self.candidate_names)})"
            )
        return self

    @property
    def candidate_names(self) -> tuple[str, ...]:
        """Every candidate that is built beside FP32."""
        int8 = [
            self.int8_name(calibrator.name, rest)
            for calibrator in self.calibration.calibrators
            for rest in self.engines.rest
        ]
        return (*(["fp16"] if self.engines.fp16 else []), *int8)

    def int8_name(self, calibrator: str, rest: Precision) -> str:
        """int8-<calibrator>, and the precision of the rest where there are several."""
        suffix = f"-{rest.value}" if len(self.engines.rest) > 1 else ""
        return f"int8-{calibrator}{suffix}"


def load_experiment(path: Path, overrides: Iterable[str] = ()) -> Experiment:
    """Read and check a YAML file.

    Args:
        path: the YAML file.
        overrides: `dotted.path=value` texts; the value is read as YAML.

    Raises:
        ConfigError: naming the file and field that is wrong, every one of them.
    """
    content = with_overrides(read_yaml(path), overrides)
    return parse(Experiment, content, path)


def load_limits(path: Path) -> LimitsSpec:
    """Read limits from a YAML file that holds them, alone or as an experiment's `limits`.

    Raises:
        ConfigError: as `load_experiment` does.
    """
    content = read_yaml(path)
    return parse(LimitsSpec, content.get("limits", content), path)


def experiment_schema() -> dict[str, Any]:
    """JSON Schema of the YAML, for editors."""
    schema = Experiment.model_json_schema()
    schema["title"] = "calib experiment"
    return schema
