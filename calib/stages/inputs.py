"""The model and the data, read and checked against each other."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calib.config import Experiment, OnnxFileSpec
from calib.errors import ConfigError, DataError, ModelError
from calib.graph.embedding import embedding_rows
from calib.graph.load import Model, load_model
from calib.results import DataRecord, DatasetRecord, TaskKind, TensorSpec
from calib.stages.workbench import Workbench
from data_loaders import Batch, Scan, batches, data_set_from_spec, refuse_overlap, scan, stack
from data_loaders.base import resolve_entry
from data_loaders.types import DataSet


@dataclass(frozen=True, slots=True)
class Split:
    """One split: where it comes from, and what a first reading found."""

    data: Any
    scan: Scan
    batch_size: int

    def batches(self) -> Iterator[Batch]:
        """Its batches, from the start, always the same."""
        pad_values = getattr(self.data, "pad_values", {})
        return batches(self.data, self.batch_size, pad_values=pad_values)

    @property
    def batch_count(self) -> int:
        """Number of batches."""
        return -(-self.scan.samples // self.batch_size)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything a run starts from."""

    model: Model
    calibration: Split
    validation: Split
    class_names: tuple[str, ...] | None
    task_output: TensorSpec
    record: DataRecord


def read_inputs(bench: Workbench) -> Inputs:
    """Load the model and both splits, and check that they fit together.

    Raises:
        ModelError: if the model cannot be used.
        ConfigError: if the model has no output of the name that the task gives.
        DataError: if the data cannot be used, or does not fit the model.
    """
    experiment = bench.experiment
    with bench.timed("model"):
        model = load_model(_model_path(experiment))
        output = _task_output(experiment, model)
    with bench.timed("data"):
        calibration = _split(experiment, "calibration")
        validation = _split(experiment, "validation")
        refuse_overlap(calibration.scan, validation.scan)
        _refuse_small(calibration.scan, experiment)
        for name, split in (("calibration", calibration), ("validation", validation)):
            _check_fit(model, split, f"data.{name}")
    names = getattr(validation.data, "class_names", None)
    kind = TaskKind(experiment.task.kind)
    if kind is TaskKind.CLASSIFICATION:
        _check_classes(output, names, validation.scan)
    record = DataRecord(
        calibration=_record(experiment.data.calibration, calibration, names, kind),
        validation=_record(experiment.data.validation, validation, names, kind),
    )
    return Inputs(model, calibration, validation, names, output, record)


def _model_path(experiment: Experiment) -> Path:
    spec = experiment.model
    if isinstance(spec, OnnxFileSpec):
        return spec.path
    path = resolve_entry(spec.entry)(**spec.args)
    if not isinstance(path, str | Path):
        raise ModelError(spec.entry, "must return a path", got=type(path).__name__)
    return Path(path)


def _task_output(experiment: Experiment, model: Model) -> TensorSpec:
    outputs = {spec.name: spec for spec in model.record.outputs}
    wanted = experiment.task.output or next(iter(outputs))
    if wanted not in outputs:
        raise ConfigError(
            "task.output", "is no output of the model", got=wanted, expected=", ".join(outputs)
        )
    return outputs[wanted]


def _check_classes(output: TensorSpec, names: tuple[str, ...] | None, validation: Scan) -> None:
    """Find out now, not after an hour, that labels and outputs do not belong together."""
    classes = output.shape[-1] if output.shape else None
    if not isinstance(classes, int):
        return
    if names is not None and len(names) != classes:
        raise DataError(
            "data.validation.classes",
            f"does not name every class of output {output.name}",
            got=f"{len(names)} names",
            expected=f"{classes}, in the order of the outputs",
        )
    wrong = [label for label in validation.label_counts if not 0 <= label < classes]
    if wrong:
        raise DataError(
            "data.validation",
            "a label is none of the model's classes",
            got=", ".join(map(str, wrong[:5])),
            expected=f"0 to {classes - 1}",
        )


def _split(experiment: Experiment, name: str) -> Split:
    data: DataSet = data_set_from_spec(getattr(experiment.data, name))
    return Split(data, scan(data, f"data.{name}"), experiment.data.batch_size)


def _refuse_small(calibration: Scan, experiment: Experiment) -> None:
    least = experiment.data.calibration_samples_min
    if calibration.samples < least:
        raise DataError(
            "data.calibration",
            "holds too few samples for ranges that can be trusted",
            got=str(calibration.samples),
            expected=f"at least {least}",
            fix="Give more samples, or lower data.calibration_samples_min if you must.",
        )


def _check_fit(model: Model, split: Split, where: str) -> None:
    wanted = {spec.name: spec for spec in model.record.inputs}
    got = split.scan.dtypes
    if set(wanted) != set(got):
        raise DataError(
            where,
            "its arrays are not the model's inputs",
            got=", ".join(sorted(got)),
            expected=", ".join(sorted(wanted)),
            fix="Name the arrays as the model's inputs; see the loader's `inputs`.",
        )
    for name, spec in wanted.items():
        if np.dtype(got[name]) != np.dtype(spec.dtype):
            raise DataError(
                where, f"input {name} has the wrong dtype", got=got[name], expected=spec.dtype
            )
        _check_axes(split, name, spec.shape, where)
    _check_vocabulary(model, split, where)


def _check_axes(split: Split, name: str, shape: tuple[int | str, ...], where: str) -> None:
    found = split.scan.shapes[name]
    fixed = [(axis, size) for axis, size in enumerate(shape[1:]) if isinstance(size, int)]
    wrong = len(found) != len(shape) - 1 or any(
        (found[axis][0], found[axis][2]) != (size, size) for axis, size in fixed
    )
    if wrong:
        raise DataError(
            where,
            f"input {name} has the wrong shape",
            got=f"axes from {[axis[0] for axis in found]} to {[axis[2] for axis in found]}",
            expected=str(list(shape[1:])),
        )


def _check_vocabulary(model: Model, split: Split, where: str) -> None:
    size = getattr(split.data, "vocabulary_size", None)
    rows = embedding_rows(model.graph).get("input_ids")
    if size is not None and rows is not None and size > rows:
        raise DataError(
            f"{where}.tokenizer",
            "has more tokens than the model's embedding table has rows",
            got=str(size),
            expected=f"at most {rows}",
            fix="Use the tokenizer that the model was trained with.",
        )


def _record(
    spec: Any, split: Split, names: tuple[str, ...] | None, kind: TaskKind
) -> DatasetRecord:
    labels = split.scan.label_counts if kind is TaskKind.CLASSIFICATION else {}
    return DatasetRecord(
        kind=spec.kind,
        source=getattr(split.data, "source", spec.kind),
        samples=split.scan.samples,
        labelled=split.scan.labelled,
        batches=split.batch_count,
        sha256=split.scan.sha256,
        shapes=dict(split.scan.shapes),
        label_counts={
            names[i] if names and 0 <= i < len(names) else str(i): n for i, n in labels.items()
        },
    )


def speed_batch(inputs: Inputs, size: int) -> Batch:
    """The batch that is timed: the first samples of the validation split, padded together."""
    first = [sample for _, sample in zip(range(size), inputs.validation.data, strict=False)]
    return stack(first, getattr(inputs.validation.data, "pad_values", {}))
