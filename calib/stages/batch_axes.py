"""Where the batch is: along which axis of each input and output samples lie side by side."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from calib.errors import BackendError, ConfigError
from calib.results import ModelRecord, TensorSpec
from data_loaders import Batch, Scan

Shape = tuple[int | str, ...]
Axes = Mapping[str, int | None]
Run = Callable[[Batch], Mapping[str, tuple[int, ...]]]

_UNNAMED = "?"
_BATCH = re.compile(r"n|b|bs|.*batch.*", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class BatchAxes:
    """Where the batch is.

    Attributes:
        inputs: by name, the axis of the batch; None for an input that a batch shares.
        outputs: by name, the axis of the batch; None for one that has no row of each sample's own.
        size: the only batch size that the model takes; None if it takes any.
    """

    inputs: Axes = field(default_factory=dict)
    outputs: Axes = field(default_factory=dict)
    size: int | None = None


def input_axes(inputs: tuple[TensorSpec, ...], scans: tuple[Scan, ...], given: Axes) -> BatchAxes:
    """The batch axis of every input, from its shape and from those of the samples.

    A sample has an input's axes without that of the batch. Where several could be it, it is the one
    that is called so, then the one whose name most inputs have, then a dynamic one, then the first.
    An input whose shape is fixed and that samples have whole is shared, and so is one of fixed size
    along its batch where another's is dynamic.

    Args:
        inputs: the model's.
        scans: of the splits; inputs that they lack are passed over.
        given: axes that the config gives.

    Raises:
        ConfigError: if the config gives an axis that an input does not have.
    """
    possible = {spec.name: _possible(spec.shape, spec.name, scans) for spec in inputs}
    names = Counter(
        name
        for spec in inputs
        for name in {spec.shape[axis] for axis in possible[spec.name]}
        if isinstance(name, str) and name != _UNNAMED
    )
    axes: dict[str, int | None] = {}
    for spec in inputs:
        if spec.name in given:
            axes[spec.name] = _checked(spec, given[spec.name])
        else:
            axes[spec.name] = _best(spec.shape, possible[spec.name], names)
    sizes = _sizes(inputs, axes)
    if any(isinstance(size, str) for size in sizes.values()):
        fixed = {name for name, size in sizes.items() if isinstance(size, int)} - given.keys()
        axes |= dict.fromkeys(fixed)
    whole = [size for size in _sizes(inputs, axes).values() if isinstance(size, int)]
    return BatchAxes(inputs=axes, size=whole[0] if whole else None)


def _possible(shape: Shape, name: str, scans: tuple[Scan, ...]) -> list[int]:
    """The axes without which the shape is that of the samples."""
    ranges = [scan.shapes[name] for scan in scans if name in scan.shapes]
    if not ranges or any(len(found) != len(shape) - 1 for found in ranges):
        return []
    # Beside a dynamic axis, one of a fixed size is no batch, unless the model takes but one sample.
    dynamic = any(isinstance(size, str) for size in shape)
    return [
        axis
        for axis, size in enumerate(shape)
        if (not dynamic or isinstance(size, str) or size == 1)
        and all(_fits(shape[:axis] + shape[axis + 1 :], found) for found in ranges)
    ]


def _fits(shape: Shape, ranges: tuple[tuple[int, int, int], ...]) -> bool:
    pairs = zip(shape, ranges, strict=True)
    return all(low == size == high for size, (low, _, high) in pairs if isinstance(size, int))


def _best(shape: Shape, possible: list[int], names: Mapping[str, int]) -> int | None:
    """The likeliest axis; the first, where none fits and a check of the shapes will say so."""
    if not possible:
        return None if all(isinstance(size, int) for size in shape) else 0

    def rank(axis: int) -> tuple[bool, int, bool, int]:
        size = shape[axis]
        named = isinstance(size, str)
        return named and bool(_BATCH.fullmatch(str(size))), names.get(str(size), 0), named, -axis

    return max(possible, key=rank)


def _sizes(inputs: tuple[TensorSpec, ...], axes: Axes) -> dict[str, int | str]:
    """The size, or the name, of each input's batch axis; without those that a batch shares."""
    return {
        spec.name: spec.shape[axis]
        for spec in inputs
        if (axis := axes[spec.name]) is not None and axis < len(spec.shape)
    }


def _checked(spec: TensorSpec, axis: int | None) -> int | None:
    rank = len(spec.shape)
    if axis is None:
        return None
    if not -rank <= axis < rank:
        raise ConfigError(
            f"model.batch_axes.{spec.name}",
            "is no axis of this tensor",
            got=str(axis),
            expected=f"0 to {rank - 1}, or null if it has no batch axis",
        )
    return axis % rank


def output_axes(
    model: ModelRecord, found: BatchAxes, given: Axes, samples: Callable[[int], Batch], run: Run
) -> BatchAxes:
    """The same with the batch axis of every output.

    From the names of its axes where they tell; else from what one sample and two give. An output
    whose size grows by more than one row a sample (or by none) has no row of each sample's own, as
    far as anybody can tell: a detector's list of boxes, a mean over the batch.

    Args:
        model: its inputs and outputs.
        found: those of the inputs.
        given: axes that the config gives.
        samples: a batch of the first sample, so many times.
        run: the shapes of the outputs for a batch, by name.

    Raises:
        BackendError: if the model does not run on one sample.
    """
    name = _batch_name(model.inputs, found.inputs)
    outputs: dict[str, int | None] = {}
    asked: list[TensorSpec] = []
    for spec in model.outputs:
        if spec.name in given:
            outputs[spec.name] = _checked(spec, given[spec.name])
        elif name is not None and spec.shape.count(name) == 1:
            outputs[spec.name] = spec.shape.index(name)
        else:
            asked.append(spec)
    size = found.size
    if asked:
        one = run(samples(size or 1))
        if size is None:
            try:
                two: Mapping[str, tuple[int, ...]] = run(samples(2))
            except BackendError:
                size, two = 1, {}
        if size is not None:
            outputs |= {spec.name: _row_axis(one[spec.name], size) for spec in asked}
        else:
            outputs |= {spec.name: _grown(one[spec.name], two[spec.name]) for spec in asked}
    ordered = {spec.name: outputs[spec.name] for spec in model.outputs}
    return BatchAxes(found.inputs, ordered, size)


def _batch_name(inputs: tuple[TensorSpec, ...], axes: Axes) -> str | None:
    (name, *others) = set(_sizes(inputs, axes).values()) or {_UNNAMED}
    return name if isinstance(name, str) and name != _UNNAMED and not others else None


def _grown(one: tuple[int, ...], two: tuple[int, ...]) -> int | None:
    """The axis that is 1 for one sample and 2 for two, if it alone differs."""
    if len(one) != len(two):
        return None
    differing = [axis for axis in range(len(one)) if one[axis] != two[axis]]
    if len(differing) == 1 and (one[differing[0]], two[differing[0]]) == (1, 2):
        return differing[0]
    return None


def _row_axis(shape: tuple[int, ...], size: int) -> int | None:
    """For a batch of fixed size: the first axis, if it is as long."""
    return 0 if shape and shape[0] == size else None


def oddities(axes: BatchAxes) -> Iterator[str]:
    """What is not as usual, in a phrase each."""
    shared = [name for name, axis in axes.inputs.items() if axis is None]
    if shared:
        yield f"the samples of a batch share {', '.join(shared)}"
    moved = {**axes.inputs, **axes.outputs}
    for name in (name for name, axis in moved.items() if axis):
        yield f"{name} has its batch along axis {moved[name]}"
    whole = [name for name, axis in axes.outputs.items() if axis is None]
    if whole:
        yield f"no row of {', '.join(whole)} is a sample's own"
