"""What is in a split, found by one reading of it, or by several of a part each."""

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data_loaders.errors import DataError
from data_loaders.types import DataSet, Sample

_SHOWN = 3
_DIGEST_BYTES = 32
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


@dataclass(slots=True)
class Reading:
    """A part of a split while it is read: part after part, it comes to what one reading finds.

    Attributes:
        ids: of the samples that are kept.
        digests: of their contents.
        labelled: of these, with a label.
        labels: number of samples by integer label.
        first_label: the first integer label.
        last_label: the last one.
        label_changes: between samples of this part.
        slices: number of samples by value, by metadata column.
        sizes: number of samples by shape, by input.
        dtypes: dtype name by input.
        first_id: of the sample that the dtypes are of.
        broken: ids of samples with NaN or infinity, by input.
        dropped: the same, each once.
    """

    ids: list[str] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    labelled: int = 0
    labels: Counter[int] = field(default_factory=Counter)
    first_label: int | None = None
    last_label: int | None = None
    label_changes: int = 0
    slices: dict[str, Counter[str]] = field(default_factory=dict)
    sizes: dict[str, Counter[tuple[int, ...]]] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)
    first_id: str = ""
    broken: dict[str, list[str]] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)

    def add(self, sample: Sample, where: str) -> None:
        """Take in the next sample.

        Raises:
            DataError: if its inputs have other names or dtypes than those before.
        """
        found = {name: array.dtype.name for name, array in sample.inputs.items()}
        if not self.dtypes:
            self.dtypes, self.first_id = found, sample.id
        self._refuse_other_dtypes(found, sample.id, where)
        names = not_finite_inputs(sample)
        for name in names:
            self.broken.setdefault(name, []).append(sample.id)
        if names:
            self.dropped.append(sample.id)
            return
        self.ids.append(sample.id)
        self.digests.append(sample.digest())
        self.labelled += sample.label is not None
        if isinstance(sample.label, int):
            self._add_label(sample.label)
        _count_slices(sample, self.slices)
        for name, array in sample.inputs.items():
            self.sizes.setdefault(name, Counter())[array.shape] += 1

    def extend(self, following: "Reading", where: str) -> None:
        """Take in the part that comes next.

        Raises:
            DataError: if its inputs have other names or dtypes.
        """
        if not self.dtypes:
            self.dtypes, self.first_id = following.dtypes, following.first_id
        if following.dtypes:
            self._refuse_other_dtypes(following.dtypes, following.first_id, where)
        self.ids += following.ids
        self.digests += following.digests
        self.labelled += following.labelled
        self.labels += following.labels
        if following.first_label is not None:
            changes = self.last_label is not None and self.last_label != following.first_label
            self.label_changes += following.label_changes + changes
            self.last_label = following.last_label
            if self.first_label is None:
                self.first_label = following.first_label
        for column, counts in following.slices.items():
            self.slices.setdefault(column, Counter()).update(counts)
        for name, shapes in following.sizes.items():
            self.sizes.setdefault(name, Counter()).update(shapes)
        for name, ids in following.broken.items():
            self.broken.setdefault(name, []).extend(ids)
        self.dropped += following.dropped

    def result(self, where: str, *, drop_not_finite: bool = False) -> Scan:
        """What all parts came to; see `scan`."""
        if self.broken and not drop_not_finite:
            name, found = next(iter(self.broken.items()))
            raise not_finite(where, name, found)
        if not self.ids and self.dropped:
            raise DataError(
                where, "holds no sample whose inputs are all finite", got=_some(self.dropped)
            )
        if not self.ids:
            raise DataError(where, "holds no samples", expected="at least one")
        pairs = list(zip(self.ids, self.digests, strict=True))
        lines = sorted(name.encode() + b"\0" + digest for name, digest in pairs)
        return Scan(
            samples=len(pairs),
            labelled=self.labelled,
            # Of samples of one content, the first.
            ids={digest: name for name, digest in reversed(pairs)},
            sha256=hashlib.sha256(b"\n".join(lines)).hexdigest(),
            dtypes=self.dtypes,
            shapes={name: _axis_ranges(shapes) for name, shapes in self.sizes.items()},
            label_counts=dict(sorted(self.labels.items())),
            dropped=tuple(self.dropped),
            label_changes=self.label_changes,
            slice_counts={
                name: dict(sorted(found.items()))
                for name, found in sorted(self.slices.items())
                if len(found) <= SLICES_MAX
            },
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "ids": self.ids,
            "digests": base64.b64encode(b"".join(self.digests)).decode(),
            "labelled": self.labelled,
            "labels": list(self.labels.items()),
            "label_ends": [self.first_label, self.last_label],
            "label_changes": self.label_changes,
            "slices": self.slices,
            "sizes": {name: list(shapes.items()) for name, shapes in self.sizes.items()},
            "dtypes": self.dtypes,
            "first_id": self.first_id,
            "broken": self.broken,
            "dropped": self.dropped,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Reading":
        """What `to_json` wrote."""
        digests = base64.b64decode(content["digests"])
        first, last = content["label_ends"]
        return cls(
            ids=content["ids"],
            digests=[digests[i : i + _DIGEST_BYTES] for i in range(0, len(digests), _DIGEST_BYTES)],
            labelled=content["labelled"],
            labels=Counter(dict(content["labels"])),
            first_label=first,
            last_label=last,
            label_changes=content["label_changes"],
            slices={name: Counter(counts) for name, counts in content["slices"].items()},
            sizes={
                name: Counter({tuple(shape): count for shape, count in shapes})
                for name, shapes in content["sizes"].items()
            },
            dtypes=content["dtypes"],
            first_id=content["first_id"],
            broken=content["broken"],
            dropped=content["dropped"],
        )

    def _add_label(self, label: int) -> None:
        self.labels[label] += 1
        self.label_changes += self.last_label is not None and self.last_label != label
        self.last_label = label
        if self.first_label is None:
            self.first_label = label

    def _refuse_other_dtypes(self, found: Mapping[str, str], sample_id: str, where: str) -> None:
        if found != self.dtypes:
            raise DataError(
                f"{where}, sample {sample_id}",
                "differs from the first sample in its inputs",
                got=str(dict(found)),
                expected=str(self.dtypes),
            )


def read(samples: Iterable[Sample], where: str) -> Reading:
    """Read a split, or a part of it, once; see `scan`."""
    found = Reading()
    for sample in samples:
        found.add(sample, where)
    return found


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
    return read(data_set, where).result(where, drop_not_finite=drop_not_finite)


def not_finite_inputs(sample: Sample) -> list[str]:
    """The names of its floating-point inputs that hold NaN or infinity."""
    return [
        name
        for name, array in sample.inputs.items()
        if array.dtype.kind == "f" and not np.isfinite(array).all()
    ]


def not_finite(where: str, name: str, ids: list[str]) -> DataError:
    """What to raise of samples whose input of that name holds NaN or infinity."""
    return DataError(
        f"{where}, sample {ids[0]}",
        f"input {name} holds NaN or infinity",
        got=f"the same in {_some(ids[1:])}" if len(ids) > 1 else None,
        fix="Repair the data, or leave such samples out with data.non_finite: drop.",
    )


def _count_slices(sample: Sample, slices: dict[str, Counter[str]]) -> None:
    """Count a sample's metadata, no further than it takes to see that there are too many values."""
    for name, value in sample.metadata.items():
        counts = slices.setdefault(name, Counter())
        if len(counts) <= SLICES_MAX:
            counts[value] += 1


def _some(ids: list[str]) -> str:
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    return f"{', '.join(ids[:_SHOWN])}{more}"


def _axis_ranges(shapes: Mapping[tuple[int, ...], int]) -> tuple[tuple[int, int, int], ...]:
    if len({len(shape) for shape in shapes}) != 1:
        raise DataError("data", "samples differ in rank", got=str(sorted(shapes)[:3]))
    table = np.array(list(shapes), dtype=np.int64).reshape(len(shapes), -1)
    counts = list(shapes.values())
    return tuple(
        (int(axis.min()), int(np.median(np.repeat(axis, counts))), int(axis.max()))
        for axis in table.T
    )
