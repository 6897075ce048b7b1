"""What is in a split, and the refusal of content that two splits share."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data_loaders.errors import DataError
from data_loaders.types import DataSet, Sample

_SHOWN = 3
SLICES_MAX = 100
"""Values of one metadata column that are counted."""


@dataclass(frozen=True, slots=True)
class Scan:
    """What one pass over a split found; 32 bytes and the id a sample are all that it keeps.

    Attributes:
        samples: number of samples.
        labelled: of these, with a label.
        ids: id by content digest.
        sha256: over the sorted ids and digests, hex.
        dtypes: dtype name by input.
        shapes: by input, for each axis of a sample: (minimum, median, maximum).
        label_counts: number of samples by integer label.
        dropped: ids of samples that were left out, since an input holds NaN or infinity.
        label_changes: how often an integer label is not that of the labelled sample before it.
        slice_counts: number of samples by value, by metadata column; a column of more than
            SLICES_MAX values tells samples apart, not slices, and is left out.
    """

    samples: int
    labelled: int
    ids: Mapping[bytes, str]
    sha256: str
    dtypes: Mapping[str, str]
    shapes: Mapping[str, tuple[tuple[int, int, int], ...]]
    label_counts: Mapping[int, int]
    dropped: tuple[str, ...] = ()
    label_changes: int = 0
    slice_counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def scan(data_set: DataSet, where: str, *, drop_not_finite: bool = False) -> Scan:
    """Read a split once.

    Args:
        data_set: the split.
        where: its name in messages.
        drop_not_finite: leave out samples with NaN or infinity in an input, as `FiniteSamples`
            does.

    Raises:
        DataError: if it is empty, an input holds NaN or infinity, or samples differ in their
            inputs' names, dtypes or ranks.
    """
    ids: dict[bytes, str] = {}
    lines: list[bytes] = []
    labels: Counter[int] = Counter()
    last: int | None = None
    changes = 0
    slices: dict[str, Counter[str]] = {}
    labelled = 0
    sizes: dict[str, list[tuple[int, ...]]] = {}
    dtypes: dict[str, str] = {}
    broken: dict[str, list[str]] = {}
    dropped: list[str] = []
    for sample in data_set:
        _check(sample, dtypes, where)
        names = not_finite_inputs(sample)
        for name in names:
            broken.setdefault(name, []).append(sample.id)
        if names:
            dropped.append(sample.id)
            continue
        digest = sample.digest()
        ids.setdefault(digest, sample.id)
        lines.append(sample.id.encode() + b"\0" + digest)
        labelled += sample.label is not None
        if isinstance(sample.label, int):
            labels[sample.label] += 1
            changes += last is not None and last != sample.label
            last = sample.label
        _count_slices(sample, slices)
        for name, array in sample.inputs.items():
            sizes.setdefault(name, []).append(array.shape)
    if broken and not drop_not_finite:
        name, found = next(iter(broken.items()))
        raise _not_finite(where, name, found)
    if not lines and dropped:
        raise DataError(where, "holds no sample whose inputs are all finite", got=_some(dropped))
    if not lines:
        raise DataError(where, "holds no samples", expected="at least one")
    return Scan(
        samples=len(lines),
        labelled=labelled,
        ids=ids,
        sha256=hashlib.sha256(b"\n".join(sorted(lines))).hexdigest(),
        dtypes=dtypes,
        shapes={name: _axis_ranges(shapes) for name, shapes in sizes.items()},
        label_counts=dict(sorted(labels.items())),
        dropped=tuple(dropped),
        label_changes=changes,
        slice_counts={
            name: dict(sorted(found.items()))
            for name, found in sorted(slices.items())
            if len(found) <= SLICES_MAX
        },
    )


def _count_slices(sample: Sample, slices: dict[str, Counter[str]]) -> None:
    """Count a sample's metadata, no further than it takes to see that there are too many values."""
    for name, value in sample.metadata.items():
        counts = slices.setdefault(name, Counter())
        if len(counts) <= SLICES_MAX:
            counts[value] += 1


def _check(sample: Sample, dtypes: dict[str, str], where: str) -> None:
    found = {name: array.dtype.name for name, array in sample.inputs.items()}
    if not dtypes:
        dtypes.update(found)
    if found != dtypes:
        raise DataError(
            f"{where}, sample {sample.id}",
            "differs from the first sample in its inputs",
            got=str(found),
            expected=str(dtypes),
        )


def not_finite_inputs(sample: Sample) -> list[str]:
    """The names of its floating-point inputs that hold NaN or infinity."""
    return [
        name
        for name, array in sample.inputs.items()
        if array.dtype.kind == "f" and not np.isfinite(array).all()
    ]


class FiniteSamples:
    """A data set without the samples that have NaN or infinity in an input.

    Whatever else the data set has, such as class names, it has too.
    """

    def __init__(self, data_set: DataSet) -> None:
        self._data_set = data_set

    def __iter__(self) -> Iterator[Sample]:
        return (sample for sample in self._data_set if not not_finite_inputs(sample))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data_set, name)


def refuse_not_finite(samples: Iterable[Sample], where: str) -> Iterator[Sample]:
    """Pass samples on as long as their inputs are finite.

    Raises:
        DataError: naming the sample and the input.
    """
    for sample in samples:
        names = not_finite_inputs(sample)
        if names:
            raise _not_finite(where, names[0], [sample.id])
        yield sample


def _not_finite(where: str, name: str, ids: list[str]) -> DataError:
    return DataError(
        f"{where}, sample {ids[0]}",
        f"input {name} holds NaN or infinity",
        got=f"the same in {_some(ids[1:])}" if len(ids) > 1 else None,
        fix="Repair the data, or leave such samples out with data.non_finite: drop.",
    )


def _some(ids: list[str]) -> str:
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return f"{', '.join(ids[:_SHOWN])}{more}"


def _axis_ranges(shapes: list[tuple[int, ...]]) -> tuple[tuple[int, int, int], ...]:
    if len({len(shape) for shape in shapes}) != 1:
        raise DataError("data", "samples differ in rank", got=str(sorted(set(shapes))[:3]))
    table = np.array(shapes, dtype=np.int64).reshape(len(shapes), -1)
    return tuple((int(axis.min()), int(np.median(axis)), int(axis.max())) for axis in table.T)


def refuse_overlap(calibration: Scan, validation: Scan) -> None:
    """Refuse content that is in both splits: its errors would look smaller than they are.

    Raises:
        DataError: naming up to three pairs of ids.
    """
    shared = [digest for digest in calibration.ids if digest in validation.ids]
    if shared:
        pairs = [f"{calibration.ids[d]} = {validation.ids[d]}" for d in shared[:3]]
        raise DataError(
            "data",
            f"{len(shared)} samples are in both the calibration and the validation split",
            got=", ".join(pairs),
            expected="splits that share no content",
            fix="Take the samples from different parts of the data.",
        )
