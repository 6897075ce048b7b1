"""The model and the data, read and checked against each other."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from calib.backends.base import Engine
from calib.config import Experiment
from calib.errors import ConfigError, DataError, ModelError
from calib.graph.load import Model, load_model
from calib.graph.opset import newest_opset
from calib.results import DataRecord, DatasetRecord, TaskKind, TensorSpec
from calib.specs.model import OnnxFileSpec
from calib.stages.batch_axes import BatchAxes, input_axes, oddities, output_axes
from calib.stages.data_checks import refuse_other_classes, refuse_small, refuse_unlike
from calib.stages.memory import memory_notes
from calib.stages.opening import open_split
from calib.stages.reference import refuse_unequal, with_reference, with_shapes
from calib.stages.splits import Split, shared_shapes
from calib.stages.workbench import Workbench
from calib.tasks import kind_from_spec
from data_loaders import Batch, refuse_overlap
from data_loaders.base import resolve_entry

_IDS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything a run starts from.

    Attributes:
        model: the FP32 model.
        calibration: the split that sets ranges.
        validation: the split that is judged.
        class_names: in the order of the task's output.
        task_output: the output that is judged.
        record: for the report.
        notes: what is not as usual, a sentence each.
    """

    model: Model
    calibration: Split
    validation: Split
    class_names: tuple[str, ...] | None
    task_output: TensorSpec
    record: DataRecord
    notes: tuple[str, ...] = ()

    @property
    def axes(self) -> BatchAxes:
        """Where the batch is."""
        return self.validation.axes


def read_inputs(bench: Workbench) -> Inputs:
    """Load the model and both splits, and check that they fit together.

    Raises:
        ModelError: if the model cannot be used.
        ConfigError: if the model has no output of the name that the task gives.
        DataError: if the data cannot be used, or does not fit the model.
    """
    experiment = bench.experiment
    with bench.timed("model"):
        existing = experiment.quantization.existing
        model = load_model(_model_path(experiment), existing, newest_opset(bench.backend.takes))
        outputs = _task_outputs(experiment, model)
        output = outputs[0]
    model = with_reference(bench, model)
    with bench.timed("data"):
        calibration = open_split(experiment, "calibration", model, bench)
        validation = open_split(experiment, "validation", model, bench)
        refuse_overlap(calibration.scan, validation.scan)
        refuse_small(calibration.scan, experiment)
        axes = input_axes(
            model.record.inputs, (calibration.scan, validation.scan), experiment.model.batch_axes
        )
        for name, split in (("calibration", calibration), ("validation", validation)):
            refuse_unlike(model, split, axes, f"data.{name}")
            for note in memory_notes(model, split.scan, axes.size or split.batch_size):
                bench.progress.note(note)
        axes = _with_outputs(bench, model, calibration, axes)
        calibration, validation = (
            _with_axes(split, axes, model, outputs) for split in (calibration, validation)
        )
        few = _two_batches(calibration)
        model = with_shapes(bench, model, few)
        refuse_unequal(bench, model, few[0])
    notes = tuple(_notes(bench, axes, validation))
    for note in notes:
        bench.progress.note(note)
    names = getattr(validation.data, "class_names", None)
    kind = TaskKind(experiment.task.kind)
    if kind is TaskKind.CLASSIFICATION:
        refuse_other_classes(output, names, validation.scan)
    record = DataRecord(
        calibration=_record(experiment.data.calibration, calibration, names, kind),
        validation=_record(experiment.data.validation, validation, names, kind),
    )
    return Inputs(model, calibration, validation, names, output, record, notes)


def _with_outputs(bench: Workbench, model: Model, split: Split, axes: BatchAxes) -> BatchAxes:
    """Also where the batch of the outputs is, from a run where their axes' names do not tell."""
    given = bench.experiment.model.batch_axes
    specs = (*model.record.inputs, *model.record.outputs)
    unknown = sorted(given.keys() - {spec.name for spec in specs})
    if unknown:
        raise ConfigError(
            f"model.batch_axes.{unknown[0]}",
            "is neither an input nor an output of the model",
            expected=", ".join(spec.name for spec in specs),
        )
    plain = _with_axes(split, axes, model, ())
    first = next(iter(split.data))

    def samples(count: int) -> Batch:
        return plain.stack([first] * count)

    with ExitStack() as stack:

        @cache
        def engine() -> Engine:
            return stack.enter_context(bench.backend.engine(model.reference or model.path))

        def run(batch: Batch) -> Mapping[str, tuple[int, ...]]:
            return {name: array.shape for name, array in engine().infer(batch.inputs).items()}

        return output_axes(model.record, axes, given, samples, run)


def _with_axes(
    split: Split, axes: BatchAxes, model: Model, outputs: tuple[TensorSpec, ...]
) -> Split:
    """The split with batches as the model, and who judges the outputs, can take them.

    Raises:
        DataError: if the model's batch size is fixed, and samples would be left over.
    """
    size = axes.size or split.batch_size
    if any(axes.outputs[output.name] is None for output in outputs):
        size = axes.size or 1
    if axes.size and split.scan.samples % axes.size:
        raise DataError(
            "data",
            f"the model takes batches of {axes.size} and of no other size",
            got=f"{split.scan.samples} samples in a split",
            expected=f"a multiple of {axes.size}",
            fix="Set samples in the split, or export the model with a dynamic batch axis.",
        )
    return replace(
        split, batch_size=size, axes=axes, shared_shapes=shared_shapes(model.record, axes)
    )


def _notes(bench: Workbench, axes: BatchAxes, split: Split) -> Iterator[str]:
    found = "; ".join(oddities(axes))
    if found:
        yield f"found of the batch: {found}. Set model.batch_axes where that is wrong"
    wanted = bench.experiment.data.batch_size
    if split.batch_size != wanted:
        reason = "the model takes no other" if axes.size else "the task's output has no batch axis"
        yield f"samples run in batches of {split.batch_size}, not {wanted}: {reason}"


def _model_path(experiment: Experiment) -> Path:
    spec = experiment.model
    if isinstance(spec, OnnxFileSpec):
        return spec.path
    path = resolve_entry(spec.entry)(**spec.args)
    if not isinstance(path, str | Path):
        raise ModelError(spec.entry, "must return a path", got=type(path).__name__)
    return Path(path)


def _task_outputs(experiment: Experiment, model: Model) -> tuple[TensorSpec, ...]:
    """The outputs that the task and further heads read, the one that decides first."""
    outputs = {spec.name: spec for spec in model.record.outputs}
    tasks = {"task": experiment.task, **{f"heads.{n}": s for n, s in experiment.heads.items()}}
    read: dict[str, TensorSpec] = {}
    for where, task in tasks.items():
        for wanted in kind_from_spec(task, list(outputs)).outputs:
            if wanted not in outputs:
                raise ConfigError(
                    f"{where}.{_field_of(task, wanted)}",
                    "is no output of the model",
                    got=wanted,
                    expected=", ".join(outputs),
                )
            read[wanted] = outputs[wanted]
    return tuple(read.values())


def _field_of(task: Any, name: str) -> str:
    """Where in a task's settings a name is given."""
    fields = task.model_dump().items()
    return next((f for f, value in fields if value == name or name in _listed(value)), "output")


def _listed(value: object) -> tuple[object, ...]:
    return tuple(value) if isinstance(value, tuple | list) else ()


def _two_batches(split: Split) -> list[Batch]:
    """The first batch, and its first sample alone: what differs between them is dynamic."""
    first = next(split.batches())
    return [first] if split.axes.size else [first, split.stack(first.samples[:1])]


def _record(
    spec: Any, split: Split, names: tuple[str, ...] | None, kind: TaskKind
) -> DatasetRecord:
    labels = split.scan.label_counts if kind is TaskKind.CLASSIFICATION else {}
    return DatasetRecord(
        kind=spec.kind,
        source=getattr(split.data, "source", spec.kind),
        casts=dict(getattr(split.data, "casts", {})),
        samples=split.scan.samples,
        labelled=split.scan.labelled,
        batches=split.batch_count,
        sha256=split.scan.sha256,
        shapes=dict(split.scan.shapes),
        dropped=len(split.scan.dropped),
        dropped_ids=split.scan.dropped[:_IDS_SHOWN],
        label_counts={
            names[i] if names and 0 <= i < len(names) else str(i): n for i, n in labels.items()
        },
    )


def speed_batch(inputs: Inputs, size: int) -> Batch:
    """The batch that is timed: the first samples of the validation split, padded together."""
    first = [sample for _, sample in zip(range(size), inputs.validation.data, strict=False)]
    return inputs.validation.stack(first)
