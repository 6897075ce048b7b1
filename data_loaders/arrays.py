"""Samples that are arrays already: npz, a folder of npy, parquet, csv, or a Hugging Face set."""

import zipfile
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field

from data_loaders.base import (
    LoaderSpec,
    encodable,
    label_from_value,
    row_id,
    with_unique_ids,
)
from data_loaders.errors import DataError
from data_loaders.huggingface import HuggingFaceRowsSpec
from data_loaders.locations import Location, StoredSpec, is_remote, local_path
from data_loaders.memory import available_bytes
from data_loaders.parts import Placed, Row
from data_loaders.row_samples import RowSamples, needed
from data_loaders.rows import FileRowsSpec, RowsSpec, column, rows_source
from data_loaders.selecting import Positions, Selecting, picked
from data_loaders.types import Array, Sample


class _ColumnsSpec(LoaderSpec):
    inputs: dict[str, str | tuple[str, ...]] = Field(
        min_length=1, description="Model input name: array or column name, or several columns."
    )
    dtype: Literal["float32", "float16", "float64", "int64", "int32", "uint8", "bool"] | None = (
        Field(default=None, description="Convert the inputs to this type; as stored if absent.")
    )
    label: str | None = Field(default=None, description="Array or column of the labels.")
    head_labels: dict[str, str] = Field(
        default_factory=dict, description="Head: array or column of its labels."
    )
    id: str | None = Field(default=None, description="Array or column of unique ids.")
    slices: tuple[str, ...] = Field(default=(), description="Columns to slice results by.")


class ArraysSpec(_ColumnsSpec, StoredSpec):
    """An npz (first axis = samples), a folder of npy files, a parquet or a csv file.

    An array without axes holds for every sample.
    """

    kind: Literal["arrays"] = "arrays"
    path: Location = Field(
        description="The file, or the folder of npy files named as the arrays; for tables also a "
        "folder, a pattern or a URL."
    )


class HuggingFaceSpec(_ColumnsSpec):
    """A Hugging Face data set whose columns are numeric already."""

    kind: Literal["huggingface"] = "huggingface"
    rows: HuggingFaceRowsSpec = Field(description="The data set.")


class ColumnsSpec(_ColumnsSpec):
    """Rows whose columns hold numbers, lists of numbers or arrays."""

    kind: Literal["columns"] = "columns"
    rows: RowsSpec = Field(description="Where the rows come from.")


class Columns(RowSamples):
    """Samples of rows whose columns hold numbers or lists of numbers."""

    def __init__(self, spec: ArraysSpec | HuggingFaceSpec | ColumnsSpec) -> None:
        self.spec = spec
        self.class_names = spec.classes
        rows = (
            FileRowsSpec(path=spec.path, storage=spec.storage)
            if isinstance(spec, ArraysSpec)
            else spec.rows
        )
        heads = tuple(spec.head_labels.values())
        columns = needed(*spec.inputs.values(), spec.label, heads, spec.id, spec.slices)
        super().__init__(rows, columns, spec.id, rows_source(rows))

    def _sample(self, placed: Placed) -> Sample:
        spec, row, where = self.spec, placed.row, placed.where
        label = column(row, spec.label, where) if spec.label else None
        return Sample(
            id=self._id(placed),
            inputs={name: self._array(row, names, where) for name, names in spec.inputs.items()},
            label=label_from_value(label, spec.classes, where),
            metadata={name: encodable(str(column(row, name, where))) for name in spec.slices},
            head_labels={
                head: label
                for head, name in spec.head_labels.items()
                if (label := label_from_value(column(row, name, where), None, where)) is not None
            },
        )

    def _array(self, row: Row, names: str | tuple[str, ...], where: str) -> Array:
        values = (
            column(row, names, where)
            if isinstance(names, str)
            else [column(row, name, where) for name in names]
        )
        dtype = np.dtype(self.spec.dtype or np.float32)
        try:
            return np.asarray(values, dtype=dtype)
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(where, f"column {names} is not numeric", got=repr(values)) from error


class Arrays(Selecting):
    """Samples of an npz or of a folder of npy files, which are mapped, not read whole."""

    def __init__(self, spec: ArraysSpec) -> None:
        self.spec = spec
        self.source = spec.path
        self.class_names = spec.classes
        if is_remote(spec.path):
            raise DataError(
                spec.path,
                "is numpy's file, which is read from this machine only",
                fix="Copy it here, or save the samples as parquet or in tars.",
            )
        self._path = local_path(spec.path)

    def total(self) -> int | None:
        """As `Choosing.total`."""
        return self._length(self._open())

    def _ids(self, positions: range) -> Iterator[tuple[int, str]]:
        arrays = self._open()
        for _, i in picked(range(self._length(arrays)), positions):
            yield i, self._id(arrays, i)

    def _read(self, positions: Positions) -> Iterator[Sample]:
        arrays = self._open()
        found = picked(range(self._length(arrays)), positions)
        yield from with_unique_ids((self._sample(arrays, i) for _, i in found), self.source)

    def _id(self, arrays: Mapping[str, Array], index: int) -> str:
        own = self.spec.id
        return encodable(str(arrays[own][index])) if own else row_id(index)

    def _sample(self, arrays: Mapping[str, Array], index: int) -> Sample:
        spec = self.spec
        label = arrays[spec.label][index] if spec.label else None
        where = f"{self.source}, row {index}"
        return Sample(
            id=self._id(arrays, index),
            inputs={k: self._input(arrays[str(v)], index) for k, v in spec.inputs.items()},
            label=label_from_value(_plain(label), spec.classes, where),
            metadata={name: encodable(str(arrays[name][index])) for name in spec.slices},
            head_labels={
                head: label
                for head, name in spec.head_labels.items()
                if (label := label_from_value(_plain(arrays[name][index]), None, where)) is not None
            },
        )

    def _input(self, array: Array, index: int) -> Array:
        return np.array(array[index] if array.ndim else array, dtype=self.spec.dtype)

    def _open(self) -> dict[str, Array]:
        spec = self.spec
        names = [
            *spec.inputs.values(),
            spec.label,
            *spec.head_labels.values(),
            spec.id,
            *spec.slices,
        ]
        wanted = [str(name) for name in names if name is not None]
        try:
            if self._path.is_dir():
                return {n: np.load(self._path / f"{n}.npy", mmap_mode="r") for n in wanted}
            if self._path.suffix == ".npy":
                only = np.load(self._path, mmap_mode="r", allow_pickle=False)
                return dict.fromkeys(wanted, only)
            with np.load(self._path, allow_pickle=False) as archive:
                missing = sorted(set(wanted) - set(archive.files))
                if missing:
                    raise DataError(
                        self.source,
                        f"has no array {missing[0]!r}",
                        expected=f"one of {', '.join(archive.files)}",
                    )
                _refuse_larger_than_memory(self.source, wanted)
                return {name: archive[name] for name in wanted}
        except DataError:
            raise
        except Exception as error:  # zipfile, zlib and numpy raise what their readers stumble over
            raise DataError(
                self.source,
                f"cannot be read: {type(error).__name__}: {error}",
                fix="Save plain arrays, not objects.",
            ) from error

    def _length(self, arrays: Mapping[str, Array]) -> int:
        inputs = {str(name) for name in self.spec.inputs.values()}
        lengths = {
            name: len(array) if array.ndim else 0
            for name, array in arrays.items()
            if array.ndim or name not in inputs
        }
        if len(set(lengths.values())) != 1:
            raise DataError(self.source, "its arrays differ in length", got=str(lengths))
        return next(iter(lengths.values()))


def _plain(label: Array | None) -> Any:
    """An array without axes as the number that it is."""
    return label.item() if label is not None and label.ndim == 0 else label


def _refuse_larger_than_memory(source: str, names: list[str]) -> None:
    """Before anything is unpacked: a few kilobytes of npz can hold terabytes of zeros."""
    with zipfile.ZipFile(source) as archive:
        sizes = {info.filename.removesuffix(".npy"): info.file_size for info in archive.infolist()}
    wanted = sum(sizes.get(name, 0) for name in set(names))
    available = available_bytes()
    if wanted > available:
        raise DataError(
            source,
            "does not fit into memory",
            got=f"arrays of {wanted / 1e9:,.1f} GB",
            expected=f"at most {available / 1e9:,.1f} GB, which is free",
            fix="Give a folder of npy files: these are read piece by piece.",
        )
