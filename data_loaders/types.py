"""The values that every loader yields and that nothing downstream has to convert."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from data_loaders.targets import (
    AnswersTarget,
    Frame,
    ObjectsTarget,
    PairTarget,
    RelevanceTarget,
)

Array: TypeAlias = NDArray[Any]
Target: TypeAlias = ObjectsTarget | AnswersTarget | PairTarget | RelevanceTarget
Label: TypeAlias = int | float | str | Array | Target
Metadata: TypeAlias = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Preview:
    """What a person needs to recognise a sample: its text, or a small PNG of it."""

    text: str | None = None
    png: bytes | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One example, without a batch axis.

    Attributes:
        id: stable across runs and orders; unique within a data set.
        inputs: array by model input name, e.g. `input_ids` of shape (length,).
        label: class index (int), regression target (float), text, target array or one of
            data_loaders.targets; None if unlabelled.
        metadata: values to slice by, e.g. {"source": "forum"}.
        preview: what to show of it in a report; None if there is nothing to show.
        frame: how a picture lies in the input; None where it fills it, or there is none.
        head_labels: labels of a model's further heads, by the head's name.
    """

    id: str
    inputs: Mapping[str, Array]
    label: Label | None = None
    metadata: Metadata = field(default_factory=dict)
    preview: Preview | None = None
    frame: Frame | None = None
    head_labels: Mapping[str, Label] = field(default_factory=dict)

    def digest(self) -> bytes:
        """SHA-256 over the inputs' names, dtypes, shapes and bytes: equal content, equal digest."""
        sha = hashlib.sha256()
        for name in sorted(self.inputs):
            array = np.ascontiguousarray(self.inputs[name])
            sha.update(f"{name}|{array.dtype.str}|{array.shape}|".encode())
            sha.update(array.tobytes())
        return sha.digest()


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples stacked along a new axis, padded to a common shape.

    Attributes:
        samples: the samples, in the order of the batch axis.
        inputs: array by model input name; the first axis is the batch, where nothing else was said.
        real: bool (batch, length): True where a position holds data and False where it is
            padding; None when nothing was padded.
    """

    samples: tuple[Sample, ...]
    inputs: Mapping[str, Array]
    real: NDArray[np.bool_] | None = None

    @property
    def ids(self) -> tuple[str, ...]:
        """The samples' ids, in the order of the batch axis."""
        return tuple(sample.id for sample in self.samples)

    def __len__(self) -> int:
        return len(self.samples)


class DataSet(Protocol):
    """A source of samples that can be read more than once and always in the same order."""

    def __iter__(self) -> Iterator[Sample]:
        """Yield every sample, one at a time: nothing is held that grows with their number."""
        ...
