"""Samples in the type of the model's inputs."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from calib.backends.bfloat16 import nearest_bfloat16
from calib.errors import DataError
from data_loaders.types import Array, DataSet, Sample

_NARROW = ("float16", "bfloat16")


def carried_dtype(dtype: str) -> str:
    """The numpy type that arrays of an input have: numpy has no bfloat16, float32 carries it."""
    return "float32" if dtype == "bfloat16" else dtype


class _Typed:
    """A data set whose float32 arrays are rounded to what the model's inputs hold."""

    def __init__(self, source: DataSet, narrow: Mapping[str, str]) -> None:
        self._source = source
        self._narrow = narrow
        self.casts: dict[str, str] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def __iter__(self) -> Iterator[Sample]:
        return map(self._narrowed, self._source)

    def part(self, begin: int, end: int) -> Iterator[Sample]:
        """Some of its samples, if the data set can give them."""
        return map(self._narrowed, self._source.part(begin, end))  # type: ignore[attr-defined]

    def _narrowed(self, sample: Sample) -> Sample:
        inputs = {name: self._cast(sample, name, a) for name, a in sample.inputs.items()}
        return replace(sample, inputs=inputs)

    def _cast(self, sample: Sample, name: str, array: Array) -> Array:
        wanted = self._narrow.get(name)
        if wanted is None or array.dtype != np.float32:
            return array
        self.casts[name] = f"float32 to {wanted}, each value to the nearest"
        if wanted == "bfloat16":
            return nearest_bfloat16(array)
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        if (np.isinf(half) & np.isfinite(array)).any():
            raise DataError(
                f"sample {sample.id}",
                f"input {name} holds values that float16 cannot",
                got=f"{np.abs(array[np.isfinite(array)]).max():g}",
                expected="at most 65504",
                fix="Scale the input as for the model's training.",
            )
        return half


def typed(source: DataSet, dtypes: Mapping[str, str]) -> DataSet:
    """The data set as the model takes it: float32 is given for FP16 and BF16 inputs, too.

    Args:
        source: the samples as they were read.
        dtypes: of the model's inputs, by name.

    Raises (while it is read):
        DataError: if a value is beyond FP16's range.
    """
    narrow = {name: dtype for name, dtype in dtypes.items() if dtype in _NARROW}
    return _Typed(source, narrow) if narrow else source
