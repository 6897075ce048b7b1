"""The experiment: what one YAML file says, with every default filled in."""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from calib.analysis.task import TaskSpec
from calib.backends.onnxruntime import OnnxRuntimeSpec
from calib.calibrators import CalibratorSpec
from calib.errors import ConfigError
from calib.graph.select import SelectionSpec
from calib.limits import LimitsSpec
from calib.results import Precision
from data_loaders import DataSpec

M = TypeVar("M", bound=BaseModel)


class Spec(BaseModel):
    """A strict, frozen part of the config: an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class OnnxFileSpec(Spec):
    """A model that is already there."""

    kind: Literal["onnx"] = "onnx"
    path: Path = Field(description="The FP32 ONNX file.")


class PythonModelSpec(Spec):
    """A model that a function makes, and keeps until something it is made from changes."""

    kind: Literal["python"] = "python"
    entry: str = Field(
        pattern=r"^[\w.]+:\w+$", description="`module:function`; it returns the ONNX file's path."
    )
    args: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments for it.")


ModelSpec = Annotated[OnnxFileSpec | PythonModelSpec, Field(discriminator="kind")]


class ExperimentDataSpec(Spec):
    """The two splits, and how samples are put into batches."""

    calibration: DataSpec = Field(description="Samples that set the INT8 ranges.")
    validation: DataSpec = Field(description="Samples that the verdict rests on.")
    batch_size: int = Field(default=16, ge=1, description="Samples a batch.")
    calibration_samples_min: int = Field(
        default=32, ge=1, description="Fewer calibration samples than this are refused."
    )


class CalibrationSpec(Spec):
    """How INT8 ranges are found; all calibrators share one pass over the data."""

    calibrators: tuple[CalibratorSpec, ...] = Field(
        min_length=1, description="One INT8 candidate is built for each."
    )
    ignore_padding: bool = Field(
        default=True, description="Leave padded positions out of the statistics."
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
        default=64, ge=0, description="Validation samples for the per-layer errors; 0 = none."
    )
    tail: int = Field(default=20, ge=0, le=200, description="Worst samples shown in the report.")


class ThroughputSpec(Spec):
    """How speed is measured: engines take turns, so that a busy machine slows all of them."""

    batch_sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(1, 8), description="Batch sizes to time; empty = do not measure speed."
    )
    warmup_runs: int = Field(default=3, ge=1, description="Untimed runs of each engine first.")
    runs: int = Field(default=50, ge=1, description="Timed runs of each engine at each size.")
    seconds_max: float = Field(
        default=20.0, gt=0, description="Stop timing a batch size after this long, in seconds."
    )


class OutputSpec(Spec):
    """Where things are written."""

    reports: Path = Field(default=Path("reports"), description="Parent of the runs' directories.")
    store: Path = Field(default=Path("reports/.store"), description="The cache of finished stages.")


class Experiment(Spec):
    """One question: may this model ship in INT8, judged on this data by these limits?"""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="Names the report's directory."
    )
    description: str = Field(default="", description="A sentence for the report's reader.")
    model: ModelSpec = Field(description="The FP32 model.")
    data: ExperimentDataSpec = Field(description="Calibration and validation samples.")
    task: TaskSpec = Field(description="What the outputs mean.")
    calibration: CalibrationSpec = Field(description="How INT8 ranges are found.")
    quantization: SelectionSpec = Field(
        default_factory=SelectionSpec, description="Which tensors become INT8."
    )
    engines: EnginesSpec = Field(default_factory=EnginesSpec, description="What is built.")
    backend: OnnxRuntimeSpec = Field(
        default_factory=OnnxRuntimeSpec, description="What runs the engines."
    )
    analysis: AnalysisSpec = Field(default_factory=AnalysisSpec, description="Depth of analysis.")
    throughput: ThroughputSpec = Field(
        default_factory=ThroughputSpec, description="How speed is measured."
    )
    limits: LimitsSpec = Field(
        default_factory=LimitsSpec, description="What a candidate must keep to pass."
    )
    output: OutputSpec = Field(default_factory=OutputSpec, description="Where results go.")

    @model_validator(mode="after")
    def _candidates_have_distinct_names(self) -> "Experiment":
        names = [calibrator.name for calibrator in self.calibration.calibrators]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"calibrators are listed twice: {', '.join(repeated)}")
        return self


def load_experiment(path: Path, overrides: Iterable[str] = ()) -> Experiment:
    """Read and check a YAML file.

    Args:
        path: the YAML file.
        overrides: `dotted.path=value` texts; the value is read as YAML.

    Raises:
        ConfigError: naming the file and field that is wrong, every one of them.
    """
    content = _apply(read_yaml(path), overrides)
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


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice: the second would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file's top-level mapping.

    Raises:
        ConfigError: if the file is missing, unreadable, malformed, or holds something else.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.load(text, _StrictLoader)  # noqa: S506 - derives from SafeLoader
    except FileNotFoundError as error:
        raise ConfigError(str(path), "there is no such file", fix=_nearby(path)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), f"cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise _malformed(path, error) from error
    if not isinstance(content, dict):
        raise ConfigError(
            str(path), "holds no settings", got=type(content).__name__, expected="key: value lines"
        )
    return content


def parse(model: type[M], content: Mapping[str, Any], path: Path) -> M:
    """Validate settings against a spec.

    Raises:
        ConfigError: with a line `file: path.to.field: problem (got …)` for each wrong field.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        lines = [_problem(item, model) for item in error.errors()]
        where, problem = lines[0]
        more = "".join(f"\n{path}: {place}: {text}" for place, text in lines[1:])
        raise ConfigError(f"{path}: {where}", problem + more) from error


def _problem(item: Any, model: type[BaseModel]) -> tuple[str, str]:
    """One pydantic error as (dotted path, problem)."""
    path = [str(part) for part in item["loc"]]
    where = re.sub(r"\.(\d+)", r"[\1]", ".".join(path)) or "(top level)"
    if item["type"] == "extra_forbidden":
        known = _field_names(model)
        near = difflib.get_close_matches(path[-1], known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return where, f"unknown key{hint}"
    if item["type"] == "missing":
        return where, "is required and missing"
    message = item["msg"].removeprefix("Value error, ")
    got = item["input"]
    shown = f" (got {got!r})" if not isinstance(got, dict | BaseModel) else ""
    return where, message[0].lower() + message[1:] + shown


def _field_names(model: type[BaseModel]) -> list[str]:
    """Every key that the schema knows anywhere: what a typo can have been meant for."""
    schema = model.model_json_schema()
    parts = [schema, *schema.get("$defs", {}).values()]
    return sorted({name for part in parts for name in part.get("properties", {})})


def _apply(content: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not path:
            raise ConfigError("--set", "needs path=value", got=repr(override))
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {path}", f"is no YAML value: {error}") from error
        content = _with_value(content, path.split("."), value, path)
    return content


def _with_value(node: Any, path: list[str], value: Any, whole: str) -> Any:
    """A copy of `node` with `value` at `path`; list items are addressed by number."""
    if not path:
        return value
    head, rest = path[0], path[1:]
    if isinstance(node, list):
        if not head.isdigit() or int(head) >= len(node):
            raise ConfigError(
                f"--set {whole}", "no such list item", got=head, expected=f"0 to {len(node) - 1}"
            )
        index = int(head)
        return [*node[:index], _with_value(node[index], rest, value, whole), *node[index + 1 :]]
    if not isinstance(node, dict | type(None)):
        raise ConfigError(f"--set {whole}", f"{head!r} lies below a plain value", got=repr(node))
    node = node or {}
    return {**node, head: _with_value(node.get(head), rest, value, whole)}


def _malformed(path: Path, error: yaml.YAMLError) -> ConfigError:
    mark = getattr(error, "problem_mark", None)
    where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
    return ConfigError(where, f"is no valid YAML: {getattr(error, 'problem', error)}")


def _nearby(path: Path) -> str | None:
    names = [str(p) for p in sorted(path.parent.glob("*.y*ml"))] if path.parent.is_dir() else []
    near = difflib.get_close_matches(str(path), names, n=1)
    return f"Did you mean {near[0]}?" if near else None
