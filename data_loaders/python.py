"""Samples that a function yields."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field

from data_loaders.base import (
    LoaderSpec,
    label_from_value,
    resolve_entry,
    row_id,
    with_unique_ids,
)
from data_loaders.errors import DataError
from data_loaders.selecting import Positions, Selecting, picked
from data_loaders.types import Sample


class PythonSpec(LoaderSpec):
    """A function that yields `Sample`s, or mappings with id, inputs, label and metadata."""

    kind: Literal["python"] = "python"
    entry: str = Field(pattern=r"^[\w.]+:\w+$", description="`module:function`.")
    args: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments for it.")


class Python(Selecting):
    """The samples of a PythonSpec; the function is called anew for each reading."""

    def __init__(self, spec: PythonSpec) -> None:
        self.spec = spec
        self.source = spec.entry
        self.class_names = spec.classes
        self._function = resolve_entry(spec.entry)

    def _ids(self, positions: range) -> Iterator[tuple[int, str]]:
        for i, item in picked(self._function(**self.spec.args), positions):
            yield i, self._sample(i, item).id

    def _read(self, positions: Positions) -> Iterator[Sample]:
        items = picked(self._function(**self.spec.args), positions)
        yield from with_unique_ids((self._sample(i, item) for i, item in items), self.source)

    def _sample(self, index: int, item: object) -> Sample:
        if isinstance(item, Sample):
            return item
        where = f"{self.source}, sample {index}"
        if not isinstance(item, Mapping) or not isinstance(item.get("inputs"), Mapping):
            raise DataError(
                where,
                "is neither a Sample nor a mapping with inputs",
                got=type(item).__name__,
                expected='{"inputs": {name: array}, "id": …, "label": …, "metadata": …}',
            )
        return Sample(
            id=str(item.get("id", row_id(index))),
            inputs={str(k): np.asarray(v) for k, v in item["inputs"].items()},
            label=label_from_value(item.get("label"), self.spec.classes, where),
            metadata={str(k): str(v) for k, v in item.get("metadata", {}).items()},
            head_labels=item.get("head_labels", {}),
        )
