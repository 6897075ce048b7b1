"""Whether the data is what the model takes: found out now, not after an hour."""

import math

from calib.config import Experiment
from calib.errors import DataError
from calib.graph.embedding import embedding_rows
from calib.graph.load import Model
from calib.results import TensorSpec
from calib.stages.batch_axes import BatchAxes
from calib.stages.splits import Split
from calib.stages.typed import carried_dtype
from data_loaders import Scan


def refuse_small(calibration: Scan, experiment: Experiment) -> None:
    """Raise if there are fewer calibration samples than the config wants.

    Raises:
        DataError: saying how many there are, and how many were left out.
    """
    least = experiment.data.calibration_samples_min
    if calibration.samples < least:
        raise DataError(
            "data.calibration",
            "holds too few samples for ranges that can be trusted",
            got=f"{calibration.samples}{left_out(len(calibration.dropped))}",
            expected=f"at least {least}",
            fix="Give more samples, or lower data.calibration_samples_min if you must.",
        )


def left_out(dropped: int) -> str:
    """What `data.non_finite: drop` did, to go behind a number of samples."""
    return f", {dropped} left out for NaN or infinity in an input" if dropped else ""


def refuse_other_classes(
    output: TensorSpec, names: tuple[str, ...] | None, validation: Scan
) -> None:
    """Raise if labels or class names do not belong to the task's output.

    Raises:
        DataError: naming labels, or both numbers of classes.
    """
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


def refuse_unlike(model: Model, split: Split, axes: BatchAxes, where: str) -> None:
    """Raise if the samples are not what the model takes.

    Args:
        model: its inputs, and its table of tokens.
        split: the samples.
        axes: where the batch is.
        where: the split's place in the config.

    Raises:
        DataError: if the inputs' names, types or shapes differ, or a tokenizer has more tokens than
            the table has rows.
    """
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
        if got[name] != carried_dtype(spec.dtype):
            raise DataError(
                where, f"input {name} has the wrong dtype", got=got[name], expected=spec.dtype
            )
        _check_axes(split, spec, axes.inputs[name], where)
    _check_vocabulary(model, split, where)


def _check_axes(split: Split, spec: TensorSpec, batch: int | None, where: str) -> None:
    found = split.scan.shapes[spec.name]
    smallest, largest = ([axis[at] for axis in found] for at in (0, 2))
    wanted = [size for axis, size in enumerate(spec.shape) if axis != batch]
    if batch is None:
        sizes = [size for size in wanted if isinstance(size, int)]
        wrong = smallest != largest or math.prod(smallest) != math.prod(sizes)
    else:
        pairs = zip(wanted, smallest, largest, strict=False)
        wrong = len(found) != len(wanted) or any(
            (low, high) != (size, size) for size, low, high in pairs if isinstance(size, int)
        )
    if wrong:
        raise DataError(
            where,
            f"input {spec.name} has the wrong shape",
            got=f"axes from {smallest} to {largest}",
            expected=f"{wanted}, and the batch along axis {batch} of {list(spec.shape)}"
            if batch
            else str(wanted),
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
